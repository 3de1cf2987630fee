"""JSON lines for rankers: what was seen, what could be done, and which of it was done.

What it knows: the line. What it does not do: merge equal decisions, split or weigh them (``distill.weights.data``).

A line is ``{"environment", "task", "kind", "trajectory", "step", "situation": {"goal", "plan", "observation", "past":
[{"observation", "action"}, ...]}, "candidates": [...], "label": 2}``; ``label`` is the position of what was done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any, BinaryIO

import msgspec

from potstill.trajectories.choices import Choice, LeftOut, all_choices
from potstill.types import Answerer, Trajectory


def write_ranking(
    trajectories: Iterable[Trajectory],
    target: BinaryIO,
    *,
    all_outcomes: bool = False,
    answerers: Collection[Answerer],
    left_out: Counter[str] | None = None,
) -> int:
    """A line for each choice of these answerers among listed actions; returns how many."""
    reasons: Counter[LeftOut] = Counter()
    count = 0
    for trajectory, choice in all_choices(trajectories, answerers, only_successes=not all_outcomes, left_out=reasons):
        target.write(msgspec.json.encode(_line(trajectory, choice)) + b"\n")
        count += 1
    if left_out is not None:
        left_out.update(reasons)
    return count


def _line(trajectory: Trajectory, choice: Choice) -> dict[str, Any]:
    situation = choice.situation
    return {
        "environment": trajectory.task.environment,
        "task": trajectory.task.id,
        "kind": trajectory.task.kind,
        "trajectory": trajectory.id,
        "step": choice.step.index,
        "situation": {
            "goal": situation.goal,
            "plan": situation.plan,
            "observation": situation.observation,
            "past": [{"observation": turn.observation, "action": turn.action} for turn in situation.past],
        },
        "candidates": choice.admissible,
        "label": choice.admissible.index(choice.action),
    }
