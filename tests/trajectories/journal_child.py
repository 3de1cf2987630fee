"""A process that works on a store until it is killed or done, and prints what was acknowledged the moment it was.

``python journal_child.py record STORE NAME COUNT``: ``A seq episode turn`` for each exchange.
``python journal_child.py fold STORE NAME COUNT``: ``A``, then ``F episode`` when it was folded.
``python journal_child.py count STORE NAME COUNT``: adds 1 to a shared number by compare-and-set and to a day's spend.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from exchange_fakes import exchange
from trajectory_fakes import episode

from potstill.trajectories import Store
from potstill.trajectories.exchange import Folded
from potstill.trajectories.opening import open_store


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def record(store: Store, name: str, count: int) -> None:
    """Two threads, batches of one to three exchanges, episodes of forty turns."""

    def work(thread: int) -> None:
        turn = 0
        while turn < count:
            batch = [(f"{name}-{thread}-{t // 40}", t % 40) for t in range(turn, turn + 1 + turn % 3)]
            seqs = store.record([exchange(*one) for one in batch])
            say("\n".join(f"A {seq} {id} {t}" for seq, (id, t) in zip(seqs, batch, strict=True)))
            turn += len(batch)

    both(work)


def fold(store: Store, name: str, count: int) -> None:
    def work(thread: int) -> None:
        for i in range(count):
            id = f"{name}-{thread}-{i}"
            seqs = store.record([exchange(id, turn) for turn in range(4)])
            say("\n".join(f"A {seq} {id} {turn}" for turn, seq in enumerate(seqs)))
            if store.fold("default", id, episode(id, steps=4), seqs[-1]) is Folded.DONE:
                say(f"F {id}")

    both(work)


def count_up(store: Store, name: str, count: int) -> None:
    def work(thread: int) -> None:
        for _ in range(count):
            while True:
                held = store.get_state("test", "number")
                version, value = held or (0, 0)
                if store.put_state("test", "number", value + 1, version):
                    break
            store.add_spend("acme", name, "2026-11-21", usd_micros=3, tokens=5)
            store.add_spend("acme", "shared", "2026-11-21", usd_micros=1)

    both(work)


def both(work: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    verb, path, name, count = sys.argv[1:]
    with open_store(path) as opened:
        {"record": record, "fold": fold, "count": count_up}[verb](opened, name, int(count))
