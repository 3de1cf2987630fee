"""A learning run through SIGKILL and Ctrl-C, in each mode: it goes on exactly, and ends with the undisturbed book."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from learning_child import MODES, run

from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.learn.result import Stopped, result_of
from potstill.trajectories import Store
from potstill.trajectories.opening import open_store

CHILD = Path(__file__).with_name("learning_child.py")


def start(path: Path | str, mode: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, CHILD, str(path), mode], stdout=subprocess.PIPE)


async def undisturbed(path: Path, mode: str) -> tuple[str, list[object], dict[str, int]]:
    with Store.open(path) as store:
        book = Playbook(store, "default", "book")
        result = await run(book, mode)
        return book.state_hash(), [entry.batch for entry in book.log()], dict(result.applied)


def disturbed(place: Path | str, mode: str, stops: list[int], rng: random.Random) -> int:
    """Start the child again and again, and stop it soon after its first step; how often it was stopped."""
    stopped = 0
    while True:
        child = start(place, mode)
        assert child.stdout is not None
        first = child.stdout.readline()
        if stopped < len(stops):
            time.sleep(rng.uniform(0, 0.08))
            child.send_signal(stops[stopped])
        rest, _ = child.communicate(timeout=300)
        if (first + rest).splitlines()[-1].startswith(b"hash "):
            return stopped  # done, even where the signal came before its exit
        assert child.returncode in (-signal.SIGKILL, 130)
        stopped += 1


async def goes_on_exactly(place: Path | str, path: Path, mode: str, stops: list[int]) -> None:
    expected, batches, applied = await undisturbed(path / "undisturbed.db", mode)
    assert await asyncio.to_thread(disturbed, place, mode, stops, random.Random(mode)) >= 1
    with open_store(str(place)) as store:
        book = Playbook(store, "default", "book")
        assert book.check() == []
        assert [entry.batch for entry in book.log()] == batches  # nothing twice, nothing lost, in the same order
        assert book.state_hash() == expected
        result = result_of(book, "r")
        assert (result.stopped, dict(result.applied)) == (Stopped.DONE, applied)
        assert store.check() == []


KILLS = [signal.SIGKILL] * 2
INTERRUPTS = [signal.SIGINT, signal.SIGINT]


@pytest.mark.parametrize("mode", ["offline", "online", "batch"])
async def test_a_run_that_is_killed_goes_on_exactly(tmp_path, mode):
    await goes_on_exactly(tmp_path / "s.db", tmp_path, mode, KILLS)


@pytest.mark.parametrize("mode", ["offline"])
async def test_a_run_that_is_interrupted_goes_on_exactly(tmp_path, mode):
    await goes_on_exactly(tmp_path / "s.db", tmp_path, mode, INTERRUPTS)


@pytest.mark.full
@pytest.mark.parametrize("mode", list(MODES))
async def test_forty_kills_and_interruptions(tmp_path, mode):
    await goes_on_exactly(tmp_path / "s.db", tmp_path, mode, (KILLS + INTERRUPTS) * 10)


@pytest.mark.postgres
async def test_a_run_on_postgresql_that_is_killed_goes_on_exactly(postgres, tmp_path):
    await goes_on_exactly(postgres.url_for(tmp_path / "s.db"), tmp_path, "online", KILLS[:2])


@pytest.mark.parametrize("mode", list(MODES))
async def test_a_run_that_is_cancelled_anywhere_goes_on_exactly(tmp_path, mode):
    """In one process, hundreds of times: at any point at which it waits."""
    expected, batches, applied = await undisturbed(tmp_path / "undisturbed.db", mode)
    rng = random.Random(mode)
    with Store.open(tmp_path / "s.db") as store:
        book = Playbook(store, "default", "book")
        cancelled = 0
        while cancelled < 40:
            going = asyncio.ensure_future(run(book, mode))
            done, _ = await asyncio.wait([going], timeout=rng.uniform(0, 0.03))
            if done:
                break
            going.cancel()
            with pytest.raises(asyncio.CancelledError):
                await going
            cancelled += 1
        result = await run(book, mode)
        assert (book.state_hash(), [entry.batch for entry in book.log()]) == (expected, batches)
        assert (result.stopped, dict(result.applied)) == (Stopped.DONE, applied)
        assert cancelled >= 3
