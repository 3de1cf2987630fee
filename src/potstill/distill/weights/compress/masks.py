"""Single weights set to zero (Han et al. 2015, arXiv 1506.02626): the smallest of each matrix, by magnitude.

This saves bytes only where a file is compressed afterwards (a run of zeros packs well), and no time: a dense matrix is
multiplied zero by zero. ``axes`` makes matrices smaller. Knows arrays; ``holding`` also PyTorch's gradients.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.edge.tensors import Array

Masks = dict[str, NDArray[np.bool_]]


def masks_of(arrays: Mapping[str, Array], share: float) -> Masks:
    """True for the weights that stay, for each matrix; ``share`` of each is taken out, of equal ones the last.

    >>> masks_of({"x.weight": np.array([[0.1, -3.0], [2.0, 0.2]])}, 0.5)["x.weight"].tolist()
    [[False, True], [True, False]]
    """
    found: Masks = {}
    for name, array in arrays.items():
        if name.endswith(".weight") and array.ndim == 2:
            stays = np.ones(array.size, np.bool_)
            gone = math.floor(array.size * share + 1e-9)
            stays[np.argsort(-np.abs(array).ravel(), kind="stable")[array.size - gone :]] = False
            found[name] = stays.reshape(array.shape)
    return found


def masked(arrays: Mapping[str, Array], masks: Masks) -> dict[str, Array]:
    return {name: np.where(masks[name], array, 0) if name in masks else array for name, array in arrays.items()}


@contextmanager
def holding(network: Any, masks: Masks) -> Iterator[None]:
    """While it lasts, weights that are masked stay where they are: their gradient is zero, and AdamW moves no weight
    that is zero and has none."""
    hooks = []
    for name, parameter in network.named_parameters():
        if name in masks:
            there = parameter.new_tensor(masks[name].astype(np.float32))
            hooks.append(parameter.register_hook(lambda gradient, there=there: gradient * there))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
