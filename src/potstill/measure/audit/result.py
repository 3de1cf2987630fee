"""What an audit gives, as frozen structs, and its JSON contract.

What it knows: the shape; ``docs/reference/audit-json.md`` describes each key. What it does not do: compute anything.
Unknown is ``None`` and becomes ``null``, never zero.
"""

from __future__ import annotations

from typing import Any

import msgspec

from potstill.measure.statistics import Interval

SCHEMA = 1
"""Version of the JSON. New keys may appear; keys never change their meaning."""

OpenInterval = tuple[float | None, float | None]
"""An interval whose bound may be infinite (``None``)."""


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """The attempts of one model in one run."""

    model: str
    run: str
    n: int
    """Attempts without infrastructure errors, duplicates removed."""
    n_infrastructure_errors: int
    n_duplicates: int
    tasks: int
    successes: int
    unknown_outcomes: int
    success: float | None
    """Successes over ``n``."""
    success_ci: Interval | None
    success_with_errors_failed: float | None
    """Successes over attempts with infrastructure errors counted as failures: the other way to see them."""
    cost_usd: float | None
    """All dollars, errors included, duplicates removed."""
    known_cost_usd: float = 0.0
    """The dollars that are known: a lower bound of ``cost_usd`` where that is not."""
    attempts_without_cost: int = 0
    cost_per_episode_usd: float | None
    """``cost_usd`` over attempts, those with errors counted."""
    cost_of_pass_usd: float | None
    cost_of_pass_ci_usd: OpenInterval | None
    input_tokens: int | None
    cached_input_tokens: int | None
    cache_write_tokens: int | None
    output_tokens: int | None
    latency_s_mean: float | None
    pass_hat_k: dict[str, float] = {}
    """k -> chance that k attempts at a task all succeed (pass^k, arXiv 2406.12045), where tasks have k attempts."""


class FrontierRow(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    run: str
    cost_per_episode_usd: float | None
    success: float | None
    on_hull: bool


class Warned(msgspec.Struct, frozen=True, kw_only=True):
    """Dirt in the data. ``run`` is ``None`` where it belongs to no single run."""

    kind: str
    run: str | None
    count: int
    detail: str


class Skips(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that gave no record, by reason."""

    reason: str
    count: int
    lines: tuple[int, ...]
    """The first of them."""
    detail: str = ""
    """What the first one's trouble was."""


class FileRead(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    format: str
    rows: int
    understood: int
    skipped: tuple[Skips, ...] = ()


class Spend(msgspec.Struct, frozen=True, kw_only=True):
    """One slice of the spending. ``examples`` are ids of episodes in ``Audit.examples``."""

    name: str
    usd: float | None
    share: float | None
    calls: int
    episodes: int
    input_tokens: int | None
    cached_input_tokens: int | None
    output_tokens: int | None
    known_usd: float = 0.0
    without_cost: int = 0
    """Episodes of the slice whose cost is not known; ``known_usd`` is a lower bound then."""
    examples: tuple[str, ...] = ()


class CacheUse(msgspec.Struct, frozen=True, kw_only=True):
    """Prompt caching: what was read from caches, and what could have been."""

    input_tokens: int
    cached_tokens: int | None
    """As the endpoints reported; ``None`` if none did."""
    hit_rate: float | None
    repeated_prefix_tokens: int | None
    """Input that an earlier call of the same episode had sent already, as the start of its prompt."""
    repeated_prefix_share: float | None
    repeated_elsewhere_tokens: int | None
    """Input that an earlier call of the same episode had sent, but behind something that changed: a layout that keeps
    what changes last would make it a prefix."""
    saving_if_cached_usd: float | None
    """Dollars saved if all of the repeated prefix had been read from the cache, at each model's own rates and rules."""
    saving_if_laid_out_usd: float | None
    """The same with the repeated parts behind changing ones moved to the front."""
    examples: tuple[str, ...] = ()


class Waste(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of waste: ``redundant_calls``, ``loops``, ``bloated_observations``, ``calls_after_last_useful_step``."""

    kind: str
    count: int
    episodes: int
    share: float | None
    """Of all calls (for observations: of all input tokens)."""
    tokens: int | None
    usd: float | None
    """What these calls cost (for observations: what carrying them cost). Kinds overlap: never add them up."""
    examples: tuple[str, ...] = ()


class StudentStep(msgspec.Struct, frozen=True, kw_only=True):
    """How often a cheap model gave the expensive one's answer, by type of step, where both answered."""

    model: str
    against: str
    step_type: str
    n: int
    agreement: float | None
    agreement_ci: Interval | None
    success: float | None
    """Of the cheap model's answers there, where known."""
    examples: tuple[str, ...] = ()


class ExampleCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call of an example episode, to be shown."""

    number: int
    model: str
    step_type: str
    prompt: str
    answer: str
    input_tokens: int | None
    cached_input_tokens: int | None
    output_tokens: int | None
    usd: float | None
    marks: tuple[str, ...] = ()
    """Kinds of waste that it was counted as."""
    answerer: str | None = None
    votes: tuple[str, ...] = ()
    demonstrations: tuple[str, ...] = ()
    """Where the episode was recorded by potstill: who answered, the student's samples, what it was shown."""


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """One episode to look at."""

    id: str
    model: str
    run: str
    task_id: str | None
    success: bool | None
    error: str | None
    usd: float | None
    file: str
    line: int
    calls: tuple[ExampleCall, ...] = ()


class BudgetCurve(msgspec.Struct, frozen=True, kw_only=True):
    """S(B): share of attempts that succeed within B dollars each; a lower bound for an agent that knows its budget."""

    model: str
    run: str
    budgets_usd: tuple[float, ...]
    success: tuple[float, ...]
    auc: float
    """(1/B_max) times the integral of S from 0 to B_max, in closed form."""


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that an audit found."""

    schema: int = SCHEMA
    prices_date: str
    groups: tuple[Group, ...]
    frontier: tuple[FrontierRow, ...]
    aiq: float | None = None
    """Average success over the frontier's cost range (AIQ of arXiv 2403.12031)."""
    warnings: tuple[Warned, ...] = ()
    files: tuple[FileRead, ...] = ()
    total_usd: float | None
    known_usd: float = 0.0
    """The dollars that are known: all of them where ``total_usd`` is."""
    partial: bool = False
    """Reading was interrupted: this tells what was read so far."""
    calls: int
    episodes: int
    stitched_episodes: int = 0
    """Episodes put together from calls that named none."""
    by_model: tuple[Spend, ...] = ()
    by_step_type: tuple[Spend, ...] = ()
    by_outcome: tuple[Spend, ...] = ()
    cache: CacheUse | None = None
    waste: tuple[Waste, ...] = ()
    student_steps: tuple[StudentStep, ...] = ()
    budget_curves: tuple[BudgetCurve, ...] = ()
    examples: tuple[Example, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain data for ``--json``; a run without a name is ``null`` there."""
        built: dict[str, Any] = msgspec.to_builtins(self)
        for part in ("groups", "frontier", "warnings", "budget_curves", "examples"):
            for row in built[part]:
                row["run"] = row["run"] or None
        return built
