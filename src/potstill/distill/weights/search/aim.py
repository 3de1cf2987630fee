"""What a search is for: the best value, or what is cheapest among the good. Pure.

Seconds of training are no aim, only a budget: they differ from run to run, and a resumed search would end elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from potstill.distill.weights.search.trials import State, Trial, Variant
from potstill.types import Struct


class Goal(StrEnum):
    SUCCESS = "success"
    """The best value, whatever it costs."""
    BYTES = "bytes"
    """The smallest policy, in fewer bits too, of those that are good enough."""
    LABELS = "labels"
    """That which learnt the fewest of the teacher's labels, of those that are good enough."""


class Aim(Struct, frozen=True, kw_only=True):
    goal: Goal = Goal.SUCCESS
    within: float = 0.01
    """How much of the best value may be given up for a lower cost; of ``success`` none is."""


class Chosen(NamedTuple):
    trial: Trial
    variant: Variant


def cost_of(goal: Goal, trial: Trial) -> int:
    """What a trial costs before it is made smaller: by it the sampler is steered, and halving compares like with like.

    Nothing where the value alone counts.
    """
    return {Goal.SUCCESS: 0, Goal.BYTES: trial.parameters, Goal.LABELS: trial.labels}[goal]


def rivals_at(before: Iterable[Trial], step: int, goal: Goal = Goal.SUCCESS, cost: float = math.inf) -> list[float]:
    """The values at a rung of those that came to it and cost no more: one that costs more says nothing against a
    cheaper one."""
    fair = [trial for trial in before if cost_of(goal, trial) <= cost]
    return [look.value for trial in fair for look in trial.looks if look.step == step]


def chosen(trials: Iterable[Trial], aim: Aim | None = None) -> Chosen | None:
    """The cheapest of those finished that are within the aim's margin of the best value; of equally cheap ones the
    best, then the smallest, then the earliest. None: none finished.

    What has fewer bits or units counts where bytes are the goal alone.
    """
    aim = aim or Aim()
    found = [
        Chosen(trial, variant)
        for trial in trials
        if trial.state is State.FINISHED
        for variant in trial.variants
        if aim.goal is Goal.BYTES or variant.plain
    ]
    if not found:
        return None
    margin = 0.0 if aim.goal is Goal.SUCCESS else aim.within
    least = max(one.variant.value for one in found) - margin - 1e-9 * bool(margin)
    return min((one for one in found if one.variant.value >= least), key=lambda one: _order(aim.goal, one))


def _order(goal: Goal, one: Chosen) -> tuple[float, ...]:
    cost = {Goal.SUCCESS: 0, Goal.BYTES: one.variant.bytes, Goal.LABELS: one.trial.labels}[goal]
    return cost, -one.variant.value, one.trial.parameters, one.trial.number
