"""How fast demonstrations are found: exact vectors, faiss, BM25 and the whole library, on one thread.

Data: synthetic unit vectors of 384 dimensions in clusters (as embeddings of game states are), and texts of 40 words
from 400 with Zipf weights. Embedding is not timed. The peer is faiss' own flat index in the same process. Times are
wall clock, with CPU beside it for busy machines. Targets: exact p50 <= 25 ms at 100,000 rows and <= 3 ms at
10,000; the trained index <= 3 ms at 100,000 with recall@10 >= .98.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import threadpoolctl

import _results
from potstill.distill.context.config import ContextConfig
from potstill.distill.context.library import build_library
from potstill.protocols import ContextQuery
from potstill.retrieval.faiss_index import FaissIndex
from potstill.retrieval.lexical import LexicalRanker
from potstill.retrieval.vectors import ExactIndex
from potstill.types import Action, Answerer, Observation, Outcome, Step, Task, Trajectory, TrajectoryKind

DIMENSION, K, SEED = 384, 10, 0
Row = dict[str, Any]


def clustered(rows: int, seed: int) -> np.ndarray:
    """Unit rows round 500 centres; the noise has a third of a centre's length."""
    centres = np.random.default_rng(SEED).normal(size=(500, DIMENSION)).astype(np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    rng = np.random.default_rng(seed)
    matrix = rng.normal(scale=1 / (3 * np.sqrt(DIMENSION)), size=(rows, DIMENSION)).astype(np.float32)
    matrix += centres[rng.integers(0, 500, rows)]
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    return matrix


def milliseconds(work: Callable[[Any], object], items: list[Any]) -> dict[str, float]:
    for item in items[:5]:
        work(item)
    wall, processor = [], []
    for item in items:
        start, started = time.perf_counter(), time.process_time()
        work(item)
        wall.append(1e3 * (time.perf_counter() - start))
        processor.append(1e3 * (time.process_time() - started))
    p50, p95 = np.percentile(wall, [50, 95])
    return {"p50_ms": float(p50), "p95_ms": float(p95), "cpu_p50_ms": float(np.median(processor))}


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1]) if Path("/proc/self/statm").exists() else 0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def vector_rows(size: int, queries: int) -> list[Row]:
    matrix, asked = clustered(size, 1), list(clustered(queries, 2))
    return [exact_row(matrix, asked), flat_row(matrix, asked), trained_row(matrix, asked)]


def exact_row(matrix: np.ndarray, asked: list[np.ndarray]) -> Row:
    before, index = resident_mib(), ExactIndex(DIMENSION)
    build = timed(lambda: [index.add(matrix[start : start + 1000]) for start in range(0, len(matrix), 1000)])
    memory = resident_mib() - before
    speed = milliseconds(lambda query: index.top(query, K), asked)
    mask = np.arange(len(matrix)) % 2 == 0
    masked = milliseconds(lambda query: index.top(query, K, mask), asked)["p50_ms"]
    one = 1e3 * timed(lambda: [index.add(matrix[:1]) for _ in range(200)]) / 200
    return row("exact (numpy)", len(matrix), speed, 1.0, build, memory, add_one_ms=one, masked_p50_ms=masked)


def flat_row(matrix: np.ndarray, asked: list[np.ndarray]) -> Row:
    before, index = resident_mib(), faiss.IndexFlatIP(DIMENSION)
    build = timed(lambda: [index.add(matrix[start : start + 1000]) for start in range(0, len(matrix), 1000)])
    memory = resident_mib() - before
    speed = milliseconds(lambda query: index.search(query[None], K), asked)
    return row("peer: faiss IndexFlatIP", len(matrix), speed, 1.0, build, memory)


