"""What measuring gives: the result as frozen structs, and its JSON contract.

What it knows: the shape (documented in ``docs/reference/measure-json.md``, version ``SCHEMA``). What it does not do:
compute anything; ``summary.py`` fills it. Unknown is ``None`` and becomes ``null``, never zero.
"""

from __future__ import annotations

from typing import Any

import msgspec

from potstill.measure.breakeven import BreakEven
from potstill.measure.ledger import AS_RECORDED, CachePolicy, Pricing
from potstill.measure.statistics import CostRatio, Interval, PairedDifference
from potstill.types import Trajectory

SCHEMA = 1
"""Version of the JSON that ``Measurement.to_json`` writes. New keys may appear; keys never change their meaning."""

GROUPS = ("arm", "environment", "kind", "split", "student")
OpenInterval = tuple[float | None, float | None]
"""An interval whose bound may be infinite (``None``)."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How to measure."""

    by: str = "arm"
    """Split each arm by: ``arm`` (not at all), ``environment``, ``kind`` (of task), ``split`` or ``student``."""
    arms: tuple[str, ...] = ()
    """Only these; the others still tell which teacher episodes were demonstrations. Empty: all."""
    cache: CachePolicy = "simulated"
    pricing: Pricing = AS_RECORDED
    confidence: float = 0.95
    samples: int = 2000
    """Bootstrap samples."""
    seed: int = 0
    reference: str | None = None
    """The arm to compare with; default: the arm in which only the teacher acted."""
    break_even_arm: str | None = None
    """Default: of the arms that were shown demonstrations, the most successful."""
    demonstrations_usd: float | None = None
    """What the demonstrations cost, where their episodes are not among those measured."""
    demonstration_episodes: int | None = None
    examples: int = 0
    """Episodes per arm to keep whole for a report."""


class TokenMeans(msgspec.Struct, frozen=True):
    """Tokens per episode."""

    input: float
    uncached: float
    cache_read: float
    cache_write: float
    output: float
    reasoning: float


class CostParts(msgspec.Struct, frozen=True):
    """Dollars per episode by part; they add up to ``cost_per_episode_usd``."""

    uncached_usd: float
    read_usd: float
    write_usd: float
    output_usd: float
    compute_usd: float


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds. ``call_s_mean``: per model call; ``episode_s_mean``: whole episodes, environment included."""

    call_s_mean: float | None
    step_s_mean: float | None
    episode_s_mean: float | None


class Uncached(msgspec.Struct, frozen=True, kw_only=True):
    """The same arm as if no prompt cache existed."""

    cost_per_episode_usd: float | None
    cost_of_pass_usd: float | None
    cost_of_pass_ci_usd: OpenInterval | None
    teacher_cost_share: float | None


class Versus(msgspec.Struct, frozen=True, kw_only=True):
    """Against the reference arm on the same tasks and seeds."""

    arm: str
    success: PairedDifference | None
    cost: CostRatio | None


class ArmSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the report. See ``docs/reference/measure-json.md`` for each key."""

    arm: str
    group: str | None
    kind: str
    runs: tuple[str, ...] = ()
    n: int
    tasks: int
    seeds: int
    seed_values: tuple[int, ...]
    successes: int
    success: float | None
    success_ci: Interval | None
    success_ci_by_task: Interval | None
    unknown_outcomes: int
    errors: int
    cost_usd: float | None
    known_cost_usd: float
    cost_per_episode_usd: float | None
    cost_of_pass_usd: float | None
    cost_of_pass_ci_usd: OpenInterval | None
    marginal_usd_per_success: float | None = None
    marginal_from: str | None = None
    on_frontier: bool = False
    teacher_step_share: float | None
    teacher_cost_share: float | None
    cache_hit_rate: float | None
    steps_mean: float
    calls: int
    calls_without_cost: int
    calls_estimated: int
    tokens: TokenMeans | None
    cost_parts: CostParts | None
    latency: Latency
    uncached: Uncached
    priced_as: tuple[str, ...]
    break_even: BreakEven | None = None
    versus: Versus | None = None


class Demonstrations(msgspec.Struct, frozen=True, kw_only=True):
    """The teacher episodes that were shown to students and are not an arm of their own."""

    arms: tuple[str, ...]
    n: int | None
    cost_usd: float | None


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that ``potstill measure`` reports."""

    prices_date: str
    prices_source: str
    options: Options
    arms: tuple[ArmSummary, ...]
    frontier: tuple[str, ...]
    demonstrations: Demonstrations | None
    break_even: BreakEven | None
    notes: tuple[str, ...] = ()
    examples: tuple[Trajectory, ...] = ()

    @property
    def break_even_episodes(self) -> int | None:
        """Rounded to the nearest whole episode, as the literature prints it."""
        if self.break_even is None or self.break_even.episodes is None:
            return None
        return round(self.break_even.episodes)

    def to_json(self) -> dict[str, Any]:
        """The JSON contract, version ``SCHEMA``, as plain values. Examples are left out."""
        head: dict[str, Any] = {
            "schema": SCHEMA,
            "prices_date": self.prices_date,
            "prices_source": self.prices_source,
            "cache": self.options.cache,
            "by": self.options.by,
            "confidence": self.options.confidence,
            "bootstrap": {"samples": self.options.samples, "seed": self.options.seed},
            "break_even_episodes": self.break_even_episodes,
        }
        rest = {
            "break_even": self.break_even,
            "demonstrations": self.demonstrations,
            "frontier": self.frontier,
            "notes": self.notes,
            "arms": self.arms,
        }
        built: dict[str, Any] = msgspec.to_builtins(rest)
        return head | built
