"""What the gateway costs: requests a second on one core, CPU a request, added latency, memory, bytes and commits.

    python bench/gateway.py [--seconds 5] [--sizes 1,31] [--no-memory]

The gateway is pinned to one core; client and fake upstream share the other, and what they manage without a gateway is
reported as ``direct``. Bodies differ and grow as histories of agents do: twenty turns an episode, each with everything
before it, ``size_kb`` on average. Latencies are open loop: they count from when a request was due, not from when it
could be sent. Rows of other gateways have the same fields under another ``gateway``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _results
from _fake_upstream import TEXT

ROOT = Path(__file__).resolve().parent.parent
TURNS = 20
EPISODES = 16
MARK = b"#episode-00000000#"
CONNECTIONS = 32
SEED = 7
GATEWAY_CORE, OTHER_CORE = 0, 1
TICK = os.sysconf("SC_CLK_TCK")


# --- bodies -----------------------------------------------------------------------------------------------------------


def episodes(size_kb: float, stream: bool) -> list[list[bytes]]:
    """Bodies of whole episodes, turn by turn; ``MARK`` is replaced at each use, so that no two episodes are equal."""
    drawn = random.Random(SEED)
    words = [f"{drawn.randrange(10**6):x}" for _ in range(5000)]
    frame = 150
    per_turn = max(10, int((size_kb * 1024 - frame) * 2 / TURNS) - len(TEXT) - 70)
    return [[*_episode(drawn, words, per_turn, stream)] for _ in range(EPISODES)]


def _episode(drawn: random.Random, words: list[str], per_turn: int, stream: bool) -> Iterator[bytes]:
    history = [b'{"role":"system","content":"You are at work. ' + MARK + b'"}']
    for _ in range(TURNS):
        said = " ".join(drawn.choices(words, k=per_turn // 6 + 1))[:per_turn]
        history.append(b'{"role":"user","content":"' + said.encode() + b'"}')
        more = b',"stream":true,"stream_options":{"include_usage":true}' if stream else b""
        yield b'{"model":"fake","temperature":0' + more + b',"messages":[' + b",".join(history) + b"]}"
        history.append(b'{"role":"assistant","content":"' + TEXT.encode() + b'"}')


class Bodies:
    """The next body of the episode that a connection is in."""

    def __init__(self, prepared: list[list[bytes]]) -> None:
        self._prepared = prepared
        self._number = 0

    def __iter__(self) -> Iterator[bytes]:
        while True:
            self._number += 1
            name = b"#episode-%08d#" % self._number
            for body in self._prepared[self._number % len(self._prepared)]:
                yield body.replace(MARK, name, 1)


# --- the client -------------------------------------------------------------------------------------------------------


class Connection(asyncio.Protocol):
    """Sends one request at a time and waits for the whole answer."""

    def __init__(self, host: bytes) -> None:
        self._host = host
        self._received = bytearray()
        self._done: asyncio.Future[float] | None = None
        self._first = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    async def ask(self, body: bytes) -> tuple[float, float]:
        """When the first and the last byte came. Raises ``RuntimeError`` for anything but 200."""
        self._done = asyncio.get_running_loop().create_future()
        self._received.clear()
        self._first = 0.0
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: %b\r\ncontent-type: application/json\r\n" % self._host
        self._transport.write(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body))
        last = await self._done
        return self._first, last

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        self._first = self._first or now
        self._received += data
        if self._done is not None and not self._done.done() and self._whole():
            if not self._received.startswith(b"HTTP/1.1 200"):
                self._done.set_exception(RuntimeError(bytes(self._received[:500]).decode()))
            else:
                self._done.set_result(now)

    def _whole(self) -> bool:
        head = self._received.find(b"\r\n\r\n")
        if self._received.find(b"transfer-encoding: chunked", 0, max(head, 0)) >= 0:
            return self._received.endswith(b"\r\n0\r\n\r\n")
        at = self._received.find(b"content-length:", 0, max(head, 0))
        if at < 0:
            return False
        return len(self._received) >= head + 4 + int(self._received[at + 15 : self._received.find(b"\r\n", at)])

    def connection_lost(self, error: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(RuntimeError(f"connection lost: {error}"))


async def connected(port: int) -> Connection:
    loop = asyncio.get_running_loop()
    _, protocol = await loop.create_connection(lambda: Connection(b"127.0.0.1"), "127.0.0.1", port)
    return protocol


async def saturate(port: int, bodies: list[list[bytes]], seconds: float) -> tuple[int, float]:
    """Requests that were answered, in how many seconds, with ``CONNECTIONS`` at a time."""
    source, count = Bodies(bodies), 0
    until = time.perf_counter() + seconds

    async def one(connection: Connection) -> None:
        nonlocal count
        for body in source:
            if time.perf_counter() >= until:
                return
            await connection.ask(body)
            count += 1

    started = time.perf_counter()
    await asyncio.gather(*[one(await connected(port)) for _ in range(CONNECTIONS)])
    return count, time.perf_counter() - started


async def open_loop(port: int, bodies: list[list[bytes]], rate: float, seconds: float) -> list[tuple[float, float]]:
    """(to the first byte, to the last byte) of each request, in seconds since it was due."""
    source, found = iter(Bodies(bodies)), []
    free = [await connected(port) for _ in range(CONNECTIONS)]
    running: set[asyncio.Task[None]] = set()
    begin = time.perf_counter()

    async def one(due: float, body: bytes) -> None:
        connection = free.pop() if free else await connected(port)
        first, last = await connection.ask(body)
        found.append((first - due, last - due))
        free.append(connection)

    for number in range(int(rate * seconds)):
        due = begin + number / rate
        wait = due - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        running.add(task := asyncio.create_task(one(due, next(source))))
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    return found


# --- processes --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def fake_upstream(pace_ms: float = 0.0) -> Iterator[int]:
    command = [sys.executable, str(ROOT / "bench" / "_fake_upstream.py"), "--pace-ms", str(pace_ms)]
    with pinned(command, OTHER_CORE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())


@contextlib.contextmanager
def potstill(upstream: int, folder: Path) -> Iterator[tuple[int, int, Path]]:
    """Port, process id and store of a gateway in record mode."""
    db = folder / f"bench-{time.time_ns()}.db"
    flags = ["--teacher", f"http://127.0.0.1:{upstream}/v1#fake", "--port", "0", "--db", str(db)]
    with pinned([sys.executable, "-m", "potstill", "serve", *flags], GATEWAY_CORE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        line = process.stderr.readline().decode()
        yield int(line.split(": ")[0].rpartition(":")[2]), process.pid, db


@contextlib.contextmanager
def pinned(command: list[str], core: int, **pipes: Any) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["taskset", "-c", str(core), *command], **pipes)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def rss_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def metrics(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
        rows = [line.rpartition(" ") for line in page.read().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in rows if "{" not in name}


def recorded(port: int, wanted: int) -> dict[str, float]:
    """The counters once everything is durable."""
    for _ in range(200):
        found = metrics(port)
        if found["potstill_recorded_total"] + found["potstill_dropped_total"] >= wanted:
            return found
        time.sleep(0.1)
    return found


# --- rows -------------------------------------------------------------------------------------------------------------


def percentiles(times: list[tuple[float, float]]) -> dict[str, float]:
    rows = {}
    for name, values in (("first_byte", [first for first, _ in times]), ("whole", [last for _, last in times])):
        cuts = statistics.quantiles(values, n=100)
        rows |= {f"{name}_p50_ms": round(cuts[49] * 1e3, 3), f"{name}_p99_ms": round(cuts[98] * 1e3, 3)}
    return rows


def measured(size_kb: float, stream: bool, seconds: float, folder: Path) -> list[dict[str, Any]]:
    import uvloop

    bodies = episodes(size_kb, stream)
    common = {"size_kb": size_kb, "stream": stream}
    with fake_upstream() as upstream:
        count, took = uvloop.run(saturate(upstream, bodies, seconds))
        direct = {"gateway": "direct", **common, "requests_per_s": round(count / took)}
        with potstill(upstream, folder) as (port, pid, db):
            uvloop.run(saturate(port, bodies, 1.0))  # warm: imports, connections, first pages of the store
            begun, before = int(metrics(port)["potstill_recorded_total"]), cpu_s(pid)
            count, took = uvloop.run(saturate(port, bodies, seconds))
            used = cpu_s(pid) - before
            rate = count / took
            half = rate / 2
            direct |= percentiles(uvloop.run(open_loop(upstream, bodies, half, seconds)))
            through = percentiles(uvloop.run(open_loop(port, bodies, half, seconds)))
            found = recorded(port, begun + count + int(half * seconds))
            total = found["potstill_recorded_total"]
            row = {
                "gateway": "potstill, record mode",
                **common,
                "requests_per_s": round(rate),
                "cpu_us_per_request": round(used / count * 1e6),
                "rate_of_latencies_per_s": round(half),
                **through,
                "added_p50_ms": round(through["first_byte_p50_ms"] - direct["first_byte_p50_ms"], 3),
                "added_p99_ms": round(through["first_byte_p99_ms"] - direct["first_byte_p99_ms"], 3),
                "rss_mb": round(rss_mb(pid), 1),
                "recorded": int(total),
                "dropped": int(found["potstill_dropped_total"]),
                "commits": int(found["potstill_commits_total"]),
            }
        row["stored_bytes_per_request"] = round(
            sum(one.stat().st_size for one in db.parent.glob(db.name + "*")) / total
        )
    return [direct, row]


def memory(folder: Path, streams: int = 200) -> dict[str, Any]:
    """Memory while that many streams are open at a time, each two seconds long, for three rounds."""
    import uvloop

    bodies = episodes(31, True)

    async def rounds(port: int, pid: int) -> float:
        highest = 0.0
        source = iter(Bodies(bodies))
        connections = [await connected(port) for _ in range(streams)]
        for _ in range(3):
            tasks = [asyncio.create_task(one.ask(next(source))) for one in connections]
            while not all(task.done() for task in tasks):
                highest = max(highest, rss_mb(pid))
                await asyncio.sleep(0.1)
            await asyncio.gather(*tasks)
        return highest

    with fake_upstream(100.0) as upstream, potstill(upstream, folder) as (port, pid, _):
        return {
            "gateway": "potstill, record mode",
            "size_kb": 31,
            "stream": True,
            "concurrent_streams": streams,
            "rss_mb": round(uvloop.run(rounds(port, pid)), 1),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--sizes", default="1,31")
    parser.add_argument("--no-memory", action="store_true")
    options = parser.parse_args()
    os.sched_setaffinity(0, {OTHER_CORE})
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=ROOT / "data" if (ROOT / "data").is_dir() else None) as folder:
        for size in map(float, options.sizes.split(",")):
            for stream in (False, True):
                rows += measured(size, stream, options.seconds, Path(folder))
                print(rows[-2], rows[-1], sep="\n", file=sys.stderr)
        if not options.no_memory:
            rows.append(memory(Path(folder)))
            print(rows[-1], file=sys.stderr)
    counts = [row["recorded"] for row in rows if "recorded" in row]
    _results.write("gateway", rows, n=min(counts), seeds=[SEED])


if __name__ == "__main__":
    main()
