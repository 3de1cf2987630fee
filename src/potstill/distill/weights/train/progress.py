"""How far a training is: the position, the best so far, what was measured.

Plain numbers, so that a checkpoint keeps them. It does not know networks: the best weights are carried as they come.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

SMOOTHED = 0.98
"""How much of the shown loss is what was shown before."""


class Look(NamedTuple):
    """What one evaluation found."""

    step: int
    loss: float
    """Of the training batches, smoothed."""
    agreement: float | None
    success: float | None


class Progress:
    """Where a training is. ``looked_at``: the step of the last evaluation."""

    def __init__(self) -> None:
        self.step = self.looked_at = self.best_step = self.since_best = 0
        self.loss: float | None = None
        self.best: float | None = None
        self.best_weights: dict[str, Any] | None = None
        self.history: list[Look] = []
        self.norms: list[float] = []
        """Mean gradient norms of the parts of a mixed loss."""

    def stepped(self, loss: float) -> None:
        self.step += 1
        self.loss = loss if self.loss is None else SMOOTHED * self.loss + (1 - SMOOTHED) * loss

    def looked(self, agreement: float | None, success: float | None) -> bool:
        """Note an evaluation; True if it is the best so far, or if nothing can be measured."""
        self.looked_at = self.step
        self.history.append(Look(self.step, self.loss or 0.0, agreement, success))
        value = success if success is not None else agreement
        if value is not None and self.best is not None and value <= self.best:
            self.since_best += 1
            return False
        self.best, self.best_step, self.since_best = value, self.step, 0
        return True

    def waited(self, patience: int) -> bool:
        return patience > 0 and self.since_best >= patience

    def numbers(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in _PLAIN}
        return {**plain, "history": [list(look) for look in self.history], "norms": self.norms}

    @classmethod
    def restored(cls, numbers: Mapping[str, Any], best_weights: dict[str, Any] | None) -> Progress:
        progress = cls()
        for name in _PLAIN:
            setattr(progress, name, numbers[name])
        progress.best_weights = best_weights
        progress.norms = list(numbers["norms"])
        progress.history = [Look(*look) for look in numbers["history"]]
        return progress


_PLAIN = ("step", "looked_at", "best_step", "since_best", "loss", "best")
