"""What the journal acknowledged survives SIGKILL, a full disk and other processes, byte for byte."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from exchange_fakes import exchange
from trajectory_fakes import episode

from potstill.errors import DiskFull
from potstill.trajectories import Store

CHILD = Path(__file__).with_name("journal_child.py")


def start(verb: str, path: Path, name: str, count: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, CHILD, verb, path, name, str(count)], stdout=subprocess.PIPE)


def killed(verb: str, path: Path, name: str, rng: random.Random) -> list[str]:
    """Run the child, kill it among its writes, return the whole lines that it printed."""
    child = start(verb, path, name, 100_000)
    assert child.stdout is not None
    first = child.stdout.readline()
    time.sleep(rng.uniform(0, 0.3))
    child.send_signal(signal.SIGKILL)
    rest, _ = child.communicate()
    return [line for line in (first + rest).decode().split("\n")[:-1] if line]


def recorded(lines: list[str]) -> dict[int, tuple[str, int]]:
    """Acknowledged sequence numbers, and the episode and turn that each stands for."""
    found = [line.split() for line in lines if line.startswith("A ")]
    assert len({seq for _, seq, _, _ in found}) == len(found)
    return {int(seq): (id, int(turn)) for _, seq, id, turn in found}


def must_hold(store: Store, acknowledged: dict[int, tuple[str, int]]) -> None:
    held = {r.seq: r.exchange for r in store.recent(None, 0, limit=10**6)}
    assert acknowledged.keys() <= held.keys(), "an acknowledged exchange was lost"
    for seq, (id, turn) in acknowledged.items():
        assert held[seq] == exchange(id, turn)


@pytest.mark.parametrize("rounds", [3, pytest.param(25, marks=pytest.mark.slow)])
def test_kills_lose_nothing_that_was_acknowledged_and_no_number_is_given_twice(tmp_path, rounds):
    path = tmp_path / "s.db"
    rng = random.Random(11)
    acknowledged: dict[int, tuple[str, int]] = {}
    for round in range(rounds):
        lines = recorded(killed("record", path, f"r{round}", rng))
        assert not acknowledged.keys() & lines.keys(), "a sequence number was given twice"
        assert min(lines) > max(acknowledged, default=0)
        acknowledged |= lines
        with Store.open(path) as store:
            assert store.last_seq() >= max(acknowledged)
            must_hold(store, lines)
    with Store.open(path) as store:
        must_hold(store, acknowledged)
        assert all(
            r.exchange == exchange(r.exchange.episode_id, turn)
            for id in {id for id, _ in acknowledged.values()}
            for turn, r in enumerate(store.exchanges("default", id))
        )
        assert store.check() == []


@pytest.mark.parametrize("rounds", [3, pytest.param(25, marks=pytest.mark.slow)])
def test_a_kill_finds_an_episode_in_the_journal_or_as_a_trajectory_never_in_both_or_none(tmp_path, rounds):
    path = tmp_path / "s.db"
    rng = random.Random(12)
    for round in range(rounds):
        lines = killed("fold", path, f"r{round}", rng)
        acknowledged, folded = recorded(lines), {line[2:] for line in lines if line.startswith("F ")}
        with Store.open(path) as store:
            trajectories = set(store.ids())
            assert folded <= trajectories
            for id in {id for id, _ in acknowledged.values()}:
                assert len(store.exchanges("default", id)) == (0 if id in trajectories else 4)
            for id in sorted(trajectories):
                assert store.get(id) == episode(id, steps=4)
            assert {one.episode_id for one in store.open_episodes()}.isdisjoint(trajectories)
            assert store.check() == []


def test_two_processes_record_at_once(tmp_path):
    path = tmp_path / "s.db"
    children = [start("record", path, name, 150) for name in ("left", "right")]
    answers = [recorded(child.communicate(timeout=120)[0].decode().splitlines()) for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert not answers[0].keys() & answers[1].keys()
    both = answers[0] | answers[1]
    with Store.open(path) as store:
        must_hold(store, both)
        assert store.last_seq() == max(both) == len(both)
        assert sum(one.exchanges for one in store.open_episodes()) == len(both)
        assert store.check() == []


def fill(store: Store, kept: dict[int, tuple[str, int]]) -> None:
    for turn in range(10_000):
        seqs = store.record([exchange(f"e{turn}-{i}", i, grow=2000) for i in range(3)])
        kept.update({seq: (f"e{turn}-{i}", i) for i, seq in enumerate(seqs)})


def test_a_full_disk_says_so_and_keeps_what_was_acknowledged(small_disk):
    kept: dict[int, tuple[str, int]] = {}
    path = small_disk / "s.db"
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(700_000))
    with Store.open(path) as store:
        with pytest.raises(DiskFull, match="No space left for the store"):
            fill(store, kept)
        assert len(kept) > 20
        assert store.last_seq() == max(kept)
    with Store.open(path) as store:
        held = {r.seq: r.exchange for r in store.recent(None, 0, limit=10**6)}
        assert held == {seq: exchange(id, turn, grow=2000) for seq, (id, turn) in kept.items()}
        assert store.check() == []
        ballast.unlink()
        assert store.prune_journal(4e9) == len(kept)
        assert store.record([exchange("after", 0)])[0] > max(kept)
