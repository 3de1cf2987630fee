"""A small world of grids for tests of the grid student: what to do hangs on the mission, the grid and the past."""

from __future__ import annotations

import json
import random

import policy_files as files
from potstill.distill.weights.data.labelled import Labelled
from potstill.types import Past, Situation

ACTIONS = ("go forward", "pick up", "turn left", "turn right")
COLOURS = ("red", "green", "blue")
BABYAI = {"size": 7, "symbols": [11, 6, 3]}


def decisions(count: int, seed: int = 0, past: int = 3) -> list[Labelled]:
    """The teacher turns to the side where a ball of the mission's colour lies, and picks up once it has turned."""
    rng = random.Random(seed)
    made = []
    for index in range(count):
        wanted, left = rng.randrange(3), rng.random() < 0.5
        other = rng.choice([colour for colour in range(3) if colour != wanted])
        turned = rng.random() < 0.3
        action = "pick up" if turned else "turn left" if left else "turn right"
        turns = [
            Past(observation=files.grid_text(rng, BABYAI), action="go forward") for _ in range(rng.randint(0, past))
        ]
        if turned:
            turns.append(Past(observation=files.grid_text(rng, BABYAI), action="turn left"))
        admissible = [one for one in ACTIONS if one != "go forward" or rng.random() < 0.5]
        made.append(
            Labelled(
                environment="toy",
                task_id=f"task-{seed}-{index}",
                trajectory_id=f"episode-{seed}-{index}",
                step_index=len(turns),
                situation=Situation(
                    goal=f"pick up the {COLOURS[wanted]} ball",
                    observation=_view(wanted, other, left),
                    past=tuple(turns),
                ),
                admissible=tuple(admissible),
                action=action,
            )
        )
    return made


def _view(wanted: int, other: int, left: bool) -> str:
    grid = [[[1, 0, 0] for _ in range(7)] for _ in range(7)]
    grid[1 if left else 5][4], grid[5 if left else 1][4] = [6, wanted, 0], [6, other, 0]
    return json.dumps({"grid": grid, "direction": 0})
