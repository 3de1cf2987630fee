"""The commands that test what a plan takes for granted, on the user's own data.

What it knows: which command measures which assumption, and how the recorded file names its models. What it does not do:
decide what is assumed (``ways.py``), or run anything.
"""

from __future__ import annotations

import shlex

from potstill.measure.ways import Assumption
from potstill.types import Struct

_ARMS = {
    Assumption.HANDOFF: "teacher,context+cascade@compact",
    Assumption.GATE: "teacher,context+cascade@task",
    Assumption.START: "teacher,context+cascade@teacher-first",
    Assumption.VERIFIER: "teacher,context+cascade@restart",
    Assumption.STUDENT: "teacher,context",
}
_FILE, _TEACHER, _STUDENT = "FILE", "TEACHER", "STUDENT"
_MOST_NAMED = 6


class Recording(Struct, frozen=True, kw_only=True):
    """The file that a plan was made from, as far as the next command must name it."""

    path: str
    is_store: bool = False
    """A store, so that a new run can be recorded into it."""
    has_attempts: bool = True
    """It holds attempts at tasks, and not only single calls."""
    has_student: bool = True
    """It holds attempts of the student alone."""
    teacher: str | None = None
    student: str | None = None
    """As the file names them; ``None``: it does not say which model is which."""
    models: tuple[str, ...] = ()
    """All models in it."""


def measured_by(assumption: Assumption, teacher: str, student: str, recording: Recording | None = None) -> str:
    """The command that shows whether an assumption holds for the user's own tasks.

    ``teacher`` and ``student``: as ``potstill run`` takes them. What is not known stands in capitals.
    """
    if assumption is Assumption.SIGNAL:
        named = recording if recording is not None and recording.has_attempts else Recording(path=_FILE)
        models = f"--teacher {_quoted(named.teacher, _TEACHER)} --student {_quoted(named.student, _STUDENT)}"
        return f"potstill calibrate {shlex.quote(named.path)} {models} --keep 0.98"
    into = f" --db {shlex.quote(recording.path)}" if recording is not None and recording.is_store else ""
    models = f"--teacher {shlex.quote(teacher)} --student {shlex.quote(student)}"
    return f"potstill run {models} --arm {_ARMS[assumption]}{into}"


def certified_by(recording: Recording | None) -> str:
    """The command that certifies the signal, and what must be put in or recorded before it can."""
    command = measured_by(Assumption.SIGNAL, "", "", recording)
    if recording is None or not recording.has_attempts:
        which = "" if recording is None else f"; {recording.path} holds single calls only"
        return f"{command} ({_FILE}: attempts of both at the same tasks, named as they are in it{which})"
    if recording.teacher is None or recording.student is None:
        models = ", ".join(recording.models[:_MOST_NAMED]) + (", ..." if len(recording.models) > _MOST_NAMED else "")
        named = f"the file names these models: {models}" if models else "the file does not name its models"
        return f"{command} ({named}; it must hold attempts of both sides)"
    if not recording.has_student:
        return f"{command} (it needs attempts of the student alone, and there are none yet: potstill run --arm context)"
    return command


def _quoted(name: str | None, otherwise: str) -> str:
    return otherwise if name is None else shlex.quote(name)
