"""The load that gateways are measured with: bodies that grow, a client on bare sockets, and processes on cores.

The gateway is pinned to one core; client and fake upstream share the other. Bodies differ and grow as histories of
agents do: twenty turns an episode, each with everything before it. What it does not do: rows, or what a gateway is.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

from _fake_upstream import TEXT

ROOT = Path(__file__).resolve().parent.parent
TURNS = 20
EPISODES = 16
MARK = b"#episode-00000000#"
CONNECTIONS = 32
SEED = 7
GATEWAY_CORE, OTHER_CORE = 0, 1
TICK = os.sysconf("SC_CLK_TCK")
MODEL = b'"model":"fake"'


_numbers = itertools.count(1)
"""No episode comes twice, whatever is measured one after the other."""


class Target(NamedTuple):
    """Where requests go, and what they look like there."""

    port: int
    path: str = "/v1/chat/completions"
    headers: str = ""
    """More of them, each with its line's end."""
    model: str = "fake"


# --- bodies -----------------------------------------------------------------------------------------------------------


def episodes(size_kb: float, stream: bool) -> list[list[bytes]]:
    """Bodies of whole episodes, turn by turn; ``MARK`` is replaced at each use, so that no two episodes are equal."""
    drawn = random.Random(SEED)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(drawn.choices(letters, k=drawn.randint(2, 9))) for _ in range(4500)]
    words += [str(drawn.randrange(10**6)) for _ in range(500)]
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
    """Episodes one after the other, turn by turn, none equal to another. Each iteration has its own episodes."""

    def __init__(self, prepared: list[list[bytes]], model: str = "fake") -> None:
        asked = b'"model":"%b"' % model.encode()
        self._prepared = [[body.replace(MODEL, asked, 1) for body in turns] for turns in prepared]

    def __iter__(self) -> Iterator[bytes]:
        while True:
            number = next(_numbers)
            name = b"#episode-%08d#" % number
            for body in self._prepared[number % len(self._prepared)]:
                yield body.replace(MARK, name, 1)

    def in_turn(self, episodes: int) -> Iterator[bytes]:
        """So many episodes at a time, one turn of each after the other."""
        agents = [iter(self) for _ in range(episodes)]
        return (next(agent) for agent in itertools.cycle(agents))


# --- the client -------------------------------------------------------------------------------------------------------


class Connection(asyncio.Protocol):
    """Sends one request at a time and waits for the whole answer."""

    def __init__(self, target: Target) -> None:
        head = f"POST {target.path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n{target.headers}"
        self._head = head.encode()
        self._received = bytearray()
        self._done: asyncio.Future[float] | None = None
        self._first = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it

    async def ask(self, body: bytes) -> tuple[float, float]:
        """When the first and the last byte came. Raises ``RuntimeError`` for anything but 200."""
        self._done = asyncio.get_running_loop().create_future()
        self._received.clear()
        self._first = 0.0
        self._transport.write(b"%bcontent-length: %d\r\n\r\n%b" % (self._head, len(body), body))
        last = await self._done
        return self._first, last

    def close(self) -> None:
        self._transport.close()

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


async def connected(target: Target) -> Connection:
    loop = asyncio.get_running_loop()
    _, protocol = await loop.create_connection(lambda: Connection(target), "127.0.0.1", target.port)
    return protocol


async def saturate(
    target: Target, bodies: list[list[bytes]], seconds: float, errors: list[str] | None = None
) -> tuple[int, float]:
    """Requests that were answered, in how many seconds, with ``CONNECTIONS`` at a time.

    ``errors`` collects what else became of requests; without it the first raises ``RuntimeError``.
    """
    source, count = Bodies(bodies, target.model), 0
    until = time.perf_counter() + seconds

    async def one(connection: Connection) -> None:
        nonlocal count
        for body in source:
            if time.perf_counter() >= until:
                return
            try:
                await connection.ask(body)
            except RuntimeError as error:
                connection = await _noted(error, errors, target)
            else:
                count += 1

    started = time.perf_counter()
    await asyncio.gather(*[one(await connected(target)) for _ in range(CONNECTIONS)])
    return count, time.perf_counter() - started


async def _noted(error: RuntimeError, errors: list[str] | None, target: Target) -> Connection:
    """A new connection in the place of the one that failed."""
    if errors is None:
        raise error
    errors.append(str(error))
    return await connected(target)


async def open_loop(
    target: Target, bodies: list[list[bytes]], rate: float, seconds: float, errors: list[str] | None = None
) -> list[tuple[float, float]]:
    """(to the first byte, to the last byte) of each request, in seconds since it was due."""
    source, found = Bodies(bodies, target.model).in_turn(CONNECTIONS), []
    free = [await connected(target) for _ in range(CONNECTIONS)]
    running: set[asyncio.Task[None]] = set()
    begin = time.perf_counter()

    async def one(due: float, body: bytes) -> None:
        connection = free.pop() if free else await connected(target)
        try:
            first, last = await connection.ask(body)
        except RuntimeError as error:
            connection = await _noted(error, errors, target)
        else:
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
def pinned(command: list[str], core: int, **pipes: Any) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["taskset", "-c", str(core), *command], **pipes)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(60)


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def rss_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


async def most_memory(target: Target, pid: int, streams: int, rounds: int = 3) -> float:
    """MiB while that many streams are open at a time, all begun at once, several times."""
    source, highest = Bodies(episodes(31, True), target.model).in_turn(streams), 0.0
    for _ in range(rounds):
        connections = [await connected(target) for _ in range(streams)]
        tasks = [asyncio.create_task(one.ask(next(source))) for one in connections]
        while not all(task.done() for task in tasks):
            highest = max(highest, rss_mb(pid))
            await asyncio.sleep(0.1)
        await asyncio.gather(*tasks)
        for one in connections:
            one.close()
    return highest


def percentiles(times: list[tuple[float, float]]) -> dict[str, float]:
    rows = {}
    for name, values in (("first_byte", [first for first, _ in times]), ("whole", [last for _, last in times])):
        cuts = statistics.quantiles(values, n=100)
        rows |= {f"{name}_p50_ms": round(cuts[49] * 1e3, 3), f"{name}_p99_ms": round(cuts[98] * 1e3, 3)}
    return rows
