"""What one candidate loses and costs on labelled tasks, and the test of whether it loses too much.

The loss of a decision: the student acted, the teacher would have succeeded, and the student did not. The demand
``P(loss) <= (1 - keep) P(T)`` is ``P(loss | T) <= 1 - keep``: among the tasks at which the teacher succeeded the count
of losses is binomial, so the teacher's success need not be estimated apart; its uncertainty is in their number. Where a
task has several decisions, these depend on each other: the task is the unit, its loss a share, and the test is a bet.

What it knows: one chain and one threshold. What it does not do: compare candidates (``certify``).
"""

from __future__ import annotations

import math
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from potstill.decide.bounds import (
    betting_p_value,
    betting_upper,
    binomial_p_value,
    clopper_pearson_upper,
    needed_betting,
    needed_binomial,
)
from potstill.decide.calibration.candidates import Chain
from potstill.decide.calibration.units import Flags, Floats


class Level(StrEnum):
    """What is lost where a task has several decisions."""

    DECISION = "decision"
    """A task's loss is the share of its decisions that are lost."""
    TASK = "task"
    """A task at which the teacher was right throughout is lost whole if any decision is lost."""


class Losses(NamedTuple):
    """Losses of tasks. ``lost_N`` and ``right_N``: for each task the share of its decisions, loss <= right <= 1."""

    lost_N: Floats
    right_N: Floats
    binary: bool
    """Every entry is 0 or 1: the exact test holds."""

    @property
    def n(self) -> int:
        return len(self.lost_N)

    @property
    def right(self) -> float:
        """How many tasks (in shares) the teacher was right at."""
        return float(self.right_N.sum())

    @property
    def lost(self) -> float:
        return float(self.lost_N.sum())

    @property
    def rate(self) -> float | None:
        """Observed P(loss | T); ``None`` where the teacher was never right."""
        return self.lost / self.right if self.right > 0 else None

    def p_value(self, allowed: float) -> float:
        """p-value of "P(loss | T) is at least ``allowed``"."""
        if not 0.0 < allowed < 1.0 or self.right <= 0:
            return 1.0
        if self.binary:
            return _p_value(round(self.lost), round(self.right), allowed)
        return betting_p_value(self.lost_N, allowed, self.right_N)

    def upper(self, confidence: float) -> float:
        """Upper confidence bound of P(loss | T)."""
        if self.right <= 0:
            return 1.0
        if self.binary:
            return _upper(round(self.lost), round(self.right), confidence)
        return betting_upper(self.lost_N, self.right_N, confidence)

    def needed(self, allowed: float, confidence: float, power: float) -> int | None:
        """How many labelled tasks, with losses as here, would certify ``allowed`` with this power; ``None``: none."""
        if self.rate is None:
            return None
        if not self.binary:
            return needed_betting(self.lost_N, allowed, self.right_N, confidence, power)
        successes = needed_binomial(self.rate, allowed, confidence, power)
        return None if successes is None else math.ceil(successes * self.n / self.right)


# Neighbouring thresholds often lose the same tasks.
_p_value = lru_cache(maxsize=4096)(binomial_p_value)
_upper = lru_cache(maxsize=4096)(clopper_pearson_upper)


def losses(chain: Chain, threshold: float, level: Level = Level.DECISION) -> Losses:
    """What the student would lose at this threshold, task by task."""
    lost_U = chain.acted_U(threshold) & chain.right_U & ~chain.good_U
    if len(lost_U) == 0 or int(chain.task_U.max()) + 1 == len(lost_U):
        return Losses(lost_U.astype(np.float64), chain.right_U.astype(np.float64), True)
    right_N = _holds(chain, chain.right_U, level)
    if level is Level.DECISION:
        return Losses(_holds(chain, lost_U, level), right_N, False)
    return Losses(right_N * (1.0 - _holds(chain, ~lost_U, level)), right_N, True)


def _holds(chain: Chain, flags_U: Flags, level: Level) -> Floats:
    """For each task the share of its decisions at which it holds; by whole tasks 1 where it holds at all of them."""
    share_N = np.bincount(chain.task_U, flags_U) / np.bincount(chain.task_U)
    return share_N if level is Level.DECISION else (share_N >= 1.0).astype(np.float64)


class Economics(NamedTuple):
    """What a candidate costs and achieves. Dollars are per task; ``None`` where a cost is not known."""

    escalation_share: float
    """Of decisions."""
    expected_cost_usd: float | None
    """All samples of the student, also where it escalates, and the teacher where it does."""
    teacher_cost_usd: float | None
    """The teacher alone, at the same tasks."""
    kept: float | None
    """Success of the cascade over the teacher's, as observed and in what losses are counted in: gains where the
    teacher failed count too, so it is at least 1 minus the rate of losses."""


def economics(chain: Chain, threshold: float, level: Level = Level.DECISION) -> Economics:
    """Dollars and success at this threshold; ``level`` as in ``losses``."""
    acted_U = chain.acted_U(threshold)
    if len(acted_U) == 0:
        return Economics(1.0, None, None, None)
    tasks = int(chain.task_U.max()) + 1
    right = float(_holds(chain, chain.right_U, level).sum())
    succeeded = float(_holds(chain, np.where(acted_U, chain.good_U, chain.right_U), level).sum())
    return Economics(
        escalation_share=float((~acted_U).mean()),
        expected_cost_usd=_sum(chain.student_usd_U, _sum(chain.teacher_usd_U[~acted_U], 0.0), tasks),
        teacher_cost_usd=_sum(chain.teacher_usd_U, 0.0, tasks),
        kept=succeeded / right if right else None,
    )


def _sum(usd_U: Floats, more: float | None, tasks: int = 1) -> float | None:
    """Dollars for each of ``tasks``; ``None`` if any part is unknown."""
    total = float(usd_U.sum()) + (math.nan if more is None else more)
    return None if math.isnan(total) else total / tasks
