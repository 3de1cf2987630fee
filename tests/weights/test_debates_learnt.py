"""What debates tell apart is learnt: a ranker that its teacher's decisions leave in doubt follows them."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from potstill.distill.weights.data.labelled import Labelled
from potstill.distill.weights.debates.contrast import contrast, mixed
from potstill.distill.weights.debates.graph import Debate, Turn
from potstill.distill.weights.losses.config import Kind, Loss
from potstill.distill.weights.train import ranker
from potstill.distill.weights.train.config import TrainConfig
from potstill.distill.weights.train.recipe import RankerRecipe
from potstill.distill.weights.train.teaching import teach
from potstill.types import Situation

pytestmark = pytest.mark.extra
OFFERED = ("open the red box", "open the blue box", "wait")


def decision(goal: str, action: str) -> Labelled:
    return Labelled(
        environment="house",
        task_id=goal,
        trajectory_id=goal,
        step_index=0,
        situation=Situation(goal=goal),
        admissible=OFFERED,
        action=action,
    )


def debate(number: int, right: str, wrong: str) -> Debate:
    return Debate(
        id=str(number),
        environment="house",
        task_id=str(number),
        split="train",
        situation=Situation(goal=f"find the ball of {number}"),
        admissible=OFFERED,
        right=(right,),
        turns=(Turn(speaker="a", action=right), Turn(speaker="b", action=wrong)),
    )


@pytest.mark.parametrize("loss", [Loss(kind=Kind.MARGIN), Loss(kind=Kind.HARD)])
@pytest.mark.parametrize("right", OFFERED[:2])
def test_the_student_follows_whoever_was_right(loss: Loss, right: str) -> None:
    """The teacher opened both boxes equally often, so that which one is better is known from debates alone."""
    taught = [decision(f"task {n}", OFFERED[n % 2]) for n in range(8)]
    wrong = next(action for action in OFFERED[:2] if action != right)
    rows = mixed(taught, contrast([debate(n, right, wrong) for n in range(6)]).decisions, 0.5)
    train = TrainConfig(steps=60, batch=14, loss=loss, learning_rate=1e-2, warmup=0, evaluate_every=60)
    recipe = RankerRecipe(width=8, dropout=0.0, train=train)
    asked = decision("find the ball of 77", right)
    prepared = ranker.prepare(rows, [asked], recipe)
    teach(prepared, recipe)
    (logits,) = ranker.trained_side(prepared.network)(ranker.questions_of([asked]))
    scores = dict(zip(OFFERED, logits.tolist(), strict=True))
    assert scores[right] > scores[wrong] + 0.5
