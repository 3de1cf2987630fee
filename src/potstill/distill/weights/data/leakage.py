"""Nothing of what a student is tested on may be among what it learns: neither a task nor an equal decision.

What it knows: two sets of decisions, or of keys. What it does not do: split (``trajectories.splits``), read folders
(``shards``).

The same decision may be met in two tasks, the more so the shorter its past is (two games that begin in the same
kitchen with the same goal). Whoever built both splits can have it taken out of the earlier one (``Equal.DROP``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from potstill.distill.weights.data.labelled import Labelled, decision_key, state_key
from potstill.errors import ConfigError

NAMED = 3
"""So many tasks are named in an error."""


class Equal(StrEnum):
    """What becomes of decisions that two splits have in common."""

    REFUSE = "refuse"
    DROP = "drop"
    """They stay in the last split that has them: name the one to learn from first."""


class Leak(ConfigError):
    """Two splits have something in common; ``tasks`` are those at fault, ``equal`` counts equal decisions."""

    def __init__(self, message: str, tasks: Sequence[str], equal: int = 0) -> None:
        super().__init__(message)
        self.tasks = tuple(tasks)
        self.equal = equal


def refuse_leakage(splits: Mapping[str, Iterable[Labelled]]) -> None:
    """Raise ``Leak`` where two splits share a task or an equal decision, with the first tasks' names.

    ``read(folder, split)`` gives a split; those of several folders can be checked against each other. Remembers 16
    bytes a decision and where it was met.
    """
    homes: dict[tuple[str, str], str] = {}
    keys: dict[bytes, str] = {}
    tasks: dict[tuple[str, str], dict[str, None]] = {}
    equal: dict[tuple[str, str], dict[str, int]] = {}
    for name, decisions in splits.items():
        for one in decisions:
            home = homes.setdefault((one.environment, one.task_id), name)
            if home != name:
                tasks.setdefault((home, name), {})[one.task_id] = None
            held = keys.setdefault(decision_key(state_key(one), one.action), name)
            if held != name:
                found = equal.setdefault((held, name), {})
                found[one.task_id] = found.get(one.task_id, 0) + 1
    for (first, second), shared in tasks.items():
        raise shared_tasks(first, second, list(shared))
    for (first, second), counted in equal.items():
        raise shared_decisions(first, second, list(counted), sum(counted.values()))


def shared_tasks(first: str, second: str, tasks: Sequence[str]) -> Leak:
    return Leak(
        f"'{first}' and '{second}' share {_count(len(tasks), 'task')} ({named(tasks)}), so a test on '{second}' would "
        "test what was learnt. Split by task: potstill.trajectories.splits, or other episodes.",
        tasks,
    )


def shared_decisions(first: str, second: str, tasks: Sequence[str], count: int) -> Leak:
    return Leak(
        f"'{first}' and '{second}' have {_count(count, 'equal decision')}, of {_count(len(tasks), 'task')} in "
        f"'{second}' ({named(tasks)}): same situation and choice. Take them out of '{first}': equal=drop",
        tasks,
        count,
    )


def named(names: Sequence[str]) -> str:
    """The first few, in alphabetical order, and how many more there are."""
    more = len(names) - NAMED
    return ", ".join(sorted(names)[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
