"""The settings of in-context distillation: a frozen struct that goes into the trajectory's metadata and config digest.

What it knows: names, defaults and what is allowed. What it does not do: anything with demonstrations.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from potstill.errors import ConfigError
from potstill.types import Struct

TRAJECTORY_KEYS = ("goal", "shape", "plan")
STEP_KEYS = ("observation", "reasoning", "history")


class Mode(StrEnum):
    """When demonstrations are retrieved."""

    PER_STEP = "per-step"
    """At every step (arXiv 2512.02543): short windows, but the prompt's prefix changes at every step."""
    PER_TASK = "per-task"
    """Once, as a frozen prefix that prompt caches reward."""
    HYBRID = "hybrid"
    """Frozen by goal and plan; a step gets its own demonstrations where the frozen ones have become poor for it."""


class Style(StrEnum):
    FULL = "full"
    """Whole observations, reasoning where there is any, actions."""
    TRANSCRIPT = "transcript"
    """Exactly as the plain template shows the student's own history: what was seen, then the action behind ``>``. Small
    models copy, and they copy best from what looks the same."""
    COMPACT = "compact"
    """The first line of each observation, cut to ``compact_chars``, and the action: for small models."""


class Extent(StrEnum):
    """Which part of the trajectory is shown."""

    AUTO = "auto"
    """``window`` where demonstrations belong to a step, ``whole`` where they are frozen for the task."""
    WINDOW = "window"
    """``window`` steps on each side of the matched step."""
    PREFIX = "prefix"
    """From the first step to ``window`` steps after the matched one."""
    WHOLE = "whole"


def _default_weights() -> dict[str, float]:
    return {"goal": 1.0, "shape": 1.0, "plan": 1.0, "observation": 2.0, "reasoning": 1.0, "history": 1.0}


class ContextConfig(Struct, frozen=True, kw_only=True):
    """How demonstrations are chosen and shown. Raises ``ConfigError`` for values that are not possible."""

    k: int = 3
    """Demonstrations shown, each from a trajectory of its own."""
    window: int = 5
    """Steps on each side of the matched step."""
    mode: Mode = Mode.PER_TASK
    extent: Extent = Extent.AUTO
    style: Style = Style.FULL
    ranker: str = "bm25"
    """``bm25``, ``onnx:PATH`` or ``http:URL#MODEL``, for every key."""
    weights: dict[str, float] = msgspec.field(default_factory=dict)
    """Weight of each key's score, over the defaults: observation 2, all others 1. 0 leaves a key out.

    ``shape`` is the goal with the things that it names taken out: on 280 ALFWorld train games the nearest goal was of
    the same kind in 81 %, with the shape beside it in 98 %. ``history``, the last three actions, raised the share of
    475 steps whose nearest step did the same kind of action from 69 to 77 %. Both were tuned on train games.
    """
    budget_tokens: int | None = None
    """Upper bound of the rendered block; windows shrink first, then the last demonstrations go."""
    compact_chars: int = 120
    refresh_below: float = 0.8
    """Hybrid: the share of the best possible score below which the frozen demonstrations are too poor for a step (0.8:
    36 of 411 steps of ALFWorld train games; goal and shape match either way, so below 0.6 it never happened)."""
    utility_weight: float = 0.0
    """0: ranking ignores how episodes ended that saw a demonstration; 1: nothing else counts."""
    utility_prior: tuple[float, float] = (1.0, 2.0)
    """Successes and showings that every trajectory is credited with before its first."""

    def __post_init__(self) -> None:
        allowed = (*TRAJECTORY_KEYS, *STEP_KEYS)
        unknown = sorted(set(self.weights) - set(allowed))
        if unknown:
            raise ConfigError(f"No retrieval key named '{unknown[0]}'. Available: {', '.join(allowed)}.")
        if any(not 0 <= weight < float("inf") for weight in self.weights.values()):
            raise ConfigError(f"Key weights must be 0 or more: {self.weights}.")
        if not any(self.key_weights.values()):
            raise ConfigError("Every key has weight 0. Give at least one of them a weight above 0.")
        for name, lowest in (("k", 0), ("window", 0), ("compact_chars", 8)):
            if getattr(self, name) < lowest:
                raise ConfigError(f"{name} is {getattr(self, name)}. Allowed: {lowest} or more.")
        for name in ("refresh_below", "utility_weight"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}. Allowed: 0 to 1.")
        if self.budget_tokens is not None and self.budget_tokens < 0:
            raise ConfigError(f"budget_tokens is {self.budget_tokens}. Allowed: 0 or more, or none.")
        successes, shown = self.utility_prior
        if not 0 <= successes <= shown or shown <= 0:
            raise ConfigError(
                f"utility_prior is {self.utility_prior}. Allowed: successes <= showings, showings above 0."
            )

    @property
    def key_weights(self) -> dict[str, float]:
        """The weight of every key, defaults filled in."""
        return {**_default_weights(), **self.weights}
