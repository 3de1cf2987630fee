"""What a batch does to bullets: by hand for each operation, and what is refused with which reason."""

from __future__ import annotations

import pytest

from potstill.distill.playbook import operations as ops
from potstill.distill.playbook.apply import (
    MAX_TAG,
    Entry,
    Refused,
    Why,
    apply,
    erase,
    free_hash,
    gathered,
    replay,
    state_hash,
    touched,
)
from potstill.distill.playbook.operations import Add, Batch, Bullet, Merge, Stage, Tag, Update


class Log:
    """A book in memory: what the store does, without one."""

    def __init__(self) -> None:
        self.bullets: dict[str, Bullet] = {}
        self.entries: list[Entry] = []

    def do(self, *operations: ops.Operation, sources: tuple[str, ...] = (), actor: str = "curator") -> tuple[str, ...]:
        batch = Batch(operations=operations, actor=actor, sources=sources)
        needed = gathered(batch, lambda ids: {id: self.bullets[id] for id in ids if id in self.bullets})
        revision = len(self.entries) + 1
        number = 1 + sum(len(entry.ids) for entry in self.entries)
        change = apply(needed, batch, revision=revision, next_number=number)
        self.bullets.update({bullet.id: bullet for bullet in (*change.changed, *change.added)})
        self.entries.append(Entry(revision=revision, at=float(revision), batch=batch, ids=change.ids))
        assert state_hash(replay(self.entries)) == state_hash(self.bullets)
        return change.ids


def add(content: str = "Look before you leap.", section: str = "strategies") -> Add:
    return Add(section=section, content=content)


def counters(bullet: Bullet) -> tuple[int, int, int]:
    return bullet.helpful, bullet.harmful, bullet.neutral


@pytest.fixture
def log() -> Log:
    return Log()


def test_adds_get_ids_in_order_and_keep_where_they_come_from(log):
    assert log.do(add("one"), add("two"), sources=("t-1", "t-2", "t-1")) == ("b-1", "b-2")
    assert log.do(add("three")) == ("b-3",)
    assert log.bullets["b-2"] == Bullet(
        id="b-2", number=2, section="strategies", content="two", sources=("t-1", "t-2"), added_in=1, changed_in=1
    )


def test_an_update_compares_the_bullets_revision_and_keeps_older_sources(log):
    log.do(add("one"), sources=("t-1",))
    log.do(Update(id="b-1", content="uno", revision=1), sources=("t-2",))
    bullet = log.bullets["b-1"]
    assert (bullet.content, bullet.revision, bullet.sources, bullet.added_in, bullet.changed_in) == (
        "uno", 2, ("t-1", "t-2"), 1, 2,
    )  # fmt: skip
    with pytest.raises(Refused, match=r"Operation 2 .*b-1 is at revision 2 now, this was written for 1") as refused:
        log.do(add("new"), Update(id="b-1", content="eins", revision=1))
    assert (refused.value.index, refused.value.why, refused.value.id) == (1, Why.STALE, "b-1")
    assert len(log.bullets) == 1


def test_tags_count_whatever_else_happened(log):
    log.do(add())
    log.do(Tag(id="b-1", helpful=2), Tag(id="b-1", harmful=1, neutral=3))
    log.do(ops.Remove(id="b-1"))
    log.do(Tag(id="b-1", helpful=1))
    assert counters(log.bullets["b-1"]) == (3, 1, 3)
    assert log.bullets["b-1"].revision == 2  # the removal; counters change no revision


def test_a_merge_sums_counters_and_a_restore_takes_them_back(log):
    log.do(add("one"), add("two"), add("three"), sources=("t-1",))
    log.do(Tag(id="b-1", helpful=1), Tag(id="b-2", helpful=10), Tag(id="b-3", helpful=100))
    log.do(ops.Pin(id="b-2"))
    log.do(Merge(into="b-1", ids=("b-2",), content="one and two", revisions=(1, 2)), sources=("t-2",))
    log.do(Merge(into="b-3", ids=("b-1",), content="all", revisions=(1, 2)))
    assert [log.bullets[id].helpful for id in ("b-1", "b-2", "b-3")] == [11, 10, 111]
    log.do(Tag(id="b-2", harmful=1))
    assert [log.bullets[id].harmful for id in ("b-1", "b-2", "b-3")] == [1, 1, 1]
    survivor = log.bullets["b-3"]
    assert (survivor.lineage, survivor.pinned, survivor.sources) == (("b-1",), True, ("t-1", "t-2"))
    assert (log.bullets["b-1"].removed, log.bullets["b-1"].merged_into) == (True, "b-3")
    log.do(ops.Restore(id="b-1"))
    assert [counters(log.bullets[id]) for id in ("b-1", "b-2", "b-3")] == [(11, 1, 0), (10, 1, 0), (100, 0, 0)]
    assert (log.bullets["b-3"].lineage, log.bullets["b-1"].merged_into) == ((), "")
    assert log.bullets["b-1"].lineage == ("b-2",)


