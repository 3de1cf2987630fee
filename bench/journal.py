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
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

sys.path.insert(0, str(Path(__file__).parent))

import _results
from potstill.trajectories import Store
from potstill.trajectories.exchange import Exchange, Upstream
from potstill.types import Answerer, Purpose

TURNS = 20
OPEN = 20
"""Episodes at a time."""
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


class Round(NamedTuple):
    cpu_s: float
    caller_s: float
    elapsed_s: float


def one_round(path: Path, order: list[Exchange], batch: int) -> Round:
    """No call waits for the one before: the writer makes groups of those that wait."""
    calls = [order[start : start + batch] for start in range(0, len(order), batch)]
    with Store.open(path) as store:
        counted = Counted(store)
        before, caller = counted.cpu_s(), time.thread_time()
        started = time.perf_counter()
        futures = [store.record_nowait(some) for some in calls]
        caller = time.thread_time() - caller
        assert [seq for future in futures for seq in future.result()] == list(range(1, len(order) + 1))
        elapsed = time.perf_counter() - started
        return Round(counted.cpu_s() - before, caller, elapsed)


def measure(folder: Path, size: int, kind: str, episodes: int, batch: int, rounds: int = 3) -> dict[str, object]:
    """Episodes go on side by side, as a gateway sees them. Times are of the median round, and of the best."""
    made = [episode(number, size, kind) for number in range(episodes)]
    order = [
        made[number][turn]
        for start in range(0, episodes, OPEN)
        for turn in range(TURNS)
        for number in range(start, min(start + OPEN, episodes))
    ]
    paths = [folder / f"{kind}-{size}-{number}.db" for number in range(rounds)]
    timed = sorted(one_round(path, order, batch) for path in paths)
    middle, best = timed[rounds // 2], timed[0]
    raw, count, stored = sum(map(raw_bytes, order)), len(order), paths[0].stat().st_size
    with Store.read(paths[0]) as store:
        started = time.thread_time()
        for one in made:
            assert [found.exchange for found in store.exchanges("default", one[0].episode_id)] == one
        read = time.thread_time() - started
    for path in paths:
        path.unlink()
    return {
        "what": kind,
        "last_request_bytes": size,
        "exchanges": count,
        "open_episodes": OPEN,
        "exchanges_a_call": batch,
        "raw_bytes_per_exchange": round(raw / count),
        "stored_bytes_per_exchange": round(stored / count),
        "stored_share": round(stored / raw, 4),
        "exchanges_per_s": round(count / middle.elapsed_s),
        "writer_cpu_us": round(1e6 * middle.cpu_s / count, 1),
        "writer_cpu_us_best": round(1e6 * best.cpu_s / count, 1),
        "caller_cpu_us": round(1e6 * middle.caller_s / count, 1),
        "read_cpu_us": round(1e6 * read / count, 1),
    }


def full_size(folder: Path, size: int, count: int) -> dict[str, object]:
    """CPU where each request has about the row's size: the last turn of a long history, grown a bit at each call."""
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
        for kilobytes, kind, batch in (
            (1, "grows", 1),
            (1, "grows", 32),
            (31, "grows", 1),
            (31, "grows", 32),
            (31, "streamed", 32),
            (31, "marker", 32),
            (31, "clock", 32),
            (31, "cascade", 32),
            (200, "grows", 32),
        ):
            count = given.n if kilobytes < 100 else given.n // 4
            rows.append(measure(folder, 1024 * kilobytes, kind, count, batch))
            print(rows[-1])
        rows.append(full_size(folder, 31 * 1024, 200))
        rows += [syncs(folder, threads, 40) for threads in (1, 32)]
    for row in rows[-3:]:
        print(row)
    print({"peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024})
    _results.write("journal", rows, n=given.n, seeds=[0])


if __name__ == "__main__":
    main()
