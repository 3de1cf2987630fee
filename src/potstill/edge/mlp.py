"""The multilayer perceptron: a vector in, one logit for each action out. Numpy only, made for single decisions.

Contract with the trained network, all in float32::

    configuration   kind "mlp", sizes [d, h1, ..., a] (two at least), activation "relu" or "tanh",
                    actions: optionally the a actions' names
    arrays          layers.I.weight (sizes[I+1], sizes[I]) and layers.I.bias (sizes[I+1],) for I = 0, 1, ...;
                    optionally input.mean (d,) and input.scale (d,)
    forward         x = (vector - input.mean) * input.scale, where they are there
                    x = activation(W_I x + b_I), the last layer without the activation
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from .layers import Floats, Shelf, whole
from .tensors import Array, BadFile

MOST_LAYERS = 64
ACTIVATIONS = ("relu", "tanh")


class Mlp:
    """See the module's docstring. Raises ``BadFile`` where arrays and configuration do not fit."""

    kind = "mlp"

    def __init__(self, arrays: Mapping[str, Array], config: Mapping[str, Any]) -> None:
        sizes = config.get("sizes")
        if not isinstance(sizes, list) or not 2 <= len(sizes) <= MOST_LAYERS:
            raise BadFile("Its configuration has no list 'sizes' with two numbers at least.")
        sizes = [whole({"sizes": size}, "sizes") for size in sizes]
        self.activation = config.get("activation", "relu")
        if self.activation not in ACTIVATIONS:
            raise BadFile(f"Its activation is {str(self.activation)[:40]!r}; allowed: relu, tanh.")
        shelf = Shelf(arrays)
        layers = []
        for index, (wide, out) in enumerate(pairwise(sizes)):
            weight = shelf.take(f"layers.{index}.weight", out, wide)
            layers.append((weight.T.copy(), shelf.take(f"layers.{index}.bias", out)))
        self._inner, self._last = layers[:-1], layers[-1]
        if "input.mean" in arrays or "input.scale" in arrays:
            mean, scale = shelf.take("input.mean", sizes[0]), shelf.take("input.scale", sizes[0])
            self._normal: tuple[Floats, Floats] | None = (mean, scale)
        else:
            self._normal = None
        shelf.done()
        self.inputs, self.actions = sizes[0], _names(config.get("actions"), sizes[-1])

    def logits(self, vector: Sequence[float] | Floats) -> Floats:
        """One vector (d,) to (a,), or a batch (n, d) to (n, a). Raises ``ValueError`` for another width."""
        x = np.asarray(vector, np.float32)
        if x.ndim not in (1, 2) or x.shape[-1] != self.inputs:
            raise ValueError(f"The vector has the shape {x.shape}; this policy takes {self.inputs} numbers.")
        if self._normal is not None:
            x = (x - self._normal[0]) * self._normal[1]
        for weight, bias in self._inner:
            x = x.dot(weight)
            x += bias
            x = np.tanh(x, out=x) if self.activation == "tanh" else np.maximum(x, 0.0, out=x)
        out: Floats = x.dot(self._last[0])
        out += self._last[1]
        return out


def _names(given: Any, count: int) -> tuple[str, ...]:
    """The actions' names; their numbers where the file has none."""
    if given is None:
        return tuple(str(number) for number in range(count))
    if not isinstance(given, list) or len(given) != count or not all(isinstance(name, str) for name in given):
        raise BadFile(f"Its list 'actions' does not name {count} actions.")
    return tuple(given)
