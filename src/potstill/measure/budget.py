"""Budget curves: the share of attempts that succeed within a budget of B dollars each.

What it knows: S(B) = (1/N) sum of [success and cost <= B], its area in closed form, and the shares around one budget.
What it does not do: play episodes under a budget. An agent that knows its budget spends it otherwise, so S(B) of
episodes that knew of none is a lower bound: re-run them at each B for such agents (the protocol of BATS).

An attempt of unknown cost cannot be placed on the curve: leave it out before, and say so.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from potstill.errors import ConfigError

Numbers = Sequence[float] | NDArray[np.float64]
Flags = Sequence[bool] | NDArray[np.bool_]


class AtBudget(msgspec.Struct, frozen=True, kw_only=True):
    """What one budget buys (the four figures of BTP's evaluation): successes within it, attempts beyond it."""

    budget_usd: float
    success_within: float
    """S(B), the pass rate under the budget constraint."""
    over_budget: float
    """Share of attempts that cost more than the budget, successful or not."""
    cost_mean_usd: float
    success: float
    """Pass rate without a budget."""


def success_within(costs_usd: Numbers, successes: Flags, budgets_usd: Numbers) -> NDArray[np.float64]:
    """S(B) at each budget. Sorts once, so N attempts and B budgets take N log N + B log N.

    >>> success_within([1.0, 2.0, 4.0], [True, False, True], [0.5, 1.0, 4.0]).tolist()
    [0.0, 0.3333333333333333, 0.6666666666666666]
    """
    costs, won = _checked(costs_usd, successes)
    placed = np.sort(costs[won])
    return np.searchsorted(placed, np.asarray(budgets_usd, dtype=np.float64), side="right") / len(costs)


def auc(costs_usd: Numbers, successes: Flags, budget_max_usd: float) -> float:
    """(1 / B_max) times the integral of S from 0 to B_max, in closed form: the mean of s * max(0, 1 - c / B_max).

    1: everything succeeds for nothing; 0: nothing succeeds within ``budget_max_usd``.
    """
    if not 0 < budget_max_usd < float("inf"):
        raise ConfigError(f"The largest budget is {budget_max_usd}; allowed: a positive number of dollars.")
    costs, won = _checked(costs_usd, successes)
    return float(np.where(won, np.maximum(0.0, 1 - costs / budget_max_usd), 0.0).mean())


def at_budget(costs_usd: Numbers, successes: Flags, budget_usd: float) -> AtBudget:
    """What attempts give under one budget."""
    costs, won = _checked(costs_usd, successes)
    return AtBudget(
        budget_usd=budget_usd,
        success_within=float((won & (costs <= budget_usd)).mean()),
        over_budget=float((costs > budget_usd).mean()),
        cost_mean_usd=float(costs.mean()),
        success=float(won.mean()),
    )


def steps_of(costs_usd: Numbers, successes: Flags, most: int = 200) -> tuple[list[float], list[float]]:
    """The curve to draw: budgets at which S rises, and S there; thinned evenly to at most ``most`` of them."""
    costs, won = _checked(costs_usd, successes)
    budgets = np.unique(costs[won])
    if len(budgets) > most:
        budgets = budgets[np.unique(np.linspace(0, len(budgets) - 1, most).round().astype(np.int64))]
    return budgets.tolist(), success_within(costs, won, budgets).tolist()


def _checked(costs_usd: Numbers, successes: Flags) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    costs, won = np.asarray(costs_usd, dtype=np.float64), np.asarray(successes, dtype=np.bool_)
    if costs.shape != won.shape:
        raise ConfigError(f"{len(costs)} costs but {len(won)} outcomes; give one of each for every attempt.")
    if len(costs) == 0:
        raise ConfigError("A budget curve of no attempts. Give at least one attempt with a known cost.")
    if not bool((costs >= 0).all()):
        raise ConfigError("A cost is negative or not a number. Leave attempts of unknown cost out, and say how many.")
    return costs, won
