"""Isotonic regression: the best non-decreasing step function, by pooling adjacent violators.

What it knows: pairs (score, value) and weights. What it does not do: know what they mean.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


class Isotonic(NamedTuple):
    """Steps: scores from ``starts[i]`` on (up to the next) have the value ``levels[i]``; below the first, the first."""

    starts: tuple[float, ...]
    levels: tuple[float, ...]

    def __call__(self, scores: ArrayLike) -> Floats:
        places = np.searchsorted(np.asarray(self.starts), np.asarray(scores, dtype=np.float64), side="right") - 1
        return np.asarray(self.levels)[np.maximum(places, 0)]


def isotonic(scores: ArrayLike, values: ArrayLike, weights: ArrayLike | None = None) -> Isotonic:
    """Least squares among non-decreasing functions (Ayer et al. 1955; Barlow et al. 1972). O(n log n).

    Raises ``ValueError`` without data.

    >>> isotonic([1, 2, 3, 4], [0.0, 1.0, 0.0, 1.0])
    Isotonic(starts=(1.0, 2.0, 4.0), levels=(0.0, 0.5, 1.0))
    """
    score_N = np.asarray(scores, dtype=np.float64)
    value_N = np.asarray(values, dtype=np.float64)
    weight_N = np.ones_like(value_N) if weights is None else np.asarray(weights, dtype=np.float64)
    if len(score_N) == 0:
        raise ValueError("isotonic regression needs at least one pair")
    starts, place_N = np.unique(score_N, return_inverse=True)
    weight = np.bincount(place_N, weight_N)
    mean = np.bincount(place_N, value_N * weight_N) / weight
    first: list[int] = []
    levels: list[float] = []
    masses: list[float] = []
    for index, (level, mass) in enumerate(zip(mean.tolist(), weight.tolist(), strict=True)):
        start = index
        while levels and levels[-1] >= level:
            below = masses.pop()
            level = (levels.pop() * below + level * mass) / (below + mass)
            mass += below
            start = first.pop()
        first.append(start)
        levels.append(level)
        masses.append(mass)
    return Isotonic(tuple(starts[first].tolist()), tuple(levels))
