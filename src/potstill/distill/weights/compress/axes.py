"""Which numbers of a policy belong to one unit of it, so that units can be taken out and the matrices become smaller.

A unit is a neuron of a hidden layer or one dimension of a vector that several matrices share. Taking it out takes a row
of those that make it and a column of those that read it. The contracts in ``edge.mlp``, ``edge.ranker`` and
``edge.film`` say which; of language models ``lm.axes``. Pure: arrays in, arrays out. Does not know which units are
worth keeping (``scores``).
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
    ``hidden``, ``width``, ``embedding``, ``query`` and ``age``, of a grid student ``embedding``, ``goal``, ``patch``,
    ``memory``, ``condition``, ``channels``, ``squeezed`` and ``hidden``. Raises ``UnknownName`` for another kind."""
    kinds = {"mlp": _mlp, "ranker": _ranker, "film": _film}
    one_of("kind of policy with units to prune", config["kind"], kinds)
    return {axis.name: axis for axis in kinds[config["kind"]](config)}


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


def _mlp(config: Mapping[str, Any]) -> list[Axis]:
    return [
        Axis(
            f"layers.{index}",
            size,
            (*_made(f"layers.{index}"), Part(f"layers.{index + 1}.weight", 1)),
        )
        for index, size in enumerate(config["sizes"][1:-1])
    ]


def _ranker(config: Mapping[str, Any]) -> list[Axis]:
    """A past turn's vector is compared with a candidate's number by number, so they share their ``width``."""
    t, e, k, a, h = (config[name] for name in ("width", "embedding", "query", "age", "hidden"))
    wide = [
        *(*_made("text"), *_made("past"), Part("nothing.value", 0)),
        *_columns("past.weight", t, 2),
        *_columns("query.weight", t, 3),
        Part("key.weight", 1),
        *_columns("hidden.weight", t, BLOCKS),
    ]
    return [
        Axis("hidden", h, (*_made("hidden"), Part("score.weight", 1))),
        Axis("width", t, tuple(wide)),
        Axis("embedding", e, (Part("embedding.weight", 1), Part("text.weight", 1), Part("text.weight", 1, e))),
        Axis("query", k, (Part("query.weight", 0), Part("key.weight", 0), Part("nothing.key", 0))),
        Axis("age", a, (Part("age.weight", 1), Part("past.weight", 1, 2 * t))),
    ]


def _film(config: Mapping[str, Any]) -> list[Axis]:
    """A past turn's vector and the memory's state have one width, ``memory``: unit i of both goes at once. A cell keeps
    its channels through all blocks, which add to it."""
    e, g, p, m = (config[name] for name in ("embedding", "goal", "patch", "memory"))
    k, c, q, h = (config[name] for name in ("condition", "channels", "squeezed", "hidden"))
    cells, blocks = config["size"] ** 2, [f"block.{block}" for block in range(config["blocks"])]
    mind = [*_made("turn"), *_made("start"), Part("action.weight", 1), Part("facing.weight", 1)]
    cell = [Part("symbol.weight", 1), Part("place.weight", 1), *_made("wanted"), Part("squeeze.weight", 1)]
    for block in blocks:
        cell += [*_made(f"{block}.conv"), *_columns(f"{block}.conv.weight", c, 9)]
        cell += [*_made(f"{block}.film"), *_made(f"{block}.film", c)]
    said = [*_made("condition"), Part("direction.weight", 1), Part("wanted.weight", 1)]
    said += [Part(f"{block}.film.weight", 1) for block in blocks]
    return [
        Axis("embedding", e, (Part("word.weight", 1), Part("goal.input.weight", 1))),
        Axis("goal", g, (*_unit("goal", g), Part("start.weight", 1), Part("condition.weight", 1))),
        Axis("patch", p, (Part("patch.weight", 1), *_columns("turn.weight", p, cells))),
        Axis("memory", m, (*mind, *_unit("memory", m), Part("memory.input.weight", 1), Part("condition.weight", 1, g))),
        Axis("condition", k, (*said, Part("hidden.weight", 1, cells * q))),
        Axis("channels", c, tuple(cell)),
        Axis("squeezed", q, (*_made("squeeze"), *_columns("hidden.weight", q, cells))),
        Axis("hidden", h, (*_made("hidden"), Part("score.weight", 1))),
    ]


def _made(layer: str, start: int = 0) -> tuple[Part, Part]:
    """What makes the units of a layer's output."""
    return Part(f"{layer}.weight", 0, start), Part(f"{layer}.bias", 0, start)


def _unit(name: str, width: int) -> list[Part]:
    """A recurrent unit's state: its three gates, and the columns that read it."""
    gates = [
        part for gate in range(3) for half in ("input", "hidden") for part in _made(f"{name}.{half}", gate * width)
    ]
    return [*gates, Part(f"{name}.hidden.weight", 1)]


def _columns(array: str, size: int, count: int) -> list[Part]:
    """The columns that read so many vectors of a size, which lie one behind the other."""
    return [Part(array, 1, block * size) for block in range(count)]
