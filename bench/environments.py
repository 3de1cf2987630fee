"""How hard the worlds are and how fast: success of the expert, of the expert after a student's detour, and of chance.

Run ``python bench/environments.py``; about four minutes on one core. BabyAI levels in both action spaces, 100 worlds
each, and all 800 multi-turn function-calling tasks where ``bfcl-eval`` is installed. Writes
``bench/results/environments.json``.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

from _results import write
from potstill.envs.registry import describe, factory, open_source
from potstill.errors import ConfigError
from potstill.protocols import Environment
from potstill.types import Action, Task

N = 100
DETOURS = (5, 10)
LEVELS = {
    "macro": (
        *("LockedRoom", "PutTwo", "PickInOrder", "PutNextLocal", "UnlockPickupDist", "UnlockToUnlock"),
        *("MoveTwoAcrossS8N9", "MiniBossLevel", "PickupLoc", "GoToLocal"),
    ),
    "primitive": ("GoToLocal", "PickupLoc", "PutNextLocal", "LockedRoom", "UnlockPickupDist", "MiniBossLevel"),
}
NO_LIMIT = {"macro": 60, "primitive": 600}


def play(environment: Environment, task: Task, limit: int, random_steps: int) -> tuple[bool, int]:
    """One episode: so many random admissible actions, then the expert. Returns success and steps."""
    chance = random.Random(task.id)
    observation = environment.reset(task, 0)
    for step in range(limit):
        if step < random_steps and observation.admissible:
            action: Action | None = Action(text=chance.choice(observation.admissible))
        else:
            action = environment.expert_action()
        if action is None:
            return False, step
        observation = environment.step(action)
        if observation.done:
            return environment.outcome().success is True, step + 1
    return False, limit


def world_row(level: str, space: str) -> dict[str, Any]:
    environment = factory("minigrid", action_space=space)()
    tasks = open_source("minigrid", level=level, action_space=space, train=N, test=0).tasks("train")
    steps_allowed, no_limit = describe("minigrid", action_space=space).max_steps, NO_LIMIT[space]
    started = time.process_time()
    expert = [play(environment, task, no_limit, 0) for task in tasks]
    cpu_s = time.process_time() - started
    row = {
        "environment": "minigrid",
        "level": level,
        "action_space": space,
        "n": len(tasks),
        "expert": share(expert),
        "expert_within_limit": sum(won and steps <= steps_allowed for won, steps in expert) / len(expert),
        "steps_mean": statistics.fmean(steps for _, steps in expert),
        "steps_per_cpu_s": round(sum(steps for _, steps in expert) / cpu_s),
        "random_within_limit": share([play(environment, task, steps_allowed, steps_allowed) for task in tasks]),
    }
    for detour in DETOURS:
        row[f"expert_after_{detour}_random"] = share([play(environment, task, no_limit, detour) for task in tasks])
    return row


def bfcl_row(category: str) -> dict[str, Any]:
    environment = factory("bfcl")()
    tasks = open_source("bfcl").tasks(category)
    started = time.process_time()
    gold = [play(environment, task, 100, 0) for task in tasks]
    cpu_s = time.process_time() - started
    steps = [taken for _, taken in gold]
    return {
        "environment": "bfcl",
        "level": category,
        "n": len(tasks),
        "expert": share(gold),
        "steps_mean": statistics.fmean(steps),
        "steps_per_cpu_s": round(sum(steps) / cpu_s),
    }


def share(episodes: Sequence[tuple[bool, int]]) -> float:
    return sum(won for won, _ in episodes) / len(episodes)


def main() -> None:
    rows = []
    for space, levels in LEVELS.items():
        for level in levels:
            rows.append(world_row(level, space))
            print(rows[-1], file=sys.stderr)
    try:
        rows.extend(bfcl_row(category) for category in ("base", "miss_func", "miss_param", "long_context"))
    except ConfigError as error:
        print(f"bfcl is left out. {error}", file=sys.stderr)
    print(write("environments", rows, n=N, seeds=[0]))


if __name__ == "__main__":
    main()
