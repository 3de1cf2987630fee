"""The journal gives exchanges back as they came, knows which episodes are open, and keeps tenants apart."""

from __future__ import annotations

import random
import threading
from typing import Any

import msgspec
import pytest
from exchange_fakes import exchange, words
from hypothesis import given, settings
from hypothesis import strategies as st
from trajectory_fakes import episode
from trajectory_strategies import json_object, number, text

from engines import raw
from potstill.errors import DiskFull, StoreError
from potstill.trajectories import Store, journal
from potstill.trajectories.delta import Base
from potstill.trajectories.exchange import Exchange, Upstream
from potstill.trajectories.heads import Heads, make_head
from potstill.types import Answerer, ErrorRecord

name = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), min_size=1, max_size=3)
body = st.binary(max_size=60)
upstreams = st.builds(
    Upstream,
    model=text,
    upstream=text,
    answerer=st.sampled_from(Answerer),
    dialect=text,
    latency_s=number,
    raw_usage=st.none() | json_object,
    request=st.none() | body,
    response=st.none() | body,
    error=st.none() | st.builds(ErrorRecord, kind=text, message=text),
)
exchanges = st.builds(
    Exchange,
    namespace=name,
    episode_id=st.sampled_from(["a", "b"]) | name,
    route=text,
    dialect=text,
    started_at=st.floats(0, 2e9),
    request=body,
    response=body,
    calls=st.lists(upstreams, max_size=3).map(tuple),
    notes=st.lists(text, max_size=2).map(tuple),
    metadata=json_object,
)


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "s.db") as opened:
        yield opened


def frames(store: Store) -> list[tuple[int, int | None, int, int]]:
    with raw(store) as connection:
        return connection.execute("SELECT seq, base, depth, length(frame) FROM journal ORDER BY seq").fetchall()


# --- what comes back ------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.lists(exchanges, max_size=8), st.integers(0, 8))
def test_any_exchanges_read_back_equal(tmp_path_factory, some, cut):
    path = tmp_path_factory.mktemp("journal") / "s.db"
    with Store.open(path) as store:
        seqs = store.record(some[:cut])
    with Store.open(path) as store:  # what the writer remembered is gone
        seqs += store.record(some[cut:])
        assert seqs == list(range(1, len(some) + 1))
        for namespace, id in {(one.namespace, one.episode_id) for one in some}:
            found = store.exchanges(namespace, id)
            assert [(r.seq, r.exchange) for r in found] == [
                (seq, one)
                for seq, one in zip(seqs, some, strict=True)
                if (one.namespace, one.episode_id) == (namespace, id)
            ]
        assert [r.exchange for r in store.recent(None, 0)] == some
        assert sum(one.exchanges for one in store.open_episodes()) == len(some)
        assert store.check() == []


def test_a_long_episode_is_stored_as_differences_with_a_full_copy_now_and_then(store):
    made = [exchange("e", turn, grow=1500) for turn in range(70)]
    seqs = [seq for one in made for seq in store.record([one])]
    assert [r.exchange for r in store.exchanges("default", "e")] == made
    assert [r.exchange for r in store.exchanges("default", "e", after=seqs[40])] == made[41:]
    assert all(store.exchange(seq, "default").exchange == one for seq, one in zip(seqs, made, strict=True))
    held = frames(store)
    full = [seq for seq, base, _, _ in held if base is None]
    assert len(full) <= 5
    assert full[-2:] == [full[-1] - journal.KEYFRAME_EVERY, full[-1]]
    assert max(depth for _, _, depth, _ in held) == journal.KEYFRAME_EVERY - 1
    assert sum(length for *_, length in held) < 0.06 * sum(len(one.request) + len(one.response) for one in made)


def test_helpers_that_take_turns_with_the_main_agent_do_not_cost_full_copies(store):
    made = [exchange("e", turn, request=exchange(who, turn, grow=2000).request) for turn in range(10) for who in "abc"]
    for one in made:
        store.record([one])
    assert [r.exchange for r in store.exchanges("default", "e")] == made
    assert sum(base is None for _, base, _, _ in frames(store)[9:]) == 0
    assert sum(length for *_, length in frames(store)[9:]) < 21 * 2500


