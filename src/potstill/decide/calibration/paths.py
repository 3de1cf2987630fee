"""In which order candidates are tested: paths from what surely loses least to what may lose too much.

A path is tested until its first failure, so all that it has is tested at one level, however many candidates it has and
however many numbers of samples they are of. Its order must not depend on the outcomes that its tests use. For votes it
is known before the data. For learned scores it is taken from the tasks that they were fitted on: candidates of all
numbers of samples that are on the frontier of estimated loss and cost (Pareto testing, arXiv 2210.07913).

What it knows: chains. What it does not do: test or choose (``certify``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from potstill.decide.bounds import binomial_cdf, needed_binomial
from potstill.decide.calibration.candidates import LEARNING, Chain, learned_chains, vote_chain
from potstill.decide.calibration.units import CLOSE, Floats, Units

MISTAKEN = 0.3
"""Chance of one wrong answer for which votes are put in order; for any guess near it the order is the same."""
LEARNED_SHARE = 0.8
"""Of the error level, where votes are tested beside a learned score."""
STRICTEST = 0.02
BOLDEST = 1.5
"""Candidates are worth a test whose estimated loss is between these multiples of what is allowed."""
MOST_STEPS = 40
_POINTS = 400
"""Thresholds of each score that are looked at for the frontier."""
_SPARE = 1.5
"""A score is learned if the tests are left with so many times the tasks that the least certificate takes."""


Fitted = tuple[Chain, Chain]
"""A learned score at the tasks that it was fitted on, and at the others."""


class Path(NamedTuple):
    """Candidates in the order of their tests."""

    steps: tuple[tuple[Chain, float], ...]
    """Chain and threshold."""
    share: float = 1.0
    """Of the error level, beside the other paths' shares."""
    fixed: bool = True
    """Known before the data. Only such a path may hand its level on when it is done (design note)."""


def alone(chain: Chain) -> Path:
    """One chain's thresholds, the strictest first."""
    return Path(tuple((chain, threshold) for threshold in chain.thresholds))


def paths(
    units: Units,
    ks: Sequence[int],
    keep: float,
    confidence: float,
    student: str = "",
    *,
    thresholds: Sequence[float] | None = None,
    learn: bool | None = None,
    votes: bool = True,
    seed: int = 0,
    scores: Sequence[Fitted] | None = None,
) -> list[Path]:
    """All paths of one student; their shares add up to 1.

    ``learn``: whether to learn a score; ``None``: where there are signals and enough tasks. Where nothing can be
    learned, or ``votes`` are asked for, the votes have a path. ``scores``: from ``learned_scores``, if they are there
    already (they do not depend on ``keep``).
    """
    wanted = worth_learning(units, keep, confidence) if learn is None else learn
    if wanted and scores is None and not thresholds:
        scores = learned_scores(units, ks, student, seed=seed)
    if not wanted or not scores or thresholds:
        return [votes_path(units, ks, student, thresholds)]
    learned = learned_path(scores, keep)
    if not votes:
        return [learned]
    beside = votes_path(units, ks, student)
    return [beside._replace(share=1.0 - LEARNED_SHARE), learned._replace(share=LEARNED_SHARE)]


def worth_learning(units: Units, keep: float, confidence: float) -> bool:
    """Whether there are signals beside agreement, and enough of the teacher's successes to test what was learned."""
    if not units.features and units.step_type_U is None:
        return False
    least = needed_binomial(0.0, 1.0 - keep, 1.0 - (1.0 - confidence) * LEARNED_SHARE)
    right = len(np.unique(units.task_U[units.labelled_U & (units.teacher_success_U != 0)]))
    return least is not None and right * (1.0 - LEARNING) >= _SPARE * least


# --- votes ----------------------------------------------------------------------------------------------------------


