"""The loop learns, keeps the best, stops when nothing gets better, and says in one line why it does not begin."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from policy_examples import decisions  # noqa: E402

from potstill.distill.weights.data.labelled import Evidence  # noqa: E402
from potstill.distill.weights.losses.config import Kind, Loss  # noqa: E402
from potstill.distill.weights.policies.mlp import MlpShape, VectorExamples, new_mlp  # noqa: E402
from potstill.distill.weights.policies.ranker import arrays_of  # noqa: E402
from potstill.distill.weights.train.config import TrainConfig  # noqa: E402
from potstill.distill.weights.train.loop import Diverged, Ended, Keeping, agreement_of, train  # noqa: E402
from potstill.distill.weights.train.ranker import prepare  # noqa: E402
from potstill.distill.weights.train.recipe import RankerRecipe  # noqa: E402
from potstill.distill.weights.train.teaching import teach  # noqa: E402
from potstill.errors import ConfigError  # noqa: E402

pytestmark = pytest.mark.extra
torch.set_num_threads(1)
QUICK = TrainConfig(epochs=12, batch=32, learning_rate=0.02, warmup=5)


def recipe(**changes: object) -> RankerRecipe:
    return RankerRecipe(width=16, train=msgspec.structs.replace(QUICK, **changes))


def corners(count: int = 200) -> VectorExamples:
    """Which of four quarters a point lies in."""
    points = np.random.default_rng(1).normal(size=(count, 2)).astype(np.float32)
    return VectorExamples(points, (points[:, 0] > 0) * 2 + (points[:, 1] > 0), action_count=4)


def small(seed: int = 0) -> object:
    return new_mlp(MlpShape(sizes=(2, 16, 4)), seed=seed)


def test_a_ranker_learns_what_its_teacher_does_in_tasks_that_it_never_saw() -> None:
    ours = recipe(epochs=8)
    prepared = prepare(decisions(240), decisions(80, seed=1), ours)
    before = agreement_of(prepared.network, prepared.held_out)
    trained = teach(prepared, ours)
    after = agreement_of(prepared.network, prepared.held_out)
    assert before < 0.6
    assert after > 0.9
    assert (trained.best, trained.measured_by) == (after, "agreement")


def test_a_perceptron_learns_from_a_teacher_s_logits() -> None:
    hard = corners()
    logits = np.where(np.eye(4)[hard.batch(np.arange(200)).target_B], 4.0, 0.0)
    points = hard.batch(np.arange(200)).inputs.numpy()
    data = VectorExamples(points, logits.argmax(1), action_count=4, logits=logits)
    network = small()
    config = msgspec.structs.replace(QUICK, epochs=40, loss=Loss(kind=Kind.SOFT, temperature=2.0))
    train(network, data, config, held_out=corners(100))
    assert agreement_of(network, data) > 0.95


def test_the_same_seed_gives_the_same_bytes_and_another_does_not() -> None:
    made = []
    for seed in (4, 4, 5):
        ours = recipe(epochs=1, seed=seed)
        prepared = prepare(decisions(60), decisions(20, seed=1), ours)
        torch.rand(3)  # what the caller draws elsewhere does not matter
        teach(prepared, ours)
        made.append(arrays_of(prepared.network)["hidden.weight"].tobytes())
    assert made[0] == made[1] != made[2]


def test_the_best_weights_are_kept_and_patience_ends_it() -> None:
    told = iter([0.2, 0.6, 0.5, 0.6, 0.1, 0.9])
    seen: list[dict] = []

    def evaluate(network: object) -> float:
        seen.append({name: value.clone() for name, value in network.state_dict().items()})
        return next(told)

    network = small()
    trained = train(network, corners(), msgspec.structs.replace(QUICK, patience=3), evaluate=evaluate)
    assert (trained.ended, trained.measured_by, trained.best) == (Ended.PATIENCE, "success", 0.6)
    assert [look.success for look in trained.history] == [0.2, 0.6, 0.5, 0.6, 0.1]
    assert trained.best_step == trained.history[1].step
    assert all(torch.equal(value, seen[1][name]) for name, value in network.state_dict().items())


def test_an_evaluator_that_draws_random_numbers_changes_no_weight() -> None:
    networks = [small(), small()]
    for network, evaluate in zip(networks, (lambda n: 0.5, lambda n: float(torch.rand(()))), strict=True):
        train(network, corners(), msgspec.structs.replace(QUICK, epochs=2, patience=0), evaluate=evaluate)
        assert not network.training
    first, second = (agreement_of(network, corners()) for network in networks)
    assert 0 < first <= 1
    assert 0 < second <= 1


def test_nothing_held_out_keeps_the_last_weights() -> None:
    trained = train(small(), corners(), msgspec.structs.replace(QUICK, steps=9))
    assert (trained.steps, trained.best_step, trained.best, trained.measured_by) == (9, 9, None, "nothing")


def test_a_loss_that_is_no_number_ends_it_and_says_where() -> None:
    with pytest.raises(Diverged, match=r"At step \d+ the loss is .*smaller learning rate"):
        train(small(), corners(), msgspec.structs.replace(QUICK, learning_rate=1e30, clip=1e30, warmup=0))


def test_data_that_teach_nothing_are_refused_before_the_first_step() -> None:
    for data, said in (
        (VectorExamples(np.zeros((0, 2)), [], action_count=4), "no decision"),
        (VectorExamples(np.zeros((3, 2)), [1, 1, 1], action_count=4), "the same in every decision"),
    ):
        with pytest.raises(ConfigError, match=said):
            train(small(), data, QUICK)
    with pytest.raises(ConfigError, match="held out"):
        train(small(), corners(), QUICK, held_out=VectorExamples(np.zeros((0, 2)), [], action_count=4))


def test_a_soft_loss_without_a_distribution_is_refused_before_the_first_step() -> None:
    with pytest.raises(ConfigError, match="kind=hard"):
        train(small(), corners(), msgspec.structs.replace(QUICK, loss=Loss(kind=Kind.SOFT)))


def test_votes_of_a_cascade_are_soft_labels() -> None:
    voted = [
        msgspec.structs.replace(
            one, evidence=Evidence.VOTES, votes=tuple(5 * int(action == one.action) for action in one.admissible)
        )
        for one in decisions(100)
    ]
    ours = recipe(epochs=2, loss=Loss(kind=Kind.SOFT))
    prepared = prepare(voted, decisions(20, seed=1), ours)
    looks = teach(prepared, ours).history
    assert looks[-1].loss < looks[0].loss


def test_weights_of_zero_are_not_learnt_from() -> None:
    points = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]] * 10, np.float32)
    right, wrong = np.array([0, 1, 2, 3] * 10), np.array([1, 0, 3, 2] * 10)
    data = VectorExamples(
        np.concatenate([points, points]),
        np.concatenate([right, wrong]),
        action_count=4,
        weights=np.repeat([1.0, 0.0], 40),
    )
    network = small()
    train(network, data, msgspec.structs.replace(QUICK, epochs=60))
    assert agreement_of(network, data) == 0.5


def test_only_the_proportion_of_weights_matters() -> None:
    data = corners()
    batch = data.batch(np.arange(len(data)))
    points, labels = batch.inputs.numpy(), batch.target_B.numpy()
    made = []
    for weights in (None, np.full(len(data), 3.0)):
        network = small()
        train(network, VectorExamples(points, labels, action_count=4, weights=weights), QUICK)
        made.append(arrays_of(network)["layers.0.weight"])
    np.testing.assert_allclose(*made, atol=1e-4)


def test_ctrl_c_while_episodes_are_played_keeps_the_steps_before(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"

    def interrupted(network: object) -> float:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second Ctrl-C interrupts at once")

    config = msgspec.structs.replace(QUICK, evaluate_every=3)
    with pytest.raises(KeyboardInterrupt):
        train(small(), corners(), config, evaluate=interrupted, keeping=Keeping(path, every_steps=1000))
    kept = torch.load(path, weights_only=True)["progress"]
    assert (kept["step"], kept["looked_at"]) == (3, 0)


def test_ctrl_c_waits_for_the_step_and_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    steps: list[int] = []

    def press(progress: object, total: int) -> None:
        steps.append(progress.step)
        if progress.step == 5:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(small(), corners(), QUICK, keeping=Keeping(path, every_steps=1000), watch=press)
    assert steps[-1] == 5
    assert torch.load(path, weights_only=True)["progress"]["step"] == 5
    with pytest.raises(KeyboardInterrupt):  # the handler of before is back
        os.kill(os.getpid(), signal.SIGINT)
