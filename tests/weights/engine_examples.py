"""A store with a teacher's and a student's episodes of one environment, and a Python that is none."""

from __future__ import annotations

from pathlib import Path

import msgspec

from potstill.envs.registry import factory, open_source
from potstill.trajectories import Store
from potstill.types import Action, Answerer, Outcome, Step, Task, Trajectory, TrajectoryKind

TASKS = 8


def record(path: Path, *, student: bool) -> str:
    """The expert's episodes and, for ``student``, those of one that does the last admissible action at every third step
    and fails."""
    with Store.open(path) as store:
        for task in open_source("house-rules", train=TASKS).tasks("train"):
            store.append(_played(msgspec.structs.replace(task, split="train"), Answerer.TEACHER))
            if student:
                store.append(_played(msgspec.structs.replace(task, split="train"), Answerer.STUDENT))
    return str(path)


def _played(task: Task, by: Answerer) -> Trajectory:
    environment = factory("house-rules", feedback="none")()
    seen, steps = environment.reset(task, 0), list[Step]()
    while not seen.done and len(steps) < 6:
        right = environment.expert_action()
        wrong = by is Answerer.STUDENT and len(steps) % 3 == 0
        action = Action(text=(seen.admissible or ())[-1]) if wrong else right
        steps.append(Step(index=len(steps), observation=seen, action=action, answerer=by))
        seen = environment.step(action)
    return Trajectory(
        id=f"{by.value}-{task.id.replace('/', '-')}",
        task=task,
        kind=TrajectoryKind.TEACHER if by is Answerer.TEACHER else TrajectoryKind.STUDENT,
        teacher="expert",
        run_id=by.value,
        steps=tuple(steps),
        outcome=Outcome(success=by is Answerer.TEACHER),
    )


def fake_python(folder: Path, says: str) -> str:
    """A program that answers as a Python which is asked for the versions of its packages."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return str(path)
