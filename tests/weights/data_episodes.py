"""Recorded episodes for the tests of data: short, with lists of actions, and real ones of a small environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from potstill.envs.registry import factory, open_source
from potstill.types import (
    Action,
    Answerer,
    Call,
    Observation,
    Outcome,
    Reply,
    Step,
    Task,
    Trajectory,
    TrajectoryKind,
)

ACTIONS = ("go north", "go south", "look")


def step(
    index: int,
    action: str,
    *,
    sight: str | None = None,
    admissible: Sequence[str] | None = ACTIONS,
    answerer: Answerer = Answerer.TEACHER,
    **fields: Any,
) -> Step:
    return Step(
        index=index,
        observation=Observation(
            text=f"place {index}" if sight is None else sight,
            admissible=None if admissible is None else tuple(admissible),
        ),
        action=Action(text=action),
        answerer=answerer,
        **fields,
    )


def episode(id: str, actions: Sequence[str] = ("go north", "look"), *, task: str = "", **fields: Any) -> Trajectory:
    """``actions`` may hold whole steps, too."""
    steps = tuple(step(at, one) if isinstance(one, str) else one for at, one in enumerate(actions))
    given: dict[str, Any] = {
        "task": Task(id=task or f"task-{id}", environment="house", goal=f"goal of {task or id}", kind="find"),
        "kind": TrajectoryKind.TEACHER,
        "teacher": "expert",
        "outcome": Outcome(success=True),
    }
    return Trajectory(id=id, steps=steps, **{**given, **fields})


def answered(*texts: str, answerer: Answerer = Answerer.TEACHER, **fields: Any) -> Call:
    return Call(model="m", answerer=answerer, replies=tuple(Reply(text=text) for text in texts), **fields)


def scored(*candidates: tuple[str, float], answerer: Answerer = Answerer.TEACHER) -> Call:
    reply = Reply(text=candidates[0][0], candidates=candidates)
    return Call(model="m", answerer=answerer, replies=(reply,))


def house_episodes(count: int) -> list[Trajectory]:
    """The expert's of a real environment, without the loop."""
    environment = factory("house-rules")()
    found = []
    for number, task in enumerate(open_source("house-rules", train=count).tasks("train")[:count]):
        seen, steps = environment.reset(task, 0), list[Step]()
        while not seen.done:
            action = environment.expert_action()
            assert action is not None
            steps.append(Step(index=len(steps), observation=seen, action=action, answerer=Answerer.TEACHER))
            seen = environment.step(action)
        found.append(
            Trajectory(
                id=f"e{number:03}",
                task=task,
                kind=TrajectoryKind.TEACHER,
                steps=tuple(steps),
                outcome=environment.outcome(),
            )
        )
    return found
