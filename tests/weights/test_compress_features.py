"""Features that are matched while distilling: what their distance is, that it is learnt, and that no map is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import grid_examples  # noqa: E402
import policy_examples  # noqa: E402

import policy_files as files  # noqa: E402
from command_line import Here, call, expert_store  # noqa: E402
from potstill.distill.weights.compress.chain import compress  # noqa: E402
from potstill.distill.weights.compress.features import apart, matching, read_by  # noqa: E402
from potstill.distill.weights.compress.recipe import Compression  # noqa: E402
from potstill.distill.weights.compress.subject import Subject, mlp_subject, reader_subject  # noqa: E402
from potstill.distill.weights.gate import Floor  # noqa: E402
from potstill.distill.weights.lineage import read  # noqa: E402
from potstill.distill.weights.losses.config import Loss  # noqa: E402
from potstill.distill.weights.policies.batch import Batch  # noqa: E402
from potstill.distill.weights.policies.film import film_shape, new_film  # noqa: E402
from potstill.distill.weights.policies.mlp import MlpShape, new_mlp  # noqa: E402
from potstill.distill.weights.policies.ranker import arrays_of, new_ranker, ranker_shape  # noqa: E402
from potstill.distill.weights.policies.texts import vocabulary_of  # noqa: E402
from potstill.distill.weights.train.config import TrainConfig  # noqa: E402
from potstill.distill.weights.train.loop import train  # noqa: E402
from potstill.distill.weights.train.objectives import Standing  # noqa: E402
from potstill.edge.policy import Policy, network  # noqa: E402
from potstill.errors import ConfigError  # noqa: E402

pytestmark = pytest.mark.extra
torch.set_num_threads(1)
ANYTHING = Floor(agreement=0.0, kl_nats=None, difference=None)


def opened(trained: Any) -> Policy:
    arrays = {name: 3 * array for name, array in arrays_of(trained).items()}  # its features then differ more
    config = trained.shape.config()
    return Policy(network(arrays, config), config, {}, arrays, 1.0)


def subject_of(kind: str) -> Subject:
    """A policy with its first weights: its features are as good as any to be matched."""
    if kind == "mlp":
        rng = np.random.default_rng(0)
        points = rng.normal(size=(80, 3)).astype(np.float32)
        shape = MlpShape(sizes=(3, 16, 8, 2))
        return mlp_subject(opened(new_mlp(shape, seed=0)), points[:60], (points[:60, 0] > 0).astype(int), points[60:])
    toy: Any = policy_examples if kind == "ranker" else grid_examples
    learn, held = toy.decisions(60), toy.decisions(12, seed=1)
    if kind == "ranker":
        return reader_subject(opened(new_ranker(ranker_shape(vocabulary_of(learn), 12), seed=0)), learn, held)
    shape_ = film_shape(("red", "green", "blue"), grid_examples.ACTIONS, 12)
    return reader_subject(opened(new_film(shape_, seed=0)), learn, held)


def distance(subject: Subject, student: Any) -> float:
    """The share of the variance of the given policy's features that the best linear map leaves."""
    given = subject.network(subject.policy.arrays, subject.policy.config)
    batch = subject.learn.batch(np.arange(len(subject.learn)))
    seen = []
    for one in (student, given):
        with torch.no_grad(), read_by(subject.last(one)) as found:
            one(batch.inputs)
        seen.append(found[0].numpy() - found[0].numpy().mean(axis=0))
    ours, theirs = seen
    mapped = np.linalg.lstsq(ours, theirs, rcond=None)[0]
    return float(((ours @ mapped - theirs) ** 2).mean() / (theirs**2).mean())


@pytest.mark.parametrize("kind", ["ranker", "film", "mlp"])
def test_every_kind_of_student_comes_nearer_to_the_given_ones_features(kind: str) -> None:
    subject = subject_of(kind)
    given = subject.network(subject.policy.arrays, subject.policy.config)
    config = TrainConfig(steps=90, learning_rate=1e-2, warmup=0, batch=32, loss=Loss())
    plain, matched = (subject.fresh(8, 0)[0] for _ in range(2))
    train(plain, subject.learn, config)
    beside, gradients = matching(matched, given, subject.last, 3.0, seed=0)
    train(beside, subject.learn, config, gradients=gradients)
    assert set(arrays_of(matched)) == set(arrays_of(plain)), "the map is no part of the student"
    assert not any(layer._forward_pre_hooks for layer in matched.modules())
    assert distance(subject, matched) < 0.95 * distance(subject, plain)


