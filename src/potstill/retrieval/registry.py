"""Rankers and embedders by name: ``bm25``, ``onnx:PATH``, ``http:URL#MODEL``.

What it knows: the names and what each loads. What it does not do: ranking.
"""

from __future__ import annotations

from collections.abc import Callable

from potstill.errors import ConfigError, UnknownName
from potstill.protocols import Embedder, Ranker

RANKERS = ("bm25", "http:URL#MODEL", "onnx:PATH")


def open_ranker(spec: str = "bm25") -> Ranker:
    """One empty ranker. Raises ``UnknownName``, ``MissingExtra`` or ``ConfigError``.

    >>> len(open_ranker("bm25"))
    0
    """
    return ranker_factory(spec)()


def ranker_factory(spec: str) -> Callable[[], Ranker]:
    """Makes empty rankers that share one embedder (and so one model in memory and one cache)."""
    if spec == "bm25":
        from potstill.retrieval.lexical import LexicalRanker

        return LexicalRanker
    from potstill.retrieval.dense import DenseRanker

    embedder = open_embedder(spec)
    return lambda: DenseRanker(embedder)


def open_embedder(spec: str) -> Embedder:
    """An embedder with a cache of its vectors. An http address without the leading ``http:`` is taken too."""
    from potstill.retrieval.embedders import CachedEmbedder, OnnxEmbedder

    kind, _, rest = spec.partition(":")
    if kind == "onnx" and rest:
        return CachedEmbedder(OnnxEmbedder(rest))
    if kind in ("http", "https") and rest:
        from potstill.retrieval.http_embedder import HttpEmbedder

        url, _, model = (spec if rest.startswith("//") else rest).partition("#")
        if not model:
            raise ConfigError(f"'{spec}' names no model. Type for example: http:http://localhost:8080/v1#nomic-embed")
        return CachedEmbedder(HttpEmbedder(url, model))
    raise UnknownName("ranker", spec, RANKERS)
