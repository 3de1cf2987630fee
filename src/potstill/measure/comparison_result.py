"""What a comparison gives, as frozen structs, and how it is asked for.

What it knows: the shape (``docs/guides/compare.md`` describes each key). What it does not do: compute anything.
Unknown is ``None`` and becomes ``null``, never zero.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from potstill.measure.statistics import Interval

SCHEMA = 1
"""Version of the JSON. New keys may appear; keys never change their meaning."""

Verdict = Literal["a_better", "b_better", "non_inferior", "no_difference_shown"]
OpenInterval = tuple[float | None, float | None]
"""An interval whose bound may be infinite (``None``)."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How to compare."""

    margin: float = 0.02
    """The loss of success that would be accepted, as a share; fixed before the data are seen."""
    confidence: float = 0.95
    samples: int = 2000
    """Bootstrap samples."""
    seed: int = 0


class ErrorsAsFailures(msgspec.Struct, frozen=True, kw_only=True):
    """The difference with attempts that broke counted as failures."""

    n: int
    difference: float
    difference_ci: Interval


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """What the same money could buy otherwise: computed from the recordings, never run."""

    name: str
    of: str
    """The side whose recordings it is computed from: ``A``, ``B`` or ``cheap``."""
    success: float | None
    success_ci: Interval | None = None
    cost_per_episode_usd: float | None
    attempts: float | None = None
    """Attempts (or votes) a task that the money buys, on average the most that are allowed."""
    teacher_share: float | None = None
    """Share of tasks that go to the dearer side."""
    computed: bool = True
    note: str = ""
    """How it was computed, or why it cannot be."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """A against B on the tasks that both have."""

    schema: int = SCHEMA
    a: str
    b: str
    n: int
    """Shared pairs."""
    tasks: int
    success_a: float
    success_b: float
    difference: float
    """Success of A minus success of B."""
    difference_ci: Interval
    difference_method: str
    discordant: int
    """Pairs in which one side succeeded and the other did not."""
    only_a: int
    only_b: int
    p_mcnemar: float
    cost_ratio: float | None = None
    """All dollars of A over all dollars of B, over the shared pairs."""
    cost_ratio_ci: OpenInterval | None = None
    cost_a_usd: float | None = None
    cost_b_usd: float | None = None
    cost_per_episode_a_usd: float | None = None
    cost_per_episode_b_usd: float | None = None
    cost_of_pass_a_usd: float | None = None
    cost_of_pass_a_ci_usd: OpenInterval | None = None
    cost_of_pass_b_usd: float | None = None
    cost_of_pass_b_ci_usd: OpenInterval | None = None
    cost_of_pass_ratio: float | None = None
    cost_of_pass_ratio_ci: OpenInterval | None = None
    verdict: Verdict
    non_inferior: bool
    """The interval's lower bound lies above minus the margin."""
    margin: float
    confidence: float
    needed_n: int | None
    """More shared tasks for a chance of 80 % to show non-inferiority, if the difference stays as it was seen."""
    advice: str
    errors_as_failures: ErrorsAsFailures | None = None
    baselines: tuple[Baseline, ...] = ()
    notes: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    """Conditions of ``--fail-if`` that hold."""

    def to_json(self) -> dict[str, Any]:
        """As plain data for ``--json``."""
        built: dict[str, Any] = msgspec.to_builtins(self)
        return built
