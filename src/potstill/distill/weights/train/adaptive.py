"""Rules that follow the student: temperature, share of hard labels, which decisions are shown, by what it has learnt.

Each is a pure function of the progress, a number from 0 to 1: the best share so far of held-out decisions in which the
student does what its teacher did, and 0 before the first look. So a resumed run asks the same and goes on. None of them
is on unless asked for: ``bench/weights_ways.py`` holds each against its fixed twin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from potstill.distill.weights.losses.config import COLDEST, HOTTEST, Kind, Loss
from potstill.distill.weights.train.progress import Look
from potstill.errors import ConfigError, one_of
from potstill.types import Struct

NAMES = ("temperature", "hard_share", "curriculum")


class Adaptive(Struct, frozen=True, kw_only=True):
    """From where to where each goes as the progress goes from 0 to 1; None: it stays as the loss says."""

    temperature: tuple[float, float] | None = None
    hard_share: tuple[float, float] | None = None
    """Of a soft loss."""
    curriculum: tuple[float, float] | None = None
    """Share of the decisions that are shown, the easiest first."""

    def __post_init__(self) -> None:
        bounds = {"temperature": (COLDEST, HOTTEST), "hard_share": (0.0, 0.99), "curriculum": (0.01, 1.0)}
        for name, (low, high) in bounds.items():
            for value in getattr(self, name) or ():
                if not low <= value <= high:
                    raise ConfigError(f"{name} goes through {value}. Allowed: {low:g} to {high:g}, such as 0.5:1.")

    def must_fit(self, loss: Loss) -> None:
        """Raise ``ConfigError`` where a rule would change what the loss has not."""
        for name in ("temperature", "hard_share"):
            if getattr(self, name) is not None and loss.kind != Kind.SOFT:
                raise ConfigError(f"An adaptive {name} needs a soft loss, and this one is {loss.kind.value}: kind=soft")


def learnt(history: Sequence[Look]) -> float:
    """The progress: the best agreement of all looks so far."""
    return max((look.agreement for look in history if look.agreement is not None), default=0.0)


def between(ends: tuple[float, float], progress: float) -> float:
    """The straight line from one end to the other.

    >>> between((4.0, 1.0), 0.5)
    2.5
    """
    return ends[0] + (ends[1] - ends[0]) * min(1.0, max(0.0, progress))


def loss_at(loss: Loss, adaptive: Adaptive, progress: float) -> Loss:
    """The loss of the next step."""
    changes = {
        name: between(ends, progress)
        for name, ends in (("temperature", adaptive.temperature), ("hard_share", adaptive.hard_share))
        if ends is not None
    }
    return msgspec.structs.replace(loss, **changes) if changes else loss


def shown_at(decisions: int, adaptive: Adaptive, progress: float, *, least: int = 1) -> int:
    """How many of the decisions, the easiest first, the next step may draw from; at least ``least``.

    >>> shown_at(200, Adaptive(curriculum=(0.25, 1.0)), 0.5)
    125
    """
    if adaptive.curriculum is None:
        return decisions
    return min(decisions, max(least, math.ceil(round(decisions * between(adaptive.curriculum, progress), 6))))


def parsed(texts: Sequence[str]) -> Adaptive | None:
    """``["temperature=4:1", ...]`` as typed; None for nothing. Raises ``ConfigError``, ``UnknownName``.

    >>> parsed(["curriculum=0.3:1"]).curriculum
    (0.3, 1.0)
    """
    found: dict[str, tuple[float, float]] = {}
    for text in texts:
        name, _, ends = text.partition("=")
        one_of("adaptive rule", name, NAMES)
        first, _, last = ends.partition(":")
        try:
            found[name] = (float(first), float(last))
        except ValueError:
            raise ConfigError(f"'{text}' is not NAME=FROM:TO. Type for example: --adapt temperature=4:1") from None
    return Adaptive(**found) if found else None
