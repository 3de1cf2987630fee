"""A ranker made of an embedder and a vector index.

What it knows: texts become rows, a query becomes a vector, nearness is the cosine. What it does not do: models, files.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from potstill.protocols import Embedder
from potstill.retrieval.vectors import ExactIndex, VectorIndex


class DenseRanker:
    """A ``protocols.Ranker`` by cosine similarity, scores in [-1, 1]. An empty text is nowhere near: it scores 0."""

    def __init__(self, embedder: Embedder, index: VectorIndex | None = None) -> None:
        self._embedder = embedder
        self._index = index
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, texts: Sequence[str]) -> None:
        if not texts:
            return
        matrix = np.zeros((len(texts), self._embedder.dimension), dtype=np.float32)
        filled = [position for position, text in enumerate(texts) if text.strip()]
        if filled:
            matrix[filled] = self._embedder.embed([texts[position] for position in filled])
        if self._index is None:
            self._index = ExactIndex(self._embedder.dimension)
        self._index.add(matrix)
        self._count += len(texts)

    def scores(self, query: str) -> NDArray[np.float32]:
        if self._index is None or not query.strip():
            return np.zeros(self._count, dtype=np.float32)
        return self._index.scores(self._embedder.embed([query])[0])
