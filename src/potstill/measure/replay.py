"""Replay a cascade of votes on recorded samples: what it would have achieved and cost, without asking any model.

What it knows: units and votes (``decide.calibration.units``). What it does not do: read files, or promise that the next
tasks go the same way (``potstill calibrate`` does).

The first K samples vote; the top answer is taken if its share of the samples that are there is at least T, else the
teacher's recorded answer. Every sample is paid, also where the teacher answers.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from potstill.decide.calibration.units import CLOSE, UNKNOWN, Floats, Tri, Units, Votes, vote
from potstill.errors import ConfigError
from potstill.measure.frontier import Point, hull
from potstill.measure.frontier_area import Range, aiq, cost_range, iso_cost_gain, iso_quality_saving
from potstill.measure.statistics import Interval, wilson_by_task


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """One cascade on all decisions. Dollars are totals; what cannot be known is ``None``."""

    samples: int
    threshold: float
    n: int
    """Decisions: tasks, or where the rows have steps, steps."""
    tasks: int
    accuracy: float | None
    """Share of decisions that end well; ``None`` if the outcome of any answer that was taken is not known."""
    accuracy_ci: Interval | None
    """Wilson's interval at 95 %; where tasks have several decisions, at their effective number."""
    escalation_share: float
    cost_usd: float | None
    student_cost_usd: float | None
    """The first K samples of every decision."""
    teacher_cost_usd: float | None
    """The teacher's answers where it was asked."""
    always_teacher_cost_usd: float | None
    teacher_accuracy: float | None
    kept_observed: float | None
    """Successes of the cascade over those of the teacher alone."""
    lost: int | None
    """Decisions at which the teacher would have succeeded and the cascade did not."""
    gained: int | None
    unknown_outcomes: int
    accuracy_of_known: float | None
    agreement_with_teacher: float
    """Share of decisions that end with the teacher's answer; where it was asked they do. Empty answers are equal."""
    decisions_with_fewer_samples: int
    tasks_with_fewer_samples: int
    on_frontier: bool | None = None
    """In a sweep: no mixture of others succeeds as often for less."""


class Area(msgspec.Struct, frozen=True, kw_only=True):
    """The frontier of a sweep as a whole, against a teacher that is asked at every decision. ``None``: not known."""

    aiq: float | None
    """Average success over ``aiq_cost_range_usd`` (arXiv 2403.12031)."""
    aiq_cost_range_usd: Range | None
    """From the cheapest of the cascades and the teacher to the dearest of them; dollars over all decisions."""
    iso_quality_saving: float | None
    """Share of the teacher's dollars saved at its success (arXiv 2601.14192); ``None`` also if that is not reached."""
    iso_cost_gain: float | None
    """Success gained at the teacher's dollars, in shares of the decisions (arXiv 2601.14192)."""


def replay(units: Units, samples: int, threshold: float) -> Replay:
    """What the cascade of this many samples and this threshold would have done. Raises ``ConfigError``."""
    _check(samples, threshold)
    return _replay(units, vote(units, samples), samples, threshold)


def sweep(units: Units, samples: Sequence[int], thresholds: Sequence[float] | None = None) -> list[Replay]:
    """All pairs of K and T, those on the frontier marked. Without ``thresholds``: all shares j/K of each K."""
    rows = []
    for k in dict.fromkeys(samples):
        chosen = [j / k for j in range(1, k + 1)] if thresholds is None else list(dict.fromkeys(thresholds))
        _check(k, 0.0)
        votes = vote(units, k)
        for threshold in chosen:
            _check(k, threshold)
            rows.append(_replay(units, votes, k, threshold))
    return _mark(rows)


