"""How fast near-duplicate bullets are found: one new bullet against a book, and all pairs of a book, on one thread.

Data: texts of 25 words whose letters are drawn by Zipf weights from 5,000 made-up words (some 150 characters, 400
n-grams); unit vectors of 384 dimensions round 500 centres. A tenth of each is a planted near-duplicate of another one
(three letters changed; noise that leaves a cosine of about .96). Recall is against the planted ones. Embedding is not
timed. Targets: a new bullet at 100,000 <= 25 ms exactly and < 5 ms with the approximate index at recall >= .99; all
pairs of vectors at 10,000 < 2 s and at 100,000 < 3 min in bounded memory. By letters all pairs are asked for up to
20,000 bullets.

The book's size is an option, because 100,000 takes minutes: python bench/playbook_similar.py --sizes 1000 10000 100000
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import threadpoolctl

import _results
from potstill.distill.playbook.gate import gated
from potstill.distill.playbook.operations import Add, Batch, Bullet
from potstill.distill.playbook.similar import LexicalIndex
from potstill.distill.playbook.similar_vectors import SemanticIndex, vector_pairs
from potstill.distill.playbook.twins import BookIndex
from potstill.retrieval.faiss_index import FaissIndex

DIMENSION, LEXICAL, SEMANTIC = 384, 0.80, 0.90
MOST_LETTERS = 20_000
"""Bullets of a section whose pairs are all compared by letters: it takes the square of their number."""
Row = dict[str, Any]


class Texts:
    """Made-up bullets, and copies of them with three letters changed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        letters = "etaoinshrdlucmfwypvbgkjqxz"
        weights = [1 / (rank + 2) for rank in range(len(letters))]
        self.words = ["".join(self.rng.choices(letters, weights, k=self.rng.randint(2, 9))) for _ in range(5000)]
        self.weights = np.cumsum([1 / (rank + 1) for rank in range(5000)]).tolist()

    def fresh(self) -> str:
        return " ".join(self.rng.choices(self.words, cum_weights=self.weights, k=25))

    def copy(self, text: str) -> str:
        letters = list(text)
        for place in self.rng.sample(range(len(letters)), 3):
            letters[place] = self.rng.choice("etaoins")
        return "".join(letters)


