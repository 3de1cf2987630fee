"""A playbook through SIGKILL among its writes, two processes at once and a full disk: nothing half, nothing lost."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from playbook_workers import add, batch, counting, lessons

from potstill.distill.playbook.apply import Entry
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.operations import Applied
from potstill.errors import DiskFull
from potstill.trajectories import Store
from potstill.trajectories.opening import open_store

CHILD = Path(__file__).with_name("playbook_child.py")


def start(verb: str, path: Path | str, name: str, count: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, CHILD, verb, path, name, str(count)], stdout=subprocess.PIPE)


def killed(path: Path | str, name: str, rng: random.Random) -> dict[str, Applied]:
    """Run the child, kill it among its writes; what it was told was applied, by key."""
    child = start("lessons", path, name, 100_000)
    assert child.stdout is not None
    first = child.stdout.readline()
    time.sleep(rng.uniform(0, 0.1))
    child.send_signal(signal.SIGKILL)
    rest, _ = child.communicate()
    lines = [line.split(maxsplit=2) for line in (first + rest).decode().split("\n")[:-1]]
    return {f"{writer}-{number}": msgspec.json.decode(told, type=Applied) for writer, number, told in lines}


def must_be_whole(book: Playbook, told: dict[str, Applied]) -> list[Entry]:
    """All that was acknowledged is there, once, and every batch is there whole or not at all."""
    assert book.check() == []
    entries = book.log()
    by_key = {entry.batch.key: entry for entry in entries[1:]}
    assert len(by_key) == len(entries) - 1, "a batch was applied twice"
    for key, applied in told.items():
        assert (by_key[key].revision, by_key[key].ids) == (applied.revision, applied.ids)
    bullets = book.bullets()
    assert len(bullets) == 1 + 5 * len(by_key)
    assert bullets["b-1"].helpful == len(by_key)
    for key, entry in by_key.items():
        name, number = re.fullmatch(r"(.+)-(\d+)", key).groups()
        assert entry.batch == lessons(name, int(number))
        assert [bullets[id].content for id in entry.ids] == [f"{name} {number} {part}" for part in range(5)]
    return entries


def through_kills(place: Path | str, rounds: int) -> None:
    rng = random.Random(5)
    with open_store(str(place)) as store:
        Playbook(store, "default", "book").apply(batch(add("first")))
    told: dict[str, Applied] = {}
    for round in range(rounds):
        told |= killed(place, f"r{round}-", rng)
        with open_store(str(place)) as store:
            book = Playbook(store, "default", "book")
            entries = must_be_whole(book, told)
            assert store.check() == []
            last = entries[-1]  # it may have been written and not told: asked again, it is not done again
            again = book.apply(last.batch)
            assert (again.repeated, again.revision, again.ids) == (True, last.revision, last.ids)


@pytest.mark.parametrize("rounds", [10, pytest.param(40, marks=pytest.mark.full)])
def test_kills_leave_whole_batches_and_lose_none_that_was_acknowledged(tmp_path, rounds):
    through_kills(tmp_path / "s.db", rounds)


@pytest.mark.postgres
@pytest.mark.parametrize("rounds", [3, pytest.param(40, marks=pytest.mark.full)])
def test_kills_of_a_process_that_writes_to_postgresql(postgres, tmp_path, rounds):
    through_kills(postgres.url_for(tmp_path / "s.db"), rounds)


def by_two_processes(place: Path | str) -> None:
    with open_store(str(place)) as store:
        Playbook(store, "default", "book").apply(batch(add("0")))
    children = [start("count", place, name, 100) for name in ("left", "right")]
    assert [child.wait(120) for child in children] == [0, 0]
    with open_store(str(place)) as store:
        book = Playbook(store, "default", "book")
        bullets = book.bullets()
        first = bullets.pop("b-1")
        assert (first.content, first.helpful, first.revision) == ("200", 200, 201)
        expected = {f"{name} {round}" for name in ("left", "right") for round in range(100)}
        assert {bullet.content for bullet in bullets.values()} == expected
        assert (len(bullets), book.revision, book.check()) == (200, 201, [])


def test_two_processes_that_update_the_same_bullet_lose_nothing(tmp_path):
    by_two_processes(tmp_path / "s.db")


@pytest.mark.postgres
def test_two_processes_on_postgresql_lose_nothing(postgres, tmp_path):
    by_two_processes(postgres.url_for(tmp_path / "s.db"))


def test_who_was_too_late_reads_again_and_counts_on(tmp_path):
    with Store.open(tmp_path / "s.db") as store:
        book = Playbook(store, "default", "book")
        book.apply(batch(add("0")))
        assert counting(book, "only", 3) == 0
        assert book.bullets()["b-1"].content == "3"


def fill(book: Playbook) -> dict[str, Applied]:
    told: dict[str, Applied] = {}
    for number in range(100_000):
        try:
            told[f"full-{number}"] = book.apply(lessons("full", number))
        except DiskFull:
            return told
    raise AssertionError("the disk was never full")


def test_a_full_disk_says_so_and_leaves_whole_batches(small_disk):
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(900_000))
    with Store.open(small_disk / "s.db") as store:
        book = Playbook(store, "default", "book")
        book.apply(batch(add("first")))
        told = fill(book)
        assert len(told) > 20
        assert len(must_be_whole(book, told)) == 1 + len(told)
    with Store.open(small_disk / "s.db") as store:
        book = Playbook(store, "default", "book")
        must_be_whole(book, told)
        assert store.check() == []
        ballast.unlink()
        late = lessons("full", len(told))
        assert book.apply(late).revision == len(told) + 2
        must_be_whole(book, told)
