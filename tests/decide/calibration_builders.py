"""Units out of plain lists, for tests: answers as letters, outcomes as True, False or None."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from potstill.decide.calibration.units import ABSENT, UNKNOWN, Units

Outcome = bool | None


def tri(value: Outcome) -> int:
    return UNKNOWN if value is None else int(value)


def units_of(
    answers: Sequence[str],
    teacher: Sequence[str],
    *,
    right: Sequence[str] | None = None,
    tasks: Sequence[int] | None = None,
    student_usd: float = 1.0,
    teacher_usd: float = 10.0,
    labelled: Sequence[bool] | None = None,
    features: dict[str, Sequence[Sequence[float]]] | None = None,
) -> Units:
    """One word a unit: its letters are the samples' answers. ``right``: the good answer; None: nothing is known."""
    most = max(len(word) for word in answers)
    codes, teachers = [], []
    for word, said in zip(answers, teacher, strict=True):
        seen = list(dict.fromkeys(word))
        codes.append([seen.index(letter) for letter in word] + [ABSENT] * (most - len(word)))
        teachers.append(seen.index(said) if said in seen else len(seen))
    n = len(answers)
    success = np.full((n, most), UNKNOWN, dtype=np.int8)
    teacher_success = np.full(n, UNKNOWN, dtype=np.int8)
    if right is not None:
        for i, (word, said, good) in enumerate(zip(answers, teacher, right, strict=True)):
            success[i, : len(word)] = [letter == good for letter in word]
            teacher_success[i] = said == good
    return Units(
        task_U=np.asarray(range(n) if tasks is None else tasks, dtype=np.int64),
        answers_US=np.asarray(codes, dtype=np.int32),
        success_US=success,
        student_usd_US=np.full((n, most), student_usd),
        teacher_answer_U=np.asarray(teachers, dtype=np.int32),
        teacher_success_U=teacher_success,
        teacher_usd_U=np.full(n, teacher_usd),
        labelled_U=np.ones(n, dtype=bool) if labelled is None else np.asarray(labelled),
        features={name: np.asarray(values, dtype=float) for name, values in (features or {}).items()},
    )
