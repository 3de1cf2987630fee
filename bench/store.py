"""What the store costs: bytes for each step, and durable episodes a second with and without group commit.

``python bench/store.py`` writes ``bench/results/store.json``. Episodes are made up: prompts that only grow, as the loop
records them (one call a step, about 600 new characters a step, a 900-character system message). Naive JSON is the same
steps with each call's whole prompt in place, the size that one JSON file or column a step would have.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parent))

import _results
from potstill.trajectories import Store
from potstill.trajectories.jsonl import encode_line
from potstill.types import (
    Action,
    Answerer,
    Call,
    Decision,
    Message,
    Observation,
    Outcome,
    Reason,
    Reply,
    Step,
    Task,
    Trajectory,
    TrajectoryKind,
    Usage,
)

WORDS = (
    *("lamp", "drawer", "shelf", "cabinet", "table", "apple", "knife", "sink", "fridge"),
    *("bed", "desk", "mug", "plate", "towel", "north", "south", "open", "take"),
)


def text(rng: random.Random, characters: int) -> str:
    parts: list[str] = []
    while sum(map(len, parts)) + len(parts) < characters:
        parts.append(f"{rng.choice(WORDS)} {rng.randrange(100)}")
    return " ".join(parts)


def episode(number: int, steps: int) -> Trajectory:
    rng = random.Random(number)
    history: tuple[Message, ...] = (Message(role="system", content=text(random.Random(0), 900)),)
    played = []
    for index in range(steps):
        admissible = tuple(text(rng, 12) for _ in range(12))
        asked = Message(role="user", content=text(rng, 250))
        choose = Message(role="user", content="Choose one of: " + ", ".join(admissible))
        reply = Reply(text=rng.choice(admissible), logprob=-rng.random())
        call = Call(
            model="local:smollm2-135m",
            answerer=Answerer.STUDENT,
            prompt=(*history, asked, choose),
            replies=(reply,),
            usage=Usage(input_tokens=300 + 150 * index, output_tokens=6),
        )
        played.append(
            Step(
                index=index,
                observation=Observation(text=asked.content, admissible=admissible),
                action=Action(text=reply.text),
                answerer=Answerer.STUDENT,
                decision=Decision(answerer=Answerer.STUDENT, reason=Reason.STUDENT_ONLY, samples=1),
                calls=(call,),
            )
        )
        history = (*history, asked, Message(role="assistant", content=reply.text))
    return Trajectory(
        id=f"{steps}-{number}",
        task=Task(id=f"t{number}", environment="house"),
        kind=TrajectoryKind.STUDENT,
        steps=tuple(played),
        outcome=Outcome(success=True),
        started_at=1_790_000_000.0,
    )


def growth(folder: Path, steps: int, count: int) -> dict[str, object]:
    """Bytes of the closed file over many episodes, so that page rounding does not matter."""
    path = folder / f"growth-{steps}.db"
    episodes = [episode(n, steps) for n in range(count)]
    with Store.open(path) as store:
        for future in [store.append_nowait(one) for one in episodes]:
            future.result()
    total = steps * count
    new_text = sum(
        len(m.content) for one in episodes for m in {m for s in one.steps for c in s.calls for m in c.prompt}
    )
    return {
        "what": "bytes per step",
        "steps_per_episode": steps,
        "episodes": count,
        "new_prompt_text_bytes_per_step": round(new_text / total),
        "store_bytes_per_step": round(path.stat().st_size / total),
        "jsonl_bytes_per_step": round(sum(len(encode_line(one)) for one in episodes) / total),
        "naive_json_bytes_per_step": round(
            sum(len(msgspec.json.encode(s)) for one in episodes for s in one.steps) / total
        ),
    }


def throughput(folder: Path, steps: int, count: int, threads: int) -> dict[str, object]:
    """Every append waits until it is durable; threads share commits."""
    episodes = [episode(n, steps) for n in range(count)]
    with Store.open(folder / f"speed-{steps}-{threads}.db") as store:
        started = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(store.append, episodes))
        elapsed = time.perf_counter() - started
        read = time.perf_counter()
        assert sum(1 for _ in store.select()) == count
        read = time.perf_counter() - read
    return {
        "what": "durable appends",
        "steps_per_episode": steps,
        "threads": threads,
        "episodes": count,
        "episodes_per_s": round(count / elapsed, 1),
        "steps_per_s": round(count * steps / elapsed),
        "read_episodes_per_s": round(count / read, 1),
    }


def retention(folder: Path) -> dict[str, object]:
    """Half of the days are pruned; content that the other half shares stays."""
    with Store.open(folder / "retention.db") as store:
        for n in range(200):
            store.append_nowait(msgspec.structs.replace(episode(n, 30), started_at=86400.0 * (1 + n // 20)))
        store.bump("default", "wait for the queue", shown=1)
        started = time.perf_counter()
        report = store.prune(86400.0 * 6)
        elapsed = time.perf_counter() - started
    return {
        "what": "prune half",
        "episodes": 200,
        "removed": report.removed,
        "bytes_before": report.bytes_before,
        "bytes_after": report.bytes_after,
        "seconds": round(elapsed, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=40, help="episodes behind each row")
    count = parser.parse_args().n
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [growth(folder, steps, count) for steps in (10, 30, 100)]
        rows += [throughput(folder, 30, 5 * count, threads) for threads in (1, 8, 32)]
        rows += [throughput(folder, 1, 20 * count, threads) for threads in (1, 32)]
        rows.append(retention(folder))
    for row in rows:
        print(row)
    _results.write("store", rows, n=count, seeds=[0])


if __name__ == "__main__":
    main()