def test_a_student_s_request_beside_the_client_s_costs_little(store):
    def turn(number: int) -> Exchange:
        plain = exchange("e", number, grow=2000)
        shown = plain.request.replace(b'"messages": [', b'"messages": [{"role": "user", "content": "Like this: x"}, ')
        student = msgspec.structs.replace(plain.calls[0], answerer=Answerer.STUDENT, request=shown, response=b"{}")
        return msgspec.structs.replace(plain, calls=(student, student, *plain.calls))

    made = [turn(number) for number in range(12)]
    for one in made:
        store.record([one])
    assert [r.exchange for r in store.exchanges("default", "e")] == made
    assert sum(length for *_, length in frames(store)[1:]) < 11 * 2600


def test_a_restart_goes_on_with_the_chain(tmp_path):
    made = [exchange("e", turn, grow=1500) for turn in range(12)]
    for one in made:
        with Store.open(tmp_path / "s.db") as store:
            store.record([one])
    with Store.open(tmp_path / "s.db") as store:
        assert [r.exchange for r in store.exchanges("default", "e")] == made
        assert sum(base is None for _, base, _, _ in frames(store)) <= 3


def test_two_stores_on_one_file_continue_each_other_s_episodes(tmp_path):
    with Store.open(tmp_path / "s.db") as left, Store.open(tmp_path / "s.db") as right:
        made = [exchange("e", turn, grow=1500) for turn in range(12)]
        for turn, one in enumerate(made):
            (left, right)[turn % 2].record([one])
        assert [r.exchange for r in left.exchanges("default", "e")] == made
        assert left.check() == []


def test_a_group_that_is_rolled_back_leaves_no_false_base(store):
    """The writer runs works again after a failure: what it remembered of the first try must not be built upon."""
    store.record([exchange("e", 0)])

    def broken(_: object) -> None:
        raise StoreError("not this one")

    begin = threading.Event()
    store._writer.submit(lambda _: begin.wait())  # meanwhile all the others are queued: they become one group
    futures = [store.record_nowait([exchange("e", 1)]), store._writer.submit(broken)]
    futures += [store.record_nowait([exchange("e", turn)]) for turn in range(2, 6)]
    begin.set()
    with pytest.raises(StoreError, match="not this one"):
        futures[1].result()
    seqs = [seq for place in (0, 2, 3, 4, 5) for seq in futures[place].result()]
    assert [r.exchange for r in store.exchanges("default", "e")] == [exchange("e", turn) for turn in range(6)]
    assert [r.seq for r in store.exchanges("default", "e", after=1)] == seqs
    assert store.check() == []


def test_a_batch_that_fails_within_a_transaction_is_seen_nowhere(store):
    heads = store._heads

    def fails(connection: Any) -> None:
        journal.append(connection, heads, [journal.prepare(exchange("e", 0, request=b"x" * 5000))])
        raise StoreError("the lights went out")

    with pytest.raises(StoreError, match="lights"):
        store._write(fails)
    assert store.last_seq() == 0
    assert store.record([exchange("e", 0)]) == [1]  # the number was never acknowledged
    assert store.record([exchange("e", 1, request=b"x" * 5001)]) == [2]
    assert [len(r.exchange.request) for r in store.exchanges("default", "e")] == [len(exchange("e", 0).request), 5001]


# --- sequence numbers, listings -------------------------------------------------------------------------------------


def test_sequence_numbers_grow_and_are_never_given_twice(tmp_path):
    with Store.open(tmp_path / "s.db") as store:
        assert store.last_seq() == 0
        assert store.record([exchange("a", 0), exchange("b", 0), exchange("a", 1)]) == [1, 2, 3]
        store.fold("default", "a", episode("a"), 3)
        assert store.prune_journal(4e9) == 1
        assert store.last_seq() == 3
    with Store.open(tmp_path / "s.db") as store:
        assert store.open_episodes() == []
        assert store.last_seq() == 3
        assert store.record([exchange("c", 0)]) == [4]
        assert store.record([]) == []
    with Store.read(tmp_path / "s.db") as store:
        assert store.last_seq() == 4


