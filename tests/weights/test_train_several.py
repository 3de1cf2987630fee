"""A student of several environments: agreement and success count each environment the same."""

from __future__ import annotations

import msgspec
import pytest

torch = pytest.importorskip("torch")

from policy_examples import decisions  # noqa: E402

from potstill.distill.weights.policies.ranker import arrays_of, new_ranker, ranker_shape  # noqa: E402
from potstill.distill.weights.policies.texts import TextExamples, vocabulary_of  # noqa: E402
from potstill.distill.weights.train.config import TrainConfig  # noqa: E402
from potstill.distill.weights.train.loop import agreement_of, agrees  # noqa: E402
from potstill.distill.weights.train.playing import Player, acting  # noqa: E402
from potstill.distill.weights.train.ranker import prepare, trained_side  # noqa: E402
from potstill.distill.weights.train.recipe import RankerRecipe  # noqa: E402
from potstill.distill.weights.train.several import Players, shares  # noqa: E402
from potstill.distill.weights.train.teaching import teach  # noqa: E402
from potstill.envs.registry import open_source  # noqa: E402

pytestmark = pytest.mark.extra
torch.set_num_threads(1)


def test_agreement_is_the_mean_of_the_environments_agreements() -> None:
    """Of 90 decisions the small environment's 10 want what the others do not: their share is half of the mean."""
    many = decisions(80)
    few = [msgspec.structs.replace(one, environment="other") for one in decisions(10, seed=3)]
    few = [msgspec.structs.replace(one, action=next(a for a in one.admissible if a != one.action)) for one in few]
    network = prepare(many, many[:5], RankerRecipe(width=8)).network
    mixed = TextExamples([*many[:40], *few, *many[40:]], network.shape.words())
    alone = [agreement_of(network, TextExamples(some, network.shape.words())) for some in (many, few)]
    right = agrees(network, mixed)
    assert alone == [pytest.approx((sum(right[:40]) + sum(right[50:])) / 80), pytest.approx(sum(right[40:50]) / 10)]
    assert agreement_of(network, mixed) == pytest.approx(sum(alone) / 2)
    assert agreement_of(network, mixed) != pytest.approx(sum(right) / 90)


def test_one_student_learns_two_environments() -> None:
    """In the second one the goal's thing is left, and the shelf is gone to first."""

    def other(count: int, seed: int) -> list:  # type: ignore[type-arg]
        return [
            msgspec.structs.replace(
                one,
                environment="yard",
                situation=msgspec.structs.replace(one.situation, goal="Leave it all and go.", past=()),
                action="go to shelf 1",
            )
            for one in decisions(count, seed)
        ]

    config = TrainConfig(epochs=8, batch=32, learning_rate=0.02, warmup=5)
    recipe = RankerRecipe(width=16, train=config)
    prepared = prepare([*decisions(200), *other(60, 5)], [*decisions(60, seed=1), *other(20, 6)], recipe)
    trained = teach(prepared, recipe)
    assert trained.best == pytest.approx(agreement_of(prepared.network, prepared.held_out))
    assert trained.best is not None
    assert trained.best > 0.85


def test_success_is_the_mean_of_the_environments_shares() -> None:
    """One of two tasks and one of one: 3/4, though two of three were done."""
    task = open_source("house-rules").tasks("train")[:1]
    with Players({"grid": Player("house-rules", task), "house": Player("house-rules", task)}) as players:
        assert players.success({("grid: a", 0): True, ("grid: b", 0): False, ("house: a", 0): True}) == 0.75


def test_players_of_several_environments_are_asked_as_one() -> None:
    train = open_source("house-rules").tasks("train")
    network = new_ranker(ranker_shape(vocabulary_of(decisions(5)), 8), seed=0)
    policy = acting(network)
    each = {
        "house-rules": Player("house-rules", train[:2], max_steps=6),
        "quiet house": Player("house-rules", train[2:5], max_steps=6, feedback="none"),
    }
    with Players(each) as players:
        found = players.outcomes(policy)
        assert players.outcomes_of(trained_side(network), policy) == found
        assert players(network) == pytest.approx(sum(shares(found).values()) / 2)
        assert players(network) == players.success(found)
    expected = [f"house-rules: {task.id}" for task in train[:2]] + [f"quiet house: {task.id}" for task in train[2:5]]
    assert [task for task, _ in found] == expected
    assert players.name.startswith("house-rules: 2 tasks ")
    assert "; quiet house: 3 tasks " in players.name
    assert arrays_of(network)
