"""The multilayer perceptron in PyTorch is the one of ``edge``; vectors that do not fit are refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from potstill.distill.weights.policies.mlp import Mlp, MlpShape, VectorExamples, new_mlp  # noqa: E402
from potstill.distill.weights.policies.ranker import arrays_of  # noqa: E402
from potstill.edge.mlp import Mlp as EdgeMlp  # noqa: E402
from potstill.errors import ConfigError  # noqa: E402

pytestmark = pytest.mark.extra
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("normalised", [True, False])
def test_it_computes_what_the_runtime_computes(activation: str, normalised: bool) -> None:
    vectors = RNG.normal(3, 2, (30, 5)).astype(np.float32)
    data = VectorExamples(vectors, RNG.integers(0, 4, 30), action_count=4)
    shape = MlpShape(sizes=(5, 16, 8, 4), activation=activation)
    network = new_mlp(shape, seed=1, normal=data.normal() if normalised else None).eval()
    with torch.no_grad():
        found = network(data.batch(np.arange(30)).inputs).numpy()
    np.testing.assert_allclose(found, EdgeMlp(arrays_of(network), shape.config()).logits(vectors), atol=1e-5)


def test_normal_makes_mean_zero_and_deviation_one_and_leaves_constants() -> None:
    vectors = np.array([[1, 7], [3, 7]], np.float32)
    mean, scale = VectorExamples(vectors, [0, 1], action_count=2).normal()
    assert mean.tolist() == [2, 7]
    assert scale.tolist() == [1, 1]  # the deviation of 1 and 3 is 1; the constant keeps its scale
    assert ((vectors - mean) * scale).tolist() == [[-1, 0], [1, 0]]


def test_a_teacher_s_logits_become_its_distribution() -> None:
    logits = np.array([[0, math.log(3)], [-math.inf, 0]])
    batch = VectorExamples(np.zeros((2, 1)), [1, 1], action_count=2, logits=logits).batch(np.arange(2))
    np.testing.assert_allclose(batch.probabilities_BA, [[0.25, 0.75], [0, 1]])


def test_weights_are_carried_only_where_they_differ() -> None:
    rows = np.arange(2)
    alike = VectorExamples(np.zeros((2, 1)), [0, 1], action_count=2).batch(rows)
    assert alike.weight_B is None
    assert alike.weights().tolist() == [1.0, 1.0]
    apart = VectorExamples(np.zeros((2, 1)), [0, 1], action_count=2, weights=[2, 0.5]).batch(rows)
    assert apart.weights().tolist() == apart.weight_B.tolist() == [2.0, 0.5]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"actions": [0, 2]}, "action spaces differ"),
        ({"actions": [0]}, "one row"),
        ({"observations": [[math.nan], [0]]}, "Decision 0"),
        ({"weights": [1, math.inf]}, "Decision 1"),
        ({"weights": [1, -1]}, "weight below 0"),
        ({"logits": np.zeros((2, 3))}, "action spaces differ"),
        ({"logits": np.array([[0, math.nan], [0, 0]])}, "no distribution"),
    ],
)
def test_data_that_do_not_fit_are_refused(arguments: dict, said: str) -> None:
    given = {"observations": np.zeros((2, 1)), "actions": [0, 1], **arguments}
    with pytest.raises(ConfigError, match=said):
        VectorExamples(given.pop("observations"), given.pop("actions"), action_count=2, **given)


@pytest.mark.parametrize(("actions", "said"), [([], "no decision"), ([1, 1], "the same")])
def test_what_teaches_nothing_is_said_before(actions: list[int], said: str) -> None:
    assert said in (VectorExamples(np.zeros((len(actions), 1)), actions, action_count=2).problem() or "")


def test_sizes_that_make_no_network_are_refused() -> None:
    for wrong in ({"sizes": (3,)}, {"sizes": (3, 1)}, {"sizes": (3, 2), "actions": ("a",)}):
        with pytest.raises(ConfigError):
            MlpShape(**wrong)


def test_dropout_is_for_training_alone() -> None:
    network: Mlp = new_mlp(MlpShape(sizes=(4, 32, 3)), seed=0, dropout=0.5)
    vectors = torch.ones(2, 4)
    assert not torch.equal(network.train()(vectors), network(vectors))
    assert torch.equal(network.eval()(vectors), network(vectors))
