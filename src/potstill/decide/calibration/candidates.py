"""What may be chosen: chains of thresholds, each on one score of one student, from the strictest to the boldest.

A chain is fixed before its tests are looked at. Thresholds of a vote are j/K: known without any data, so its tests may
use all of them. A learned score is fitted on one random half of the tasks and tested on the other.

What it knows: units and scores. What it does not do: test or choose (``certify``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from potstill.decide.calibration.score import Score, fit, table
from potstill.decide.calibration.units import CLOSE, Floats, Ints, Units, truth, vote

Flags = NDArray[np.bool_]

MOST_THRESHOLDS = 20
VOTES = "votes"
LEARNED = "learned"


class Chain(NamedTuple):
    """Thresholds on one score, the strictest first, and the labelled units that they are tested on."""

    student: str
    signal: str
    """``votes``: the share of samples on the top answer; ``learned``: the calibrated chance that it is good."""
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


def learned_chain(units: Units, k: int, student: str = "", *, seed: int = 0) -> Chain | None:
    """A learned score of the first ``k`` samples: fitted on a random half of the tasks, to be tested on the other.

    ``None`` where there is nothing to learn: no signal varies, or all answers are equally good.
    """
    votes = vote(units, k)
    units = units.take(units.labelled_U & (votes.present_U > 0))
    learning_U = split_tasks(units.task_U, seed)
    if not learning_U.any() or learning_U.all():
        return None
    votes, found_U = vote(units, k), truth(units, vote(units, k))
    signals = table(units, votes, k)
    good_U = found_U.good_U | ~found_U.right_U
    score = fit(signals._replace(values_UF=signals.values_UF[learning_U]), good_U[learning_U])
    if score is None:
        return None
    testing_U = ~learning_U
    whole = vote_chain(units, k, student)
    held = units.task_U[testing_U]
    return whole._replace(
        signal=LEARNED,
        thresholds=_thresholds(score(signals)[learning_U]),
        score_U=score(signals)[testing_U],
        task_U=np.unique(held, return_inverse=True)[1].astype(np.int64),
        score=score,
        **{
            name: getattr(whole, name)[testing_U]
            for name in ("right_U", "good_U", "student_usd_U", "teacher_usd_U", "assumed_U")
        },
    )


def split_tasks(task_U: Ints, seed: int) -> Flags:
    """A random half of the tasks, as a mask over units."""
    tasks = int(task_U.max()) + 1 if len(task_U) else 0
    first_T = np.zeros(tasks, dtype=bool)
    first_T[np.random.default_rng(seed).permutation(tasks)[: tasks // 2]] = True
    return np.asarray(first_T[task_U])


def _thresholds(score_U: Floats) -> tuple[float, ...]:
    """Levels of the score, the strictest first; at most ``MOST_THRESHOLDS``, each letting about as many more act."""
    levels, counts = np.unique(score_U, return_counts=True)
    if len(levels) > MOST_THRESHOLDS:
        reach = np.cumsum(counts[::-1])[::-1] / len(score_U)
        wanted = np.linspace(0.0, 1.0, MOST_THRESHOLDS + 1)[1:]
        levels = np.unique(levels[[int(np.argmin(np.abs(reach - share))) for share in wanted]])
    return tuple(levels[::-1].tolist())
