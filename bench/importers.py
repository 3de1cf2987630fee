"""How fast each format of JSON lines is read on one core, beside ``json.loads`` on the same lines.

    python bench/importers.py [--megabytes 20] [--repeats 3]

CPU seconds of this process, the best of some repeats: what others do on the machine counts as little as possible. A row
of the result is a format: ``mb_per_s`` read into records, ``json_mb_per_s`` only decoded by the standard library (each
line as bytes, nothing kept), and their ratio. ``records`` are what came out of the file.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import _log_rows
import _results
from potstill.logs.reader import read
from potstill.trajectories.jsonl import encode_line
from potstill.types import (
    Action,
    Answerer,
    Call,
    Message,
    Observation,
    Outcome,
    Reply,
    Step,
    Task,
    Trajectory,
    TrajectoryKind,
    Usage,
)

TARGET_MB_PER_S = 30
SEED = 7


def attempts(seed: int, total_bytes: int) -> Iterator[bytes]:
    """Rows of the generic format, about 330 bytes each."""
    rng, made = random.Random(seed), 0
    while made < total_bytes:
        row = {
            "task_id": f"task-{rng.randrange(500)}",
            "model": rng.choice(("gpt-4.1-mini", "claude-sonnet-4-5")),
            "run": "2026-11-21-night",
            "episode_id": f"{rng.getrandbits(64):016x}",
            "sample": rng.randrange(8),
            "answer": f"the order {rng.getrandbits(40)} was returned",
            "success": rng.random() < 0.6,
            "error": None,
            "cost_usd": rng.random() / 50,
            "input_tokens": rng.randrange(5_000, 90_000),
            "cached_input_tokens": rng.randrange(4_000),
            "cache_write_tokens": 0,
            "output_tokens": rng.randrange(2_000),
            "latency_s": rng.random() * 60,
            "started_at": 1767225600 + made,
        }
        line = json.dumps(row).encode()
        yield line
        made += len(line) + 1


def tau2(seed: int, total_bytes: int) -> Iterator[bytes]:
    """Episodes of tau2-bench with about 14 calls, as JSON lines with compact usage."""
    rng, made, number = random.Random(seed), 0, 0
    while made < total_bytes:
        messages: list[dict[str, Any]] = [{"role": "assistant", "content": "Hi!", "ts": "2026-02-21T00:37:20.312359"}]
        for prompt, answer, size, cached in _log_rows.turns(rng):
            call = answer["tool_calls"][0]
            inner = {"id": call["id"], "name": "bash", "arguments": json.loads(call["function"]["arguments"])}
            usage = {"in": size, "out": 40, "cached": min(size, cached), "reasoning": 0}
            stamp = "2026-02-21T00:37:35.482873"
            messages.append({"role": "user", "content": prompt[-1]["content"], "ts": stamp})
            said = {
                "role": "assistant",
                "content": None,
                "tool_calls": [inner],
                "usage": usage,
                "cost": 0.001,
                "ts": stamp,
            }
            messages.append(said)
            messages.append({"role": "tool", "id": call["id"], "content": "done", "error": False, "ts": stamp})
        row = {
            "run": "night",
            "simulation_id": f"sim-{number}",
            "agent_model": "gpt-4.1-mini",
            "user_model": "gpt-4.1-mini",
            "harness": "base",
            "task_id": str(number % 114),
            "reward": float(rng.random() < 0.5),
            "agent_cost": None,
            "duration_s": 30.0,
            "termination": "user_stop",
            "messages": messages,
        }
        line = json.dumps(row).encode()
        yield line
        made, number = made + len(line) + 1, number + 1


def trajectories(seed: int, total_bytes: int) -> Iterator[bytes]:
    """potstill's own export: episodes of 20 steps, prompts that grow."""
    rng, made, number = random.Random(seed), 0, 0
    while made < total_bytes:
        line = encode_line(_trajectory(rng, number)).rstrip()
        yield line
        made, number = made + len(line) + 1, number + 1


def _trajectory(rng: random.Random, number: int) -> Trajectory:
    prompt: tuple[Message, ...] = (Message(role="system", content="You act in a house. " * 40),)
    steps = []
    for index in range(20):
        seen, done = f"You see {rng.getrandbits(900)}", f"go to drawer {rng.randrange(9)}"
        prompt = (*prompt, Message(role="user", content=seen))
        call = Call(
            model="local:smollm2-135m",
            answerer=Answerer.STUDENT,
            prompt=prompt,
            replies=(Reply(text=done),),
            usage=Usage(input_tokens=50 * (index + 1), output_tokens=6),
            started_at=1767225600.0 + index,
            latency_s=0.5,
        )
        observation, action = Observation(text=seen), Action(text=done)
        steps.append(
            Step(index=index, observation=observation, action=action, answerer=Answerer.STUDENT, calls=(call,))
        )
        prompt = (*prompt, Message(role="assistant", content=done))
    return Trajectory(
        id=f"ep-{number}",
        task=Task(id=f"task-{number % 100}", environment="house"),
        kind=TrajectoryKind.STUDENT,
        student="local:smollm2-135m",
        steps=tuple(steps),
        outcome=Outcome(success=rng.random() < 0.5),
    )


def _foreign(name: str) -> Callable[[int, int], Iterator[bytes]]:
    return lambda seed, total_bytes: _log_rows.lines(name, seed, total_bytes)


GENERATORS: dict[str, Callable[[int, int], Iterator[bytes]]] = {
    "attempts": attempts,
    "tau2-episodes": tau2,
    "potstill-trajectory": trajectories,
    **{name: _foreign(name) for name in (*_log_rows.MAKERS, *_log_rows.SESSIONS)},
}


def measure(name: str, megabytes: float, repeats: int, folder: Path) -> dict[str, Any]:
    """One row of the result."""
    path = folder / f"{name}.jsonl"
    with path.open("wb") as file:
        for line in GENERATORS[name](SEED, int(megabytes * 1e6)):
            file.write(line + b"\n")
    size = path.stat().st_size / 1e6
    records = 0
    ours, peers = [], []
    for _ in range(repeats):
        started = time.process_time()
        reading = read([path])
        records = sum(1 for _ in reading)
        ours.append(time.process_time() - started)
        (report,) = reading.files
        if report.understood != report.rows or report.format != name:
            raise SystemExit(f"{name}: {report.understood} of {report.rows} rows understood as {report.format}")
        started = time.process_time()
        with path.open("rb") as file:
            for line in file:
                json.loads(line)
        peers.append(time.process_time() - started)
    path.unlink()
    speed, peer = size / min(ours), size / min(peers)
    return {
        "format": name,
        "megabytes": round(size, 1),
        "rows": report.rows,
        "records": records,
        "mb_per_s": round(speed, 1),
        "json_mb_per_s": round(peer, 1),
        "ratio": round(speed / peer, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in GENERATORS:
            rows.append(measure(name, options.megabytes, options.repeats, Path(folder)))
            print(rows[-1], flush=True)
    extra = {"target_mb_per_s": TARGET_MB_PER_S, "repeats": options.repeats, "peer": "json.loads of each line"}
    _results.write("importers", rows, n=None, seeds=[SEED], extra=extra)


if __name__ == "__main__":
    main()
