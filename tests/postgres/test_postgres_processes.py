"""Several processes on one server behave as one: numbers, compare-and-set, spend, leases, an episode of two of them."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from exchange_fakes import exchange
from trajectory_fakes import episode

from potstill.trajectories.exchange import Folded
from potstill.trajectories.opening import open_store, read_store

pytestmark = pytest.mark.postgres
CHILD = Path(__file__).parent.parent / "trajectories" / "journal_child.py"


def start(verb: str, url: str, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, CHILD, verb, url, name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def said(child: subprocess.Popen[str]) -> dict[int, tuple[str, int]]:
    """What was acknowledged: number to episode and turn."""
    out, _ = child.communicate(timeout=180)
    lines = [line.split() for line in out.splitlines()]
    return {int(seq): (id, int(turn)) for kind, seq, id, turn in lines if kind == "A"}


def test_two_processes_make_the_tables_at_once(url):
    with ThreadPoolExecutor(6) as pool:
        stores = list(pool.map(lambda _: open_store(url), range(6)))
    for number, store in enumerate(stores):
        assert store.record([exchange("e", number)]) == [number + 1]
        store.close()


def test_who_follows_the_journal_misses_nothing_of_two_writers(url):
    """Numbers become visible in their order: whoever asks for what came after the last one sees each once."""
    open_store(url).close()
    children = [start("record", url, name, 60) for name in ("left", "right")]
    seen: dict[int, tuple[str, int]] = {}
    done = threading.Event()

    def follow() -> None:
        with read_store(url) as store:
            last = 0
            while True:
                finished = done.is_set()
                found = store.recent(None, last, limit=500)
                for one in found:
                    assert one.seq > last
                    last = one.seq
                    turn = exchange(one.exchange.episode_id, 0)
                    seen[one.seq] = (one.exchange.episode_id, int(one.exchange.started_at - turn.started_at))
                assert store.last_seq() >= last
                if finished and not found:
                    return

    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(follow)
        told = [said(child) for child in children]
        done.set()
        following.result()
    assert [child.returncode for child in children] == [0, 0]
    assert not told[0].keys() & told[1].keys()
    assert seen == told[0] | told[1]
    assert sorted(seen) == list(range(1, len(seen) + 1))


def test_compare_and_set_and_spend_of_two_processes(url):
    each = 20
    open_store(url).close()
    children = [start("count", url, name, each) for name in ("left", "right")]
    assert [child.wait(timeout=180) for child in children] == [0, 0]
    with read_store(url) as store:
        assert store.get_state("test", "number") == (4 * each, 4 * each)
        rows = {one.key_id: one for one in store.spend("acme")}
        assert (rows["left"].usd_micros, rows["left"].tokens, rows["left"].requests) == (6 * each, 10 * each, 2 * each)
        assert (rows["shared"].usd_micros, rows["shared"].tokens) == (4 * each, 0)


def test_one_episode_through_two_gateways(url):
    """Both build on each other's rows, one folds, the other's early reading cannot undo it."""
    with open_store(url) as left, open_store(url) as right:
        made = [exchange("e", turn, grow=1500) for turn in range(12)]
        seqs = [(left, right)[turn % 2].record([one])[0] for turn, one in enumerate(made)]
        assert seqs == list(range(1, 13))
        assert [r.exchange for r in left.exchanges("default", "e")] == made
        early = right.episode("default", "e")
        assert left.fold("default", "e", episode("t", steps=12), seqs[-1]) is Folded.DONE
        assert right.fold("default", "e", episode("t", steps=12), seqs[-1]) is Folded.ALREADY
        assert right.get("t") == left.get("t")
        assert right.record([exchange("e", 12)]) == [13]
        assert left.fold("default", "e", episode("t", steps=13), 13, after_seq=early.folded_seq) is Folded.STALE
        assert left.check() == []


def test_of_two_processes_one_has_the_lease(url):
    now = [1000.0]
    clock = lambda: now[0]  # noqa: E731
    with open_store(url, clock=clock) as one, open_store(url, clock=clock) as two:
        with ThreadPoolExecutor(8) as pool:
            stores = [(one, "p1"), (two, "p2")] * 10
            got = list(pool.map(lambda pair: (pair[1], pair[0].lease("folding", pair[1], 30)), stores))
        assert len({who for who, has in got if has}) == 1
        winner = next(who for who, has in got if has)
        now[0] += 31
        other, store = ("p2", two) if winner == "p1" else ("p1", one)
        assert store.lease("folding", other, 30)


def test_vectors_and_counters_of_two_processes(url):
    import numpy as np

    with open_store(url) as one, open_store(url) as two:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: (one, two)[i % 2].bump("ns", "k", shown=1), range(40)))
            list(
                pool.map(
                    lambda i: (one, two)[i % 2].put_vectors("ns/e", [f"v{i}"], np.full((1, 3), i, dtype=np.float32)),
                    range(20),
                )
            )
        assert two.counters("ns")["k"].shown == 40
        ids, matrix = one.vectors("ns/e")
        assert {id: row[0] for id, row in zip(ids, matrix, strict=True)} == {f"v{i}": i for i in range(20)}
