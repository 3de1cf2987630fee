"""Work that one process at a time does: who has it, who does not, and what happens when who had it dies."""

from __future__ import annotations

import subprocess
import sys
import time

import engines
from potstill.trajectories import Store

HOLDS = """
import sys, time
from potstill.trajectories.opening import open_store
with open_store(sys.argv[1]) as store, store.alone("work") as mine:
    print(mine, flush=True)
    time.sleep(60)
"""


def test_one_has_it_until_its_block_ends(tmp_path):
    with Store.open(tmp_path / "a.db") as store, Store.open(tmp_path / "a.db") as same:
        with Store.open(tmp_path / "b.db") as other, store.alone("work") as mine:
            assert mine
            with store.alone("work") as again, same.alone("work") as theirs, same.alone("else") as another:
                assert (again, theirs, another) == (False, False, True)
            with other.alone("work") as elsewhere:
                assert elsewhere
            assert store.put_state("k", "a", 1, 0)
        with same.alone("work") as now:
            assert now


def test_it_is_free_when_the_block_raises(tmp_path):
    with Store.open(tmp_path / "a.db") as store:
        try:
            with store.alone("work"):
                raise ValueError("broken")
        except ValueError:
            pass
        with store.alone("work") as mine:
            assert mine


def test_who_is_killed_does_not_keep_it(tmp_path):
    with Store.open(tmp_path / "a.db") as store:
        place = engines._place(tmp_path / "a.db")
        child = subprocess.Popen([sys.executable, "-c", HOLDS, place], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        assert child.stdout.readline() == "True\n"
        with store.alone("work") as mine:
            assert not mine
        child.kill()
        child.wait()
        until = time.monotonic() + 120
        while True:
            with store.alone("work") as mine:
                if mine:
                    return
            assert time.monotonic() < until
            time.sleep(0.05)