@pytest.mark.parametrize(
    "other",
    [
        Merge(into="b-1", ids=("b-2", "b-3"), content="both", revisions=(2, 1, 1)),
        ops.Remove(id="b-2"),
        Update(id="b-2", content="other", revision=1),
        ops.Quarantine(id="b-2"),
        ops.Restore(id="b-4"),
    ],
)
def test_a_tag_gives_the_same_before_and_after(other):
    tags = (Tag(id="b-2", helpful=1), Tag(id="b-4", harmful=5))
    hashes = set()
    for order in ((*tags, other), (other, *tags), (tags[0], other, tags[1])):
        log = Log()
        log.do(add("one"), add("two"), add("three"), add("four"))
        log.do(Merge(into="b-1", ids=("b-4",), content="one", revisions=(1, 1)))
        log.do(*order)
        hashes.add(state_hash(log.bullets))
    assert len(hashes) == 1


def test_stages_pins_and_quarantine(log):
    log.do(add())
    assert not log.bullets["b-1"].shown
    log.do(ops.SetStage(id="b-1", stage=Stage.LIVE), ops.Pin(id="b-1"))
    assert log.bullets["b-1"].shown
    assert log.bullets["b-1"].pinned
    log.do(ops.Quarantine(id="b-1", reason="poisoned"))
    assert not log.bullets["b-1"].shown
    log.do(ops.Restore(id="b-1"), ops.Pin(id="b-1", pinned=False))
    assert log.bullets["b-1"].shown
    assert not log.bullets["b-1"].pinned


def merge(into: str, *ids: str, revisions: tuple[int, ...] = (1, 1), content: str = "both") -> Merge:
    return Merge(into=into, ids=ids, content=content, revisions=revisions)


@pytest.mark.parametrize(
    ("operations", "why", "says"),
    [
        ((), Why.INVALID, "0 operations; 1 to 1000"),
        ((add(),) * 1001, Why.INVALID, "1001 operations; 1 to 1000"),
        ((add("x" * 4001),), Why.INVALID, "content has 4001 characters; at most 4000"),
        ((add(" \n "),), Why.INVALID, "content is empty"),
        ((add("bell\x07"),), Why.INVALID, r"content holds the control character '\\x07'"),
        ((add("half \ud83d"),), Why.INVALID, "half of a character"),
        ((add(section="a" * 81),), Why.INVALID, "section has 81 characters; at most 80"),
        ((add(section="a\n## b"),), Why.INVALID, "section holds the control character"),
        ((Tag(id="b-1", helpful=MAX_TAG + 1),), Why.INVALID, "helpful is 1000001"),
        ((Tag(id="b-1", helpful=float("nan")),), Why.INVALID, "helpful is nan"),
        ((add("line\nand\ttab"), add("c1 \x85")), Why.INVALID, "control character"),
        ((Tag(id="b-9", helpful=1),), Why.UNKNOWN, "no bullet 'b-9'"),
        ((add(), Tag(id="b-4", helpful=1)), Why.UNKNOWN, "no bullet 'b-4'"),
        ((Update(id="zzz-00042", content="x", revision=1),), Why.UNKNOWN, "Ids are given by the book"),
        ((Update(id="b-3", content="x", revision=2),), Why.REMOVED, "b-3 was removed. Restore it first"),
        ((merge("b-1", "b-1"),), Why.ITSELF, "merged into itself"),
        ((merge("b-1"),), Why.INVALID, "name one bullet or more"),
        ((merge("b-1", "b-2", "b-2", revisions=(1, 1, 1)),), Why.INVALID, "each once"),
        ((merge("b-1", "b-2", revisions=(1,)),), Why.INVALID, "1 revisions; 2 are needed"),
        ((merge("b-1", "b-2", revisions=(1, 7)),), Why.STALE, "b-2 is at revision 1 now"),
        ((merge("b-3", "b-2", revisions=(2, 1)),), Why.REMOVED, "b-3 was removed"),
        ((merge("b-1", "b-3", revisions=(1, 2)),), Why.REMOVED, "b-3 was removed"),
        ((merge("b-1", "b-2"), merge("b-1", "b-2", revisions=(2, 2))), Why.REMOVED, "b-2 was merged into b-1"),
        ((ops.Quarantine(id="b-2"), merge("b-1", "b-2", revisions=(1, 2))), Why.QUARANTINED, "Restore it first"),
        ((ops.Remove(id="b-1", reason="r" * 1001),), Why.INVALID, "reason has 1001 characters"),
    ],
)
def test_what_is_refused_says_where_and_why(log, operations, why, says):
    log.do(add("one"), add("two"), add("three"))
    log.do(ops.Remove(id="b-3"))
    before = state_hash(log.bullets)
    with pytest.raises(Refused, match=says) as refused:
        log.do(*operations)
    assert refused.value.why is why
    assert refused.value.index == (len(operations) - 1 if operations and len(operations) < 9 else None)
    assert "nothing was applied" in str(refused.value)
    assert state_hash(log.bullets) == before


