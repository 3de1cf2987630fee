"""Which texts mean nearly the same, by their vectors: through ``retrieval``'s indexes, and all pairs in bounded memory.

What it knows: unit vectors, sections, thresholds. What it does not do: texts and letters (``similar``), embed, files:
the vectors of record lie in the store.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from potstill.distill.playbook.similar import MOST_PAIRS, Near, Pair, best, check_count, check_threshold, make_pair
from potstill.errors import ConfigError
from potstill.protocols import FloatMatrix
from potstill.retrieval.vectors import ExactIndex, FloatVector, VectorIndex, checked_rows

BLOCK = 2048
"""Rows of one side of the products that ``vector_pairs`` makes at a time."""
_VERIFY = 4096
_ROUNDING = 1e-4
_TOGETHER = 16  # queries of one product: it holds a number for each of them and each row
_HEAD = 3  # which part of a row says for most of them that they are not near enough
_MANY = 16  # which part of the rows is too much to be looked at one by one


class _Heads:
    """The first third of each row, and the length of its rest.

    The product of two heads and of these two lengths, added, is at least that of the whole rows (the inequality of
    Cauchy and Schwarz), so a row of which that stays below a threshold need not be read.
    """

    def __init__(self, dimension: int) -> None:
        self._width = max(1, dimension // _HEAD)
        self._index = ExactIndex(self._width + 1)

    def add(self, rows: FloatMatrix) -> None:
        self._index.add(self._of(rows))

    def _of(self, rows: FloatMatrix) -> FloatMatrix:
        rests = np.linalg.norm(rows[:, self._width :], axis=1, keepdims=True)
        return np.concatenate([rows[:, : self._width], rests], axis=1)

    def most(self, queries: FloatMatrix) -> FloatMatrix:
        """What the product of each query with each row is at most, shape (queries, rows)."""
        return (self._index.matrix @ self._of(queries).T).T


class _Vectors:
    """The rows of one section by position, and an approximate index over them if there is one."""

    def __init__(self, dimension: int, approximate: VectorIndex | None) -> None:
        self.ids: list[str | None] = []
        self.rows = ExactIndex(dimension)
        self.heads = _Heads(dimension) if approximate is None else None
        self.approximate = approximate
        self.removed = 0

    def add(self, ids: Sequence[str | None], rows: FloatMatrix) -> int:
        """The first one's position."""
        first = len(self.ids)
        self.rows.add(rows)
        if self.heads is not None:
            self.heads.add(rows)
        if self.approximate is not None:
            self.approximate.add(rows)
        self.ids.extend(ids)
        return first

    def near(self, queries: FloatMatrix, threshold: float, limit: int) -> list[list[Near]]:
        """For each row of ``queries``. Exact: all of them in one pass over the heads, which is what a search costs."""
        if self.approximate is not None:
            return [self._found(self.approximate, query, threshold, limit) for query in queries]
        found = []
        for start in range(0, len(queries), _TOGETHER):
            some = queries[start : start + _TOGETHER]
            for query, positions in zip(some, self._hits(some, threshold - _ROUNDING), strict=True):
                found.append(best(self._verified(query, positions, threshold), limit))
        return found

    def _hits(self, queries: FloatMatrix, least: float) -> Iterator[NDArray[np.int64]]:
        """Where the product with each of the queries is so large, but for rounding."""
        matrix, heads = self.rows.matrix, self.heads
        if heads is None or len(matrix) <= _VERIFY:
            yield from (np.flatnonzero(row >= least) for row in queries @ matrix.T)
            return
        for query, most in zip(queries, heads.most(queries), strict=True):
            positions = np.flatnonzero(most >= least)
            if len(positions) > len(matrix) // _MANY:
                yield np.flatnonzero(self.rows.scores(query) >= least)
            else:
                yield positions

    def _found(self, index: VectorIndex, query: FloatVector, threshold: float, limit: int) -> list[Near]:
        asked = min(len(self.ids), limit + 16)
        while True:
            positions, scores = index.top(query, asked)
            near = best(self._verified(query, positions, threshold), limit)
            cut = len(scores) == asked and len(scores) and scores[-1] >= threshold - _ROUNDING
            if len(near) >= limit or not cut or asked >= len(self.ids):
                return near
            asked = min(len(self.ids), 4 * asked)

    def _verified(self, query: FloatVector, positions: NDArray[np.int64], threshold: float) -> Iterator[Near]:
        positions = positions[self.rows.matrix[positions] @ query >= threshold - _ROUNDING]
        values = _cosines(self.rows.matrix, positions, query)
        for position, value in zip(positions.tolist(), values.tolist(), strict=True):
            id = self.ids[position]
            if id is not None and value >= threshold:
                yield Near(id=id, similarity=value)


