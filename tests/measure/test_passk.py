"""pass^k and pass@k against counting by hand and by enumeration."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import ConfigError
from potstill.measure.passk import pass_at_k, pass_hat_k


def test_by_hand() -> None:
    """Tasks with 5, 3 and 0 of 5: C(5,3)=10 of 10, C(3,3)=1 of 10, none: 1.1 / 3."""
    assert pass_hat_k([5, 3, 0], [5, 5, 5], 3) == pytest.approx(1.1 / 3)
    assert pass_at_k([5, 3, 0], [5, 5, 5], 3) == pytest.approx((1 + 1 + 0) / 3)
    assert pass_hat_k([5, 3, 0], [5, 5, 5], 1) == pytest.approx(8 / 15)


def test_tasks_with_too_few_attempts_are_left_out() -> None:
    assert pass_hat_k([2, 1], [2, 1], 2) == 1.0
    assert pass_hat_k([2, 1], [2, 1], 3) is None


def test_thousands_of_attempts_do_not_overflow() -> None:
    assert pass_hat_k([9_000], [10_000], 500) == pytest.approx(math.comb(9_000, 500) / math.comb(10_000, 500))


@given(st.lists(st.booleans(), min_size=1, max_size=7), st.integers(1, 7))
def test_is_the_share_of_all_ways_to_choose_k(outcomes: list[bool], k: int) -> None:
    chosen = list(itertools.combinations(outcomes, k))
    found = pass_hat_k([sum(outcomes)], [len(outcomes)], k), pass_at_k([sum(outcomes)], [len(outcomes)], k)
    if not chosen:
        assert found == (None, None)
        return
    assert found[0] == pytest.approx(sum(all(one) for one in chosen) / len(chosen))
    assert found[1] == pytest.approx(sum(any(one) for one in chosen) / len(chosen))


@pytest.mark.parametrize(("c", "n", "k"), [([3], [2], 1), ([-1], [2], 1), ([1], [1, 2], 1), ([1], [2], 0)])
def test_counts_that_cannot_be_are_refused(c: list[int], n: list[int], k: int) -> None:
    with pytest.raises(ConfigError):
        pass_hat_k(c, n, k)
