"""A trained student asked anew in a teacher's recorded situations: what it would do, how sure, and whether rightly.

What it knows: recorded episodes, and which answers of a student are the teacher's. What it does not do: open stores or
files, write prompts, choose thresholds (``decide.calibration``), or play: the situations are the teacher's own. As long
as every action that the cascade takes is the teacher's, its episode is the teacher's episode, where world and teacher
are deterministic. So a task without a lost decision is a task that the cascade does as the teacher did.

That the cascade does not trust an action that was tried before in the same situation is left out: it can only leave
more to the teacher.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from potstill.decide.calibration.candidates import LIKELIHOOD
from potstill.decide.calibration.units import UNKNOWN, Units
from potstill.errors import ConfigError, UnknownName
from potstill.measure.samples import Found, Named, Recorded
from potstill.trajectories.choices import admissible_of, chosen
from potstill.trajectories.situations import situations
from potstill.types import Answerer, Step, Trajectory

Seen = Callable[[Trajectory], Iterable[tuple[Step, Any]]]
"""Every step of an episode with what the student sees there: a policy a ``Situation``, a language model its prompt."""
Probabilities = Callable[[Any, Sequence[str]], Mapping[str, float]]
"""The student: the probability of each admissible action, given what it sees; empty where it cannot answer."""
StepPrice = Callable[[Trajectory], Sequence[float]]
"""What each step of a teacher's episode cost in dollars; NaN where it is not known."""


class Student(NamedTuple):
    """A student that can be asked, and what it must not be asked about."""

    name: str
    """As it was typed: ``policy:FILE``, ``tuned:FOLDER``."""
    probabilities: Probabilities
    file_sha256: str = ""
    knows: Callable[[Trajectory], bool] = lambda episode: False
    """Whether it was trained or chosen on the episode's task, which then says nothing about others."""
    seen: Seen = situations
    slow: bool = False
    """Whether an answer takes long enough for somebody to want to see how far it is."""


class _Asked(NamedTuple):
    """One decision of the teacher, and the student's in its place."""

    task: int
    step: int
    agrees: bool
    likelihood: float
    """Of the student's answer; NaN where it cannot answer, so that the teacher does."""
    right: int
    """The teacher's success, as ``Units`` has it."""
    teacher_usd: float


def recorded(student: Student, episodes: Iterable[Trajectory], teacher: str, price: StepPrice) -> Recorded:
    """What the student says at each decision of the teacher's first whole episode of each task.

    Its own computing is billed by nobody and counts as no cost. Raises ``UnknownName`` where no episode is of this
    teacher, ``ConfigError`` where all their tasks are known to the student, and what it raises where it cannot answer.
    """
    picked, asked = _Picked(student, teacher), list[_Asked]()
    for episode in picked.of(episodes):
        asked += _asked(student, episode, len(picked.tasks) - 1, price)
    if not asked:
        raise _nothing(student, teacher, picked)
    return Recorded(
        units=_units(asked),
        keys=tuple((picked.tasks[one.task][1], one.step) for one in asked),
        found=_found(student.name, teacher, asked, picked),
        signal=LIKELIHOOD,
        file_sha256=student.file_sha256,
    )


def decisions(student: Student, episodes: Iterable[Trajectory], teacher: str) -> int:
    """How many answers ``recorded`` will ask for."""
    picked = _Picked(student, teacher).of(episodes)
    return sum(_decided(step) and bool(admissible_of(step)) for episode in picked for step in episode.steps)


class _Picked:
    """The teacher's first whole episode of each task that the student does not know, and a tally of the others."""

    def __init__(self, student: Student, teacher: str) -> None:
        self._knows, self._named = student.knows, Named(teacher)
        self.tasks = list[tuple[str, str]]()
        self.others, self.runs = dict[str, None](), dict[str, None]()
        self.known = self.again = self.broken = 0

    def of(self, episodes: Iterable[Trajectory]) -> Iterator[Trajectory]:
        """Those that count, each when its task stands last in ``tasks``."""
        met = set[tuple[str, str]]()
        for episode in episodes:
            who, run = episode.teacher or episode.arm, "/".join(filter(None, (episode.run_id, episode.arm)))
            key = (episode.task.environment, episode.task.id)
            if not (self._named.names(who, run) or self._named.names(who, episode.run_id)):
                self.others.setdefault(who)
            elif episode.error is not None:
                self.broken += 1
            elif self._knows(episode):
                self.known += 1
            elif key in met:
                self.again += 1
            elif any(map(_decided, episode.steps)):
                met.add(key)
                self.tasks.append(key)
                self.runs.setdefault(run)
                yield episode


def _decided(step: Step) -> bool:
    return step.answerer is Answerer.TEACHER


def _nothing(student: Student, teacher: str, picked: _Picked) -> ConfigError:
    if picked.known:
        return ConfigError(
            f"All {picked.known} episodes of '{teacher}' are of tasks that {student.name} was trained on. Record its "
            "episodes of other tasks, drawn at random: potstill distill context --split test ..."
        )
    if picked.others:
        return UnknownName("teacher with episodes in the store", teacher, list(picked.others))
    return ConfigError(
        f"The store holds no episode of '{teacher}' with a decision. Type: potstill distill context --teacher {teacher}"
    )


def _asked(student: Student, episode: Trajectory, task: int, price: StepPrice) -> list[_Asked]:
    success = None if episode.outcome is None else episode.outcome.success
    right = UNKNOWN if success is None else int(success)
    found = []
    for (step, seen), usd in zip(student.seen(episode), price(episode), strict=True):
        if not _decided(step):
            continue
        agrees, likelihood = _answer(student.probabilities, step, seen)
        found.append(_Asked(task, step.index, agrees, likelihood, right, usd))
    return found


def _answer(probabilities: Probabilities, step: Step, seen: Any) -> tuple[bool, float]:
    """Whether the likeliest action is what the teacher did, and its probability."""
    actions = admissible_of(step)
    found = probabilities(seen, actions) if actions else {}
    if not found:
        return False, math.nan
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


def _found(student: str, teacher: str, asked: Sequence[_Asked], picked: _Picked) -> Found:
    answers = sum(not math.isnan(one.likelihood) for one in asked)
    return Found(
        student=student,
        teacher=teacher,
        student_samples=len(asked),
        student_answers=answers,
        teacher_answers=len(asked),
        teacher_said=len(asked),
        errors=picked.broken,
        duplicates=picked.again,
        student_runs=(student,),
        teacher_runs=tuple(picked.runs),
        without_cost=sum(math.isnan(one.teacher_usd) for one in asked),
        without_teacher=0,
        without_student=0,
        known=picked.known,
        decisions=len(asked),
        tasks=len(picked.tasks),
    )