def test_the_live_tail_goes_on_from_a_number(store):
    store.record([exchange(id, turn, namespace=tenant) for turn in range(3) for id, tenant in (("a", "x"), ("b", "y"))])
    assert [r.seq for r in store.recent("x", 0)] == [1, 3, 5]
    assert [r.seq for r in store.recent("x", 1, limit=1)] == [3]
    assert [r.seq for r in store.recent(None, 2)] == [3, 4, 5, 6]
    assert store.recent("x", 5) == []
    assert [r.exchange for r in store.recent("y", 4)] == [exchange("b", 2, namespace="y")]


def test_open_episodes_tell_when_they_were_last_used(store):
    store.record([exchange("a", 0), exchange("b", 5), exchange("a", 9, latency_s=2.0), exchange("c", 1, namespace="x")])
    begin = 1_790_000_000.0
    a, b, c = store.open_episodes(None)[::-1]
    assert (a.episode_id, a.exchanges, a.first_at, a.last_at) == ("a", 2, begin, begin + 11)
    assert (b.episode_id, c.episode_id, c.namespace) == ("b", "c", "x")
    assert [one.episode_id for one in store.open_episodes(idle_before=begin + 5.5)] == ["c"]
    assert [one.episode_id for one in store.open_episodes("default", idle_before=begin + 6)] == ["b"]
    assert [one.episode_id for one in store.open_episodes(limit=1)] == ["c"]
    assert [one.episode_id for one in store.open_episodes(outcome_known=True)] == []


def test_namespaces_never_cross(store):
    """The same episode id of two tenants: nothing of one is read, counted, folded or built upon by the other."""
    for turn in range(4):
        store.record([exchange("same", turn, namespace="x")])
        store.record([exchange("same", turn, namespace="y")])
    assert [r.exchange.namespace for r in store.exchanges("x", "same")] == ["x"] * 4
    assert store.exchanges("z", "same") == []
    assert store.recent("z", 0) == []
    with pytest.raises(StoreError, match=r"No exchange 2 of namespace 'x'.*potstill trajectories list"):
        store.exchange(2, "x")
    with raw(store) as connection:
        crossing = "SELECT count(*) FROM journal a JOIN journal b ON a.base = b.seq WHERE a.namespace <> b.namespace"
        assert connection.execute(crossing).fetchone() == (0,)
    with pytest.raises(StoreError, match="never cross tenants"):
        store.fold("x", "same", episode("t", namespace="y"), 8)
    store.fold("x", "same", episode("t", namespace="x"), 8)
    assert [one.namespace for one in store.open_episodes()] == ["y"]
    assert len(store.exchanges("y", "same")) == 4
    assert store.prune_journal(4e9, namespace="x") == 0
    assert store.prune_journal(4e9, namespace="y") == 4


