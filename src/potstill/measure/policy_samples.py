"""A trained policy asked anew in a teacher's recorded situations: what it would do, how sure, and whether rightly.

What it knows: recorded episodes, and which answers of a policy are the teacher's. What it does not do: open stores or
files, choose thresholds (``decide.calibration``), or play: the situations are the teacher's own. As long as every
action that the cascade takes is the teacher's, its episode is the teacher's episode, where world and teacher are
deterministic. So a task without a lost decision is a task that the cascade does as the teacher did.

That the cascade does not trust an action that was tried before in the same situation is left out: it can only leave
more to the teacher.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from potstill.decide.calibration.candidates import LIKELIHOOD
from potstill.decide.calibration.units import UNKNOWN, Units
from potstill.errors import ConfigError, UnknownName
from potstill.measure.samples import Found, Named, Recorded
from potstill.trajectories.choices import admissible_of, chosen
from potstill.trajectories.situations import situations
from potstill.types import Answerer, Situation, Step, Trajectory

Probabilities = Callable[[Situation, Sequence[str]], Mapping[str, float]]
"""The policy: the probability of each admissible action in a situation."""
StepPrice = Callable[[Trajectory], Sequence[float]]
"""What each step of a teacher's episode cost in dollars; NaN where it is not known."""


class Student(NamedTuple):
    """A policy and what it must not be asked about."""

    name: str
    """As it was typed: ``policy:FILE``."""
    probabilities: Probabilities
    file_sha256: str = ""
    knows: Callable[[Trajectory], bool] = lambda episode: False
    """Whether it was trained or chosen on the episode's task, which then says nothing about others."""


class _Asked(NamedTuple):
    """One decision of the teacher, and the policy's in its place."""

    task: int
    step: int
    agrees: bool
    likelihood: float
    """Of the policy's answer; NaN where it cannot answer, so that the teacher does."""
    right: int
    """The teacher's success, as ``Units`` has it."""
    teacher_usd: float


def recorded(student: Student, episodes: Iterable[Trajectory], teacher: str, price: StepPrice) -> Recorded:
    """What the policy says at each decision of the teacher's first whole episode of each task.

    Its own computing is billed by nobody and counts as no cost. Raises ``UnknownName`` where no episode is of this
    teacher, ``ConfigError`` where all their tasks are known to the policy, and what it raises where it cannot answer.
    """
    named, tasks = Named(teacher), dict[tuple[str, str], int]()
    others, runs, asked = dict[str, None](), dict[str, None](), list[_Asked]()
    known = again = broken = 0
    for episode in episodes:
        who, run = episode.teacher or episode.arm, "/".join(filter(None, (episode.run_id, episode.arm)))
        if not (named.names(who, run) or named.names(who, episode.run_id)):
            others.setdefault(who)
            continue
        if episode.error is not None:
            broken += 1
            continue
        key = (episode.task.environment, episode.task.id)
        if student.knows(episode):
            known += 1
            continue
        if key in tasks:
            again += 1
            continue
        found = _asked(student.probabilities, episode, len(tasks), price)
        if found:
            tasks[key] = len(tasks)
            runs.setdefault(run)
            asked += found
    if not asked:
        raise _nothing(student, teacher, known, others)
    names = list(tasks)
    return Recorded(
        units=_units(asked),
        keys=tuple((names[one.task][1], one.step) for one in asked),
        found=_found(student.name, teacher, asked, tuple(runs), again, known, broken),
        signal=LIKELIHOOD,
        file_sha256=student.file_sha256,
    )


def _nothing(student: Student, teacher: str, known: int, others: Mapping[str, None]) -> ConfigError:
    if known:
        return ConfigError(
            f"All {known} episodes of '{teacher}' are of tasks that {student.name} was trained on. Record its "
            "episodes of other tasks, drawn at random: potstill distill context --split test ..."
        )
    if others:
        return UnknownName("teacher with episodes in the store", teacher, list(others))
    return ConfigError(
        f"The store holds no episode of '{teacher}' with a decision. Type: potstill distill context --teacher {teacher}"
    )


def _asked(probabilities: Probabilities, episode: Trajectory, task: int, price: StepPrice) -> list[_Asked]:
    success = None if episode.outcome is None else episode.outcome.success
    right = UNKNOWN if success is None else int(success)
    found = []
    for (step, situation), usd in zip(situations(episode), price(episode), strict=True):
        if step.answerer is not Answerer.TEACHER:
            continue
        agrees, likelihood = _answer(probabilities, step, situation)
        found.append(_Asked(task, step.index, agrees, likelihood, right, usd))
    return found


def _answer(probabilities: Probabilities, step: Step, situation: Situation) -> tuple[bool, float]:
    """Whether the likeliest action is what the teacher did, and its probability."""
    actions = admissible_of(step)
    if not actions:
        return False, math.nan
    found = probabilities(situation, actions)
    best = max(found, key=lambda action: found[action])
    return best == chosen(step), found[best]


def _units(asked: Sequence[_Asked]) -> Units:
    n = len(asked)
    return Units(
        task_U=np.asarray([one.task for one in asked], dtype=np.int64),
        answers_US=np.zeros((n, 1), dtype=np.int32),
        success_US=np.full((n, 1), UNKNOWN, dtype=np.int8),
        student_usd_US=np.zeros((n, 1)),
        teacher_answer_U=np.asarray([0 if one.agrees else 1 for one in asked], dtype=np.int32),
        teacher_success_U=np.asarray([one.right for one in asked], dtype=np.int8),
        teacher_usd_U=np.asarray([one.teacher_usd for one in asked]),
        labelled_U=np.ones(n, dtype=bool),
        features={LIKELIHOOD: np.asarray([[one.likelihood] for one in asked])},
    )


def _found(
    student: str, teacher: str, asked: Sequence[_Asked], runs: tuple[str, ...], again: int, known: int, broken: int
) -> Found:
    answers = sum(not math.isnan(one.likelihood) for one in asked)
    return Found(
        student=student,
        teacher=teacher,
        student_samples=len(asked),
        student_answers=answers,
        teacher_answers=len(asked),
        teacher_said=len(asked),
        errors=broken,
        duplicates=again,
        student_runs=(student,),
        teacher_runs=runs,
        without_cost=sum(math.isnan(one.teacher_usd) for one in asked),
        without_teacher=0,
        without_student=0,
        known=known,
        decisions=len(asked),
        tasks=asked[-1].task + 1,
    )
