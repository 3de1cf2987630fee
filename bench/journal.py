"""What recording costs: exchanges a second, CPU in the writer's thread, bytes and fsyncs for each exchange.

``python bench/journal.py`` writes ``bench/results/journal.json``. Episodes are made up as agents make them: 20 turns, a
system message and tools, then a history that only grows, so that the last request has the row's size; some rows also
put a clock into the system message (the beginning changes at each turn), move a cache marker to the newest message, or
send a student's three samples beside the teacher. Texts are random words. Bytes are those of the closed file
against the raw bytes of requests and answers. ``--disk`` names a folder on the disk to measure.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).parent))

import _results
from potstill.trajectories import Store
from potstill.trajectories.exchange import Exchange, Upstream
from potstill.types import Answerer, Purpose

TURNS = 20
SYLLABLES = ("ka", "to", "mi", "ren", "sol", "ba", "ti", "or", "el", "un", "ash", "per", "qui", "lo", "ve", "dra")


def vocabulary(rng: random.Random) -> list[str]:
    return ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(4000)]


WORDS = vocabulary(random.Random(0))


def text(rng: random.Random, characters: int) -> str:
    made = " ".join(rng.choices(WORDS, k=characters // 5 + 1))
    return made[:characters]


def episode(number: int, size: int, kind: str) -> list[Exchange]:
    """Requests whose sizes grow to ``size`` bytes; a fifth of it is what all episodes begin with."""
    rng = random.Random(f"{number}/{size}/{kind}")
    shared = text(random.Random(1), size // 10)
    tools = [{"type": "function", "function": {"name": "edit", "description": text(random.Random(2), size // 10)}}]
    step = max(12, int(size * 0.8 / TURNS) - 70)
    history: list[dict[str, Any]] = []
    made = []
    for turn in range(TURNS):
        history.append({"role": "user", "content": text(rng, step * 2 // 3)})
        at = 1_790_000_000.0 + 60 * turn + number
        system = f"Now: {at}. {shared}" if kind == "clock" else shared
        messages = [{"role": "system", "content": system}, *history]
        if kind == "marker":
            messages[-1] = {**messages[-1], "cache_control": {"type": "ephemeral"}}
        body = {"model": "gpt-6.1-sol", "messages": messages, "tools": tools, "stream": kind == "streamed"}
        said = text(rng, step // 3)
        history.append({"role": "assistant", "content": said})
        usage = {"prompt_tokens": size // 4, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 7}}
        made.append(
            Exchange(
                namespace="default",
                episode_id=f"{kind}-{size}-{number}",
                route="gpt-6.1-sol",
                dialect="openai-chat",
                started_at=at,
                latency_s=rng.random(),
                streamed=kind == "streamed",
                request=json.dumps(body).encode(),
                response=answer(rng, said, usage, streamed=kind == "streamed"),
                calls=calls(rng, body, at, usage, said, cascade=kind == "cascade"),
                request_id=f"req-{rng.randrange(16**12):012x}",
            )
        )
    return made


def answer(rng: random.Random, said: str, usage: dict[str, Any], *, streamed: bool) -> bytes:
    id = f"chatcmpl-{rng.randrange(16**24):024x}"
    if not streamed:
        choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
        return json.dumps({"id": id, "object": "chat.completion", "choices": [choice], "usage": usage}).encode()
    parts = [
        {"id": id, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": word + " "}}]}
        for word in said.split()
    ]
    return b"".join(b"data: " + json.dumps(part).encode() + b"\n\n" for part in parts) + b"data: [DONE]\n\n"


def calls(
    rng: random.Random, body: dict[str, Any], at: float, usage: dict[str, Any], said: str, *, cascade: bool
) -> tuple[Upstream, ...]:
    teacher = Upstream(
        model="gpt-6.1-sol-2026-09",
        upstream="openai",
        answerer=Answerer.TEACHER,
        dialect="openai-chat",
        started_at=at,
        latency_s=rng.random(),
        status=200,
        raw_usage=usage,
    )
    if not cascade:
        return (teacher,)
    shown = {"role": "user", "content": text(random.Random(3), 2000)}
    messages = [body["messages"][0], shown, *body["messages"][1:]]
    student = msgspec.structs.replace(
        teacher,
        model="local:small",
        upstream="local",
        answerer=Answerer.STUDENT,
        purpose=Purpose.ACT,
        n=3,
        request=msgspec.json.encode({**body, "messages": messages, "model": "small", "n": 3}),
        response=answer(rng, said, usage, streamed=False),
    )
    return (student, teacher)


class Counted:
    """CPU of the writer's thread, read by that thread itself as a piece of work between the others."""

    def __init__(self, store: Store) -> None:
        self._writer = store._writer

    def cpu_s(self) -> float:
        return float(self._writer.submit(lambda _: time.thread_time()).result())


def raw_bytes(exchange: Exchange) -> int:
    bodies = [exchange.request, exchange.response]
    bodies += [body for call in exchange.calls for body in (call.request, call.response) if body is not None]
    return sum(map(len, bodies))


