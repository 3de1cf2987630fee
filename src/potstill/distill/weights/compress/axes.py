"""Which numbers of a policy belong to one unit of it, so that units can be taken out and the matrices become smaller.

A unit is a neuron of a hidden layer or one dimension of a vector that several matrices share. Taking it out takes a row
of those that make it and a column of those that read it. The contracts in ``edge.mlp`` and ``edge.ranker`` say which;
of language models ``lm.axes``. Pure: arrays in, arrays out. Does not know which units are worth keeping (``scores``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from potstill.edge.tensors import Array
from potstill.errors import ConfigError, one_of

BLOCKS = 7
"""Vectors of a text's width that a ranker's scorer reads; the scalars lie behind them."""


class Part(NamedTuple):
    """Where an axis lies in an array: unit i is the ``width`` indices from ``start + i * width`` on, along
    ``dimension``."""

    array: str
    dimension: int
    start: int = 0
    width: int = 1


class Axis(NamedTuple):
    """Units that can be taken out one by one."""

    name: str
    size: int
    parts: tuple[Part, ...]


def axes_of(config: Mapping[str, Any]) -> dict[str, Axis]:
    """A policy's axes by name, from its configuration: of an mlp its hidden layers (``layers.0``, ...), of a ranker
    ``hidden``, ``width``, ``embedding``, ``query`` and ``age``. Raises ``UnknownName`` for another kind."""
    one_of("kind of policy with units to prune", config["kind"], ("mlp", "ranker"))
    found = _mlp(config["sizes"]) if config["kind"] == "mlp" else _ranker(config)
    return {axis.name: axis for axis in found}


def shrunk(
    arrays: Mapping[str, Array], config: Mapping[str, Any], name: str, keep: Sequence[int]
) -> tuple[dict[str, Array], dict[str, Any]]:
    """The policy with these units of an axis alone, in this order. Raises ``ConfigError`` for units that are none.

    A ranker's queries are divided by the root of their width when they are compared with keys; with fewer dimensions
    they are rescaled, so that what is left counts as before.
    """
    axes = axes_of(config)
    one_of("axis", name, axes)
    found = taken(arrays, axes[name], keep)
    if name == "query":
        found["query.weight"] = found["query.weight"] * np.float32(math.sqrt(len(keep) / axes[name].size))
    return found, _smaller(config, name, len(keep))


def taken(arrays: Mapping[str, Array], axis: Axis, keep: Sequence[int]) -> dict[str, Array]:
    """All arrays, those of the axis with these units alone, in this order. Raises ``ConfigError`` as ``shrunk``."""
    units = np.asarray(keep, np.int64)
    if not len(units) or len(set(units.tolist())) < len(units) or units.min() < 0 or units.max() >= axis.size:
        raise ConfigError(
            f"Units of '{axis.name}' are 0 to {axis.size - 1}, one at least and each once; got {keep!s:.80}."
        )
    found = dict(arrays)
    for array in {part.array for part in axis.parts}:
        for dimension in {part.dimension for part in axis.parts if part.array == array}:
            blocks = [part for part in axis.parts if (part.array, part.dimension) == (array, dimension)]
            found[array] = _taken(found[array], dimension, blocks, axis.size, units)
    return found


def _taken(array: Array, dimension: int, blocks: Sequence[Part], size: int, units: Array) -> Array:
    """Blocks of ``size`` units lose all but ``units``; what lies between and behind them stays."""
    left, at = [], 0
    for block in sorted(blocks, key=lambda block: block.start):
        inside = (units[:, None] * block.width + np.arange(block.width)).ravel()
        left += [np.arange(at, block.start), block.start + inside]
        at = block.start + size * block.width
    order = np.concatenate([*left, np.arange(at, array.shape[dimension])])
    return np.ascontiguousarray(np.take(array, order, axis=dimension))


def _smaller(config: Mapping[str, Any], name: str, size: int) -> dict[str, Any]:
    if config["kind"] == "mlp":
        sizes = list(config["sizes"])
        sizes[int(name.removeprefix("layers.")) + 1] = size
        return {**config, "sizes": sizes}
    return {**config, name: size}


def _mlp(sizes: Sequence[int]) -> list[Axis]:
    return [
        Axis(
            f"layers.{index}",
            size,
            (
                Part(f"layers.{index}.weight", 0),
                Part(f"layers.{index}.bias", 0),
                Part(f"layers.{index + 1}.weight", 1),
            ),
        )
        for index, size in enumerate(sizes[1:-1])
    ]


def _ranker(config: Mapping[str, Any]) -> list[Axis]:
    """A past turn's vector is compared with a candidate's number by number, so they share their ``width``."""
    t, e, k, a, h = (config[name] for name in ("width", "embedding", "query", "age", "hidden"))
    wide = [
        *(Part(name, 0) for name in ("text.weight", "text.bias", "past.weight", "past.bias", "nothing.value")),
        *(Part("past.weight", 1, block * t) for block in range(2)),
        *(Part("query.weight", 1, block * t) for block in range(3)),
        Part("key.weight", 1),
        *(Part("hidden.weight", 1, block * t) for block in range(BLOCKS)),
    ]
    return [
        Axis("hidden", h, (Part("hidden.weight", 0), Part("hidden.bias", 0), Part("score.weight", 1))),
        Axis("width", t, tuple(wide)),
        Axis("embedding", e, (Part("embedding.weight", 1), Part("text.weight", 1), Part("text.weight", 1, e))),
        Axis("query", k, (Part("query.weight", 0), Part("key.weight", 0), Part("nothing.key", 0))),
        Axis("age", a, (Part("age.weight", 1), Part("past.weight", 1, 2 * t))),
    ]
