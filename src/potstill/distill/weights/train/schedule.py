"""How fast to learn at each step, and from what: pure functions, so that a resumed run asks the same and goes on."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


def constant(done: float) -> float:
    """The share of the learning rate after a share ``done`` of the training."""
    return 1.0


def cosine(done: float) -> float:
    """From 1 down to 0 along half a cosine (arXiv 1608.03983, equation 5 without restarts).

    >>> [round(cosine(done), 3) for done in (0.0, 0.5, 1.0)]
    [1.0, 0.5, 0.0]
    """
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))


SCHEDULES: dict[str, Callable[[float], float]] = {"constant": constant, "cosine": cosine}


def rate_at(step: int, total: int, *, peak: float, schedule: str, warmup: int = 0) -> float:
    """The learning rate of a step (from 0), which rises evenly over ``warmup`` steps before the schedule begins.

    >>> [rate_at(step, 10, peak=1.0, schedule="constant", warmup=4) for step in (0, 1, 4, 9)]
    [0.25, 0.5, 1.0, 1.0]
    """
    warmup = min(warmup, total // 2)
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * SCHEDULES[schedule]((step - warmup) / max(1, total - warmup))


def rows_of(step: int, *, decisions: int, batch: int, seed: int) -> NDArray[np.int64]:
    """Which decisions a step (from 0) learns from: every epoch has each once, in an order that seed and epoch give."""
    per_epoch = -(-decisions // batch)
    epoch, at = divmod(step, per_epoch)
    return _order(decisions, seed, epoch)[at * batch : (at + 1) * batch]


@functools.lru_cache(maxsize=1)
def _order(decisions: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """An epoch's, kept as long as it lasts: of many decisions it costs more than a small network's step."""
    order = np.random.default_rng([seed, epoch]).permutation(decisions).astype(np.int64)
    order.flags.writeable = False
    return order