@pytest.mark.parametrize(
    "fields",
    [
        {"actor": ""},
        {"actor": "a\nb"},
        {"actor": "a", "sources": ("",)},
        {"actor": "a", "sources": ("t",) * 1001},
        {"actor": "a", "key": "k" * 201},
        {"actor": "a", "reason": "\x1b[31m"},
    ],
)
def test_a_batchs_own_texts_are_checked(fields):
    with pytest.raises(Refused, match="The batch was refused") as refused:
        apply({}, Batch(operations=(add(),), **fields), revision=1, next_number=1)
    assert refused.value.index is None


def test_touched_names_what_has_to_be_read():
    batch = Batch(operations=(add(), Tag(id="b-1"), merge("b-2", "b-3", "b-4", revisions=(1, 1, 1))), actor="x")
    assert touched(batch) == {"b-1", "b-2", "b-3", "b-4"}


def test_the_free_hash_leaves_out_what_order_gives():
    first, second = Log(), Log()
    first.do(add("one"), sources=("t-1",)), first.do(add("two"))
    second.do(add("two")), second.do(add("one"), sources=("t-1",))
    assert free_hash(first.bullets) == free_hash(second.bullets)
    assert state_hash(first.bullets) != state_hash(second.bullets)
    second.do(Tag(id="b-1", helpful=1))
    assert free_hash(first.bullets) != free_hash(second.bullets)


def erased(log: Log, source: str, survivors: tuple[str, ...] = ()) -> list[Entry]:
    return [erase(entry, survivors) if source in entry.batch.sources else entry for entry in log.entries]


def test_a_replay_without_an_erased_add_keeps_numbers_and_what_others_wrote(log):
    log.do(add("secret one"), add("secret two"), sources=("t-1",))
    log.do(add("mine"), sources=("t-2",))
    log.do(Tag(id="b-1", helpful=3), Tag(id="b-2", helpful=4))
    log.do(Update(id="b-2", content="rewritten", revision=1), sources=("t-2",))
    bullets = replay(erased(log, "t-1", ("b-2",)))
    assert set(bullets) == {"b-2", "b-3"}
    assert (bullets["b-2"].content, bullets["b-2"].helpful, bullets["b-2"].sources) == ("rewritten", 4, ("t-2",))
    assert (bullets["b-2"].section, bullets["b-2"].revision) == ("strategies", 2)
    assert "secret" not in str(erased(log, "t-1"))


def test_a_replay_without_an_erased_update_goes_back_to_the_older_text(log):
    log.do(add("first"), sources=("t-1",))
    log.do(Update(id="b-1", content="secret", revision=1), sources=("t-2",))
    log.do(Update(id="b-1", content="third", revision=2), sources=("t-3",))
    assert replay(erased(log, "t-2"))["b-1"].content == "third"
    assert replay(erased(log, "t-3"))["b-1"].content == "secret"
    assert replay(erased(log, "t-3"))["b-1"].revision == 3


def test_a_replay_without_an_erased_restore_merges_nothing_into_itself(log):
    log.do(add("one"), add("two"))
    log.do(Tag(id="b-1", helpful=1), Tag(id="b-2", helpful=2))
    log.do(merge("b-1", "b-2"))
    log.do(ops.Restore(id="b-2"), sources=("t-1",))
    log.do(merge("b-2", "b-1", revisions=(3, 2)))
    bullets = replay(erased(log, "t-1"))
    assert (bullets["b-1"].merged_into, bullets["b-2"].merged_into) == ("b-2", "")
    assert (bullets["b-1"].helpful, bullets["b-2"].helpful) == (1, 3)
