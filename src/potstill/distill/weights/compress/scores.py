"""How much each unit of an axis is worth, and which ones stay. Numpy only.

``by_magnitude`` looks at the weights alone. ``by_taylor`` at how much the loss would change without the unit, to first
order (Molchanov et al. 2019, arXiv 1906.10771, equation 8), from products of weights and gradients that ``gradients``
makes. Does not know networks or data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from potstill.distill.weights.compress.axes import Axis
from potstill.edge.tensors import Array

Scores = NDArray[np.float64]
Products = Iterable[Mapping[str, Array]]
"""For each batch, of each array its gradient times itself."""


class Score(StrEnum):
    TAYLOR = "taylor"
    MAGNITUDE = "magnitude"


def by_magnitude(arrays: Mapping[str, Array], axis: Axis) -> Scores:
    """The root of the summed squares of all numbers that belong to a unit, shape (units,).

    >>> from potstill.distill.weights.compress.axes import Part
    >>> arrays = {"a": np.array([[3.0, 0.0], [0.0, 1.0]]), "b": np.array([[4.0, 0.0]])}
    >>> by_magnitude(arrays, Axis("x", 2, (Part("a", 0), Part("b", 1)))).tolist()
    [5.0, 1.0]
    """
    return np.sqrt(_summed({name: np.square(array, dtype=np.float64) for name, array in arrays.items()}, axis))


def by_taylor(products: Products, axis: Axis) -> Scores:
    """The mean over batches of ``(sum of gradient * weight over the unit's numbers)^2``, shape (units,).

    >>> from potstill.distill.weights.compress.axes import Part
    >>> products = [{"a": np.array([1.0, -2.0])}, {"a": np.array([3.0, 0.0])}]
    >>> by_taylor(products, Axis("x", 2, (Part("a", 0),))).tolist()
    [5.0, 2.0]
    """
    return _by_taylor(products, {axis.name: axis})[axis.name]


def _by_taylor(products: Products, axes: Mapping[str, Axis]) -> dict[str, Scores]:
    """Of several axes in one walk over the batches: a language model's products are as large as itself."""
    found: dict[str, list[Scores]] = {name: [] for name in axes}
    for one in products:
        for name, axis in axes.items():
            found[name].append(np.square(_summed(one, axis)))
    return {name: np.asarray(np.mean(some, axis=0)) for name, some in found.items()}


def kept_of(
    axes: Mapping[str, Axis],
    arrays: Mapping[str, Array],
    products: Callable[[], Products],
    counts: Mapping[str, int],
    score: Score,
) -> dict[str, list[int]]:
    """The best units of each axis, so many of each. ``products`` are made for Taylor's score alone."""
    if score is Score.TAYLOR:
        scores = _by_taylor(products(), axes)
    else:
        scores = {name: by_magnitude(arrays, axis) for name, axis in axes.items()}
    return {name: _best(found, counts[name]) for name, found in scores.items()}


def kept(scores: Scores, share: float) -> list[int]:
    """The units that stay when ``share`` of them is taken out: the best ones, in their order; at least one.

    Of equal ones the first stay.

    >>> kept(np.array([0.1, 0.9, 0.5, 0.9]), 0.5)
    [1, 3]
    """
    return _best(scores, left(len(scores), share))


def _best(scores: Scores, count: int) -> list[int]:
    return sorted(np.argsort(-scores, kind="stable")[:count].tolist())


def left(units: int, share: float) -> int:
    """How many of so many units stay when ``share`` of them is taken out; at least one.

    >>> left(3, 0.25), left(3, 0.34), left(1536, 0.25)
    (3, 2, 1152)
    """
    return max(1, units - math.floor(units * share + 1e-9))


def _summed(arrays: Mapping[str, Array], axis: Axis) -> Scores:
    """Of each unit, the sum of all numbers that belong to it; one that two parts share counts twice."""
    found = np.zeros(axis.size)
    for part in axis.parts:
        numbers = np.arange(part.start, part.start + axis.size * part.width)
        block = np.take(arrays[part.array], numbers, axis=part.dimension)
        found += np.moveaxis(block, part.dimension, 0).reshape(axis.size, -1).sum(axis=1)
    return found