def _cosines(matrix: FloatMatrix, positions: NDArray[np.int64], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """In 64 bits and row by row, so that a pair's number is the same in every block and order; at most 1."""
    rows = matrix[positions].astype(np.float64)
    sums: NDArray[np.float64] = (rows * other.astype(np.float64)).sum(axis=1)
    return np.minimum(sums, 1.0)


class SemanticIndex:
    """Vectors by section through ``retrieval``'s indexes: exact, or with ``approximate`` (say ``FaissIndex``).

    Exact rows are kept in both cases: they verify what the approximate index found, and it may only miss. Vectors have
    length 1 (``protocols.Embedder``); a row of zeros is near nothing. Memory: 4 bytes a number and a third more, twice
    with ``approximate``.
    """

    def __init__(self, dimension: int, approximate: Callable[[int], VectorIndex] | None = None) -> None:
        self.dimension = dimension
        self._make = approximate
        self._sections: dict[str, _Vectors] = {}
        self._places: dict[str, tuple[str, int]] = {}
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._places)

    @property
    def exact(self) -> bool:
        return self._make is None

    def _new(self) -> _Vectors:
        return _Vectors(self.dimension, self._make(self.dimension) if self._make is not None else None)

    def add(self, id: str, section: str, vector: FloatVector) -> None:
        """Keep a vector (dimension,); one that was there under this id is replaced. ``ConfigError``: its length."""
        self.add_many([id], section, np.asarray(vector, dtype=np.float32)[None, :])

    def add_many(self, ids: Sequence[str], section: str, matrix: FloatMatrix) -> None:
        """Keep many rows (len(ids), dimension) at once, which is what makes an approximate index quick to build. Of an
        id that stands there twice the last row counts."""
        rows = unit_rows(checked_rows(matrix, self.dimension))
        if len(rows) != len(ids):
            raise ConfigError(f"{len(ids)} ids do not fit {len(rows)} vectors.")
        last = {id: place for place, id in enumerate(ids)}
        with self._lock:
            for id in last:
                self.remove(id)
            if section not in self._sections:
                self._sections[section] = self._new()
            first = self._sections[section].add(list(last), rows[list(last.values())])
            self._places.update((id, (section, first + place)) for place, id in enumerate(last))

    def remove(self, id: str) -> None:
        with self._lock:
            if id not in self._places:
                return
            section, place = self._places.pop(id)
            vectors = self._sections[section]
            vectors.ids[place], vectors.removed = None, vectors.removed + 1
            if vectors.removed > 64 and 2 * vectors.removed > len(vectors.ids):
                self._rewrite(section)

    def _rewrite(self, section: str) -> None:
        old, new = self._sections[section], self._new()
        kept = [position for position, id in enumerate(old.ids) if id is not None]
        if kept:
            new.add([old.ids[position] for position in kept], old.rows.matrix[kept])
        self._places.update((id, (section, place)) for place, id in enumerate(new.ids) if id is not None)
        self._sections[section] = new

    def nearest(self, section: str, vector: FloatVector, threshold: float, limit: int = 16) -> list[Near]:
        """The ``limit`` nearest of the section that reach the threshold, nearest first, ties by id."""
        return self.nearest_many(section, np.asarray(vector, dtype=np.float32)[None, :], threshold, limit)[0]

    def nearest_many(self, section: str, matrix: FloatMatrix, threshold: float, limit: int = 16) -> list[list[Near]]:
        """``nearest`` for each row of (n, dimension); where the index is exact, much quicker than one by one."""
        check_threshold(threshold)
        queries = checked_rows(matrix, self.dimension)
        with self._lock:
            vectors = self._sections.get(section)
            return vectors.near(queries, threshold, limit) if vectors is not None else [[] for _ in queries]

    def pairs(
        self, section: str, threshold: float, *, only: Collection[str] | None = None, most: int = MOST_PAIRS
    ) -> list[Pair]:
        """All pairs of the section (or of ``only`` these of it), always exact (``vector_pairs``)."""
        with self._lock:
            vectors = self._sections.get(section)
            if vectors is None:
                return []
            wanted = {
                id: position
                for position, id in enumerate(vectors.ids)
                if id is not None and (only is None or id in only)
            }
            rows = vectors.rows.matrix[list(wanted.values())]
            return vector_pairs(list(wanted), rows, threshold, most=most)


def unit_rows(matrix: FloatMatrix) -> FloatMatrix:
    """The rows, all of length 1 or 0; else ``ConfigError``, because a threshold would mean nothing."""
    lengths = np.linalg.norm(matrix, axis=1)
    wrong = (lengths != 0) & ~(np.abs(lengths - 1) <= 1e-3)
    if wrong.any():
        length = float(lengths[np.flatnonzero(wrong)[0]])
        raise ConfigError(f"A vector has the length {length:.4g}. Allowed: 1, or 0 for an empty text. Normalise it.")
    return matrix


def vector_pairs(
    ids: Sequence[str], matrix: FloatMatrix, threshold: float, *, block: int = BLOCK, most: int = MOST_PAIRS
) -> list[Pair]:
    """All pairs of rows whose cosine reaches the threshold, in the order of their ids. Exact.

    Works on ``block`` x ``block`` products, so that memory does not grow with the square of the rows (20 MB beside the
    matrix at 2048). ``ConfigError``: rows that are not of length 1, more than ``most`` pairs.
    """
    check_threshold(threshold)
    rows = unit_rows(np.ascontiguousarray(matrix, dtype=np.float32))
    found: list[Pair] = []
    for top in range(0, len(rows), block):
        for left in range(top, len(rows), block):
            products = rows[top : top + block] @ rows[left : left + block].T
            hits = np.flatnonzero(products >= threshold - _ROUNDING)
            first, second = top + hits // products.shape[1], left + hits % products.shape[1]
            once = first < second
            check_count(len(found) + int(once.sum()), 2 * most, threshold)
            found.extend(_verified_pairs(ids, rows, first[once], second[once], threshold))
            check_count(len(found), most, threshold)
    return sorted(found, key=lambda pair: (pair.a, pair.b))


def _verified_pairs(
    ids: Sequence[str], rows: FloatMatrix, first: NDArray[np.int64], second: NDArray[np.int64], threshold: float
) -> Iterator[Pair]:
    for start in range(0, len(first), _VERIFY):
        a, b = first[start : start + _VERIFY], second[start : start + _VERIFY]
        values = _cosines(rows, a, rows[b])
        for one, other, value in zip(a.tolist(), b.tolist(), values.tolist(), strict=True):
            if value >= threshold:
                yield make_pair(ids[one], ids[other], value)
