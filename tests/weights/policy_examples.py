"""A small world for tests of policies and their training: things in places, and what its teacher does."""

from __future__ import annotations

import random

from potstill.distill.weights.data.labelled import Labelled
from potstill.types import Past, Situation

THINGS = ("apple", "mug", "lamp", "book")


def decisions(count: int, seed: int = 0, **more: object) -> list[Labelled]:
    """The teacher takes what the goal names, unless it was just taken: then it goes to the shelf."""
    rng = random.Random(seed)
    made = []
    for index in range(count):
        wanted = rng.choice(THINGS)
        taken = rng.random() < 0.4
        here = rng.sample(THINGS, rng.randint(2, len(THINGS)))
        admissible = [f"take {thing} {rng.randint(1, 3)}" for thing in dict.fromkeys([*here, wanted])] + [
            "go to shelf 1"
        ]
        rng.shuffle(admissible)
        action = next(a for a in admissible if wanted in a)
        past = tuple(
            Past(observation=f"You see place {age}.", action=f"look at place {age}") for age in range(rng.randint(0, 3))
        )
        if taken:
            past = (*past, Past(observation="There it is.", action=action))
            action = "go to shelf 1"
        made.append(
            Labelled(
                environment="toy",
                task_id=f"task-{seed}-{index}",
                trajectory_id=f"episode-{seed}-{index}",
                step_index=0,
                situation=Situation(
                    goal=f"Put the {wanted} on the shelf.",
                    observation="You see " + ", ".join(here) + "." if rng.random() < 0.9 else "",
                    past=past,
                ),
                admissible=tuple(admissible),
                action=action,
                **more,  # type: ignore[arg-type]
            )
        )
    return made
