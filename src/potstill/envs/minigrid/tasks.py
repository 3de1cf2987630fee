"""Which BabyAI worlds are tasks: per level, one range of seeds to learn from and another to be tested on.

What it knows: levels, seeds, missions (each world is built once, about 1 ms, to read its mission). What it does not
do: play.
"""

from __future__ import annotations

from collections.abc import Sequence

from potstill.envs.minigrid.environment import ACTION_SPACES
from potstill.envs.minigrid.world import World, full_name
from potstill.errors import ConfigError, TaskNotFound
from potstill.types import Task

DEFAULT_LEVEL = "LockedRoom"
FIRST_SEED = {"train": 0, "test": 1_000_000}
"""Where each split's seeds begin; a split of more than a million worlds is refused."""


class MinigridTasks:
    """Tasks of a level, or of several with commas ('GoToLocal,PutNextLocal').

    A level is a name that gymnasium knows ('BabyAI-GoToLocal-v0') or its middle ('GoToLocal'). ``train`` and ``test``
    count the worlds of each level in each split.
    """

    def __init__(
        self,
        *,
        level: str = DEFAULT_LEVEL,
        action_space: str = "macro",
        train: int = 200,
        test: int = 100,
    ) -> None:
        if action_space not in ACTION_SPACES:
            raise ConfigError(f"No action space '{action_space}'. Available: {', '.join(ACTION_SPACES)}.")
        self._levels = [full_name(part.strip()) for part in level.split(",")]
        self._action_space = action_space
        self._counts = {"train": train, "test": test}
        if not all(0 <= count <= FIRST_SEED["test"] for count in self._counts.values()):
            raise ConfigError(f"A split has 0 to {FIRST_SEED['test']} worlds a level, not {self._counts}.")

    def splits(self) -> Sequence[str]:
        return tuple(self._counts)

    def tasks(self, split: str) -> Sequence[Task]:
        if split not in self._counts:
            raise TaskNotFound(f"minigrid has no split '{split}'. Available: {', '.join(self._counts)}.")
        first = FIRST_SEED[split]
        return [
            self._task(world, seed, split)
            for world in map(World, self._levels)
            for seed in range(first, first + self._counts[split])
        ]

    def _task(self, world: World, seed: int, split: str) -> Task:
        world.reset(seed)
        kind = world.level.removeprefix("BabyAI-").removeprefix("Potstill-").rsplit("-v", 1)[0]
        return Task(
            id=f"{world.level}/{self._action_space}/{seed}",
            environment="minigrid",
            goal=world.mission,
            split=split,
            kind=kind,
            data={"level": world.level, "seed": seed, "action_space": self._action_space},
        )
