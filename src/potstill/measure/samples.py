"""Attempts out of logs, brought together: for each task (or decision) the student's samples and the teacher's answer.

What it knows: which attempts are whose, which come twice, which broke, what each cost. What it does not do: read files,
vote (``decide.calibration.units``), or say what a cascade would have done (``replay``, ``decide.calibration``).

An attempt that broke is no sample. Of attempts that come twice the first is kept. Of several answers of the teacher the
first by its number, else by the order in the files, is its answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from potstill.decide.calibration.candidates import VOTES
from potstill.decide.calibration.units import ABSENT, UNKNOWN, Units
from potstill.errors import ConfigError, UnknownName
from potstill.logs.records import Attempt, Record

Price = Callable[[Attempt], float | None]
"""What an attempt cost in dollars; ``None`` where it is not known."""
_MOST_NAMED = 12


class Named:
    """``MODEL`` or ``MODEL@RUN``, as typed; a model's own name may have an @ in it."""

    def __init__(self, text: str) -> None:
        self.text = text
        model, at, self._run = text.rpartition("@")
        self._model = model if at else None

    def matches(self, attempt: Attempt) -> bool:
        return self.names(attempt.model, attempt.run)

    def names(self, model: str, run: str) -> bool:
        return model == self.text or (model == self._model and run == self._run)


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What was met on the way to the samples of one student. Counts are of attempts, unless they say otherwise."""

    student: str
    teacher: str
    student_samples: int
    student_answers: int
    """Those of them that are not empty: without any, there is nothing to vote on."""
    teacher_answers: int
    teacher_said: int
    """Decisions that have both at which the teacher's answer is not empty."""
    errors: int
    """Attempts of either that broke: they are no samples."""
    duplicates: int
    student_runs: tuple[str, ...]
    teacher_runs: tuple[str, ...]
    without_cost: int
    """Samples and answers whose cost is not known."""
    without_teacher: int
    """Decisions at which the student has a sample and the teacher no answer."""
    without_student: int
    decisions: int
    """Decisions that have both."""
    tasks: int
    known: int = 0
    """Episodes of tasks that a policy was trained on."""
    problems: int = 0
    """Values that could not be understood, which count as unknown."""
    first_problem: str = ""
    """Where the first of them stands, and what it is."""

    def notes(self) -> list[str]:
        """What a reader of the result should know, in sentences."""
        told = []
        for who, runs in ((self.student, self.student_runs), (self.teacher, self.teacher_runs)):
            if len(runs) > 1:
                shown = ", ".join(runs[:4]) + (", ..." if len(runs) > 4 else "")
                told.append(f"the attempts of '{who}' come from {len(runs)} runs ({shown}); name one as {who}@RUN")
        if self.problems:
            told.append(f"{self.problems} values make no sense and count as unknown, first in {self.first_problem}")
        if self.errors:
            told.append(f"{self.errors} attempts broke before there was an answer: they are no samples")
        if self.duplicates:
            told.append(f"{self.duplicates} attempts come twice: the first was kept")
        if self.known:
            told.append(f"{self.known} episodes are of tasks that '{self.student}' was trained on: they were left out")
        if self.without_teacher:
            told.append(f"{self.without_teacher} decisions have no answer of the teacher: they were left out")
        if self.without_student:
            told.append(f"{self.without_student} decisions have no sample of the student: they were left out")
        if self.without_cost:
            told.append(f"the cost of {self.without_cost} attempts is not known, so sums with them are not either")
        return told


class Recorded(NamedTuple):
    """Samples of one student and answers of one teacher, as arrays, and how they were found."""

    units: Units
    """Decisions that have both; features are by sample."""
    keys: tuple[tuple[str, int | None], ...]
    """Task and step of each."""
    found: Found
    unlabelled: Units | None = None
    """Decisions at which only the student has samples."""
    signal: str = VOTES
    """What makes the student trusted: the votes of its samples, or ``likelihood``, its own probability."""
    file_sha256: str = ""
    """Of the student, where it is a file that was asked."""
    environment: str | None = None
    """Whose situations it was asked in, where it was."""


