"""What a delta costs in a playbook of 1,000, 10,000 and 100,000 bullets, durable each time; whether writers lose any.

``python bench/playbook_log.py`` writes ``bench/results/playbook_log.json``. A delta is a batch of five ADDs (five TAGs,
one UPDATE), each in a transaction with an fsync of its own, with a key and a source; the near-duplicate gate is no part
of it. ``cpu_ms`` is all threads' processor time for one; ``floor_ms`` is what the smallest durable write of the same
store takes on the same disk: one counter. Bullets are random words, 150 characters. The last row: processes that count
up in the same bullet by compare-and-set. ``--disk`` names a folder on the disk to measure.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import _results
from potstill.distill.playbook.apply import Refused, replay, state_hash
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.operations import Add, Batch, Operation, Stage, Tag, Update
from potstill.trajectories import Store

SECTIONS = ("strategies_and_insights", "formulas", "code_snippets", "common_mistakes", "others")
SYLLABLES = ("ka", "to", "mi", "ren", "sol", "ba", "ti", "or", "el", "un", "ash", "per", "qui", "lo", "ve", "dra")
CHARACTERS = 150
FILLING = 1000
"""Bullets in a batch while a book is filled."""


def text(rng: random.Random) -> str:
    words = ("".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(CHARACTERS // 4))
    return " ".join(words)[:CHARACTERS].strip()


def add(rng: random.Random) -> Add:
    return Add(section=rng.choice(SECTIONS), content=text(rng), stage=Stage.LIVE)


def batch(operations: list[Operation], number: int) -> Batch:
    return Batch(operations=tuple(operations), actor="bench", sources=(f"trace-{number}",), key=f"key-{number}")


def fill(book: Playbook, bullets: int, rng: random.Random) -> None:
    for _ in range(bullets // FILLING):
        book.apply(Batch(operations=tuple(add(rng) for _ in range(FILLING)), actor="bench"))


def timed(work: Callable[[int], object], count: int) -> dict[str, float]:
    """Milliseconds: half of the calls take no longer, 95 of 100, the slowest; of processor time, the mean."""
    took = []
    cpu = time.process_time()
    for number in range(count):
        begun = time.perf_counter()
        work(number)
        took.append((time.perf_counter() - begun) * 1e3)
    cpu = (time.process_time() - cpu) / count * 1e3
    ordered = sorted(took)
    p95 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
    found = {"p50_ms": statistics.median(took), "p95_ms": p95, "max_ms": ordered[-1], "cpu_ms": cpu}
    return {name: round(value, 3) for name, value in found.items()}


def measured(folder: Path, bullets: int, count: int) -> list[dict[str, Any]]:
    rng = random.Random(bullets)
    with Store.open(folder / f"{bullets}.db") as store:
        book = Playbook(store, "default", "bench")
        fill(book, bullets, rng)
        revisions: dict[str, int] = {}

        def five_adds(number: int) -> None:
            book.apply(batch([add(rng) for _ in range(5)], number))

        def five_tags(number: int) -> None:
            ids = rng.sample(range(1, bullets + 1), 5)
            book.apply(batch([Tag(id=f"b-{id}", helpful=1) for id in ids], count + number))

        def one_update(number: int) -> None:
            id = f"b-{rng.randint(1, bullets)}"
            revisions[id] = revisions.get(id, 0) + 1
            book.apply(batch([Update(id=id, content=text(rng), revision=revisions[id])], 2 * count + number))

        floor = timed(lambda _: store.bump("bench", "floor", shown=1), count)["p50_ms"]
        kinds = {"5 ADD": five_adds, "5 TAG": five_tags, "1 UPDATE": one_update}
        rows = [
            {"delta": kind, "bullets": bullets, **timed(work, count), "floor_ms": floor} for kind, work in kinds.items()
        ]
        begun = time.perf_counter()
        hashed = state_hash(replay(book.log()))
        replayed = time.perf_counter() - begun
        if hashed != book.state_hash():
            raise SystemExit(f"The book of {bullets} bullets is not what its log says.")
    return [*rows, {"delta": "replay of the log", "bullets": bullets, "s": round(replayed, 3), "hash_equal": True}]


def count_up(path: str, updates: int, late: Any) -> None:
    """One writer: read the bullet, write the next number, read again where another one was faster."""
    with Store.open(path) as store:
        book = Playbook(store, "default", "bench")
        for _ in range(updates):
            while True:
                bullet = book.bullets(["b-1"])["b-1"]
                update = Update(id="b-1", content=str(int(bullet.content) + 1), revision=bullet.revision)
                try:
                    book.apply(Batch(operations=(update, Tag(id="b-1", helpful=1)), actor="bench"))
                    break
                except Refused:
                    with late.get_lock():
                        late.value += 1


def processes(folder: Path, writers: int, updates: int) -> dict[str, Any]:
    path = str(folder / "shared.db")
    with Store.open(path) as store:
        Playbook(store, "default", "bench").apply(Batch(operations=(Add(section="s", content="0"),), actor="bench"))
    spawn = multiprocessing.get_context("spawn")
    late = spawn.Value("q", 0)
    children = [spawn.Process(target=count_up, args=(path, updates, late)) for _ in range(writers)]
    begun = time.perf_counter()
    for child in children:
        child.start()
    for child in children:
        child.join()
    took = time.perf_counter() - begun
    with Store.open(path) as store:
        book = Playbook(store, "default", "bench")
        bullet = book.bullets()["b-1"]
        problems = book.check()
    lost = writers * updates - min(int(bullet.content), bullet.helpful)
    return {
        "delta": "counting up in one bullet",
        "processes": writers,
        "updates_each": updates,
        "lost": lost,
        "too_late_and_done_again": late.value,
        "problems": len(problems),
        "s": round(took, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--count", type=int, default=300, help="deltas of each kind")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--updates", type=int, default=500, help="of each process")
    parser.add_argument("--disk", type=Path, help="a folder on the disk to measure")
    parser.add_argument("--dry-run", action="store_true", help="print the rows and keep none")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=options.disk) as folder:
        for bullets in options.sizes:
            rows += measured(Path(folder), bullets, options.count)
        rows.append(processes(Path(folder), options.processes, options.updates))
    for row in rows:
        print(row)
    if not options.dry_run:
        _results.write("playbook_log", rows, n=options.count, seeds=options.sizes)


if __name__ == "__main__":
    main()
