"""Episodes, cases and bullets for the tests of the roles. Data only."""

from __future__ import annotations

import json
from typing import Any

from potstill.distill.playbook.operations import Bullet
from potstill.distill.playbook.roles.contract import Case, Lesson, Signal
from potstill.distill.playbook.said import Reflection
from potstill.types import (
    Action,
    Answerer,
    Observation,
    Outcome,
    PlaybookUse,
    Reply,
    Step,
    Task,
    ToolCall,
    ToolResult,
    Trajectory,
    TrajectoryKind,
)


def step(index: int, seen: str = "", done: str = "", **fields: Any) -> Step:
    return Step(
        index=index,
        observation=fields.pop("observation", Observation(text=seen)),
        action=fields.pop("action", Action(text=done)),
        answerer=fields.pop("answerer", Answerer.STUDENT),
        **fields,
    )


def episode(*steps: Step, **fields: Any) -> Trajectory:
    task = fields.pop("task", Task(id="order-7", environment="desk", goal="Ship order 7."))
    return Trajectory(id="t-1", task=task, kind=TrajectoryKind.CASCADE, steps=steps, **fields)


def shipping() -> Trajectory:
    """A student looks an order up and a teacher ships it, without the note that such orders need."""
    return episode(
        step(0, "You are at the desk.\n\nOrder 7 is waiting.", "look up 7", reasoning="As [b-3] says: look first."),
        step(
            1,
            observation=Observation(
                text="The clerk waits.", tool_results=(ToolResult(call_id="a", text='{"amount": 900}'),)
            ),
            action=Action(text="Shipping now.", tool_calls=(ToolCall(id="b", name="ship", arguments='{"order": 7}'),)),
            answerer=Answerer.TEACHER,
        ),
        plan="1. look up\n2. ship",
        final_observation=Observation(text="Sent back: a note was missing.", done=True),
        outcome=Outcome(success=False, score=0.25, detail="The shipment came back."),
        playbook=PlaybookUse(name="desk", revision=4, shown=("b-3", "b-5")),
    )


def case(**fields: Any) -> Case:
    """A failed episode that was shown b-1 and b-2, and named b-2."""
    made = {
        "id": "t-1",
        "goal": "Ship order 7.",
        "account": "Step 1 (student)\n  did:\n    | ship 7",
        "signal": Signal.EXECUTION,
        "success": False,
        "shown": ("b-1", "b-2"),
        "cited": ("b-2",),
    }
    return Case(**{**made, **fields})


def bullets(count: int, **fields: Any) -> dict[str, Bullet]:
    """``b-1`` and so on, each at revision 10 times its number."""
    made = (
        Bullet(
            **{
                "id": f"b-{number}",
                "number": number,
                "section": "others",
                "content": f"Rule {number}.",
                "revision": 10 * number,
                **fields,
            }
        )
        for number in range(1, count + 1)
    )
    return {one.id: one for one in made}


def lesson(insight: str = "Add a note to orders above 500.", **fields: Any) -> Lesson:
    reflection = fields.pop("reflection", Reflection(key_insight=insight))
    made = {"sources": ("t-1",), "goal": "Ship order 7.", "signal": Signal.EXECUTION, "success": False}
    return Lesson(**{**made, "reflection": reflection, **fields})


def reflected(insight: str = "Add a note.", **tags: str) -> str:
    """A Reflector's answer. ``b_1="helpful"``: a tag on b-1."""
    said = [{"id": id.replace("_", "-"), "tag": tag} for id, tag in tags.items()]
    return json.dumps({"reasoning": "...", "key_insight": insight, "bullet_tags": said})


def curated(*operations: dict[str, Any]) -> str:
    return json.dumps({"reasoning": "It is new.", "operations": operations})


def added(content: str = "Orders above 500 need a note.", **fields: Any) -> dict[str, Any]:
    return {"type": "ADD", "section": "others", "content": content, **fields}


def reply(text: str, **fields: Any) -> Reply:
    return Reply(text=text, **fields)


ACCOUNT = """\
  planned:
    | 1. look up
    | 2. ship
Step 1 (student)
  saw:
    | You are at the desk.
    | Order 7 is waiting.
  thought:
    | As [b - 3] says: look first.
  did:
    | look up 7
Step 2 (teacher)
  a tool answered:
    | {"amount": 900}
  saw:
    | The clerk waits.
  did:
    | Shipping now.
    | ship({"order": 7})
The episode ended here
  saw:
    | Sent back: a note was missing."""
"""What a Reflector is told of ``shipping``."""