def votes_path(units: Units, ks: Iterable[int], student: str = "", thresholds: Sequence[float] | None = None) -> Path:
    """Votes of all numbers of samples, by the chance that a student who errs at ``MISTAKEN`` gets so many wrong votes.

    Unanimity of five comes before unanimity of three, that before four of five, then two of two, and so on. Where the
    student acts is nested for unanimous votes, so losses grow along the path; for the others they grow as a rule.
    """
    chains = [vote_chain(units, k, student, thresholds) for k in ks]
    steps = [(chain, threshold) for chain in chains for threshold in chain.thresholds]
    return Path(tuple(sorted(steps, key=lambda step: (_boldness(step[0].samples, step[1]), -step[1]))))


def _boldness(k: int, threshold: float) -> float:
    """Chance of at least ``threshold`` k wrong samples of k."""
    return 1.0 - binomial_cdf(math.ceil(threshold * k - CLOSE) - 1, k, MISTAKEN)


# --- learned scores -------------------------------------------------------------------------------------------------


class _Points(NamedTuple):
    """What candidates seem to lose and cost, at the tasks that were learned from."""

    loss_P: Floats
    cost_P: Floats
    threshold_P: Floats


def learned_scores(units: Units, ks: Iterable[int], student: str = "", *, seed: int = 0) -> list[Fitted]:
    """For each number of samples with anything to learn."""
    return [found for k in ks if (found := learned_chains(units, k, student, seed=seed)) is not None]


def learned_path(scores: Sequence[Fitted], keep: float) -> Path:
    """Learned scores of all numbers of samples, from the least to the greatest estimated loss."""
    priced = not any(np.isnan(one.student_usd_U).any() or np.isnan(one.teacher_usd_U).any() for one, _ in scores)
    points = [_points(learning, priced) for learning, _ in scores]
    loss_P, cost_P, threshold_P = (np.concatenate(columns) for columns in zip(*points, strict=True))
    chain_P = np.repeat(np.arange(len(scores)), [len(one.loss_P) for one in points])
    chosen = _worth_testing(loss_P, cost_P, 1.0 - keep)
    steps = tuple((scores[int(chain_P[one])][1], float(threshold_P[one])) for one in chosen)
    return Path(steps, fixed=False)


def _points(chain: Chain, priced: bool) -> _Points:
    """Estimates for thresholds of one score, by the score itself: 1 - score is the chance of a loss.

    It is smoother than the count of losses, of which there are few where little is allowed. Where a cost is not known,
    escalations stand for it.
    """
    order = np.argsort(-chain.score_U, kind="stable")
    score_U = chain.score_U[order]
    ends = np.flatnonzero(np.append(score_U[:-1] - score_U[1:] > CLOSE, True))
    ends = ends[np.unique(np.linspace(0, len(ends) - 1, _POINTS).round().astype(np.int64))]
    loss_U = np.cumsum(1.0 - score_U) / max(1, int(chain.right_U.sum()))
    if priced:
        teacher_U = chain.teacher_usd_U[order]
        cost_U = chain.student_usd_U.sum() + teacher_U.sum() - np.cumsum(teacher_U)
    else:
        cost_U = len(order) - np.arange(1.0, len(order) + 1.0) + 1e-6 * chain.samples
    return _Points(loss_U[ends], cost_U[ends], score_U[ends])


def _worth_testing(loss_P: Floats, cost_P: Floats, allowed: float) -> list[int]:
    """The frontier of estimated loss and cost, about what is allowed; at most ``MOST_STEPS``, evenly spaced in loss."""
    order = np.lexsort((cost_P, loss_P))
    before_P = np.concatenate(([np.inf], np.minimum.accumulate(cost_P[order])[:-1]))
    frontier = order[cost_P[order] < before_P]
    loss_F = loss_P[frontier]
    first = max(0, int(np.searchsorted(loss_F, STRICTEST * allowed)) - 1)
    last = max(first + 1, int(np.searchsorted(loss_F, BOLDEST * allowed, side="right")))
    frontier, loss_F = frontier[first:last], loss_F[first:last]
    if len(frontier) > MOST_STEPS:
        wanted = np.linspace(loss_F[0], loss_F[-1], MOST_STEPS)
        frontier = frontier[np.unique(np.abs(loss_F[None, :] - wanted[:, None]).argmin(axis=1))]
    return [int(one) for one in frontier]
