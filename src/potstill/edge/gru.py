"""A gated recurrent unit (arXiv 1406.1078, in the form of PyTorch): a sequence in, its last state out. Numpy only.

With the weights ``NAME.input`` (3h, d) and ``NAME.hidden`` (3h, h), each with its bias, of which the thirds belong to
the reset gate, the update gate and the proposal::

    r = sigmoid(Wr x + br + Ur h + cr)      z = sigmoid(Wz x + bz + Uz h + cz)
    n = tanh(Wn x + bn + r * (Un h + cn))   h = (1 - z) * n + z * h
"""

from __future__ import annotations

import numpy as np

from .layers import Floats, Shelf


class Gru:
    """Takes its arrays from a shelf. Raises ``BadFile`` as the shelf does."""

    def __init__(self, shelf: Shelf, name: str, inputs: int, width: int) -> None:
        self.width = width
        self._input = (
            shelf.take(f"{name}.input.weight", 3 * width, inputs).T,
            shelf.take(f"{name}.input.bias", 3 * width),
        )
        self._hidden = (
            shelf.take(f"{name}.hidden.weight", 3 * width, width),
            shelf.take(f"{name}.hidden.bias", 3 * width),
        )

    def gates(self, x: Floats) -> Floats:
        """What the inputs (..., d) say to the gates, (..., 3h): it does not depend on what came before."""
        found: Floats = x @ self._input[0] + self._input[1]
        return found

    def last(self, gates: Floats, state: Floats) -> Floats:
        """The state (h,) after a sequence whose ``gates`` are (t, 3h); the state itself where it is empty."""
        h, (weight, bias) = self.width, self._hidden
        for said in gates:
            own = weight @ state
            own += bias
            both = 0.5 * np.tanh(0.5 * (said[: 2 * h] + own[: 2 * h])) + 0.5
            proposal = np.tanh(said[2 * h :] + both[:h] * own[2 * h :])
            state = proposal + both[h:] * (state - proposal)
        return state
