"""What demonstrations add to a request of the gateway: the nearest are found, fitted to a budget and put in the prompt.

The whole of ``serve.deciding.context.Injector`` on an event loop, ranking in its thread, three demonstrations of at
most 2,000 tokens, at another step each time. Texts are 40 words of 400 with Zipf weights; vectors have 384 dimensions
in 500 clusters and are looked up, so that embedding is not in the times. Target: p50 <= 5 ms at 10,000 steps exact and
at 100,000 with the trained index. ``on_loop`` is the CPU of the event loop itself.

    python bench/injection.py [--queries 200] [--steps 10000,100000]
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any
from zlib import crc32

import numpy as np

import _results
from potstill.distill.context.config import ContextConfig
from potstill.distill.context.library import DemonstrationLibrary
from potstill.protocols import Ranker
from potstill.record.fold import ENVIRONMENT
from potstill.record.parsing import parse
from potstill.retrieval.dense import DenseRanker
from potstill.retrieval.faiss_index import FaissIndex
from potstill.retrieval.lexical import LexicalRanker
from potstill.serve.deciding.context import Injector, Where
from potstill.serve.settings import Context
from potstill.types import Action, Answerer, Observation, Outcome, Step, Task, Trajectory, TrajectoryKind
from potstill.wire.neutral import Prompt, Text, Turn
from retrieval import DIMENSION, SEED, texts

STEPS_PER_EPISODE = 20
SETTINGS = Context(k=3, per="step", max_tokens=2000, deadline_s=60.0)
Row = dict[str, Any]


class LookedUp:
    """An embedder whose vectors cost nothing to speak of: a text's cluster and its place there by its checksum."""

    name, dimension = "looked-up", DIMENSION

    def __init__(self) -> None:
        rng = np.random.default_rng(SEED)
        self._centres = rng.normal(size=(500, DIMENSION)).astype(np.float32)
        self._noise = rng.normal(scale=1 / 3, size=(4096, DIMENSION)).astype(np.float32)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        sums = np.array([crc32(text.encode()) for text in texts], dtype=np.int64)
        matrix = self._centres[sums % 500] + self._noise[sums // 500 % 4096]
        matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
        return np.asarray(matrix, dtype=np.float32)


def library_of(steps: int, make_ranker: Callable[[], Ranker]) -> DemonstrationLibrary:
    library = DemonstrationLibrary(ContextConfig(), make_ranker=make_ranker)
    said = iter(texts(steps + steps // STEPS_PER_EPISODE, 3))
    for number in range(steps // STEPS_PER_EPISODE):
        goal, seen = next(said), [next(said) for _ in range(STEPS_PER_EPISODE)]
        done = tuple(
            Step(index=i, observation=Observation(text=text), action=Action(text=text[:20]), answerer=Answerer.TEACHER)
            for i, text in enumerate(seen)
        )
        library.add(
            Trajectory(
                id=f"e{number}",
                task=Task(id=f"t{number}", environment=ENVIRONMENT),
                kind=TrajectoryKind.TEACHER,
                goal=goal,
                steps=done,
                outcome=Outcome(success=True),
            )
        )
    return library


def prompts(count: int) -> list[Prompt]:
    said = texts(count * 8, 4)
    found = []
    for number in range(count):
        goal, *rest = said[number * 8 : number * 8 + 8]
        turns = [Turn(role="system", parts=(Text(text="You are at work."),))]
        turns.append(Turn(role="user", parts=(Text(text=f"Goal: {goal[:60]}\n\n{rest[0]}"),)))
        for text in rest[1:]:
            turns.append(Turn(role="assistant", parts=(Text(text=text[:20]),)))
            turns.append(Turn(role="user", parts=(Text(text=text),)))
        found.append(Prompt(model="student", turns=tuple(turns)))
    return found


async def asked(injector: Injector, made: Sequence[Prompt]) -> tuple[list[float], list[float], list[float]]:
    """Milliseconds of each injection, of its CPU, and of the event loop's CPU."""
    wall, processor, on_loop = [], [], []
    for number, prompt in enumerate([*made[:5], *made]):
        situation, where = parse(prompt), Where("default", f"ep-{number}")
        begun, all_before, own_before = time.perf_counter(), time.process_time(), time.thread_time()
        shown = await injector.inject(prompt, SETTINGS, situation, where)
        wall.append(1e3 * (time.perf_counter() - begun))
        processor.append(1e3 * (time.process_time() - all_before))
        on_loop.append(1e3 * (time.thread_time() - own_before))
        if len(shown.demonstrations) != SETTINGS.k:
            raise RuntimeError(f"{len(shown.demonstrations)} demonstrations were shown: {shown.note}")
    return wall[5:], processor[5:], on_loop[5:]


def measured(what: str, steps: int, make_ranker: Callable[[], Ranker], queries: int) -> Row:
    begun = time.perf_counter()
    library = library_of(steps, make_ranker)
    injector = Injector(library)
    wall, processor, on_loop = asyncio.run(asked(injector, prompts(queries)))
    p50, p95, p99 = np.percentile(wall, [50, 95, 99])
    return {
        "what": what,
        "steps": steps,
        "p50_ms": round(float(p50), 2),
        "p95_ms": round(float(p95), 2),
        "p99_ms": round(float(p99), 2),
        "cpu_p50_ms": round(float(np.median(processor)), 2),
        "on_loop_p50_ms": round(float(np.median(on_loop)), 3),
        "build_s": round(time.perf_counter() - begun, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--steps", default="10000,100000", help="exact at the first, the trained index at the last")
    options = parser.parse_args()
    few, *_, many = [int(part) for part in options.steps.split(",")]
    embedder = LookedUp()
    rows = [
        measured("vectors, exact", few, lambda: DenseRanker(embedder), options.queries),
        measured("words (BM25)", few, LexicalRanker, options.queries),
        measured("vectors, trained index", many, lambda: DenseRanker(embedder, FaissIndex(DIMENSION)), options.queries),
    ]
    for row in rows:
        print(row)
    _results.write("injection", rows, n=options.queries, seeds=[SEED])


if __name__ == "__main__":
    main()
