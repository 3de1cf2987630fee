"""Exact nearest vectors: one contiguous float32 matrix in memory that grows by doubling.

What it knows: inner products and positions. What it does not do: texts, files, databases: the vectors of record live in
a ``VectorRecord`` (the store), this matrix is a cache that ``rebuild`` makes again. Targets and measurements:
``bench/retrieval.py``.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from potstill.errors import ConfigError
from potstill.protocols import FloatMatrix

FloatVector = NDArray[np.float32]
Positions = NDArray[np.int64]


class VectorRecord(Protocol):
    """Where vectors are kept for good, by space (a namespace and an embedder) and id. The store satisfies it."""

    def put_vectors(self, space: str, ids: Sequence[str], matrix: FloatMatrix) -> None: ...

    def vectors(self, space: str) -> tuple[Sequence[str], FloatMatrix]:
        """All ids of a space in a fixed order (oldest first) and their rows, shape (len(ids), dimension)."""


class VectorIndex(Protocol):
    """What the exact and the faiss index have in common. Positions are insertion order."""

    @property
    def dimension(self) -> int: ...

    def __len__(self) -> int: ...

    def add(self, matrix: FloatMatrix) -> None: ...

    def scores(self, query: FloatVector) -> FloatVector: ...

    def top(
        self, query: FloatVector, k: int, mask: NDArray[np.bool_] | None = None
    ) -> tuple[Positions, FloatVector]: ...


class ExactIndex:
    """Brute force over a (capacity, dimension) float32 matrix. Safe to use from several threads.

    >>> index = ExactIndex(2); index.add(np.eye(2, dtype=np.float32))
    >>> index.top(np.array([0.9, 0.1], dtype=np.float32), k=1)[0].tolist()
    [0]
    """

    def __init__(self, dimension: int, capacity: int = 1024) -> None:
        if dimension < 1:
            raise ConfigError(f"A vector index of dimension {dimension} is not possible. Allowed: 1 or more.")
        self._matrix: FloatMatrix = np.empty((max(1, capacity), dimension), dtype=np.float32)
        self._count = 0
        self._lock = threading.Lock()

    @property
    def dimension(self) -> int:
        return int(self._matrix.shape[1])

    @property
    def matrix(self) -> FloatMatrix:
        """The stored rows, a view of shape (len(self), dimension)."""
        return self._matrix[: self._count]

    def __len__(self) -> int:
        return self._count

    def add(self, matrix: FloatMatrix) -> None:
        """Append rows, shape (n, dimension). Amortised constant cost for a row."""
        rows = checked_rows(matrix, self.dimension)
        with self._lock:
            needed = self._count + len(rows)
            if needed > len(self._matrix):
                grown = np.empty((max(needed, 2 * len(self._matrix)), self.dimension), dtype=np.float32)
                grown[: self._count] = self.matrix
                self._matrix = grown
            self._matrix[self._count : needed] = rows
            self._count = needed

    def scores(self, query: FloatVector) -> FloatVector:
        """The inner product of every row with ``query`` (dimension,), shape (len(self),)."""
        return np.asarray(self.matrix @ checked_query(query, self.dimension), dtype=np.float32)

    def top(self, query: FloatVector, k: int, mask: NDArray[np.bool_] | None = None) -> tuple[Positions, FloatVector]:
        """The ``k`` best positions where ``mask`` is true, best first; fewer if fewer are allowed."""
        return top_k(self.scores(query), k, mask)


def top_k(scores: FloatVector, k: int, mask: NDArray[np.bool_] | None = None) -> tuple[Positions, FloatVector]:
    """Positions and values of the ``k`` largest scores where ``mask`` is true; ties go to the earlier position."""
    allowed = np.arange(len(scores)) if mask is None else np.flatnonzero(mask)
    values = scores if mask is None else scores[allowed]
    k = min(k, len(values))
    if k <= 0:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
    if k < len(values):
        worst = np.partition(values, len(values) - k)[len(values) - k]
        keep = np.flatnonzero(values >= worst)
    else:
        keep = np.arange(len(values))
    order = keep[np.lexsort((keep, -values[keep]))][:k]
    return allowed[order].astype(np.int64), values[order]


def checked_rows(matrix: FloatMatrix, dimension: int) -> FloatMatrix:
    rows = np.ascontiguousarray(matrix, dtype=np.float32)
    if rows.ndim != 2 or rows.shape[1] != dimension:
        raise ConfigError(f"Vectors of shape {rows.shape} do not fit an index of dimension {dimension}.")
    if not np.isfinite(rows).all():
        raise ConfigError("A vector holds NaN or infinity: the embedder is broken, nothing was added.")
    return rows


def checked_query(query: FloatVector, dimension: int) -> FloatVector:
    vector = np.ascontiguousarray(query, dtype=np.float32)
    if vector.shape != (dimension,):
        raise ConfigError(f"A query of shape {vector.shape} does not fit an index of dimension {dimension}.")
    return vector


def rebuild(record: VectorRecord, space: str, dimension: int) -> tuple[list[str], ExactIndex]:
    """The exact index of a space, made again from the vectors of record, with the ids by position."""
    ids, matrix = record.vectors(space)
    index = ExactIndex(dimension, capacity=max(1024, len(ids)))
    if len(ids):
        index.add(matrix)
    return list(ids), index
