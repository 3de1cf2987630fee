"""When all that a student costs has been paid back: by hand, and that it is the first such episode."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import ConfigError
from potstill.measure.breakeven import Investment, Upkeep, WhyNot, payback

dollars = st.integers(0, 100_000).map(lambda cents: cents / 100)


def test_by_hand() -> None:
    """$100 + $50 + $30 + $20 = $200; a dime saved less a cent of upkeep and $20 each 1,000 episodes: 200 / 0.07."""
    spent = Investment(collection_usd=100, labelling_usd=50, training_usd=30, evaluation_usd=20)
    keep = Upkeep(maintenance_usd=0.01, refresh_usd=20, refresh_every=1000)
    found = payback(spent, base_usd=0.15, new_usd=0.05, non_inferior=True, upkeep=keep)
    assert found.investment_usd == 200
    assert found.saving_per_episode_usd == pytest.approx(0.07)
    assert found.episodes == 2858  # 2,857.14 rounded up


def test_the_published_numbers_and_whole_quotients() -> None:
    alfworld = payback(Investment(collection_usd=29.50), base_usd=0.059, new_usd=0.024, non_inferior=True)
    appworld = payback(Investment(collection_usd=86.73), base_usd=0.589, new_usd=0.171, non_inferior=True)
    assert (alfworld.episodes, appworld.episodes) == (843, 208)  # the paper rounds 207.49 down to 207
    assert payback(Investment(training_usd=10), base_usd=0.3, new_usd=0.2, non_inferior=True).episodes == 100
    assert payback(Investment(), base_usd=0.3, new_usd=0.2, non_inferior=True).episodes == 0


def test_no_answer_without_quality_or_without_a_saving() -> None:
    worse = payback(Investment(training_usd=10), base_usd=1, new_usd=0.1, non_inferior=False)
    assert (worse.episodes, worse.why_not) == (None, WhyNot.INFERIOR)
    upkeep = Upkeep(refresh_usd=100, refresh_every=100)
    eaten = payback(Investment(training_usd=10), base_usd=1, new_usd=0.1, non_inferior=True, upkeep=upkeep)
    assert (eaten.episodes, eaten.why_not) == (None, WhyNot.NO_SAVING)
    assert eaten.saving_per_episode_usd == pytest.approx(-0.1)


@given(dollars, dollars, st.integers(1, 1000), st.integers(0, 1000))
def test_it_is_the_first_episode_at_which_the_saving_covers_the_investment(
    collected: float, trained: float, base_mills: int, new_mills: int
) -> None:
    base, new = base_mills / 1000, new_mills / 1000
    spent = Investment(collection_usd=collected, training_usd=trained)
    found = payback(spent, base_usd=base, new_usd=new, non_inferior=True)
    if found.episodes is None:
        assert new >= base
        return
    saving = found.saving_per_episode_usd
    assert found.episodes * saving >= spent.total_usd * (1 - 1e-9)
    assert (found.episodes - 1) * saving < spent.total_usd * (1 + 1e-9) or found.episodes == 0


@pytest.mark.parametrize(
    ("spent", "keep", "base"),
    [
        (Investment(labelling_usd=-1), Upkeep(), 1.0),
        (Investment(), Upkeep(refresh_every=0), 1.0),
        (Investment(), Upkeep(maintenance_usd=float("nan")), 1.0),
        (Investment(), Upkeep(), float("inf")),
    ],
)
def test_amounts_that_cannot_be(spent: Investment, keep: Upkeep, base: float) -> None:
    with pytest.raises(ConfigError, match="allowed"):
        payback(spent, base_usd=base, new_usd=0.1, non_inferior=True, upkeep=keep)