def unit(matrix: np.ndarray) -> np.ndarray:
    return (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(np.float32)


def vectors(rows: int, seed: int) -> np.ndarray:
    """Unit rows round 500 centres: as far from each other as from the centre (cosine .5)."""
    rng = np.random.default_rng(seed)
    centres = unit(rng.normal(size=(500, DIMENSION)).astype(np.float32))
    noise = rng.standard_normal((rows, DIMENSION), dtype=np.float32) / np.float32(np.sqrt(DIMENSION))
    return unit(noise + centres[rng.integers(0, 500, rows)])


def twins_of(matrix: np.ndarray, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(matrix.shape, dtype=np.float32)
    return unit(matrix + noise * np.float32(0.3 / np.sqrt(DIMENSION)))


def times(work: Callable[[int], object], count: int) -> Row:
    wall, processor = [], []
    for place in range(count):
        start, started = time.perf_counter(), time.process_time()
        work(place)
        wall.append(1e3 * (time.perf_counter() - start))
        processor.append(1e3 * (time.process_time() - started))
    p50, p95 = np.percentile(wall, [50, 95])
    return {"p50_ms": float(p50), "p95_ms": float(p95), "cpu_p50_ms": float(np.median(processor))}


def once(work: Callable[[], Any]) -> tuple[Any, Row]:
    start, started = time.perf_counter(), time.process_time()
    result = work()
    wall, processor = time.perf_counter() - start, time.process_time() - started
    return result, {"wall_s": wall, "cpu_s": processor, "peak_rss_mb": peak_mb()}


def peak_mb() -> float:
    """Of the process so far: rows run from the small to the large."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)


def lexical_rows(size: int, queries: int, seed: int) -> Iterator[Row]:
    """A book of ``size`` distinct texts; a tenth of it once more as near-duplicates for the pairs."""
    texts, index = Texts(seed), LexicalIndex()
    book = [texts.fresh() for _ in range(size - size // 10)]
    book += [texts.copy(text) for text in book[: size // 10]]

    def build() -> None:
        for number, text in enumerate(book):
            index.add(f"b-{number}", "s", text)
        index.nearest("s", book[0], LEXICAL)  # the first question enters them all

    _, building = once(build)
    yield {"what": "lexical: build", "bullets": size, "ms_a_bullet": 1e3 * building["wall_s"] / size, **building}
    places = [texts.rng.randrange(size // 10, size - size // 10) for _ in range(queries)]
    asked = [texts.copy(book[place]) for place in places]
    found = [index.nearest("s", text, LEXICAL) for text in asked]
    right = sum(f"b-{place}" in [near.id for near in near_] for place, near_ in zip(places, found, strict=True))

    def one(place: int) -> None:
        index.nearest("s", asked[place], LEXICAL)
        index.add("new", "s", asked[place])

    yield {"what": "lexical: one near bullet", "bullets": size, "recall": right / queries, **times(one, queries)}
    fresh = [texts.fresh() for _ in range(queries)]
    yield {
        "what": "lexical: one new bullet",
        "bullets": size,
        **times(lambda place: index.nearest("s", fresh[place], LEXICAL), queries),
    }
    index.remove("new")
    if size > MOST_LETTERS:
        return
    pairs, all_pairs = once(lambda: {(pair.a, pair.b) for pair in index.pairs("s", LEXICAL)})
    yield {"what": "lexical: all pairs", "bullets": size, "pairs": len(pairs), **all_pairs}


def semantic_rows(size: int, queries: int, seed: int) -> Iterator[Row]:
    copies = size // 10
    matrix = vectors(size, seed)
    matrix[size - copies :] = twins_of(matrix[:copies], seed + 1)
    ids = [f"b-{number}" for number in range(size)]
    planted = {tuple(sorted((ids[place], ids[size - copies + place]))) for place in range(copies)}
    pairs, row = once(lambda: {(pair.a, pair.b) for pair in vector_pairs(ids, matrix, SEMANTIC)})
    recall = len(pairs & planted) / len(planted)
    yield {"what": "semantic: all pairs", "bullets": size, "pairs": len(pairs), "recall": recall, **row}
    places = np.random.default_rng(seed + 2).integers(copies, size - copies, queries)
    asked = twins_of(matrix[places], seed + 3)
    for name, approximate in (("exact", None), ("approximate", FaissIndex)):
        index = SemanticIndex(DIMENSION, approximate)
        index.add_many(ids, "s", matrix)
        found = [index.nearest("s", vector, SEMANTIC) for vector in asked]
        right = sum(ids[place] in [near.id for near in hits] for place, hits in zip(places, found, strict=True))

        def one(place: int, index: SemanticIndex = index) -> None:
            index.nearest("s", asked[place], SEMANTIC)
            index.add("new", "s", asked[place])

        one(0)
        yield {
            "what": f"semantic: one near bullet, {name}",
            "bullets": size,
            "recall": right / queries,
            **times(one, queries),
        }


def gate_rows(size: int, queries: int, seed: int) -> Iterator[Row]:
    """The whole gate, by letters: a batch of five ``ADD``s, two of them near-duplicates."""
    texts = Texts(seed)
    contents = [texts.fresh() for _ in range(size)]
    bullets = (Bullet(id=f"b-{n}", number=n, section="s", content=text) for n, text in enumerate(contents, 1))

    def build() -> BookIndex:
        index = BookIndex(bullets)
        gated(Batch(operations=(Add(section="s", content=contents[0]),), actor="bench"), index)
        return index

    book, building = once(build)
    yield {"what": "gate: build", "bullets": size, **building}
    batches = [
        Batch(
            operations=tuple(
                Add(section="s", content=text)
                for text in (
                    *(texts.copy(texts.rng.choice(contents)) for _ in range(2)),
                    *(texts.fresh() for _ in range(3)),
                )
            ),
            actor="bench",
        )
        for _ in range(queries // 5)
    ]
    yield {
        "what": "gate: a batch of 5 ADDs",
        "bullets": size,
        **times(lambda place: gated(batches[place], book), len(batches)),
    }


PARTS = {"lexical": lexical_rows, "semantic": semantic_rows, "gate": gate_rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000], help="bullets of the book")
    parser.add_argument("--queries", type=int, default=200, help="new bullets that are timed")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--threads", type=int, default=1, help="of the linear algebra")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows: list[Row] = []
    with threadpoolctl.threadpool_limits(options.threads):
        for size in sorted(options.sizes):
            for part in options.parts:
                for row in PARTS[part](size, options.queries, options.seed):
                    rows.append(row)
                    print({name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()})
    _results.write(
        "playbook_similar",
        rows,
        n=options.queries,
        seeds=[options.seed],
        extra={"threads": options.threads, "dimension": DIMENSION, "thresholds": [LEXICAL, SEMANTIC]},
    )


if __name__ == "__main__":
    main()
