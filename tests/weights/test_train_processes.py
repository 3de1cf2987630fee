"""Two processes that share each batch end with the weights of one that has the whole of it; a failing one ends all."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from broken_examples import FailingAtAStep  # noqa: E402
from policy_examples import decisions  # noqa: E402

from potstill.distill.weights.data.labelled import Evidence, Labelled  # noqa: E402
from potstill.distill.weights.losses.balance import Part  # noqa: E402
from potstill.distill.weights.losses.config import Kind, Loss  # noqa: E402
from potstill.distill.weights.policies.mlp import MlpShape, VectorExamples, new_mlp  # noqa: E402
from potstill.distill.weights.policies.ranker import arrays_of  # noqa: E402
from potstill.distill.weights.train.adaptive import Adaptive  # noqa: E402
from potstill.distill.weights.train.config import TrainConfig  # noqa: E402
from potstill.distill.weights.train.loop import agreement_of, train  # noqa: E402
from potstill.distill.weights.train.processes import ProcessLost, started  # noqa: E402
from potstill.distill.weights.train.progress import Progress  # noqa: E402
from potstill.distill.weights.train.ranker import prepare  # noqa: E402
from potstill.distill.weights.train.recipe import MlpRecipe, RankerRecipe  # noqa: E402
from potstill.distill.weights.train.teaching import Prepared, teach  # noqa: E402
from potstill.errors import ConfigError  # noqa: E402

pytestmark = pytest.mark.extra
torch.set_num_threads(1)
SOFT = Loss(kind=Kind.SOFT, temperature=2.0)


def weighted(count: int) -> list[Labelled]:
    """With 91 an epoch's last batch has one row, which two processes cannot share; every third weighs nothing."""
    return [
        msgspec.structs.replace(
            one,
            weight=float(index % 3),
            evidence=Evidence.VOTES,
            votes=tuple(4 * int(action == one.action) + place % 2 for place, action in enumerate(one.admissible)),
        )
        for index, one in enumerate(decisions(count))
    ]


class Step(NamedTuple):
    loss: float
    norms: list[float]
    gradient: np.ndarray


def steps_of(ready: Prepared, recipe: RankerRecipe | MlpRecipe) -> list[Step]:
    """What a training finds: the shown loss, a mix's mean norms and the gradient, step by step and look by look."""
    seen: list[Step] = []

    def watch(progress: Progress, total: int) -> None:
        gradient = np.concatenate([value.grad.reshape(-1).numpy() for value in ready.network.parameters()])
        seen.append(Step(progress.loss or 0.0, list(progress.norms), gradient))

    done = teach(ready, recipe, watch=watch)
    assert (done.others_cpu_s > 0) == (recipe.train.processes > 1)
    return seen


def of_ranker(**changes: object) -> list[Step]:
    """With weights that hardly move: Adam steps as far along a direction without any gradient (a shift of all of a
    decision's logits), so two trainings that move part by rounding alone."""
    config = TrainConfig(batch=9, evaluate_every=8, patience=0, learning_rate=1e-7)
    train = msgspec.structs.replace(config, **changes)
    recipe = RankerRecipe(width=8, dropout=0.0, train=train)
    return steps_of(prepare(weighted(91), decisions(30, seed=1), recipe), recipe)


@pytest.mark.parametrize(
    "changes",
    [
        {"mix": (Part(loss=Loss(kind=Kind.HARD)), Part(loss=SOFT, share=3.0)), "steps": 24},
        {"loss": SOFT, "adaptive": Adaptive(temperature=(4.0, 1.0), curriculum=(0.5, 1.0)), "steps": 16},
    ],
    ids=["mix", "adaptive"],
)
def test_two_processes_find_the_gradients_of_one(changes: dict) -> None:
    alone, together = (of_ranker(**changes, processes=count) for count in (1, 2))
    assert len({step.gradient.tobytes() for step in alone}) > 10
    for one, two in zip(alone, together, strict=True):
        assert two.loss == pytest.approx(one.loss, rel=1e-5), "the loss of the whole batch is shown"
        assert two.norms == pytest.approx(one.norms, rel=1e-5)
        np.testing.assert_allclose(two.gradient, one.gradient, atol=1e-5 * max(np.abs(one.gradient).max(), 1e-3))


def test_two_processes_end_with_the_weights_of_one() -> None:
    points = np.random.default_rng(1).normal(size=(101, 2)).astype(np.float32)
    target = ((points[:, 0] > 0) * 2 + (points[:, 1] > 0)).astype(np.int64)
    data = VectorExamples(points, target, action_count=4, weights=1.0 + np.arange(101) % 3)
    made = []
    for count in (1, 2):
        train = TrainConfig(steps=60, batch=10, patience=0, warmup=2, learning_rate=0.02, processes=count)
        ready = Prepared(new_mlp(MlpShape(sizes=(2, 16, 4)), seed=0), data, data)
        before = agreement_of(ready.network, data)
        steps_of(ready, MlpRecipe(width=16, train=train))
        made.append(arrays_of(ready.network))
        assert agreement_of(ready.network, data) > before + 0.3
    for name, expected in made[0].items():
        np.testing.assert_allclose(made[1][name], expected, atol=1e-4, err_msg=name)


def test_what_ends_another_process_ends_the_training_in_one_line() -> None:
    points = np.random.default_rng(1).normal(size=(20, 2)).astype(np.float32)
    examples = FailingAtAStep(points, (points[:, 0] > 0).astype(np.int64), action_count=2)
    network = new_mlp(MlpShape(sizes=(2, 4, 2)), seed=0)
    config = TrainConfig(steps=5, batch=4, processes=2)
    with (
        pytest.raises(
            ProcessLost, match=r"Process 2 failed \(ValueError: no such row\) at step 1, .*--resume"
        ) as error,
        started(network, examples, config) as together,
    ):
        train(network, examples, config, gradients=together)
    assert "\n" not in str(error.value)
    assert not torch.distributed.is_initialized()


def test_what_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"processes is 3, and a step has 2 decisions .*--processes 2"):
        TrainConfig(batch=2, processes=3)
    points = np.eye(4, dtype=np.float32)
    data = VectorExamples(points, [0, 1, 2, 3], action_count=4)
    with pytest.raises(ConfigError, match="processes is 2, and this student is trained by one"):
        train(new_mlp(MlpShape(sizes=(4, 8, 4)), seed=0), data, TrainConfig(steps=2, processes=2))
