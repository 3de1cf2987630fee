"""Which orders are tasks: one range of seeds to learn from, one to choose by, one to be tested on.

What it knows: seeds and goals. What it does not do: rules (``house``). Each task holds the seed of its house, so that
it can be played by itself; the goal says what an order is, and nothing of what the house asks.
"""

from __future__ import annotations

from collections.abc import Sequence

from potstill.envs.house_rules.house import Order, draw_house, draw_order
from potstill.errors import ConfigError, TaskNotFound
from potstill.types import Task

NAME = "house-rules"
FIRST_SEED = {"train": 0, "valid": 1_000_000, "test": 2_000_000}
"""Where each split's orders begin; a split of more than a million is refused."""


class HouseRulesTasks:
    """Orders for one house. ``rules_seed`` draws the house, ``rules`` is how many rules it keeps; ``train``, ``valid``
    and ``test`` count the orders of each split."""

    def __init__(
        self, *, rules_seed: int = 0, rules: int = 10, train: int = 100, valid: int = 50, test: int = 100
    ) -> None:
        self._rules_seed = rules_seed
        self._rules = rules
        draw_house(rules_seed, rules)
        self._counts = {"train": train, "valid": valid, "test": test}
        if not all(0 <= count <= FIRST_SEED["valid"] for count in self._counts.values()):
            raise ConfigError(f"A split has 0 to {FIRST_SEED['valid']} orders, not {self._counts}.")

    def splits(self) -> Sequence[str]:
        return tuple(self._counts)

    def tasks(self, split: str) -> Sequence[Task]:
        if split not in self._counts:
            raise TaskNotFound(f"{NAME} has no split '{split}'. Available: {', '.join(self._counts)}.")
        first = FIRST_SEED[split]
        return [self._task(seed, split) for seed in range(first, first + self._counts[split])]

    def _task(self, seed: int, split: str) -> Task:
        return Task(
            id=f"{self._rules_seed}.{self._rules}/{seed}",
            environment=NAME,
            goal=goal_of(draw_order(seed)),
            split=split,
            kind="order",
            data={"rules_seed": self._rules_seed, "rules": self._rules, "seed": seed},
        )


def goal_of(order: Order) -> str:
    """What is asked for: one line, and a line for each field."""
    fields = "\n".join(f"{field}: {value}" for field, value in order.items())
    return f"Get this order out of the house without trouble.\n{fields}"
