"""Episodes that look like real ones, for the tests of the store. Imports no hypothesis: child processes start fast."""

from __future__ import annotations

from typing import Any

from potstill.types import (
    Action,
    Answerer,
    Call,
    Decision,
    Message,
    Observation,
    Outcome,
    Reason,
    Reply,
    Step,
    Task,
    Trajectory,
    TrajectoryKind,
    Usage,
)

ADMISSIBLE = ("go north", "go south", "look", "take the lamp", "open the drawer")


def episode(id: str, *, steps: int = 3, words: str = "", **fields: Any) -> Trajectory:
    """An episode as the loop records it: prompts that only grow, one call a step, its text made unique by ``words``."""
    history: tuple[Message, ...] = (Message(role="system", content="You are in a house. " * 20),)
    played = []
    for i in range(steps):
        seen = f"{words} You are at place {i} of {id}. " + f"There is a thing numbered {i}. " * 6
        asked = Message(role="user", content=seen)
        reply = Reply(text=ADMISSIBLE[i % 5])
        call = Call(
            model="scripted:x",
            answerer=Answerer.TEACHER,
            prompt=(*history, asked, Message(role="user", content=f"Choose one of: {', '.join(ADMISSIBLE)}")),
            replies=(reply,),
            usage=Usage(input_tokens=100 * i + 50, cache_read_tokens=100 * i, output_tokens=4),
        )
        played.append(
            Step(
                index=i,
                observation=Observation(text=seen, admissible=ADMISSIBLE),
                action=Action(text=reply.text),
                answerer=Answerer.TEACHER,
                decision=Decision(answerer=Answerer.TEACHER, reason=Reason.TEACHER_ONLY),
                calls=(call,),
            )
        )
        history = (*history, asked, Message(role="assistant", content=reply.text))
    given: dict[str, Any] = {
        "task": Task(id=f"task-{id}", environment="house", goal="find the lamp", split="train"),
        "kind": TrajectoryKind.TEACHER,
        "arm": "teacher",
        "run_id": "r1",
        "started_at": 1_790_000_000.0,
        "final_observation": Observation(text="You won.", done=True, score=1.0),
        "outcome": Outcome(success=True, score=1.0),
    }
    return Trajectory(id=id, steps=tuple(played), **{**given, **fields})
