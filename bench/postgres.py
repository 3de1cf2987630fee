"""What the journal costs on PostgreSQL and in a file, side by side: exchanges a second, and CPU for each of them.

``python bench/postgres.py`` writes ``bench/results/postgres.json``. The server is started by the bench, on the same
machine and disk as the file, with Debian's settings and synchronous commits; a server elsewhere adds its network's
round trips (about three for each commit). Episodes are those of ``bench/journal.py``. CPU is that of the writer's
thread here, and of all of the server's processes. ``writers``: processes at once, each with its own episodes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).parent))

import _results
import journal
from postgres_server import Server
from potstill.trajectories.exchange import Exchange
from potstill.trajectories.opening import is_url, open_store

TICKS = os.sysconf("SC_CLK_TCK")
ROUNDS = 3


class Writer(NamedTuple):
    elapsed_s: float
    cpu_s: float


def order_of(first: int, episodes: int, size: int) -> list[Exchange]:
    made = [journal.episode(first + number, size, "chat") for number in range(episodes)]
    return [made[number][turn] for turn in range(journal.TURNS) for number in range(episodes)]


def write(place: str, order: list[Exchange], batch: int, begin: Any = None) -> Writer:
    with open_store(place) as store:
        counted = journal.Counted(store)
        before = counted.cpu_s()
        if begin is not None:
            begin.wait()
        started = time.perf_counter()
        futures = [store.record_nowait(order[at : at + batch]) for at in range(0, len(order), batch)]
        for future in futures:
            future.result()
        return Writer(time.perf_counter() - started, counted.cpu_s() - before)


def one_by_one(place: str, order: list[Exchange]) -> Writer:
    """Each waits for its commit, as in strict recording with one client."""
    with open_store(place) as store:
        counted = journal.Counted(store)
        before = counted.cpu_s()
        started = time.perf_counter()
        for one in order:
            store.record([one])
        return Writer(time.perf_counter() - started, counted.cpu_s() - before)


def in_process(place: str, first: int, episodes: int, size: int, batch: int, begin: Any, told: Any) -> None:
    told.put(tuple(write(place, order_of(first, episodes, size), batch, begin)))


def together(place: str, writers: int, episodes: int, size: int, batch: int) -> Writer:
    """Several processes on one store; the time is that of the slowest."""
    context = multiprocessing.get_context("spawn")
    begin, told = context.Barrier(writers), context.Queue()
    started = [
        context.Process(target=in_process, args=(place, 1000 * number, episodes, size, batch, begin, told))
        for number in range(writers)
    ]
    for one in started:
        one.start()
    done = [Writer(*told.get()) for _ in started]
    for one in started:
        one.join()
    return Writer(max(one.elapsed_s for one in done), sum(one.cpu_s for one in done))


def server_cpu_s(server: Server) -> float:
    """Of the server and its children, those that ended among them."""
    first = int((server.folder / "data" / "postmaster.pid").read_text().split()[0])
    total = 0.0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        pid, parent = int(stat.parent.name), int(fields[1])
        if first == pid:
            total += sum(map(int, fields[11:15])) / TICKS
        elif first == parent:
            total += sum(map(int, fields[11:13])) / TICKS
    return total


def measure(place_of: Any, server: Server | None, what: str, size: int, batch: int, writers: int, episodes: int) -> Any:
    count = writers * episodes * journal.TURNS
    rounds = []
    for number in range(ROUNDS):
        place = place_of(f"{what}-{size}-{batch}-{writers}-{number}")
        open_store(place).close()
        order = order_of(0, episodes, size) if writers == 1 else []
        before = 0.0 if server is None else server_cpu_s(server)
        if writers > 1:
            done = together(place, writers, episodes, size, batch)
        else:
            done = one_by_one(place, order) if batch == 1 else write(place, order, batch)
        spent = 0.0 if server is None else server_cpu_s(server) - before
        rounds.append((done.elapsed_s, done.cpu_s, spent))
        if not is_url(place):
            Path(place).unlink()
    elapsed, cpu, spent = (statistics.median(one) for one in zip(*rounds, strict=True))
    row = {
        "store": what,
        "last_request_bytes": size,
        "exchanges_a_commit": batch,
        "writers": writers,
        "exchanges": count,
        "exchanges_per_s": round(count / elapsed),
        "writer_cpu_us": round(1e6 * cpu / count),
        "server_cpu_us": round(1e6 * spent / count),
    }
    print(row, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=20, help="of 20 exchanges, for each writer")
    episodes = parser.parse_args().episodes
    server = Server(durable=True)
    rows = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            stores = (
                ("sqlite", lambda name: str(Path(folder) / f"{name}.db"), None),
                ("postgresql", server.url_for, server),
            )
            for size in (1_000, 31_000):
                for batch, writers in ((1, 1), (64, 1), (64, 2)):
                    for what, place_of, its_server in stores:
                        rows.append(measure(place_of, its_server, what, size, batch, writers, episodes))
    finally:
        server.remove()
    _results.write("postgres", rows, n=ROUNDS, seeds=[0])


if __name__ == "__main__":
    main()
