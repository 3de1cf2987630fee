"""Count one arm's episodes as they stream by, and turn the counts into an ``ArmSummary``.

What it knows: one cell (arm, split, run) at a time; cells of one arm merge by adding. What it keeps of an episode is a
handful of numbers, so memory grows with episodes and never with tokens. It does not compare arms (``summary.py`` does).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from potstill.measure.cost_of_pass import cost_of_pass_interval
from potstill.measure.ledger import LedgerRow
from potstill.measure.measurement import (
    ArmSummary,
    CostParts,
    Latency,
    OpenInterval,
    Options,
    TokenMeans,
    Uncached,
)
from potstill.measure.statistics import Interval, wilson, wilson_by_task
from potstill.types import Answerer, Trajectory

_PARTS = ("uncached_usd", "read_usd", "write_usd", "output_usd", "compute_usd")


class Episode(NamedTuple):
    """What is kept of one episode. ``success`` and costs are ``None`` where unknown."""

    task: str
    seed: int
    success: bool | None
    cost_usd: float | None
    uncached_usd: float | None


@dataclass
class Tally:
    """Running counts of one cell."""

    kind: str
    episodes: list[Episode] = field(default_factory=list)
    errors: int = 0
    steps: int = 0
    teacher_steps: int = 0
    step_latency_s: float = 0.0
    episode_latency_s: float = 0.0
    calls: int = 0
    call_latency_s: float = 0.0
    without_cost: int = 0
    without_usage: int = 0
    estimated: int = 0
    known_usd: float = 0.0
    teacher_usd: float = 0.0
    uncached_usd: float = 0.0
    uncached_teacher_usd: float = 0.0
    parts: list[float] = field(default_factory=lambda: [0.0] * len(_PARTS))
    tokens: list[int] = field(default_factory=lambda: [0] * 6)
    cacheable_tokens: int = 0
    cacheable_read: int = 0
    priced_as: dict[str, None] = field(default_factory=dict)
    runs: dict[str, dict[str, None]] = field(default_factory=dict)
    """Name of each run -> fingerprints of the configurations that its episodes carry."""

    def add(self, trajectory: Trajectory, rows: list[LedgerRow], uncached: list[LedgerRow]) -> None:
        """Count an episode with its ledger, as billed and as if nothing were cached."""
        for step in trajectory.steps:
            self.steps += 1
            self.teacher_steps += step.answerer is Answerer.TEACHER
            self.step_latency_s += step.latency_s
            self.call_latency_s += sum(call.latency_s for call in step.calls)
        self.errors += trajectory.error is not None
        fingerprint = f"{trajectory.config_digest} {trajectory.student} {trajectory.teacher}"
        self.runs.setdefault(trajectory.run_id, {})[fingerprint] = None
        self.episode_latency_s += trajectory.duration_s
        for row, plain in zip(rows, uncached, strict=True):
            self._add_call(row, plain)
        episode = Episode(task_key(trajectory), trajectory.seed, _success(trajectory), _total(rows), _total(uncached))
        self.episodes.append(episode)

    def _add_call(self, row: LedgerRow, plain: LedgerRow) -> None:
        self.calls += 1
        self._add_tokens(row)
        if row.priced_as is not None:
            target = "CPU time" if row.price_row is None else row.price_row
            counted = f", tokens counted by {row.usage.counted_by}" if row.usage and row.usage.counted_by else ""
            self.priced_as[f"{row.model} priced as {target}{counted}"] = None
        total, plain_total = row.total_usd, plain.total_usd
        if total is None or plain_total is None:
            self.without_cost += 1
            return
        self.known_usd += total
        self.uncached_usd += plain_total
        if row.answerer is Answerer.TEACHER:
            self.teacher_usd += total
            self.uncached_teacher_usd += plain_total
        for index, name in enumerate(_PARTS):
            self.parts[index] += getattr(row, name)

    def _add_tokens(self, row: LedgerRow) -> None:
        usage = row.usage
        if usage is None:
            self.without_usage += row.total_usd != 0.0
            return
        self.estimated += usage.estimated
        counts = (
            usage.input_tokens,
            usage.uncached_input_tokens,
            usage.cache_read_tokens,
            usage.cache_write_tokens,
            usage.output_tokens,
            usage.reasoning_tokens,
        )
        for index, count in enumerate(counts):
            self.tokens[index] += count
        if row.cache == "simulated" or (row.cache == "reported" and usage.cache_reported):
            self.cacheable_tokens += usage.input_tokens
            self.cacheable_read += usage.cache_read_tokens

    def merge(self, other: Tally) -> None:
        """Add another cell of the same arm."""
        for name, value in vars(other).items():
            mine = getattr(self, name)
            if name in ("parts", "tokens"):
                setattr(self, name, [a + b for a, b in zip(mine, value, strict=True)])
            elif name == "priced_as":
                mine.update(value)
            elif name == "runs":
                for run, fingerprints in value.items():
                    mine.setdefault(run, {}).update(fingerprints)
            elif name != "kind":
                setattr(self, name, mine + value)

    # --- what comes out -----------------------------------------------------------------------------------------

    @property
    def cost_usd(self) -> float | None:
        return None if self.without_cost else self.known_usd

    def summarise(self, arm: str, group: str | None, options: Options) -> ArmSummary:
        """The arm's row, but for what needs other arms."""
        n = len(self.episodes)
        judged = [episode for episode in self.episodes if episode.success is not None]
        successes = sum(1 for episode in judged if episode.success)
        seeds = tuple(sorted({episode.seed for episode in self.episodes}))
        return ArmSummary(
            arm=arm,
            group=group,
            kind=self.kind,
            runs=tuple(self.runs),
            n=n,
            tasks=len({episode.task for episode in self.episodes}),
            seeds=len(seeds),
            seed_values=seeds,
            successes=successes,
            success=successes / len(judged) if judged else None,
            success_ci=wilson(successes, len(judged), options.confidence),
            success_ci_by_task=_by_task(judged, options),
            unknown_outcomes=n - len(judged),
            errors=self.errors,
            cost_usd=self.cost_usd,
            known_cost_usd=self.known_usd,
            cost_per_episode_usd=_over(self.cost_usd, n),
            cost_of_pass_usd=_over(_sum(e.cost_usd for e in judged), successes),
            cost_of_pass_ci_usd=_pass_interval([(e.task, e.cost_usd, e.success) for e in judged], options),
            teacher_step_share=self.teacher_steps / self.steps if self.steps else None,
            teacher_cost_share=_over(self.teacher_usd, self.cost_usd),
            cache_hit_rate=_over(float(self.cacheable_read), self.cacheable_tokens),
            steps_mean=self.steps / n,
            calls=self.calls,
            calls_without_cost=self.without_cost,
            calls_estimated=self.estimated,
            tokens=None if self.without_usage else TokenMeans(*(count / n for count in self.tokens)),
            cost_parts=None if self.without_cost else CostParts(*(part / n for part in self.parts)),
            latency=Latency(
                call_s_mean=_over(self.call_latency_s, self.calls),
                step_s_mean=_over(self.step_latency_s, self.steps),
                episode_s_mean=_over(self.episode_latency_s, n),
            ),
            uncached=self._uncached(judged, successes, options),
            priced_as=tuple(self.priced_as),
        )

    def _uncached(self, judged: list[Episode], successes: int, options: Options) -> Uncached:
        total = None if self.without_cost else self.uncached_usd
        return Uncached(
            cost_per_episode_usd=_over(total, len(self.episodes)),
            cost_of_pass_usd=_over(_sum(e.uncached_usd for e in judged), successes),
            cost_of_pass_ci_usd=_pass_interval([(e.task, e.uncached_usd, e.success) for e in judged], options),
            teacher_cost_share=_over(self.uncached_teacher_usd, total),
        )


