"""How many of the teacher's labels are learnt: whole tasks, in an order that a hash of their names gives. Pure.

The order is the same for every amount, so that a smaller set lies in every larger one.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Sequence

from potstill.distill.weights.data.labelled import Labelled
from potstill.errors import ConfigError

SHARES = (1.0, 0.5, 0.25)
"""Of the tasks, what a trial may learn from."""


def labels_in(decisions: Iterable[Labelled]) -> int:
    """How often the teacher answered: equal decisions are one, and each answer in it counts."""
    return sum(one.count for one in decisions)


def share_of(decisions: Sequence[Labelled], share: float) -> list[Labelled]:
    """The decisions of the first tasks, so large a share of all tasks, at least one; their order stays.

    Decisions that are equal in several tasks are one, and go with the task that had it first.
    """
    tasks = _tasks(decisions)
    return _of(decisions, tasks[: max(1, math.ceil(len(tasks) * share - 1e-9))])


def within(decisions: Sequence[Labelled], most: int | None) -> list[Labelled]:
    """The decisions of as many of the first tasks as have at most ``most`` labels together; None: all.

    Raises ``ConfigError`` where the first task has more.
    """
    if most is None:
        return list(decisions)
    met: Counter[tuple[str, str]] = Counter()
    for one in decisions:
        met[_task(one)] += one.count
    kept, spent = list[tuple[str, str]](), 0
    for task in _tasks(decisions):
        spent += met[task]
        if spent > most:
            break
        kept.append(task)
    if met and not kept:
        raise ConfigError(
            f"{most} labels are fewer than the {spent} of the first task, and tasks are learnt whole. Type a larger "
            f"budget: --search-labels {max(spent, sum(met.values()) // 2)}"
        )
    return _of(decisions, kept)


def shares_of(
    learn: Sequence[Labelled], judge: Iterable[Labelled] = (), *, fixed_actions: bool = False
) -> tuple[float, ...]:
    """The shares that can be learnt from: two actions at least were taken, and where the student has an output for each
    action (``fixed_actions``) all were possible that are so in ``judge``. The whole is always one."""
    asked = {action for one in judge for action in one.admissible} if fixed_actions else set[str]()

    def teaches(some: Sequence[Labelled]) -> bool:
        possible = {action for one in some for action in one.admissible}
        return asked <= possible and len({one.action for one in some}) > 1

    return tuple(share for share in SHARES if share == 1 or teaches(share_of(learn, share)))


def _task(decision: Labelled) -> tuple[str, str]:
    return decision.environment, decision.task_id


def _tasks(decisions: Iterable[Labelled]) -> list[tuple[str, str]]:
    def place(task: tuple[str, str]) -> bytes:
        return hashlib.sha256("\0".join(("labels", *task)).encode()).digest()

    return sorted({_task(one) for one in decisions}, key=place)


def _of(decisions: Iterable[Labelled], tasks: Iterable[tuple[str, str]]) -> list[Labelled]:
    wanted = set(tasks)
    return [one for one in decisions if _task(one) in wanted]