def area(rows: Sequence[Replay]) -> Area:
    """AIQ of a sweep's frontier, and what the frontier saves or gains against always asking the teacher.

    Rows without a known cost or success are left out; if there are no others, nothing is known. Mixtures of cascades
    count, mixtures with the teacher alone do not.
    """
    points = _points(rows)
    if not points:
        return Area(aiq=None, aiq_cost_range_usd=None, iso_quality_saving=None, iso_cost_gain=None)
    usd, success = rows[0].always_teacher_cost_usd, rows[0].teacher_accuracy
    if usd is None or success is None:
        over = cost_range(points)
        return Area(aiq=aiq(points, over), aiq_cost_range_usd=over, iso_quality_saving=None, iso_cost_gain=None)
    teacher = [Point("teacher", usd, success)]
    over = cost_range(points, teacher)
    return Area(
        aiq=aiq(points, over),
        aiq_cost_range_usd=over,
        iso_quality_saving=iso_quality_saving(points, teacher, success),
        iso_cost_gain=iso_cost_gain(points, teacher, usd),
    )


def _check(samples: int, threshold: float) -> None:
    if samples < 1:
        raise ConfigError(f"--samples is {samples}; allowed: 1 or more. Type for example: --samples 3")
    if not 0.0 <= threshold <= 1.0:
        raise ConfigError(f"--threshold is {threshold}; allowed: 0 to 1. Type for example: --threshold 0.6")


def _replay(units: Units, votes: Votes, samples: int, threshold: float) -> Replay:
    acted_U = votes.share_U >= threshold - CLOSE
    success_U = np.where(acted_U, votes.success_U, units.teacher_success_U)
    fewer_U = votes.present_U < samples
    student, teacher = _sum(votes.usd_U), _sum(units.teacher_usd_U[~acted_U])
    ours, theirs = _successes(success_U), _successes(units.teacher_success_U)
    n, tasks = len(units), len(np.unique(units.task_U))
    known_U = success_U != UNKNOWN
    teachers_U = ~acted_U | (votes.top_U == units.teacher_answer_U)
    both = ours is not None and theirs is not None
    return Replay(
        samples=samples,
        threshold=threshold,
        n=n,
        tasks=tasks,
        accuracy=None if ours is None else ours / n,
        accuracy_ci=None if ours is None else _interval(units, success_U),
        escalation_share=float((~acted_U).mean()),
        cost_usd=None if student is None or teacher is None else student + teacher,
        student_cost_usd=student,
        teacher_cost_usd=teacher,
        always_teacher_cost_usd=_sum(units.teacher_usd_U),
        teacher_accuracy=None if theirs is None else theirs / n,
        kept_observed=ours / theirs if ours is not None and theirs else None,
        lost=int(((units.teacher_success_U == 1) & (success_U == 0)).sum()) if both else None,
        gained=int(((units.teacher_success_U == 0) & (success_U == 1)).sum()) if both else None,
        unknown_outcomes=int((~known_U).sum()),
        accuracy_of_known=float((success_U[known_U] == 1).mean()) if known_U.any() else None,
        agreement_with_teacher=float(teachers_U.mean()),
        decisions_with_fewer_samples=int(fewer_U.sum()),
        tasks_with_fewer_samples=len(np.unique(units.task_U[fewer_U])),
    )


def _sum(usd_U: Floats) -> float | None:
    total = float(usd_U.sum())
    return None if np.isnan(total) else total


def _successes(success_U: Tri) -> int | None:
    return None if (success_U == UNKNOWN).any() else int((success_U == 1).sum())


def _interval(units: Units, success_U: Tri) -> Interval | None:
    return wilson_by_task(
        np.bincount(units.task_U, success_U == 1).tolist(), np.bincount(units.task_U).astype(float).tolist()
    )


def _points(rows: Sequence[Replay]) -> list[Point]:
    """The rows whose cost and success are known, each under its number."""
    return [
        Point(str(index), row.cost_usd, row.accuracy)
        for index, row in enumerate(rows)
        if row.cost_usd is not None and row.accuracy is not None
    ]


def _mark(rows: list[Replay]) -> list[Replay]:
    """Say of each row whether it is on the frontier; ``None`` where its cost or accuracy is not known."""
    best = {(point.cost_usd, point.success) for point in hull(_points(rows))}
    return [
        msgspec.structs.replace(
            row,
            on_frontier=None if row.cost_usd is None or row.accuracy is None else (row.cost_usd, row.accuracy) in best,
        )
        for row in rows
    ]
