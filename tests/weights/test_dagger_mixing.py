"""How beta falls and how a budget of labels is shared out."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.distill.weights.train.mixing import SCHEDULES, Beta, Dagger, beta_of, part_of, wave_of
from potstill.errors import ConfigError, UnknownName

starts = st.floats(0, 1)


@pytest.mark.parametrize(
    ("text", "betas"),
    [
        ("constant:0.3", [0.3, 0.3, 0.3, 0.3]),
        ("linear:0.9", [0.9, 0.6, 0.3, 0.0]),
        ("exponential:0.5", [0.5, 0.25, 0.125, 0.0625]),
    ],
)
def test_beta_by_hand(text: str, betas: list[float]) -> None:
    assert [beta_of(text).at(index, 4) for index in range(4)] == pytest.approx(betas)


@given(st.sampled_from(sorted(SCHEDULES)), starts, st.integers(1, 20))
def test_beta_is_a_probability_that_never_rises(schedule: str, start: float, rounds: int) -> None:
    betas = [Beta(schedule=schedule, start=start).at(index, rounds) for index in range(rounds)]
    assert betas[0] == pytest.approx(start)
    assert all(0 <= beta <= 1 for beta in betas)
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(betas))


@given(st.integers(0, 10_000), st.integers(1, 50))
def test_parts_are_the_whole_and_nearly_equal(total: int, parts: int) -> None:
    shares = [part_of(total, parts, index) for index in range(parts)]
    assert sum(shares) == total
    assert max(shares) - min(shares) <= 1


@given(st.integers(1, 5000), st.integers(1, 200), st.integers(1, 32))
def test_a_wave_never_asks_for_more_than_is_left(left: int, max_steps: int, episodes: int) -> None:
    wave = wave_of(left, max_steps, episodes=episodes)
    assert 1 <= wave.episodes <= episodes
    assert 1 <= wave.most <= max_steps
    assert wave.episodes * wave.most <= left
    assert wave.most == max_steps or wave.episodes == 1, "only a single last episode is cut short"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: beta_of("linaer:0.5"), "Did you mean 'linear'"),
        (lambda: beta_of("linear"), "--beta linear:0.5"),
        (lambda: beta_of("constant:1.5"), "beta starts at 1.5"),
        (lambda: Dagger(rounds=0, labels=5), "Allowed: 1 or more rounds"),
        (lambda: Dagger(rounds=3, labels=2), "at least one for each round"),
    ],
)
def test_what_means_nothing_is_one_line(make: object, said: str) -> None:
    with pytest.raises((ConfigError, UnknownName)) as error:
        make()  # type: ignore[operator]
    assert said in str(error.value)
    assert "\n" not in str(error.value)
