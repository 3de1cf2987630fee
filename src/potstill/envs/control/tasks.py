"""Which episodes of a control task are tasks: one range of seeds to learn from and another to be tested on.

What it knows: seeds. What it does not do: simulate, or import gymnasium.
"""

from __future__ import annotations

from collections.abc import Sequence

from potstill.envs.control.games import ACROBOT, CART_POLE, LUNAR_LANDER, Game
from potstill.errors import ConfigError, TaskNotFound
from potstill.types import Task

FIRST_SEED = {"train": 0, "valid": 1_000_000, "test": 2_000_000}
"""Where each split's seeds begin; a split of more than a million episodes is refused."""
MOST = 1_000_000


class ControlTasks:
    """``train``, ``valid`` and ``test`` count the episodes of each split; a seed is in one split only."""

    game: Game

    def __init__(self, *, train: int = 200, valid: int = 100, test: int = 100) -> None:
        self._counts = {"train": train, "valid": valid, "test": test}
        if not all(0 <= count <= MOST for count in self._counts.values()):
            raise ConfigError(f"A split has 0 to {MOST} episodes, not {self._counts}.")

    def splits(self) -> Sequence[str]:
        return tuple(self._counts)

    def tasks(self, split: str) -> Sequence[Task]:
        if split not in self._counts:
            raise TaskNotFound(f"{self.game.name} has no split '{split}'. Available: {', '.join(self._counts)}.")
        first = FIRST_SEED[split]
        return [self._task(seed, split) for seed in range(first, first + self._counts[split])]

    def _task(self, seed: int, split: str) -> Task:
        game = self.game
        return Task(
            id=f"{game.id}/{seed}",
            environment=game.name,
            goal=game.goal,
            split=split,
            kind=game.id,
            data={"seed": seed},
        )


class CartPoleTasks(ControlTasks):
    game = CART_POLE


class AcrobotTasks(ControlTasks):
    game = ACROBOT


class LunarLanderTasks(ControlTasks):
    game = LUNAR_LANDER
