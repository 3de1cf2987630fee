"""What was acknowledged survives SIGKILL, a full disk and other processes; older and newer schemas."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from exchange_fakes import exchange
from schema_v1 import write_v1
from trajectory_fakes import episode

from potstill.errors import DiskFull, SchemaTooNew, StoreError
from potstill.trajectories import Store
from potstill.trajectories.connection import connect
from potstill.trajectories.exchange import Folded
from potstill.trajectories.migrations import MIGRATIONS, migrate
from potstill.types import Outcome

CHILD = Path(__file__).with_name("writing_child.py")
KILLS = 50


def start(path: Path, name: str, count: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, CHILD, path, name, str(count)], stdout=subprocess.PIPE)


def acknowledged(lines: list[str]) -> tuple[set[str], set[str]]:
    """Ids that must be there, and ids that must be gone; a removal that was begun but not confirmed is in neither."""
    by_verb = {verb: {line[2:] for line in lines if line.startswith(f"{verb} ")} for verb in "ATR"}
    return by_verb["A"] - by_verb["T"], by_verb["R"]


def kill_at_random(path: Path, name: str, rng: random.Random) -> list[str]:
    """Run the child, kill it, return the whole lines that it printed."""
    child = start(path, name, 100_000)
    assert child.stdout is not None
    first = b""
    if rng.random() < 0.8:  # among the writes; otherwise anywhere, start-up and opening included
        first = child.stdout.readline()
    time.sleep(rng.uniform(0, 0.25))
    child.send_signal(signal.SIGKILL)
    rest, _ = child.communicate()
    return [line for line in (first + rest).decode().split("\n")[:-1] if line]


@pytest.mark.slow
def test_fifty_kills_lose_nothing_that_was_acknowledged(tmp_path):
    path = tmp_path / "store.db"
    rng = random.Random(7)
    present: set[str] = set()
    gone: set[str] = set()
    for round in range(KILLS):
        here, removed = acknowledged(kill_at_random(path, f"round{round}", rng))
        present |= here
        gone |= removed
        with Store.open(path) as store:  # the next opening recovers the log
            found = set(store.ids())
            assert here <= found, f"lost in round {round}"
            assert not removed & found
            for id in sorted(here)[-3:]:
                assert store.get(id).id == id
    assert len(present) > KILLS
    with Store.open(path) as store:
        assert present <= set(store.ids())
        assert not gone & set(store.ids())
        for trajectory in store.select():
            name, thread, i = trajectory.id.split("-")
            assert trajectory == episode(f"{name}-{thread}-{i}", steps=1 + int(i) % 4, words=name)
        assert store.check() == []


def test_two_processes_write_at_once(tmp_path):
    path = tmp_path / "store.db"
    children = [start(path, name, 60) for name in ("left", "right")]
    lines = [line for child in children for line in child.communicate(timeout=120)[0].decode().splitlines()]
    assert [child.returncode for child in children] == [0, 0]
    present, gone = acknowledged(lines)
    assert len(present) == 2 * 2 * (60 - 12)
    with Store.open(path) as store:
        assert set(store.ids()) == present
        assert len(gone) == 2 * 2 * 12
        assert len(list(store.select())) == len(present)
        assert store.check() == []


def test_a_store_is_read_and_written_while_another_process_writes(tmp_path):
    path = tmp_path / "store.db"
    child = start(path, "writer", 100_000)
    assert child.stdout is not None
    child.stdout.readline()
    with Store.open(path) as store:
        for i in range(10):
            store.append(episode(f"mine-{i}"))
            assert all(t.id.startswith(("mine", "writer")) for t in store.select(limit=20, newest_first=True))
        assert child.poll() is None
        child.kill()
        child.communicate()
        assert len(store.ids(limit=None)) > 10


def fill(store: Store, kept: list[str]) -> None:
    for i in range(5000):
        store.append(episode(f"e{i}", steps=8, words=str(i)))
        kept.append(f"e{i}")


def test_a_full_disk_says_so_and_leaves_the_store_intact(small_disk):
    kept: list[str] = []
    with Store.open(small_disk / "store.db") as store:
        with pytest.raises(DiskFull, match=r"No space left for the store .*prune"):
            fill(store, kept)
        assert len(kept) > 5
        assert store.ids() == kept
        assert all(store.get(id).id == id for id in kept)
    with Store.open(small_disk / "store.db") as store:
        assert store.ids() == kept
        assert store.check() == []


def test_after_a_full_disk_is_freed_the_same_store_writes_again(small_disk):
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1_000_000))
    kept: list[str] = []
    with Store.open(small_disk / "store.db") as store:
        with pytest.raises(DiskFull):
            fill(store, kept)
        ballast.unlink()
        store.append(episode("after"))
        store.remove(kept[: len(kept) // 2])
        assert store.ids() == [*kept[len(kept) // 2 :], "after"]
        assert store.check() == []


def test_a_store_on_a_disk_without_any_space_cannot_be_made(small_disk):
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="No space"):
        ballast.write_bytes(bytes(3_000_000))
    with pytest.raises(DiskFull):
        Store.open(small_disk / "store.db")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anything")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="cannot be"):
        Store.open(tmp_path / "new" / "store.db")


# --- schemas --------------------------------------------------------------------------------------------------------


def test_a_store_of_schema_1_opens_and_is_brought_forward(tmp_path):
    old = write_v1(tmp_path / "old.db")
    with Store.open(tmp_path / "old.db") as store:
        assert [(row.id, row.steps, row.success) for row in store.summaries()] == [("old", 2, True), ("older", 1, None)]
        assert list(store.select()) == old
        store.append(episode("new", steps=2))
        store.bump("default", "old#0", shown=1)
        store.set_outcome("older", Outcome(success=False))
        assert store.ids(success=False) == ["older"]
        assert not store.append_nowait(old[0]).result()
        assert store.check() == []
    with sqlite3.connect(tmp_path / "old.db") as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)


@pytest.mark.parametrize("released", range(1, len(MIGRATIONS)))
def test_a_store_of_each_released_schema_records_exchanges_and_shares_state(tmp_path, released):
    path = tmp_path / "old.db"
    old = write_v1(path)
    connection = connect(path)
    migrate(connection, path, MIGRATIONS[:released])
    assert connection.execute("PRAGMA user_version").fetchone() == (released,)
    connection.close()
    with Store.read(path) as store:
        assert store.open_episodes() == []
    with Store.open(path) as store:
        assert store.record([exchange("e", 0), exchange("e", 1)]) == [1, 2]
        assert store.fold("default", "e", episode("new"), 2) is Folded.DONE
        assert store.put_state("kind", "key", 1, 0)
        assert list(store.select()) == [*old, episode("new")]
        assert store.check() == []
    connection = connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    connection.close()


def test_a_store_of_schema_1_is_read_without_touching_it(tmp_path):
    path = tmp_path / "old.db"
    old = write_v1(path)
    before = path.read_bytes()
    with Store.read(path) as store:
        assert list(store.select()) == old
        assert store.check() == []
        with pytest.raises(StoreError, match="opened for reading"):
            store.append(episode("new", steps=2))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["old.db"]


def test_a_store_is_read_while_another_process_writes_it(tmp_path):
    with Store.open(tmp_path / "s.db") as writer, Store.read(tmp_path / "s.db") as reader:
        writer.append(episode("a", steps=2))
        assert reader.ids() == ["a"]
        writer.append(episode("b", steps=2))
        assert reader.ids() == ["a", "b"]


def test_a_migration_that_fails_changes_nothing(tmp_path):
    old = write_v1(tmp_path / "old.db")

    def broken(connection: sqlite3.Connection) -> None:
        connection.execute("DROP TABLE steps")
        raise sqlite3.OperationalError("the lights went out")

    connection = connect(tmp_path / "old.db")
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, tmp_path / "old.db", (*MIGRATIONS, broken))
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    connection.close()
    with Store.open(tmp_path / "old.db") as store:
        assert list(store.select()) == old


def test_a_newer_schema_is_refused_untouched(tmp_path):
    path = tmp_path / "new.db"
    Store.open(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(SchemaTooNew, match=r"schema 99.*pip install --upgrade potstill"):
        Store.open(path)
    assert path.read_bytes() == before


def test_many_processes_may_create_the_same_store(tmp_path):
    children = [start(tmp_path / "store.db", f"p{n}", 1) for n in range(4)]
    for child in children:
        child.communicate(timeout=120)
    assert [child.returncode for child in children] == [0] * 4
    with Store.open(tmp_path / "store.db") as store:
        assert len(store.ids()) == 8