# --- what is refused, what is damaged -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"episode_id": ""}, "episode_id is ''"),
        ({"episode_id": "a\x00b"}, "without NUL"),
        ({"namespace": ""}, "namespace is ''"),
        ({"latency_s": float("nan")}, "latency_s"),
        ({"metadata": {"score": float("inf")}}, "metadata"),
        ({"metadata": {1: "a"}}, "cannot carry unchanged"),
        ({"notes": ("\ud800",)}, "notes|surrogates"),
    ],
)
def test_what_cannot_be_kept_is_refused_at_once_and_nothing_of_its_batch_is_kept(store, change, said):
    bad = msgspec.structs.replace(exchange("e", 1), **change)
    with pytest.raises(StoreError, match=said):
        store.record_nowait([exchange("e", 0), bad])
    assert store.last_seq() == 0


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE journal SET frame = digest WHERE seq = 3",
        "UPDATE journal SET frame = substr(frame, 1, length(frame) - 1) WHERE seq = 3",
        "UPDATE journal SET base = 1 WHERE seq = 3",
        "UPDATE journal SET base = NULL WHERE seq = 3",
        "UPDATE journal SET digest = substr(frame, 1, 16) WHERE seq = 3",
        "UPDATE journal SET frame = (SELECT frame FROM journal WHERE seq = 2) WHERE seq = 3",
        "DELETE FROM journal WHERE seq = 3",
    ],
)
def test_a_damaged_row_is_named_and_keeps_nobody_from_the_others(store, damage):
    made = [exchange("e", turn, grow=1000) for turn in range(6)]
    for one in made:
        store.record([one])
    with raw(store) as connection:
        connection.execute("UPDATE journal SET frame = frame WHERE base = 2 AND seq = 3")
        assert connection.execute(damage).rowcount == 1
    connection.close()
    named = 4 if damage.startswith("DELETE") else 3
    with pytest.raises(StoreError, match=f"Exchange {named} of episode 'e' .* is damaged"):
        store.exchanges("default", "e")
    with pytest.raises(StoreError, match=r"Exchange .* of episode 'e' .*damaged"):
        store.exchange(5, "default")
    assert store.exchange(2, "default").exchange == made[1]
    held = store.episode("default", "e")
    assert [r.exchange for r in held.exchanges] == made[:2]
    assert held.damaged == tuple(range(named, 7))
    assert [r.seq for r in store.recent(None, 0)] == [1, 2]
    assert store.record([exchange("e", 6)]) == [7]
    with Store.open(store.path) as again:  # its newest row stands on the damaged one: a full copy is begun
        assert again.record([exchange("e", 7)]) == [8]
        assert again.exchange(8, "default").exchange == exchange("e", 7)


def test_the_size_limit_refuses_and_what_was_acknowledged_stays(tmp_path):
    kept: dict[int, Exchange] = {}
    with Store.open(tmp_path / "s.db", max_bytes=600_000) as store:
        with pytest.raises(DiskFull, match="No space left for the store"):
            fill(store, kept)
        assert len(kept) > 5
        assert {r.seq: r.exchange for r in store.recent(None, 0, limit=5000)} == kept
        assert store.last_seq() == max(kept)
        store.prune_journal(4e9)
        assert store.record([exchange("after", 0)]) == [max(kept) + 1]
    with Store.open(tmp_path / "s.db") as store:
        assert store.check() == []


def fill(store: Store, kept: dict[int, Exchange]) -> None:
    for turn in range(3000):
        text = words(random.Random(turn), 3000).encode()
        one = exchange(f"e{turn % 3}", turn // 3, request=b"%d " % turn + text)
        kept[store.record([one])[0]] = one


def test_ten_megabytes(store):
    big = random.Random(1).randbytes(10_000_000)
    made = [exchange("e", turn, request=big + b"%d" % turn, response=big[: 1_000_000 * turn]) for turn in range(3)]
    for one in made:
        store.record([one])
    assert [r.exchange for r in store.exchanges("default", "e")] == made
    assert [length < 2_100_000 for *_, length in frames(store)] == [False, True, True]


def test_what_is_remembered_of_requests_is_bounded():
    heads = Heads(max_bytes=10_000)
    for size in range(100):
        for turn in range(6):
            heads.put(("n", str(size)), make_head(turn, b"", 0, Base((bytes(size),), b"")))
        assert 0 < heads.bytes <= 10_000
        assert [one.seq for one in heads.of(("n", str(size)))] == [2, 3, 4, 5]
    assert heads.of(("n", "0")) == []
    last = heads.of(("n", "99"))
    heads.put(("n", "99"), make_head(9, b"", 0, Base((b"",), b"")), last[0])
    assert [one.seq for one in heads.of(("n", "99"))] == [3, 4, 5, 9]
    for one in heads.of(("n", "99")):
        heads.drop(("n", "99"), one)
    heads.put(("n", "x"), make_head(1, b"", 0, Base((bytes(20_000),), b"")))
    assert (heads.bytes, heads.of(("n", "x"))) == (0, [])


def test_the_store_records_with_no_memory_for_requests(tmp_path):
    made = [exchange("e", turn) for turn in range(8)]
    with Store.open(tmp_path / "s.db") as store:
        store._heads = Heads(max_bytes=0)
        for one in made:
            store.record([one])
        assert [r.exchange for r in store.exchanges("default", "e")] == made
        assert any(base for _, base, _, _ in frames(store))