class _Sample(msgspec.Struct, frozen=True, gc=False):
    number: float
    """Number of the sample; infinite where it has none, so that those come last, in the order of the files."""
    answer: str
    success: int
    usd: float
    features: tuple[tuple[str, float], ...]
    step_type: str | None


_NOBODY = _Sample(0.0, "", UNKNOWN, float("nan"), (), None)
"""Stands for the teacher's answer where there is none."""


class _Side:
    """One side's attempts by decision."""

    def __init__(self, name: str) -> None:
        self.named = Named(name)
        self.samples: dict[tuple[str, int | None], list[_Sample]] = {}
        self.runs: dict[str, None] = {}
        self.seen: set[int] = set()
        self.errors = 0
        self.duplicates = 0
        self.problems: list[str] = []

    def add(self, attempt: Attempt, price: Price) -> None:
        for problem in attempt.problems:
            self.problems.append(f"{attempt.source.file}:{attempt.source.line} ({problem.detail})")
        if self._is_duplicate(attempt):
            self.duplicates += 1
            return
        if attempt.error is not None:
            self.errors += 1
            return
        self.runs.setdefault(attempt.run)
        usd = price(attempt)
        sample = _Sample(
            float("inf") if attempt.sample is None else attempt.sample,
            attempt.answer or "",
            UNKNOWN if attempt.success is None else int(attempt.success),
            float("nan") if usd is None else usd,
            attempt.features,
            attempt.step_type,
        )
        self.samples.setdefault((attempt.task_id, attempt.step), []).append(sample)

    def _is_duplicate(self, attempt: Attempt) -> bool:
        """The same episode again; or in another run, the same episode at the same time or price.

        Without ids of episodes: the same number with the same content, as in an audit.
        """
        what = (attempt.task_id, attempt.step, attempt.episode_id, attempt.sample, attempt.model)
        told = (attempt.success, attempt.cost_usd, attempt.started_at, attempt.answer)
        if attempt.episode_id is None:
            return attempt.sample is not None and self._is_seen((*what, attempt.run, *told))
        again = self._is_seen((*what, attempt.run))
        if attempt.cost_usd or attempt.started_at is not None:
            again = self._is_seen((*what, None, *told)) or again
        return again

    def _is_seen(self, key: tuple[object, ...]) -> bool:
        """Whether the key came before. Hashes are kept: in one of 30 million such logs two of a million are equal."""
        code = hash(key)
        if code in self.seen:
            return True
        self.seen.add(code)
        return False

    def ordered(self, key: tuple[str, int | None]) -> list[_Sample]:
        return sorted(self.samples[key], key=lambda sample: sample.number)


def collect(records: Iterable[Record], students: Sequence[str], teacher: str, price: Price) -> list[Recorded]:
    """The samples of each student beside the teacher's answers.

    ``students`` and ``teacher``: ``MODEL`` or ``MODEL@RUN``. Raises ``UnknownName`` for one that no attempt is of, and
    ``ConfigError`` where there is no attempt at all, or no decision that both answered.
    """
    sides = [_Side(name) for name in (*students, teacher)]
    models: dict[str, None] = {}
    calls = 0
    for record in records:
        if not isinstance(record, Attempt):
            calls += 1
            continue
        models.setdefault(record.model)
        for side in sides:
            if side.named.matches(record):
                side.add(record, price)
    if not models:
        what = f"{calls} single calls and no attempt" if calls else "no attempt"
        raise ConfigError(
            f"The files hold {what} at a task. Attempts say which task: docs/reference/attempts-format.md"
        )
    for side in sides:
        if not side.samples and not side.errors:
            raise UnknownName("model in the files", side.named.text, list(models)[:_MOST_NAMED])
    return [_recorded(side, sides[-1]) for side in sides[:-1]]