def task_key(trajectory: Trajectory) -> str:
    """A task by its environment and id: what episodes of several arms, runs and seeds have in common."""
    return f"{trajectory.task.environment}/{trajectory.task.id}"


def _success(trajectory: Trajectory) -> bool | None:
    """A broken episode without an outcome is a failure; one that nobody judged is unknown."""
    if trajectory.outcome is not None and trajectory.outcome.success is not None:
        return trajectory.outcome.success
    return False if trajectory.error is not None else None


def _total(rows: list[LedgerRow]) -> float | None:
    return _sum(row.total_usd for row in rows)


def _sum(values: Iterable[float | None]) -> float | None:
    total = 0.0
    for value in values:
        if value is None:
            return None
        total += value
    return total


def _over(numerator: float | None, denominator: float | None) -> float | None:
    return numerator / denominator if numerator is not None and denominator else None


def _pass_interval(episodes: list[tuple[str, float | None, bool | None]], options: Options) -> OpenInterval | None:
    """Interval of the cost of pass; ``None`` if a cost is unknown or nothing succeeded."""
    by_task: dict[str, list[float]] = {}
    for task, cost, success in episodes:
        if cost is None:
            return None
        sums = by_task.setdefault(task, [0.0, 0.0, 0.0])
        for index, value in enumerate((cost, float(bool(success)), 1.0)):
            sums[index] += value
    if not any(successes for _, successes, _ in by_task.values()):
        return None
    costs, successes_by_task, counts = zip(*by_task.values(), strict=True)
    return cost_of_pass_interval(costs, successes_by_task, counts, confidence=options.confidence)


def _by_task(episodes: list[Episode], options: Options) -> Interval | None:
    successes: dict[str, float] = {}
    counts: dict[str, float] = {}
    for episode in episodes:
        successes[episode.task] = successes.get(episode.task, 0.0) + bool(episode.success)
        counts[episode.task] = counts.get(episode.task, 0.0) + 1.0
    return wilson_by_task(list(successes.values()), list(counts.values()), options.confidence)
