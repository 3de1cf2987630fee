"""Lexical ranking: BM25 through the library ``bm25s``, fed little by little.

What it knows: tokens and when the library's index is out of date. What it does not do: BM25's arithmetic (``bm25s``,
its default Lucene variant: k1 1.5, b 0.75), vectors.

BM25's weights depend on the whole collection, so new texts change every score. ``add`` only keeps the tokens; the next
query builds the index again if texts came since (0.2 s for 10,000 texts of 40 tokens, see ``bench/retrieval.py``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.retrieval.tokens import tokenize


class LexicalRanker:
    """A ``protocols.Ranker`` by BM25. Scores are >= 0; a text that shares no token with the query scores 0.

    A token that stands several times in the query counts once: game observations repeat receptacle names.
    Safe to use from several threads.

    >>> ranker = LexicalRanker(); ranker.add(["a red mug", "a blue plate"])
    >>> int(ranker.scores("the mug").argmax())
    0
    """

    def __init__(self, tokenizer: Callable[[str], Sequence[str]] = tokenize) -> None:
        self._tokenizer = tokenizer
        self._vocabulary: dict[str, int] = {}
        self._documents: list[list[int]] = []
        self._index: Any = None
        self._indexed = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._documents)

    def add(self, texts: Sequence[str]) -> None:
        with self._lock:
            for text in texts:
                tokens = self._tokenizer(text)
                self._documents.append([self._vocabulary.setdefault(t, len(self._vocabulary)) for t in tokens])

    def scores(self, query: str) -> NDArray[np.float32]:
        """One BM25 score for each text, float32, shape (len(self),)."""
        with self._lock:
            wanted = {self._vocabulary[t] for t in self._tokenizer(query) if t in self._vocabulary}
            if not wanted:
                return np.zeros(len(self._documents), dtype=np.float32)
            self._refresh()
            scores = self._index.get_scores_from_ids(sorted(wanted))
        return np.asarray(scores, dtype=np.float32)

    def _refresh(self) -> None:
        if self._indexed == len(self._documents):
            return
        import bm25s  # type: ignore[import-untyped]  # here because it takes 60-100 ms of CPU

        index = bm25s.BM25(backend="numpy", csc_backend="numpy")
        vocabulary = {str(number): number for number in range(len(self._vocabulary))}
        index.index((self._documents, vocabulary), create_empty_token=False, show_progress=False)
        self._index, self._indexed = index, len(self._documents)