def trained_row(matrix: np.ndarray, asked: list[np.ndarray]) -> Row:
    before, index = resident_mib(), FaissIndex(DIMENSION)
    build = timed(lambda: index.add(matrix))
    memory = resident_mib() - before
    speed = milliseconds(lambda query: index.top(query, K), asked)
    hits = 0
    for query in asked:
        truth = np.argpartition(-(matrix @ query), K)[:K]
        hits += len(set(truth.tolist()) & set(index.top(query, K)[0].tolist()))
    one = 1e3 * timed(lambda: [index.add(matrix[:1]) for _ in range(200)]) / 200
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        ids = [str(i) for i in range(len(index))]
        stored = np.concatenate([matrix, np.repeat(matrix[:1], 200, axis=0)])
        save = timed(lambda: index.save(path, ids, stored))
        load = timed(lambda: FaissIndex.load(path, ids, stored))
    more = {"add_one_ms": one, "save_s": round(save, 3), "load_s": round(load, 3)}
    return row("faiss IVF (potstill)", len(matrix), speed, hits / (K * len(asked)), build, memory, **more)


def row(
    what: str, size: int, speed: dict[str, float], recall: float | None, build_s: float, mib: float, **more: float
) -> Row:
    found = {"what": what, "rows": size, **speed, "recall_at_10": recall, "build_s": build_s, "memory_mib": mib, **more}
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in found.items()}


def texts(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    words = [f"word{i}" for i in range(400)]
    weights = [1 / (i + 1) for i in range(400)]
    return [" ".join(rng.choices(words, weights, k=40)) for _ in range(count)]


def lexical_row(size: int) -> Row:
    stored = texts(size, 1)
    before, ranker = resident_mib(), LexicalRanker()
    build = timed(lambda: ranker.add(stored))
    first = timed(lambda: ranker.scores("word1 word7"))
    speed = milliseconds(ranker.scores, texts(50, 2))
    ranker.add(["word5 word6"])
    again = timed(lambda: ranker.scores("word1 word7"))
    more = {"index_s": first, "index_again_after_one_add_s": again}
    return row("BM25 (bm25s), 40-word queries", size, speed, None, build, resident_mib() - before, **more)


def library_row(episodes: int) -> Row:
    said = iter(texts(episodes * 20 + episodes, 3))
    taught = [episode(i, next(said), [next(said) for _ in range(20)]) for i in range(episodes)]
    before = resident_mib()
    library = None

    def build() -> None:
        nonlocal library
        library = build_library(taught, ContextConfig(budget_tokens=1500))
        library.retrieve(question(0, "word3 word9"))

    build_s = timed(build)
    memory = resident_mib() - before
    assert library is not None
    speed = milliseconds(library.retrieve, [question(i, text) for i, text in enumerate(texts(50, 4))])
    return row(
        "library, per-step query, k=3, BM25 on goal, shape, observation, history",
        episodes * 20,
        speed,
        None,
        build_s,
        memory,
    )


def episode(number: int, goal: str, seen: list[str]) -> Trajectory:
    steps = tuple(
        Step(index=i, observation=Observation(text=text), action=Action(text=text[:20]), answerer=Answerer.TEACHER)
        for i, text in enumerate(seen)
    )
    return Trajectory(
        id=f"e{number}",
        task=Task(id=f"t{number}", environment="bench"),
        kind=TrajectoryKind.TEACHER,
        goal=goal,
        steps=steps,
        outcome=Outcome(success=True),
    )


def question(number: int, text: str) -> ContextQuery:
    task = Task(id=f"t{number}", environment="bench")
    return ContextQuery(task=task, goal=text[:60], observation=text, history=(text[:20],), step_index=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="10000,30000,100000,300000", help="numbers of vectors, divided by commas")
    parser.add_argument("--queries", type=int, default=100)
    options = parser.parse_args()
    rows: list[Row] = []
    with threadpoolctl.threadpool_limits(1):
        for size in [int(part) for part in options.sizes.split(",")]:
            rows += vector_rows(size, options.queries)
        rows += [lexical_row(size) for size in (1_000, 10_000, 50_000)]
        rows += [library_row(episodes) for episodes in (100, 500, 2_500)]
    for found in rows:
        print(found)
    extra = {"threads": 1, "dimension": DIMENSION, "k": K, "peer": f"faiss-cpu {faiss.__version__} IndexFlatIP"}
    _results.write("retrieval", rows, n=options.queries, seeds=[SEED], extra=extra)


if __name__ == "__main__":
    main()
