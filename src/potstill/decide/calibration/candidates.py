"""What may be chosen: chains of thresholds, each on one score of one student, from the strictest to the boldest.

A chain is fixed before its tests are looked at. Thresholds of a vote are j/K: known without any data, so its tests may
use all tasks. A learned score is fitted on one random part of the tasks and tested on the others.

What it knows: units and scores. What it does not do: say in which order to test (``paths``), test or choose.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from potstill.decide.calibration.score import Score, fit, table
from potstill.decide.calibration.units import CLOSE, Floats, Ints, Units, truth, vote

Flags = NDArray[np.bool_]

LEARNING = 0.25
"""Share of the tasks that a score is fitted on. With a half the tests lose more than the score gains (design note)."""
MOST_THRESHOLDS = 100
VOTES = "votes"
LEARNED = "learned"
LIKELIHOOD = "likelihood"
LIKELIHOODS = (
    *(0.9999, 0.9998, 0.9995, 0.999, 0.998, 0.997, 0.995, 0.993, 0.99, 0.985),
    *(round(0.02 * step, 2) for step in range(49, -1, -1)),
)
"""Thresholds on a probability: known before the data, and written in so few digits that what is typed is what was
tested. They lie closer where trained policies put most of their decisions."""


class Chain(NamedTuple):
    """Thresholds on one score, the strictest first, and the labelled units that they are tested on."""

    student: str
    signal: str
    """``votes``: the share of samples on the top answer; ``learned``: the calibrated chance that it is good;
    ``likelihood``: the student's own probability of its answer."""
    samples: int
    thresholds: tuple[float, ...]
    score_U: Floats
    right_U: Flags
    """T: the teacher would have succeeded."""
    good_U: Flags
    """S: the student's answer succeeds."""
    student_usd_U: Floats
    teacher_usd_U: Floats
    task_U: Ints
    assumed_U: Flags
    """Taken as bad because the student's outcome is not known."""
    score: Score | None = None

    def acted_U(self, threshold: float) -> Flags:
        """Where the student acts: its score reaches the threshold."""
        return self.score_U >= threshold - CLOSE


def vote_chain(units: Units, k: int, student: str = "", thresholds: Sequence[float] | None = None) -> Chain:
    """The vote of the first ``k`` samples, on all labelled units that have a sample; thresholds are j/k or as given."""
    votes = vote(units, k)
    units = units.take(units.labelled_U & (votes.present_U > 0))
    votes = vote(units, k)
    found = truth(units, votes)
    chosen = [j / k for j in range(k, 0, -1)] if thresholds is None else sorted(set(thresholds), reverse=True)
    return Chain(
        student=student,
        signal=VOTES,
        samples=k,
        thresholds=tuple(chosen),
        score_U=votes.share_U,
        right_U=found.right_U,
        good_U=found.good_U,
        student_usd_U=votes.usd_U,
        teacher_usd_U=units.teacher_usd_U,
        task_U=units.task_U,
        assumed_U=found.assumed_U,
    )


def likelihood_chain(units: Units, student: str = "", thresholds: Sequence[float] | None = None) -> Chain:
    """The student's own probability of its one answer (the feature ``likelihood``), on all labelled units.

    A unit without a probability is one at which it cannot answer: it acts at no threshold. Where it acts is nested, so
    losses grow along the chain, and a test costs nothing until the first one fails.
    """
    whole = vote_chain(units, 1, student, sorted({*(thresholds or LIKELIHOODS)}, reverse=True))
    there_U = units.labelled_U & (vote(units, 1).present_U > 0)
    return whole._replace(signal=LIKELIHOOD, score_U=units.features[LIKELIHOOD][there_U, 0])


def learned_chains(units: Units, k: int, student: str = "", *, seed: int = 0) -> tuple[Chain, Chain] | None:
    """A learned score of the first ``k`` samples, at the tasks that it was fitted on, and at the others, for its tests.

    ``None`` where there is nothing to learn: no signal varies, or all answers are equally good. Which tasks are learned
    from depends on ``seed`` and the labelled tasks only, so it is the same for every ``k``.
    """
    units = units.take(units.labelled_U)
    learning_U = split_tasks(units.task_U, seed)
    there_U = vote(units, k).present_U > 0
    units, learning_U = units.take(there_U), learning_U[there_U]
    if not learning_U.any() or learning_U.all():
        return None
    whole = vote_chain(units, k, student)
    signals = table(units, vote(units, k), k)
    good_U = whole.good_U | ~whole.right_U
    score = fit(signals._replace(values_UF=signals.values_UF[learning_U]), good_U[learning_U])
    if score is None:
        return None
    score_U = score(signals)
    whole = whole._replace(signal=LEARNED, thresholds=_thresholds(score_U[learning_U]), score_U=score_U, score=score)
    return _part(whole, learning_U), _part(whole, ~learning_U)


def _part(chain: Chain, which_U: Flags) -> Chain:
    """Some of a chain's units, with tasks numbered anew."""
    names = ("score_U", "right_U", "good_U", "student_usd_U", "teacher_usd_U", "assumed_U")
    task_U = np.unique(chain.task_U[which_U], return_inverse=True)[1].astype(np.int64)
    return chain._replace(task_U=task_U, **{name: getattr(chain, name)[which_U] for name in names})


def split_tasks(task_U: Ints, seed: int) -> Flags:
    """A random ``LEARNING`` share of the tasks, as a mask over units."""
    tasks = int(task_U.max()) + 1 if len(task_U) else 0
    first_T = np.zeros(tasks, dtype=bool)
    first_T[np.random.default_rng(seed).permutation(tasks)[: int(tasks * LEARNING)]] = True
    return np.asarray(first_T[task_U])


def _thresholds(score_U: Floats) -> tuple[float, ...]:
    """Levels of the score, the strictest first; at most ``MOST_THRESHOLDS``, each letting about as many more act."""
    levels = np.unique(np.quantile(score_U, np.linspace(0.0, 1.0, MOST_THRESHOLDS), method="inverted_cdf"))
    return tuple(levels[::-1].tolist())
