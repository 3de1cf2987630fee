"""Whole episodes of a network in training in several environments: a ``Player`` for each, asked as one.

What it knows: whose outcomes are whose. What it does not do: play (``playing``), choose tasks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Protocol, Self

from potstill.distill.weights.gate import Side
from potstill.distill.weights.gate_success import Outcomes
from potstill.distill.weights.train.playing import Player, acting
from potstill.edge.policy import Policy

AT = ": "
"""Between environment and task in the keys of outcomes."""


class Plays(Protocol):
    """What ``Player`` and ``Players`` have in common."""

    @property
    def name(self) -> str: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __call__(self, trained: Any) -> float: ...

    def success(self, outcomes: Outcomes) -> float:
        """The share of tasks that were done; of several environments the mean of their shares."""
        ...

    def outcomes(self, policy: Policy) -> Outcomes: ...

    def outcomes_of(self, side: Side, policy: Policy) -> Outcomes: ...


class Players:
    """Plays each environment's tasks with one policy after another; use it in a ``with`` block, as a ``Player``."""

    def __init__(self, players: Mapping[str, Player]) -> None:
        self._players = dict(players)
        self._stack = contextlib.ExitStack()

    @property
    def name(self) -> str:
        """Which tasks, as a checkpoint remembers it."""
        return "; ".join(f"{environment}{AT}{player.name}" for environment, player in self._players.items())

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            for player in self._players.values():
                stack.enter_context(player)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def __call__(self, trained: Any) -> float:
        """The same of a network in training."""
        return self.success(self.outcomes(acting(trained)))

    def success(self, outcomes: Outcomes) -> float:
        """The mean of the environments' shares of tasks that were done: each counts the same, however many it has."""
        found = shares(outcomes)
        return sum(found.values()) / len(found)

    def outcomes(self, policy: Policy) -> Outcomes:
        """(environment and task, seed) -> whether a policy as it acts does it."""
        return self._all(lambda player: player.outcomes(policy))

    def outcomes_of(self, side: Side, policy: Policy) -> Outcomes:
        """The same for a network as the gate asks it."""
        return self._all(lambda player: player.outcomes_of(side, policy))

    def _all(self, played: Callable[[Player], Outcomes]) -> Outcomes:
        return {
            (f"{environment}{AT}{task}", seed): won
            for environment, player in self._players.items()
            for (task, seed), won in played(player).items()
        }


def shares(outcomes: Outcomes) -> dict[str, float]:
    """Of each environment in a ``Players``' outcomes, the share of tasks that were done.

    >>> shares({("grid: a", 0): True, ("grid: b", 0): False, ("house: a", 0): True})
    {'grid': 0.5, 'house': 1.0}
    """
    won: dict[str, list[bool]] = {}
    for (task, _), done in outcomes.items():
        won.setdefault(task.partition(AT)[0], []).append(done)
    return {environment: sum(some) / len(some) for environment, some in won.items()}
