"""Budget curves: worked by hand, and the closed form of the area against the curve itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import ConfigError
from potstill.measure.budget import at_budget, auc, steps_of, success_within

COSTS, WON = [0.1, 0.2, 0.4, 0.8], [True, False, True, True]
attempts = st.lists(st.tuples(st.floats(0, 10), st.booleans()), min_size=1, max_size=40)


def test_by_hand() -> None:
    assert success_within(COSTS, WON, [0.05, 0.1, 0.2, 0.4, 1.0]).tolist() == [0, 0.25, 0.25, 0.5, 0.75]
    # (0.9 + 0 + 0.6 + 0.2) / 4 at a largest budget of one dollar
    assert auc(COSTS, WON, 1.0) == pytest.approx(0.425)
    found = at_budget(COSTS, WON, 0.4)
    assert (found.success_within, found.over_budget, found.cost_mean_usd, found.success) == (
        0.5,
        0.25,
        pytest.approx(0.375),
        0.75,
    )
    assert steps_of(COSTS, WON) == ([0.1, 0.4, 0.8], [0.25, 0.5, 0.75])


@given(attempts, st.floats(0.1, 20))
def test_the_closed_form_is_the_area_under_the_curve(given_attempts: list[tuple[float, bool]], largest: float) -> None:
    costs, won = [a[0] for a in given_attempts], [a[1] for a in given_attempts]
    edges = np.unique(np.clip([0.0, *costs, largest], 0, largest))
    area = float((success_within(costs, won, edges[:-1]) * np.diff(edges)).sum()) / largest
    assert auc(costs, won, largest) == pytest.approx(area, abs=1e-9)


@given(attempts)
def test_more_money_never_buys_less(given_attempts: list[tuple[float, bool]]) -> None:
    costs, won = [a[0] for a in given_attempts], [a[1] for a in given_attempts]
    curve = success_within(costs, won, np.linspace(0, 11, 50))
    assert (np.diff(curve) >= 0).all()
    assert curve[-1] == pytest.approx(sum(won) / len(won))


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    budgets, success = steps_of(list(np.linspace(0.01, 1, 5_000)), [True] * 5_000, most=50)
    assert len(budgets) == 50
    assert (budgets[0], budgets[-1], success[-1]) == (0.01, 1.0, 1.0)


@pytest.mark.parametrize(("costs", "won"), [([], []), ([1.0], []), ([-1.0], [True]), ([float("nan")], [True])])
def test_what_cannot_be_placed_is_refused(costs: list[float], won: list[bool]) -> None:
    with pytest.raises(ConfigError):
        auc(costs, won, 1.0)


def test_a_budget_of_nothing_has_no_area() -> None:
    with pytest.raises(ConfigError, match="positive"):
        auc([1.0], [True], 0.0)
