"""How much each unit of an axis is worth, and which ones stay. Numpy only.

``by_magnitude`` looks at the weights alone. ``by_taylor`` at how much the loss would change without the unit, to first
order (Molchanov et al. 2019, arXiv 1906.10771, equation 8), from products of weights and gradients that ``gradients``
makes. Does not know networks or data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from potstill.distill.weights.compress.axes import Axis
from potstill.edge.tensors import Array

Scores = NDArray[np.float64]


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


def by_taylor(products: Iterable[Mapping[str, Array]], axis: Axis) -> Scores:
    """The mean over batches of ``(sum of gradient * weight over the unit's numbers)^2``, shape (units,).

    ``products``: for each batch, of each array its gradient times itself.

    >>> from potstill.distill.weights.compress.axes import Part
    >>> products = [{"a": np.array([1.0, -2.0])}, {"a": np.array([3.0, 0.0])}]
    >>> by_taylor(products, Axis("x", 2, (Part("a", 0),))).tolist()
    [5.0, 2.0]
    """
    found = [np.square(_summed(one, axis)) for one in products]
    return np.asarray(np.mean(found, axis=0))


def kept(scores: Scores, share: float) -> list[int]:
    """The units that stay when ``share`` of them is taken out: the best ones, in their order; at least one.

    Of equal ones the first stay.

    >>> kept(np.array([0.1, 0.9, 0.5, 0.9]), 0.5)
    [1, 3]
    """
    count = max(1, len(scores) - math.floor(len(scores) * share + 1e-9))
    return sorted(np.argsort(-scores, kind="stable")[:count].tolist())


def _summed(arrays: Mapping[str, Array], axis: Axis) -> Scores:
    """Of each unit, the sum of all numbers that belong to it; one that two parts share counts twice."""
    found = np.zeros(axis.size)
    for part in axis.parts:
        block = np.take(arrays[part.array], np.arange(part.start, part.start + axis.size), axis=part.dimension)
        found += np.moveaxis(block, part.dimension, 0).reshape(axis.size, -1).sum(axis=1)
    return found
