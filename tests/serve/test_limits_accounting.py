"""The arithmetic of limits: buckets, meters, carried fractions of a micro-dollar."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.serve.tenants.limits import NOTHING, Amount, Bucket, Carry, Means, Meter, day_of, until_tomorrow_s

NOON = 20_000 * 86400 + 43200.0


def test_a_minutes_requests_go_at_once_and_then_one_by_one() -> None:
    bucket = Bucket(3, NOON)
    for _ in range(3):
        assert bucket.wait_s(NOON) == 0.0
        bucket.take()
    assert bucket.wait_s(NOON) == pytest.approx(20.0)  # 60 s / 3
    assert bucket.wait_s(NOON + 19.0) == pytest.approx(1.0)
    assert bucket.wait_s(NOON + 20.0) == 0.0


@given(
    per_minute=st.integers(1, 50),
    gaps=st.lists(st.floats(0.0, 30.0, allow_nan=False), max_size=150),
)
def test_no_window_lets_more_through_than_said(per_minute: int, gaps: list[float]) -> None:
    bucket, now, taken = Bucket(per_minute, 0.0), 0.0, []
    for gap in gaps:
        now += gap
        if bucket.wait_s(now) == 0.0:
            bucket.take()
            taken.append(now)
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            allowed = per_minute * (1.0 + (taken[last] - taken[first]) / 60.0)
            assert last - first + 1 <= allowed + 1e-6


@given(per_minute=st.integers(1, 100), start=st.floats(0, 1e9))
def test_a_wait_that_was_told_is_enough(per_minute: int, start: float) -> None:
    bucket = Bucket(per_minute, start)
    for _ in range(per_minute):
        bucket.take()
    wait = bucket.wait_s(start)
    assert 0.0 < wait <= 60.0 / per_minute + 1e-6
    assert bucket.wait_s(start + wait + 0.01) == 0.0


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    bucket = Bucket(1, NOON)
    bucket.take()
    assert bucket.wait_s(NOON - 3600.0) > 0.0
    assert bucket.wait_s(NOON + 30.0) == pytest.approx(30.0)


def test_what_others_took_is_at_most_a_minutes_debt() -> None:
    bucket = Bucket(60, NOON)
    bucket.drain(100_000)
    assert bucket.wait_s(NOON) == pytest.approx(61.0)


@given(st.lists(st.floats(0.0, 50.0, allow_nan=False), max_size=200))
def test_micro_dollars_add_up_exactly(costs: list[float]) -> None:
    carry = Carry()
    micros = sum(carry.micros(usd) for usd in costs)
    picos = sum(round(Fraction(usd * 1e12)) for usd in costs)
    assert micros == picos // 1_000_000


def test_many_tiny_costs_are_not_nothing() -> None:
    carry = Carry()
    assert sum(carry.micros(0.0000001) for _ in range(1000)) == 100


class Accountant:
    """Two processes' meters over one store, and the truth beside them."""

    def __init__(self) -> None:
        self.store, self.truth = NOTHING, NOTHING
        self.meters = [Meter(5), Meter(5)]

    def spend(self, who: int, amount: Amount) -> None:
        self.truth = self.truth.plus(amount)
        self.meters[who].add(*amount)

    def flush(self, who: int, *, written: bool, read: bool) -> None:
        meter = self.meters[who]
        meter.flush_begins()
        flushing = meter.flushing
        if written:
            self.store = self.store.plus(flushing)
        meter.flush_ends(5, self.store if read and written else None, NOTHING if written else flushing)


amounts = st.builds(Amount, micros=st.integers(0, 10**9), tokens=st.integers(0, 10**6), requests=st.integers(0, 3))


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("spend"), st.integers(0, 1), amounts),
            st.tuples(st.just("flush"), st.integers(0, 1), st.booleans(), st.booleans()),
        ),
        max_size=60,
    )
)
def test_no_order_of_spending_and_failing_writes_loses_or_doubles_anything(acts: list[tuple[object, ...]]) -> None:
    books = Accountant()
    for act in acts:
        if act[0] == "spend":
            books.spend(act[1], act[2])  # type: ignore[arg-type]
        else:
            books.flush(act[1], written=act[2], read=act[3])  # type: ignore[arg-type]
    for meter in books.meters:
        assert meter.spent.micros <= books.truth.micros
        assert (meter.spent_micros, meter.spent_tokens) == meter.spent[:2]
    for who in (0, 1, 0, 1):
        books.flush(who, written=True, read=True)
    assert books.store == books.truth
    assert [meter.spent for meter in books.meters] == [books.truth, books.truth]


def test_a_new_day_begins_at_nothing_but_what_is_held_stays_held() -> None:
    meter = Meter(5)
    meter.add(7, 0, 1)
    meter.hold(100, 50)
    meter.enter(6)
    assert meter.spent == NOTHING
    assert (meter.held_micros, meter.held_tokens) == (100, 50)
    meter.enter(5)
    assert meter.day == 6


def test_an_answer_about_yesterday_changes_nothing_today() -> None:
    meter = Meter(5)
    meter.add(7, 0, 0)
    meter.flush_begins()
    meter.enter(6)
    meter.add(2, 0, 0)
    assert meter.flush_ends(5, Amount(micros=1000)) == 0
    assert meter.spent == Amount(micros=2)


def test_requests_of_others_are_told_once() -> None:
    meter = Meter(5)
    meter.flush_begins()
    assert meter.flush_ends(5, Amount(requests=40)) == 0  # what was there before this process came
    meter.add(0, 0, 2)
    meter.flush_begins()
    assert meter.flush_ends(5, Amount(requests=45)) == 3
    meter.flush_begins()
    assert meter.flush_ends(5, Amount(requests=45)) == 0


def test_the_day_is_utc() -> None:
    assert day_of(86399.9) == 0
    assert day_of(86400.0) == 1
    assert until_tomorrow_s(86400.0 * 3 - 1.5) == pytest.approx(1.5)


def test_means_move_and_do_not_grow_without_bound() -> None:
    means = Means()
    means.see(("t", "r"), 1.0, 100)
    means.see(("t", "r"), 2.0, 200)
    assert means.get(("t", "r")) == (pytest.approx(1.1), pytest.approx(110.0))
    for index in range(Means.NAMES + 5):
        means.see(("t", str(index)), 1.0, 1)
    assert means.get(("t", "r")) is None
    assert means.get(("t", str(Means.NAMES))) is not None
