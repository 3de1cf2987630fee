"""Whatever the order in which several workers write: the log explains the book, and adding and tagging commute."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playbook_workers import SECTIONS, add, batch, proposal

from potstill.distill.playbook.apply import Entry, Refused, Why, apply, erase, free_hash, gathered, replay, state_hash
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.operations import Applied, Batch, Bullet, Tag
from potstill.trajectories import Store

WORKERS = 8


class Memory:
    """A book without a store."""

    def __init__(self) -> None:
        self.held: dict[str, Bullet] = {}
        self.entries: list[Entry] = []

    def bullets(self) -> dict[str, Bullet]:
        return dict(self.held)

    def log(self) -> list[Entry]:
        return self.entries

    def apply(self, one: Batch) -> Applied:
        needed = gathered(one, lambda ids: {id: self.held[id] for id in ids if id in self.held})
        revision, number = len(self.entries) + 1, len(self.held) + 1
        change = apply(needed, one, revision=revision, next_number=number)
        self.held.update({bullet.id: bullet for bullet in (*change.changed, *change.added)})
        self.entries.append(Entry(revision=revision, at=0.0, batch=one, ids=change.ids))
        return Applied(revision=revision, ids=change.ids)


def interleaved(book: Memory | Playbook, steps: list[tuple[int, bool]], rng: random.Random) -> None:
    """Each step a worker reads the book or writes what it makes of what it read; refused, it reads and tries again."""
    views: dict[int, dict[str, Bullet]] = {}
    for worker, reads in steps:
        if reads or worker not in views:
            views[worker] = book.bullets()
            continue
        before = state_hash(book.bullets())
        try:
            book.apply(proposal(rng, views[worker], f"w{worker}"))
        except Refused as refused:
            if refused.why not in {Why.STALE, Why.REMOVED, Why.QUARANTINED}:
                raise
            assert state_hash(book.bullets()) == before
            views[worker] = book.bullets()


STEPS = st.lists(st.tuples(st.integers(0, WORKERS - 1), st.booleans()), max_size=60)
RANDOM = st.randoms(use_true_random=False)


@given(STEPS, RANDOM)
@settings(max_examples=150)
def test_any_interleaving_is_what_a_replay_of_its_log_gives(steps, rng):
    book = Memory()
    interleaved(book, steps, rng)
    assert replay(book.log()) == book.bullets()
    assert state_hash(replay(book.log())) == state_hash(book.bullets())
    own = totals(book.log())
    assert own == {id: counters(bullet) for id, bullet in without_merged(book.bullets()).items()}


def counters(bullet: Bullet) -> tuple[int, int, int]:
    return bullet.helpful, bullet.harmful, bullet.neutral


def totals(entries: list[Entry]) -> dict[str, tuple[int, int, int]]:
    """The sum of the tags at each id, counted another way than ``apply`` does."""
    found = {id: (0, 0, 0) for entry in entries for id in entry.ids}
    for entry in entries:
        for one in entry.batch.operations:
            if isinstance(one, Tag):
                held = found[one.id]
                found[one.id] = (held[0] + one.helpful, held[1] + one.harmful, held[2] + one.neutral)
    return found


def without_merged(bullets: dict[str, Bullet]) -> dict[str, Bullet]:
    """Each bullet without what is counted in those that were merged into it."""
    own = {}
    for id, bullet in bullets.items():
        merged = [counters(one) for one in bullets.values() if one.merged_into == id]
        helpful, harmful, neutral = (sum(column) for column in zip((0, 0, 0), *merged, strict=True))
        own[id] = msgspec.structs.replace(
            bullet,
            helpful=bullet.helpful - helpful,
            harmful=bullet.harmful - harmful,
            neutral=bullet.neutral - neutral,
        )
        assert sorted(bullet.lineage) == sorted(one.id for one in bullets.values() if one.merged_into == id)
    return own


@given(STEPS, RANDOM)
@settings(max_examples=150)
def test_a_log_of_which_a_source_was_erased_can_be_replayed_and_holds_nothing_of_it(steps, rng):
    book = Memory()
    interleaved(book, steps, rng)
    sources = sorted({source for entry in book.log() for source in entry.batch.sources})
    for source in sources[:3]:
        entries = [erase(entry, ()) if source in entry.batch.sources else entry for entry in book.log()]
        left = replay(entries)
        assert source not in repr((left, entries))
        assert left.keys() <= book.bullets().keys()
        for bullet in left.values():
            seen = {bullet.id}
            while (into := bullet.merged_into) in left:
                assert into not in seen, "merged into itself through others"
                seen.add(into)
                bullet = left[into]


OPERATION = st.one_of(
    st.builds(lambda n, s: add(f"lesson {n}", s), st.integers(0, 9), st.sampled_from(SECTIONS)),
    st.builds(
        lambda id, h, n: Tag(id=f"b-{id}", helpful=h, harmful=n),
        st.integers(1, 5),
        st.integers(-2, 5),
        st.integers(0, 5),
    ),
)
BATCHES = st.lists(
    st.builds(
        lambda operations, source: batch(*operations, sources=(source,)),
        st.lists(OPERATION, min_size=1, max_size=4),
        st.sampled_from(["t-1", "t-2", "t-3"]),
    ),
    max_size=16,
)
START = (
    batch(*(add(f"old {n}") for n in range(5)), sources=("t-0",)),
    batch(Tag(id="b-3", helpful=2)),
)


@given(BATCHES, RANDOM)
@settings(max_examples=150)
def test_orders_of_batches_that_add_and_tag_give_the_same_but_for_ids(batches, rng):
    hashes = set()
    for order in (batches, rng.sample(batches, len(batches)), batches[::-1]):
        book = Memory()
        for one in (*START, *order):
            book.apply(one)
        hashes.add(free_hash(book.bullets()))
    assert len(hashes) == 1


# --- in a store -----------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "s.db") as opened:
        yield opened


def fresh(store: Store) -> Callable[[], Playbook]:
    names = iter(range(10**6))
    return lambda: Playbook(store, "default", f"book {next(names)}")


def test_interleavings_in_a_store_are_what_a_replay_gives(store):
    new = fresh(store)

    @given(STEPS, RANDOM)
    @settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
    def check(steps, rng):
        book = new()
        interleaved(book, steps, rng)
        assert book.check() == []
        assert book.state_hash() == state_hash(replay(book.log()))

    check()


def test_orders_of_adding_and_tagging_in_a_store_give_the_same_free_hash(store):
    new = fresh(store)

    @given(BATCHES, RANDOM)
    @settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
    def check(batches, rng):
        books = [new(), new()]
        for book, order in zip(books, (batches, rng.sample(batches, len(batches))), strict=True):
            for one in (*START, *order):
                book.apply(one)
            assert book.check() == []
        assert books[0].free_hash() == books[1].free_hash()

    check()


def test_eight_threads_at_once_leave_what_their_log_says(store):
    book = Playbook(store, "default", "threads")
    book.apply(batch(*(add(f"start {n}") for n in range(4))))
    problems: list[BaseException] = []
    applied: list[int] = []

    def work(worker: int) -> None:
        rng = random.Random(worker)
        try:
            for _ in range(25):
                while True:
                    try:
                        applied.append(book.apply(proposal(rng, book.bullets(), f"w{worker}")).revision)
                        break
                    except Refused:
                        continue
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert sorted(applied) == list(range(2, 2 + WORKERS * 25))
    assert book.check() == []
    memory = Memory()
    for entry in book.log():  # one after the other, refused nowhere
        assert memory.apply(entry.batch).ids == entry.ids
    assert state_hash(memory.bullets()) == book.state_hash()


@pytest.mark.parametrize("each", [15, pytest.param(125, marks=pytest.mark.slow)])
def test_shuffled_deltas_of_eight_workers_give_the_same_free_hash(store, each):
    """Each durable on its own; a thousand of them where there is time."""
    rng = random.Random(8)
    deltas = [
        batch(add(f"w{w} lesson {n % 90}"), Tag(id=f"b-{rng.randint(1, 5)}", helpful=1), actor=f"w{w}")
        for w in range(WORKERS)
        for n in range(each)
    ]
    hashes = set()
    for seed in range(2):
        book = Playbook(store, "default", f"shuffled {seed}")
        for one in (*START, *random.Random(seed).sample(deltas, len(deltas))):
            book.apply(one)
        hashes.add(book.free_hash())
        assert book.state_hash() == state_hash(replay(book.log()))
    assert len(hashes) == 1
