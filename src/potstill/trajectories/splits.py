"""Splitting episodes by task, so that no task is on both sides.

What it knows: a stable hash. What it does not do: the environments' own splits (``Task.split``), stores.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from potstill.errors import ConfigError
from potstill.types import Task, Trajectory


def split_of(task: Task, fractions: Mapping[str, float], seed: int = 0) -> str:
    """Which part a task belongs to: always the same for one environment, task id, seed and fractions.

    ``fractions`` are shares in (0, 1] that add up to 1, in order. Raises ``ConfigError`` if they do not.

    >>> split_of(Task(id="t1", environment="house"), {"train": 1.0})
    'train'
    """
    if not fractions or min(fractions.values()) <= 0 or abs(sum(fractions.values()) - 1) > 1e-9:
        raise ConfigError(f"Fractions must be positive and add up to 1; these are {dict(fractions)}.")
    key = f"{seed}\0{task.environment}\0{task.id}".encode()
    point = int.from_bytes(hashlib.sha256(key).digest()[:8], "big") / 2**64
    edge = 0.0
    for name, share in fractions.items():
        edge += share
        if point < edge:
            return name
    return name


def split_by_task(
    trajectories: Iterable[Trajectory], fractions: Mapping[str, float], seed: int = 0
) -> dict[str, list[Trajectory]]:
    """All episodes of one task go to the same part, however many there are and in whatever order they come."""
    parts: dict[str, list[Trajectory]] = {name: [] for name in fractions}
    for trajectory in trajectories:
        parts[split_of(trajectory.task, fractions, seed)].append(trajectory)
    return parts
