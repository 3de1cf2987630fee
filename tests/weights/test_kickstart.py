"""Reinforcement from a teacher: worked numbers of each formula, a world it learns, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from potstill.distill.weights.policies.mlp import Mlp, MlpShape, new_mlp  # noqa: E402
from potstill.distill.weights.policies.ranker import arrays_of  # noqa: E402
from potstill.distill.weights.train.kickstart import clipped_loss, kickstart  # noqa: E402
from potstill.distill.weights.train.kickstart_config import KickstartConfig, pull_at  # noqa: E402
from potstill.distill.weights.train.returns import advantages  # noqa: E402
from potstill.distill.weights.train.simulators import Actors  # noqa: E402
from potstill.errors import ConfigError  # noqa: E402

pytestmark = pytest.mark.extra


class Sides:
    """A reward of 1 for the side on which the number is; an episode is cut after 8 steps, or ends at a wrong side."""

    def __init__(self, *, strict: bool = False, bad: float | None = None) -> None:
        self._strict, self._bad = strict, bad

    def reset(self, *, seed: int) -> tuple[Any, dict[str, Any]]:
        self._rng, self._steps = np.random.default_rng(seed), 0
        return self._seen(), {}

    def step(self, action: int) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        right = (self._place > 0) == (action == 1)
        self._steps += 1
        reward = float(right) if self._bad is None or self._steps < 3 else self._bad
        return self._seen(), reward, self._strict and not right, self._steps == 8, {}

    def _seen(self) -> np.ndarray:
        self._place = self._rng.normal()
        return np.array([self._place, self._rng.normal()], np.float32)


def sure(seen: np.ndarray) -> np.ndarray:
    """The teacher: nearly always right."""
    return np.stack([np.where(seen[:, 0] > 0, -3.0, 3.0), np.zeros(len(seen))], axis=1)


def student(seed: int = 0) -> Mlp:
    return new_mlp(MlpShape(sizes=(2, 8, 2), activation="tanh"), seed=seed)


def config(**changed: Any) -> KickstartConfig:
    return KickstartConfig(**{"environment_steps": 1280, "environments": 4, "horizon": 32, **changed})


def column(*values: float) -> np.ndarray:
    return np.array(values, np.float64)[:, None]


def test_advantages_by_hand() -> None:
    """delta = (1 + .5*2 - 1, 2 + .5*4 - 2, 3 - 4) = (1, 2, -1), the last one ended; discount * mixture = 1/4."""
    no, ended = np.zeros((3, 1), bool), np.array([[False], [False], [True]])
    given_ = (column(1, 2, 3), column(1, 2, 4), column(2, 4, 9))
    found = advantages(*given_, ended, no, discount=0.5, mixture=0.5)
    assert found.ravel().tolist() == [1 + (2 - 0.25) / 4, 2 - 0.25, -1.0]
    # cut after the second step: the sum stops there, yet what was seen last counts; and the third has its next value
    cut = np.array([[False], [True], [False]])
    found = advantages(*given_, no, cut, discount=0.5, mixture=0.5)
    assert found.ravel().tolist() == [1.5, 2.0, 3 + 4.5 - 4]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-10, 10), min_size=1, max_size=12), st.floats(0, 1), st.data())
def test_with_mixture_1_advantages_are_returns_less_values(rewards: list[float], discount: float, data: Any) -> None:
    values = data.draw(st.lists(st.floats(-10, 10), min_size=len(rewards), max_size=len(rewards)))
    ended = np.zeros((len(rewards), 1), bool)
    ended[-1] = True
    no = np.zeros_like(ended)
    following = column(*values[1:], 0.0)
    found = advantages(column(*rewards), column(*values), following, ended, no, discount=discount, mixture=1.0)
    returns = [sum(discount**k * r for k, r in enumerate(rewards[t:])) for t in range(len(rewards))]
    np.testing.assert_allclose(found.ravel(), np.array(returns) - np.array(values), atol=1e-8)
    deltas = advantages(column(*rewards), column(*values), following, ended, no, discount=discount, mixture=0.0)
    np.testing.assert_allclose(deltas, column(*rewards) + discount * following * ~ended - column(*values), atol=1e-12)


def test_the_clipped_loss_by_hand() -> None:
    ratio, advantage = torch.tensor([1.5, 0.5, 1.5, 0.5]), torch.tensor([1.0, 1.0, -1.0, -1.0])
    # better actions gain at most 1.2; worse ones are pushed down fully, and no more once they are below 0.8
    torch.testing.assert_close(clipped_loss(ratio, advantage, 0.2), torch.tensor([-1.2, -0.5, 1.5, 0.8]))


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 1))
def test_the_weight_falls_from_its_beginning_to_nothing(one: float, other: float, until: float) -> None:
    settled = config(pull=3.0, fades_until=until)
    early, late = sorted((one, other))
    assert 3.0 >= pull_at(early, settled) >= pull_at(late, settled) >= 0
    assert pull_at(0.0, settled) == 3.0
    assert pull_at(until, settled) == 0.0


def test_actors_begin_anew_and_tell_whole_returns() -> None:
    actors = Actors([Sides(), Sides(strict=True)], seed=3)
    played = actors.play(lambda seen: sure(seen) * 10, 20)
    assert played.rewards_TE.shape == (20, 2)
    assert played.returns[:2] == (8.0, 8.0)
    assert played.cut_TE[7].all()
    assert not played.ended_TE.any()
    assert (played.next_observations_TED[:7] == played.observations_TED[1:8]).all()
    assert not (played.next_observations_TED[7] == played.observations_TED[8]).any()
    wrong = Actors([Sides(strict=True)], seed=3).play(lambda seen: -sure(seen) * 10, 4)
    assert wrong.ended_TE.all()
    assert wrong.returns == (0.0,) * 4


def test_it_learns_from_rewards_alone() -> None:
    told = kickstart(student(), Sides, config(environment_steps=4480, learning_rate=0.01))
    assert told[-1].environment_steps == 4480
    assert told[0].mean_return is not None
    assert told[0].mean_return < 6
    assert (told[-1].mean_return or 0) > 7
    assert told[0].kl_nats is None


def test_a_teacher_makes_it_faster_and_is_asked_no_longer_than_it_weighs() -> None:
    asked = []

    def teacher(seen: np.ndarray) -> np.ndarray:
        asked.append(len(seen))
        return sure(seen)

    settled = config(learning_rate=0.01, pull=5.0, fades_until=0.5, entropy=0.0)
    with_it = kickstart(student(), Sides, settled, teacher=teacher)
    without = kickstart(student(), Sides, config(learning_rate=0.01, entropy=0.0))
    assert asked == [4, *[128] * 5]  # once to see that shapes fit, then five of ten rounds
    kl_nats = [one.kl_nats for one in with_it[:5]]
    assert kl_nats[0] is not None
    assert kl_nats[-1] is not None
    assert kl_nats[-1] < kl_nats[0] / 2
    assert with_it[5].kl_nats is None
    assert (with_it[3].mean_return or 0) > (without[3].mean_return or 0) + 1


def test_equal_seeds_are_equal_weights() -> None:
    made = []
    for seed in (1, 1, 2):
        network = student()
        kickstart(network, Sides, config(environment_steps=256, seed=seed))
        made.append(b"".join(array.tobytes() for array in arrays_of(network).values()))
    assert made[0] == made[1] != made[2]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_reward_that_is_no_number_is_refused_before_it_spoils_a_weight(bad: float) -> None:
    network = student()
    before = {name: array.copy() for name, array in arrays_of(network).items()}
    with pytest.raises(ConfigError, match=rf"The reward of environment 0 at step 2 is {bad}"):
        kickstart(network, lambda: Sides(bad=bad), config())
    assert all((arrays_of(network)[name] == array).all() for name, array in before.items())


@pytest.mark.parametrize(
    ("network", "teacher", "settled", "said"),
    [
        (MlpShape(sizes=(3, 2)), None, {}, "shows 2 numbers, the student takes 3"),
        (MlpShape(sizes=(2, 3)), sure, {"pull": 1.0}, "action spaces differ"),
        (MlpShape(sizes=(2, 2)), None, {"pull": 1.0}, "no teacher"),
        (MlpShape(sizes=(2, 2)), lambda seen: sure(seen) * np.nan, {"pull": 1.0}, "no distribution"),
    ],
)
def test_what_does_not_fit_is_told_first(network: MlpShape, teacher: Any, settled: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        kickstart(new_mlp(network, seed=0), Sides, config(**settled), teacher=teacher)


@pytest.mark.parametrize(
    "wrong",
    [
        {"environment_steps": 100},
        {"learning_rate": 0.0},
        {"discount": 1.1},
        {"fades_until": 0.0},
        {"fades_until": 1.5},
        {"pull": -1.0},
        {"pull": math.nan},
        {"minibatches": 0},
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        config(**wrong)
