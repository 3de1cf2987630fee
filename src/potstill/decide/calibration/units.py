"""Decisions as arrays: the student's samples, the teacher's answer, what each achieved and cost; and the vote on them.

What it knows: codes and numbers. What it does not do: files or models; ``measure.samples`` builds these arrays.

Axes: U decisions (units), S samples. A unit is a task, or one decision of a task with several.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Codes = NDArray[np.int32]
Flags = NDArray[np.bool_]
Tri = NDArray[np.int8]
"""1 yes, 0 no, -1 not known."""
Floats = NDArray[np.float64]

UNKNOWN = -1
ABSENT = -1
"""Code of a sample or a teacher's answer that is not there."""
CLOSE = 1e-9
"""A share this little below a threshold reaches it: 2/3 is not a binary fraction."""


@dataclass(frozen=True, eq=False)
class Units:
    """All decisions. Answers are codes within their unit, numbered as they were first seen among the samples."""

    task_U: Ints
    """Index of the task, from 0 without gaps."""
    answers_US: Codes
    success_US: Tri
    student_usd_US: Floats
    """Dollars of each sample; NaN where unknown or where there is none."""
    teacher_answer_U: Codes
    teacher_success_U: Tri
    teacher_usd_U: Floats
    labelled_U: Flags
    """The teacher's outcome is known, or it gave an answer to agree with."""
    features: Mapping[str, Floats] = field(default_factory=dict)
    """Name -> values for each sample, shape (U, S); NaN where unknown."""
    step_type_U: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.task_U)

    @property
    def most_samples(self) -> int:
        return int(self.answers_US.shape[1])

    def take(self, which_U: Flags | Ints) -> Units:
        """Some of the units, with tasks numbered anew."""
        _, task_U = np.unique(self.task_U[which_U], return_inverse=True)
        return Units(
            task_U=task_U.astype(np.int64),
            answers_US=self.answers_US[which_U],
            success_US=self.success_US[which_U],
            student_usd_US=self.student_usd_US[which_U],
            teacher_answer_U=self.teacher_answer_U[which_U],
            teacher_success_U=self.teacher_success_U[which_U],
            teacher_usd_U=self.teacher_usd_U[which_U],
            labelled_U=self.labelled_U[which_U],
            features={name: values[which_U] for name, values in self.features.items()},
            step_type_U=None if self.step_type_U is None else self.step_type_U[which_U],
        )


class Votes(NamedTuple):
    """What the first k samples of each unit say."""

    top_U: Codes
    """Code of the answer with the most votes; of several the one that was seen first."""
    share_U: Floats
    """Its votes over the samples that are there; 0 where there is none."""
    present_U: Ints
    success_U: Tri
    """Success of the first sample with that answer whose success is known."""
    usd_U: Floats
    """Dollars of all k samples; NaN where one is unknown."""


def vote(units: Units, k: int) -> Votes:
    """Count the votes of the first ``k`` samples; units with fewer vote with those that they have."""
    answers_UK = units.answers_US[:, :k]
    counts_UK = np.stack([(answers_UK == code).sum(axis=1) for code in range(answers_UK.shape[1])], axis=1)
    present_U = (answers_UK != ABSENT).sum(axis=1)
    top_U = counts_UK.argmax(axis=1).astype(np.int32)
    most_U = counts_UK.max(axis=1)
    usd_UK = np.where(answers_UK == ABSENT, 0.0, units.student_usd_US[:, :k])
    return Votes(
        top_U=top_U,
        share_U=np.divide(most_U, present_U, out=np.zeros(len(units)), where=present_U > 0),
        present_U=present_U.astype(np.int64),
        success_U=_success_of(units, top_U),
        usd_U=usd_UK.sum(axis=1),
    )


def _success_of(units: Units, code_U: Codes) -> Tri:
    """Success of the first sample with that answer whose success is known."""
    success_U = np.full(len(units), UNKNOWN, dtype=np.int8)
    for sample in reversed(range(units.most_samples)):
        known_U = (units.answers_US[:, sample] == code_U) & (units.success_US[:, sample] != UNKNOWN)
        success_U[known_U] = units.success_US[known_U, sample]
    return success_U


class Truth(NamedTuple):
    """What acting on the vote would achieve, beside the teacher."""

    right_U: Flags
    """T: the teacher would have succeeded. Where its outcome is not known its answer is taken as right."""
    good_U: Flags
    """S: the student's answer succeeds, or is the teacher's."""
    assumed_U: Flags
    """Its outcome is not known, and its answer is not that of the teacher, who was right: taken as bad."""

    @property
    def wrong_U(self) -> Flags:
        """T and not S: what is lost if the student acts."""
        return self.right_U & ~self.good_U


def truth(units: Units, votes: Votes) -> Truth:
    """T and S of every unit (meaningful where ``labelled_U``)."""
    outcome_U = units.teacher_success_U != UNKNOWN
    right_U = np.where(outcome_U, units.teacher_success_U == 1, True)
    agrees_U = votes.top_U == units.teacher_answer_U
    known_U = votes.success_U != UNKNOWN
    stands_U = agrees_U & np.where(outcome_U, ~known_U & right_U, True)
    good_U = (votes.success_U == 1) | stands_U
    return Truth(right_U, good_U, right_U & ~good_U & ~known_U & outcome_U)