def measure(folder: Path, size: int, kind: str, episodes: int, open_at_once: int) -> dict[str, object]:
    """Episodes go on side by side, as a gateway sees them; each exchange is a call of its own, none waits."""
    made = [episode(number, size, kind) for number in range(episodes)]
    order = [
        made[number][turn]
        for start in range(0, episodes, open_at_once)
        for turn in range(TURNS)
        for number in range(start, min(start + open_at_once, episodes))
    ]
    path = folder / f"{kind}-{size}.db"
    futures: list[Future[list[int]]] = []
    with Store.open(path) as store:
        counted = Counted(store)
        before, caller = counted.cpu_s(), time.thread_time()
        started = time.perf_counter()
        futures = [store.record_nowait([one]) for one in order]
        caller = time.thread_time() - caller
        assert [seq for future in futures for seq in future.result()] == list(range(1, len(order) + 1))
        elapsed = time.perf_counter() - started
        cpu = counted.cpu_s() - before
    raw, count = sum(map(raw_bytes, order)), len(order)
    with Store.read(path) as store:
        started = time.thread_time()
        for one in made:
            assert [found.exchange for found in store.exchanges("default", one[0].episode_id)] == one
        read = time.thread_time() - started
    return {
        "what": kind,
        "last_request_bytes": size,
        "exchanges": count,
        "open_episodes": open_at_once,
        "raw_bytes_per_exchange": round(raw / count),
        "stored_bytes_per_exchange": round(path.stat().st_size / count),
        "stored_share": round(path.stat().st_size / raw, 4),
        "exchanges_per_s": round(count / elapsed),
        "writer_cpu_us": round(1e6 * cpu / count, 1),
        "caller_cpu_us": round(1e6 * caller / count, 1),
        "read_cpu_us": round(1e6 * read / count, 1),
    }


def full_size(folder: Path, size: int, count: int) -> dict[str, object]:
    """CPU where each request has about the row's size: the last turn of a long history, again and again longer."""
    rng = random.Random(size)
    one = episode(0, size, "grows")[-1]
    made = [one]
    for _ in range(count):
        longer = made[-1].request.replace(b'], "tools"', b', {"role": "user", "content": "%s"}], "tools"' % b"ok", 1)
        made.append(msgspec.structs.replace(one, request=longer, request_id=text(rng, 12)))
    with Store.open(folder / f"full-{size}.db") as store:
        counted = Counted(store)
        before = counted.cpu_s()
        for future in [store.record_nowait([one]) for one in made]:
            future.result()
        cpu = counted.cpu_s() - before
    return {
        "what": "one long history",
        "last_request_bytes": len(made[-1].request),
        "exchanges": count,
        "writer_cpu_us": round(1e6 * cpu / len(made), 1),
    }


def syncs(folder: Path, threads: int, each: int) -> dict[str, object]:
    """fsyncs as the kernel counts them (strace), where so many callers wait for their acknowledgement."""
    if shutil.which("strace") is None:
        return {"what": "fsyncs", "callers": threads, "fsyncs_per_exchange": None, "why": "strace is not installed"}
    log = folder / f"strace-{threads}"
    command = [sys.executable, __file__, "--child", str(folder / f"sync-{threads}.db"), str(threads), str(each)]
    subprocess.run(["strace", "-f", "-e", "trace=fsync,fdatasync", "-o", str(log), *command], check=True)
    count = sum("sync(" in line for line in log.read_text().splitlines())
    return {
        "what": "fsyncs",
        "callers": threads,
        "exchanges": threads * each,
        "fsyncs_per_exchange": round(count / (threads * each), 3),
    }


def child(path: str, threads: int, each: int) -> None:
    with Store.open(path) as store:

        def work(number: int) -> None:
            made = episode(number, 4096, "grows")
            for turn in range(each):
                store.record([made[turn % TURNS]])

        running = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=100, help="episodes behind each row")
    parser.add_argument("--disk", type=Path, default=None, help="folder whose disk is measured")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child[0], int(given.child[1]), int(given.child[2]))
        return
    rows = []
    with tempfile.TemporaryDirectory(dir=given.disk) as name:
        folder = Path(name)
        for size, kind in (
            (1024, "grows"),
            (31 * 1024, "grows"),
            (31 * 1024, "streamed"),
            (31 * 1024, "marker"),
            (31 * 1024, "clock"),
            (31 * 1024, "cascade"),
            (200 * 1024, "grows"),
        ):
            rows.append(measure(folder, size, kind, given.n if size < 100_000 else given.n // 4, 20))
            print(rows[-1])
        rows += [full_size(folder, size, 10 * given.n) for size in (1024, 31 * 1024)]
        rows += [syncs(folder, threads, 40) for threads in (1, 32)]
    for row in rows[-4:]:
        print(row)
    print({"peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024})
    _results.write("journal", rows, n=given.n, seeds=[0])


if __name__ == "__main__":
    main()
