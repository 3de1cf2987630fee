"""What a bullet costs and would have to be worth: hand-worked, from dated prices."""

from __future__ import annotations

import pytest

from potstill.distill.playbook.credit.rent import Rent, charge_of, worth
from potstill.distill.playbook.credit.report import rent_of
from potstill.distill.playbook.credit.tally import Tally
from potstill.distill.playbook.credit.use import Charge, Use
from potstill.measure.ledger import cost_of
from potstill.measure.prices import PriceTable
from potstill.types import Answerer, Call, Reply, Usage

ROW = {"input": 0.1, "output": 5.0, "cache_read": 0.01, "cache_write": 0.125}


def call(usage: Usage | None, model: str = "made-up") -> Call:
    return Call(model=model, answerer=Answerer.STUDENT, replies=(Reply(text="go"),), usage=usage)


@pytest.fixture
def table() -> PriceTable:
    return PriceTable.load(prices={"models": {"made-up": ROW}}, date="2026-11-21")


def usage(input: int, read: int = 0, written: int = 0) -> Usage:
    return Usage(input_tokens=input, cache_read_tokens=read, cache_write_tokens=written, output_tokens=9)


def test_a_rent_by_hand(table: PriceTable) -> None:
    """40 tokens in 1,000 calls, a quarter uncached at $0.10 a million and three quarters read at $0.01: 10,000 tokens
    cost $0.001 and 30,000 cost $0.0003."""
    charge = charge_of([cost_of(call(usage(1000, read=750)), table)] * 1000)
    assert (charge.calls, charge.unpriced_calls) == (1000, 0)
    tally = Tally().add_all([Use(episode="t", shown=("b-1",), charge=charge)])
    rent = rent_of(40, tally.counts()["b-1"])
    assert rent.usd == pytest.approx(0.0013)
    assert rent.calls == 1000
    assert rent.episodes == 1


def test_what_is_written_to_a_cache_costs_its_own_price(table: PriceTable) -> None:
    charge = charge_of([cost_of(call(usage(1000, written=1000)), table)])
    assert charge.usd_per_token * 1e6 == pytest.approx(0.125)


def test_the_price_is_that_of_the_day() -> None:
    model = "claude-haiku-5-5"
    prices = {
        day: charge_of([cost_of(call(usage(1000), model), PriceTable.load(date=day))]).usd_per_token
        for day in ("2026-11-21",)
    }
    assert prices["2026-11-21"] * 1e6 == pytest.approx(PriceTable.load(date="2026-11-21").price(model).rates.input)


def test_what_is_not_known_is_not_nothing(table: PriceTable) -> None:
    unknown = charge_of([cost_of(call(None), table)])
    assert (unknown.calls, unknown.unpriced_calls) == (1, 1)
    rent = rent_of(40, Tally().add_all([Use(episode="t", shown=("b-1",), charge=unknown)]).counts()["b-1"])
    assert rent.usd is None
    assert rent.usd_per_episode is None


def test_cpu_time_has_no_price_of_a_token() -> None:
    timed = PriceTable.load(prices={}, cpu_hour_usd=0.05)
    local = Call(model="local:smollm2-135m", answerer=Answerer.STUDENT, usage=usage(100), cpu_s=3.0)
    assert charge_of([cost_of(local, timed)]).unpriced_calls == 1


def test_half_of_the_calls_priced_says_what_an_episode_costs() -> None:
    """$0.30 for 3 of 6 calls, in 2 episodes: $0.30 an episode."""
    assert Rent(tokens=1, calls=6, unpriced_calls=3, usd=0.3, episodes=2).usd_per_episode == pytest.approx(0.3)


def test_a_bullet_at_single_steps_pays_for_these() -> None:
    use = Use(
        episode="t",
        shown=("b-1", "b-2"),
        charge=Charge(calls=10, usd_per_token=1e-6),
        step_charges=(("b-2", Charge(calls=2, usd_per_token=2e-7)),),
    )
    counts = Tally().add_all([use, use]).counts()
    assert rent_of(50, counts["b-1"]).usd == pytest.approx(1e-4)
    assert rent_of(50, counts["b-2"]).usd == pytest.approx(2e-5)


def test_break_even_and_value_by_hand() -> None:
    """$0.002 an episode: an effect of .1 breaks even at $0.02 a success. At $0.05 each, 100 episodes bring $0.5."""
    rent = Rent(tokens=40, calls=100, usd=0.2, episodes=100)
    found = worth(rent, 0.1, (0.05, 0.2), value_of_success=0.05)
    assert found.break_even_usd == pytest.approx(0.02)
    assert found.break_even_interval == pytest.approx((0.01, 0.04))
    assert found.value_usd == pytest.approx(0.5)
    assert found.value_interval == pytest.approx((0.25, 1.0))
    assert found.net_usd == pytest.approx(0.3)


def test_nothing_is_said_of_value_without_the_value_of_a_success() -> None:
    found = worth(Rent(tokens=40, calls=100, usd=0.2, episodes=100), 0.1, (-0.05, 0.2))
    assert (found.value_usd, found.value_interval, found.net_usd) == (None, None, None)
    assert found.break_even_interval == (pytest.approx(0.01), None)


def test_what_does_not_help_never_breaks_even() -> None:
    rent = Rent(tokens=40, calls=100, usd=0.2, episodes=100)
    assert worth(rent, -0.1, (-0.3, -0.05)).break_even_usd is None
    assert worth(rent, None, (-1.0, 1.0)).break_even_usd is None
    assert worth(Rent(tokens=40), 0.1, (0.0, 0.2)).break_even_interval is None
