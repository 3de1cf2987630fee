"""What the same money could buy otherwise, computed from recordings: retries, votes, a random mix, a warm cache.

What it knows: attempts at tasks with their dollars. What it does not do: run anything. Every figure is what the
recorded attempts imply, labelled as computed; where the recordings do not allow it, it is ``None`` with the reason.

A saving only counts against these (Kapoor et al. 2024, arXiv 2407.01502, section 2: simple retries and escalation at
equal cost matched or beat published agents).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from potstill.measure.comparison_result import Baseline
from potstill.measure.comparison_sides import Entry, by_unit
from potstill.measure.statistics import wilson

_NOTHING_RECORDED = "one attempt a task is recorded: record several attempts of {side} to know what retries buy"
_ALONE = "all recorded attempts at the shared tasks, each task counted once"
_MOST_ATTEMPTS = 1000
"""Retries and votes beyond it are not looked at."""


# --- pure functions ---------------------------------------------------------------------------------------------------


class Bought(NamedTuple):
    """What a budget buys: success, dollars an episode, the most attempts a task (a mix of two where not whole)."""

    success: float
    cost_usd: float
    attempts: float
    exhausted: bool
    """More was affordable than was recorded: success is a lower bound."""


class Task(NamedTuple):
    """Recorded attempts at one task: how many, how many succeeded, the mean dollars of one."""

    attempts: int
    successes: int
    cost_usd: float


def retries(tasks: Sequence[Task], budget_usd: float) -> Bought:
    """Retry until success (a perfect verifier), as often as a budget of dollars an episode allows on average.

    After j attempts, C(n - c, j) / C(n, j) of a task with c successes in n recorded attempts is still unsolved (pass@k
    without bias: Chen et al. 2021, arXiv 2107.03374, eq. 1), and only that is paid for again. Between two numbers of
    attempts, tasks are mixed at random so that the budget is met exactly. No task is retried more often than recorded.

    >>> retries([Task(attempts=4, successes=1, cost_usd=1.0)], budget_usd=1.75)
    Bought(success=0.5, cost_usd=1.75, attempts=2.0, exhausted=False)
    """
    attempts_T = np.array([task.attempts for task in tasks], dtype=np.float64)
    failures_T = attempts_T - np.array([task.successes for task in tasks], dtype=np.float64)
    cost_T = np.array([task.cost_usd for task in tasks], dtype=np.float64)
    unsolved_T = failures_T / attempts_T
    success, cost, k = float(1 - unsolved_T.mean()), float(cost_T.mean()), 1
    most = min(_MOST_ATTEMPTS, int(attempts_T.max()))
    while k < most:
        left_T = np.where(k < attempts_T, unsolved_T, 0.0)
        dearer = cost + float((cost_T * left_T).mean())
        unsolved_T = np.where(k < attempts_T, unsolved_T * (failures_T - k) / np.maximum(attempts_T - k, 1), unsolved_T)
        unsolved_T = np.maximum(unsolved_T, 0.0)
        better = float(1 - unsolved_T.mean())
        if dearer > budget_usd:
            share = min(1.0, max(0.0, (budget_usd - cost) / (dearer - cost)))
            return Bought(success + share * (better - success), cost + share * (dearer - cost), k + share, False)
        success, cost, k = better, dearer, k + 1
    return Bought(success, cost, float(k), cost < budget_usd)


def majority(answers: Sequence[str]) -> str:
    """The answer given most often; of several, the one given first.

    >>> majority(["b", "a", "a", "b", "c"])
    'b'
    """
    return Counter(answers).most_common(1)[0][0]


class Mix(NamedTuple):
    """A random share of tasks goes to the dearer side."""

    teacher_share: float
    success: float
    cost_usd: float


def random_escalation(cheap: tuple[float, float], dear: tuple[float, float], cost_usd: float) -> Mix:
    """The straight line between two sides, each (success, dollars an episode), at a cost between theirs.

    >>> random_escalation((0.5, 1.0), (0.8, 3.0), 2.0)
    Mix(teacher_share=0.5, success=0.65, cost_usd=2.0)
    """
    gap = dear[1] - cheap[1]
    share = min(1.0, max(0.0, (cost_usd - cheap[1]) / gap)) if gap > 0 else 0.0
    return Mix(share, cheap[0] + share * (dear[0] - cheap[0]), cheap[1] + share * gap)


def share_within_margin(cheap_success: float, dear_success: float, margin: float) -> float:
    """The least share of tasks for the dearer side so that a random mix loses at most ``margin`` of its success.

    >>> share_within_margin(0.5, 0.9, 0.1)
    0.75
    """
    gap = dear_success - cheap_success
    return max(0.0, 1.0 - margin / gap) if gap > 0 else 0.0


# --- rows of the report -----------------------------------------------------------------------------------------------


class Recorded(NamedTuple):
    """A side's attempts at the shared tasks, with known dollars. Means are over tasks: every task counts once."""

    name: str
    by_unit: dict[tuple[str, int | None], list[Entry]]
    success: float
    cost_usd: float

    @property
    def tasks(self) -> list[Task]:
        return [
            Task(len(attempts), sum(bool(one.success) for one in attempts), _mean_cost(attempts))
            for attempts in self.by_unit.values()
        ]


def recorded(name: str, entries: Sequence[Entry], units: Collection[tuple[str, int | None]]) -> Recorded | None:
    """The side's attempts at ``units``; ``None`` if a cost is unknown or one was never attempted."""
    found = by_unit(entry for entry in entries if entry.unit in units)
    if len(found) < len(units) or any(one.cost_usd is None for attempts in found.values() for one in attempts):
        return None
    success = _mean([_share(attempts) for attempts in found.values()])
    return Recorded(name, found, success, _mean([_mean_cost(attempts) for attempts in found.values()]))


