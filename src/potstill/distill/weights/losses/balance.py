"""Several losses as one whose parts pull as hard as they are meant to, whatever the scale of each.

A loss of hundreds beside one of hundredths decides alone, whatever weights they are given by hand. Here each part is
divided by an exponential mean of its gradient's norm (by the student's logits, so that it costs no second pass through
the network): then its share of the gradient is the share that it was given. After GradNorm (arXiv 1711.02257), without
its learning of the shares. Numbers only; ``train.objectives`` computes the norms.
"""

from __future__ import annotations

from collections.abc import Sequence

from potstill.distill.weights.losses.config import Loss
from potstill.errors import ConfigError
from potstill.types import Struct

DECAY = 0.98
"""How much of a mean is what it was a step before."""


class Part(Struct, frozen=True, kw_only=True):
    """A loss in a mix, and its share of the gradient beside the others' shares."""

    loss: Loss
    share: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.share < float("inf"):
            raise ConfigError(f"share={self.share} of a loss in a mix. Allowed: any number above 0.")


def smoothed(before: Sequence[float], now: Sequence[float], decay: float = DECAY) -> list[float]:
    """The exponential mean of each norm; the first values stand as they are.

    >>> smoothed([1.0, 2.0], [2.0, 2.0], decay=0.5)
    [1.5, 2.0]
    """
    if not before:
        return list(now)
    return [decay * old + (1.0 - decay) * new for old, new in zip(before, now, strict=True)]


def weights(shares: Sequence[float], norms: Sequence[float]) -> list[float]:
    """What each part is multiplied with: then ``weight * norm`` is in proportion to ``share``, and adds up to what it
    would without balance, ``sum(share * norm)`` with shares that add up to 1.

    A part without a gradient keeps its share: there is nothing to divide by. Shares 1 and 3, norms 10 and 2:

    >>> [round(value, 3) for value in weights([1.0, 3.0], [10.0, 2.0])]
    [0.1, 1.5]
    """
    total = sum(shares)
    parts = [share / total for share in shares]
    whole = sum(part * norm for part, norm in zip(parts, norms, strict=True))
    return [part * whole / norm if norm > 0 else part for part, norm in zip(parts, norms, strict=True)]