def test_a_distance_by_hand() -> None:
    """Theirs without their mean (5, 1): (2, 0), (-2, 0), of variance 8 / 4 = 2. Ours without (0, 3): (1, 1), (-1, -1).
    Rows: (1 + 1) / 2 = 1 each, over 2."""
    ours, theirs = torch.tensor([[1.0, 4.0], [-1.0, 2.0]]), torch.tensor([[7.0, 1.0], [3.0, 1.0]])
    two = Batch(None, None, torch.tensor([0, 0]), None, None)
    assert float(apart(ours, theirs, two)) == pytest.approx(0.5)
    assert float(apart(7 * ours, 7 * theirs, two)) == pytest.approx(0.5)
    assert float(apart(theirs - 9, theirs, two)) == 0
    nothing = torch.nn.Linear(2, 2, bias=False)
    torch.nn.init.zeros_(nothing.weight)
    assert float(apart(ours, theirs, two, nothing).detach()) == pytest.approx(1.0)
    assert float(apart(ours[:1], theirs[:1], Batch(None, None, torch.tensor([0]), None, None))) == 0


def test_a_decision_with_many_actions_counts_as_one_with_few() -> None:
    """Rows are actions: one of the first decision, two of the second. Their distances 1, 4 and 1 (theirs, centred, are
    -1, 2, -1, of variance 2): the second's are halved, and it weighs three times as much."""
    ours, theirs = torch.zeros(3, 1), torch.tensor([[4.0], [7.0], [4.0]])
    mask = torch.tensor([[True, False, False], [True, False, True]])
    batch = Batch(None, mask, torch.tensor([0, 2]), None, torch.tensor([1.0, 3.0]))
    assert float(apart(ours, theirs, batch)) == pytest.approx((1 * 1 + 3 * (4 + 1) / 2) / 4 / 2)


def test_the_given_policy_learns_nothing_and_the_map_does() -> None:
    subject = subject_of("ranker")
    given = subject.network(subject.policy.arrays, subject.policy.config)
    student, _ = subject.fresh(4, 0)
    before = torch.get_rng_state()
    beside, gradients = matching(student, given, subject.last, 1.0, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    gradients(beside, subject.learn, np.arange(8), TrainConfig(), Standing(0, 0.0, []))
    assert all(value.grad is None for value in given.parameters())
    assert float(beside.mapped.weight.grad.abs().sum()) > 0
    assert {id(value) for value in beside.parameters()} > {id(value) for value in student.parameters()}


def test_a_recipe_of_features_that_means_nothing_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"narrower student is distilled. Type for example: --width 32"):
        Compression(features=1.0, bits=(8,))
    for weight in (-1.0, 101.0, float("nan")):
        with pytest.raises(ConfigError, match="weight of features is"):
            Compression(features=weight, width=8)
    config = {**files.MLP, "sizes": [4, 3]}
    arrays = files.mlp_arrays(config)
    linear = Policy(network(arrays, config), config, {}, arrays, 1.0)
    vectors = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    subject = mlp_subject(linear, vectors, np.arange(9) % 3, vectors)
    with pytest.raises(ConfigError, match="linear policy has no hidden layer"):
        compress(subject, Compression(features=1.0, width=8))


def test_the_command_matches_features_and_says_so(tmp_path: Path, here: Here) -> None:
    db, student, small = (tmp_path / name for name in ("taught.db", "student.policy", "small.policy"))
    words = ("--epochs", 1, "--width", 8, "--held-out", 0.3)
    assert call("distill", "weights", "--db", expert_store(db, 10), "--out", student, *words) == 0
    words = ("--width", 4, "--distill-steps", 3, "--features", 0.5, "--least-agreement", 0, "--most-kl", 9)
    done = here("compress", student, "--out", small, *words)
    assert done.code == 0, done.err
    assert read(small).manifest.configuration["compression"]["features"] == 0.5
    done = here("compress", student, "--out", small, "--int8", "--features", 1)
    assert done.code == 2
    assert "--width 32" in done.err
