"""Learning rates and orders of batches are functions of the step; nonsense in a configuration is refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.distill.weights.train.config import TrainConfig
from potstill.distill.weights.train.recipe import RankerRecipe
from potstill.distill.weights.train.schedule import rate_at, rows_of
from potstill.errors import ConfigError, UnknownName


def test_cosine_after_a_warmup_by_hand() -> None:
    rates = [rate_at(step, 12, peak=2.0, schedule="cosine", warmup=4) for step in (0, 3, 4, 8, 10)]
    assert rates == pytest.approx([0.5, 2.0, 2.0, 1.0, 1 + math.cos(math.pi * 0.75)])


def test_a_warmup_never_takes_more_than_half() -> None:
    assert rate_at(5, 10, peak=1.0, schedule="constant", warmup=1000) == 1.0


@given(st.integers(1, 50), st.integers(1, 20), st.integers(0, 5), st.integers(0, 3))
def test_every_epoch_has_each_decision_once(decisions: int, batch: int, seed: int, epoch: int) -> None:
    per_epoch = TrainConfig(batch=batch).steps_per_epoch(decisions)
    steps = range(epoch * per_epoch, (epoch + 1) * per_epoch)
    rows = [row for step in steps for row in rows_of(step, decisions=decisions, batch=batch, seed=seed)]
    assert sorted(rows) == list(range(decisions))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    first, second, other = (
        rows_of(step, decisions=40, batch=40, seed=seed).tolist() for step, seed in ((0, 0), (1, 0), (0, 1))
    )
    assert first != second != other != first
    assert first == rows_of(0, decisions=40, batch=40, seed=0).tolist()


def test_steps_stand_for_epochs_where_they_are_given() -> None:
    assert TrainConfig(epochs=3, batch=10).total(25) == 9
    assert TrainConfig(epochs=3, batch=10, steps=4).total(25) == 4


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"steps": 0},
        {"batch": 0},
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"clip": math.inf},
        {"weight_decay": -0.1},
        {"patience": -1},
        {"threads": 0},
    ],
)
def test_values_that_mean_nothing_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        TrainConfig(**wrong)


def test_a_schedule_that_does_not_exist_is_named() -> None:
    with pytest.raises(UnknownName, match="cosine"):
        TrainConfig(schedule="cosin")


def test_dropout_leaves_something() -> None:
    with pytest.raises(ConfigError, match="dropout"):
        RankerRecipe(dropout=1.0)


def test_a_width_that_makes_no_network_is_refused() -> None:
    with pytest.raises(ConfigError, match="width is 2"):
        RankerRecipe(width=2)