def _recorded(student: _Side, teacher: _Side) -> Recorded:
    keys = [key for key in student.samples if key in teacher.samples]
    samples = [student.ordered(key) for key in keys]
    answers = [teacher.ordered(key)[0] for key in keys]
    found = Found(
        student=student.named.text,
        teacher=teacher.named.text,
        student_samples=sum(len(one) for one in student.samples.values()),
        student_answers=sum(1 for row in student.samples.values() for one in row if one.answer),
        teacher_answers=sum(len(one) for one in teacher.samples.values()),
        teacher_said=sum(1 for said in answers if said.answer),
        errors=student.errors + teacher.errors,
        duplicates=student.duplicates + teacher.duplicates,
        student_runs=tuple(student.runs),
        teacher_runs=tuple(teacher.runs),
        without_cost=sum(one.usd != one.usd for row in samples for one in row) + sum(a.usd != a.usd for a in answers),
        without_teacher=len(student.samples) - len(keys),
        without_student=sum(1 for key in teacher.samples if key not in student.samples),
        decisions=len(keys),
        tasks=len({task for task, _ in keys}),
        problems=len(student.problems) + len(teacher.problems),
        first_problem=next(iter((*student.problems, *teacher.problems)), ""),
    )
    if not keys:
        raise ConfigError(
            f"'{found.student}' and '{found.teacher}' have no task in common: of {found.without_teacher} decisions "
            f"only the student has an attempt, of {found.without_student} only the teacher."
        )
    alone = [key for key in student.samples if key not in teacher.samples]
    unlabelled = _units(alone, [student.ordered(key) for key in alone], [_NOBODY] * len(alone)) if alone else None
    return Recorded(_units(keys, samples, answers), tuple(keys), found, unlabelled)


def _units(
    keys: Sequence[tuple[str, int | None]], samples: Sequence[Sequence[_Sample]], teacher: Sequence[_Sample]
) -> Units:
    shape = (len(keys), max(len(row) for row in samples))
    answers_US = np.full(shape, ABSENT, dtype=np.int32)
    success_US = np.full(shape, UNKNOWN, dtype=np.int8)
    usd_US = np.full(shape, np.nan)
    teacher_U = np.empty(len(keys), dtype=np.int32)
    task_U = np.empty(len(keys), dtype=np.int64)
    tasks: dict[str, int] = {}
    for unit, (key, row, said) in enumerate(zip(keys, samples, teacher, strict=True)):
        codes: dict[str, int] = {}
        n = len(row)
        answers_US[unit, :n] = [codes.setdefault(one.answer, len(codes)) for one in row]
        success_US[unit, :n] = [one.success for one in row]
        usd_US[unit, :n] = [one.usd for one in row]
        teacher_U[unit] = codes.setdefault(said.answer, len(codes))
        task_U[unit] = tasks.setdefault(key[0], len(tasks))
    return Units(
        task_U=task_U,
        answers_US=answers_US,
        success_US=success_US,
        student_usd_US=usd_US,
        teacher_answer_U=teacher_U,
        teacher_success_U=np.asarray([one.success for one in teacher], dtype=np.int8),
        teacher_usd_U=np.asarray([one.usd for one in teacher]),
        labelled_U=np.asarray([one.success != UNKNOWN or one.answer != "" for one in teacher]),
        features=_features(samples, shape),
        step_type_U=_step_types(samples, teacher),
    )


def _features(samples: Sequence[Sequence[_Sample]], shape: tuple[int, int]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for unit, row in enumerate(samples):
        for index, one in enumerate(row):
            for name, value in one.features:
                if name not in found:
                    found[name] = np.full(shape, np.nan)
                found[name][unit, index] = value
    return found


def _step_types(samples: Sequence[Sequence[_Sample]], teacher: Sequence[_Sample]) -> np.ndarray | None:
    kinds = [row[0].step_type or said.step_type or "" for row, said in zip(samples, teacher, strict=True)]
    return np.asarray(kinds) if any(kinds) else None
