"""A store as schema 1 wrote it: literal SQL and rows, so that no later change of the code can change it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from potstill.types import (
    Action,
    Answerer,
    Call,
    Message,
    Observation,
    Outcome,
    Step,
    Task,
    ToolSpec,
    Trajectory,
    TrajectoryKind,
)

SCHEMA = Path(__file__).with_name("schema_v1.sql")

_SYSTEM = Message(role="system", content="Be brief.")
_ASKED = Message(role="user", content="It is dark.")
_TASK = Task(id="t1", environment="house", split="train")


def write_v1(path: Path) -> list[Trajectory]:
    """Make the file; returns what it must read as."""
    connection = sqlite3.connect(path)
    connection.executescript(SCHEMA.read_text())
    connection.close()
    steps = (
        Step(
            index=0,
            observation=Observation(text="It is dark.", tools=(ToolSpec(name="ls"),)),
            action=Action(text="look"),
            answerer=Answerer.TEACHER,
            calls=(Call(model="m", answerer=Answerer.TEACHER, prompt=(_SYSTEM, _ASKED)),),
        ),
        Step(
            index=1,
            observation=Observation(text="A lamp."),
            action=Action(text="take lamp"),
            answerer=Answerer.STUDENT,
            calls=(Call(model="m", answerer=Answerer.STUDENT, prompt=(_SYSTEM,), tools=(ToolSpec(name="ls"),)),),
        ),
    )
    old = Trajectory(
        id="old",
        task=_TASK,
        kind=TrajectoryKind.TEACHER,
        steps=steps,
        outcome=Outcome(success=True),
        started_at=1_790_000_000.0,
    )
    older = Trajectory(
        id="older",
        task=_TASK,
        kind=TrajectoryKind.STUDENT,
        steps=(Step(index=0, observation=Observation(), action=Action(text="wait"), answerer=Answerer.NOBODY),),
    )
    return [old, older]