def baselines(cheap: Recorded, dear: Recorded, budget_usd: float, margin: float, target: str) -> tuple[Baseline, ...]:
    """What ``budget_usd`` an episode (the dollars of ``target``) buys from the cheap and the dear side."""
    return (
        _alone(cheap),
        _retries(cheap, budget_usd, target),
        _votes(cheap, budget_usd, target),
        _escalation(cheap, dear, budget_usd, margin, target),
        _warm(dear),
    )


def _alone(cheap: Recorded) -> Baseline:
    return _row("cheaper alone", cheap, cheap.success, cheap.cost_usd, attempts=1.0, note=_ALONE)


def _retries(cheap: Recorded, budget_usd: float, target: str) -> Baseline:
    name = "retries with a perfect verifier"
    if all(len(attempts) < 2 for attempts in cheap.by_unit.values()):
        return _unknown(name, cheap, _NOTHING_RECORDED.format(side=cheap.name))
    bought = retries(cheap.tasks, budget_usd)
    note = f"pass@k at the cost of {target}; an upper bound for real verifiers"
    if bought.exhausted:
        note += "; all recorded attempts cost less than that, so more is affordable than can be computed"
    return _row(name, cheap, bought.success, bought.cost_usd, attempts=bought.attempts, note=note)


def _votes(cheap: Recorded, budget_usd: float, target: str) -> Baseline:
    name = "self-consistency"
    if any(one.answer is None for attempts in cheap.by_unit.values() for one in attempts):
        return _unknown(name, cheap, f"{cheap.name} has attempts without a recorded answer: nothing to vote on")
    if all(len(attempts) < 2 for attempts in cheap.by_unit.values()):
        return _unknown(name, cheap, _NOTHING_RECORDED.format(side=cheap.name).replace("retries buy", "votes buy"))
    k, cost = _affordable_votes(cheap, budget_usd)
    success = _mean([_voted(attempts[:k]) for attempts in cheap.by_unit.values()])
    note = f"the majority of the first {k} recorded answers, the most that the cost of {target} buys"
    if all(len(attempts) <= k for attempts in cheap.by_unit.values()):
        note = f"the majority of all recorded answers (at most {k} a task)"
    return _row(name, cheap, success, cost, attempts=float(k), note=note)


def _affordable_votes(cheap: Recorded, budget_usd: float) -> tuple[int, float]:
    """The most votes a task whose dollars are within the budget (at least one), and those dollars an episode."""
    most = min(_MOST_ATTEMPTS, max(len(attempts) for attempts in cheap.by_unit.values()))
    k, cost = 0, 0.0
    while k < most:
        more = sum(_cost(attempts[k : k + 1]) for attempts in cheap.by_unit.values()) / len(cheap.by_unit)
        if k and cost + more > budget_usd:
            break
        k, cost = k + 1, cost + more
    return k, cost


def _voted(attempts: Sequence[Entry]) -> float:
    """Share of successes among the attempts that gave the majority's answer (1 or 0 where answers are judged alike)."""
    winner = majority([one.answer or "" for one in attempts])
    return _share([one for one in attempts if one.answer == winner])


def _escalation(cheap: Recorded, dear: Recorded, budget_usd: float, margin: float, target: str) -> Baseline:
    name = "random escalation"
    ends = (cheap.success, cheap.cost_usd), (dear.success, dear.cost_usd)
    if target not in (cheap.name, dear.name):
        mix = random_escalation(*ends, budget_usd)
        note = f"tasks mixed at random between {cheap.name} and {dear.name} at the cost of {target}"
    else:
        share = share_within_margin(cheap.success, dear.success, margin)
        mix = random_escalation(*ends, cheap.cost_usd + share * (dear.cost_usd - cheap.cost_usd))
        note = f"the cheapest random mix of {cheap.name} and {dear.name} that loses at most the margin"
    return _row(name, cheap, mix.success, mix.cost_usd, teacher_share=mix.teacher_share, note=note)


def _warm(dear: Recorded) -> Baseline:
    name = "warm cache"
    warm = [one.warm_usd for attempts in dear.by_unit.values() for one in attempts]
    if any(value is None for value in warm):
        return _unknown(name, dear, f"the calls of {dear.name} with their tokens are not in the records")
    means = [_mean([one.warm_usd or 0.0 for one in attempts]) for attempts in dear.by_unit.values()]
    note = "all input that repeats within an episode read from the prompt cache"
    return _row(name, dear, dear.success, _mean(means), attempts=1.0, note=note)


def _row(
    name: str,
    side: Recorded,
    success: float,
    cost: float,
    *,
    attempts: float | None = None,
    teacher_share: float | None = None,
    note: str,
) -> Baseline:
    tasks = len(side.by_unit)
    return Baseline(
        name=name,
        of=side.name,
        success=success,
        success_ci=wilson(success * tasks, tasks),
        cost_per_episode_usd=cost,
        attempts=attempts,
        teacher_share=teacher_share,
        note=note,
    )


def _unknown(name: str, side: Recorded, why: str) -> Baseline:
    return Baseline(name=name, of=side.name, success=None, cost_per_episode_usd=None, note=why)


def _share(attempts: Sequence[Entry]) -> float:
    return sum(bool(one.success) for one in attempts) / len(attempts)


def _cost(attempts: Sequence[Entry]) -> float:
    return sum(one.cost_usd or 0.0 for one in attempts)


def _mean_cost(attempts: Sequence[Entry]) -> float:
    return _cost(attempts) / len(attempts)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
