"""Held-out decisions of a retraining: which old ones still hold, which say when to stop, and which judge.

Pure. What it does not do: hold decisions out (``data``), compare policies (``judging``).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from potstill.distill.weights.data.labelled import Labelled, state_key
from potstill.errors import ConfigError
from potstill.measure.statistics import paired_score_interval

STOPPING = 0.25
"""Share of the held-out tasks that say when to stop. What chose the weights would judge them too well."""


class Parts(NamedTuple):
    """Held-out decisions by what they are for; no task is in both."""

    stopping: list[Labelled]
    judging: list[Labelled]


def parted(held_out: Sequence[Labelled], share: float = STOPPING) -> Parts:
    """A share of the tasks, rounded up, for stopping; the rest judges. By the tasks' names alone.

    Raises ``ConfigError`` for fewer than two tasks.
    """
    tasks = sorted({(one.environment, one.task_id) for one in held_out}, key=_drawn)
    if len(tasks) < 2:
        raise ConfigError(
            f"{len(tasks)} task is held out, and two are needed at least: one says when to stop, the others judge. "
            "Record episodes of more tasks."
        )
    stopping = set(tasks[: min(math.ceil(len(tasks) * share), len(tasks) - 1)])
    parts = Parts([], [])
    for one in held_out:
        (parts.stopping if (one.environment, one.task_id) in stopping else parts.judging).append(one)
    return parts


def upheld(old: Iterable[Labelled], new: Iterable[Labelled]) -> list[Labelled]:
    """Old decisions that no new one overrules: where the teacher decided anew in the same situation, and never so."""
    said: dict[bytes, set[str]] = {}
    for one in new:
        said.setdefault(state_key(one), set()).add(one.action)
    return [one for one in old if one.action in said.get(state_key(one), {one.action})]


def provable(tasks: int) -> float:
    """The least margin that so many tasks can show where two policies do not differ: -lower bound (Tango 1998).

    >>> round(provable(100), 3)
    0.037
    """
    interval = paired_score_interval(0, 0, tasks)
    return 1.0 if interval is None else -interval[0]


def _drawn(task: tuple[str, str]) -> bytes:
    """A stable order that has nothing to do with how tasks are named or were split."""
    return hashlib.sha256("\0".join(("stopping", *task)).encode("utf-8", "surrogatepass")).digest()
