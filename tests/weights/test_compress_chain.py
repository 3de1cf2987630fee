"""The chain of compression on networks that were really trained: what passes is smaller and acts alike, what fails
leaves no trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from policy_examples import decisions

from potstill.distill.weights import gate
from potstill.distill.weights.compress.axes import axes_of, shrunk
from potstill.distill.weights.compress.chain import compress
from potstill.distill.weights.compress.cost import memory_bytes, size_bytes
from potstill.distill.weights.compress.gradients import products
from potstill.distill.weights.compress.quantize import in_bits, multiplied_out
from potstill.distill.weights.compress.recipe import Compression
from potstill.distill.weights.compress.scores import by_taylor, kept
from potstill.distill.weights.compress.stages import Verdict
from potstill.distill.weights.compress.subject import Subject, mlp_subject, reader_subject
from potstill.distill.weights.gate import Floor
from potstill.distill.weights.lineage import Manifest
from potstill.distill.weights.policies.mlp import MlpShape, VectorExamples, new_mlp
from potstill.distill.weights.policies.ranker import arrays_of
from potstill.distill.weights.train import ranker
from potstill.distill.weights.train.config import TrainConfig
from potstill.distill.weights.train.loop import train
from potstill.distill.weights.train.recipe import RankerRecipe
from potstill.distill.weights.train.teaching import teach
from potstill.edge.policy import Policy, network, open_policy
from potstill.errors import ConfigError

pytestmark = pytest.mark.extra
LEARN, HELD = decisions(160), decisions(60, seed=1)
ALIKE = Floor(agreement=0.9, kl_nats=None, difference=None)
ANYTHING = Floor(agreement=0.0, kl_nats=None, difference=None)


def opened(arrays: dict[str, Any], config: dict[str, Any]) -> Policy:
    return Policy(network(arrays, config), config, {}, arrays, 1.0)


@pytest.fixture(scope="module")
def subject() -> Subject:
    """A ranker that learnt the toy's rule."""
    recipe = RankerRecipe(width=16, train=TrainConfig(steps=80, learning_rate=5e-3, warmup=5, patience=0))
    prepared = ranker.prepare(LEARN, HELD, recipe)
    teach(prepared, recipe)
    return reader_subject(opened(arrays_of(prepared.network), prepared.network.shape.config()), LEARN, HELD)


@pytest.fixture(scope="module")
def circle() -> Subject:
    """A perceptron that knows in which quarter of the plane a point lies, wider than it needs to be."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(900, 2)).astype(np.float32)
    quarter = (points[:, 0] > 0).astype(int) + 2 * (points[:, 1] > 0)
    data = VectorExamples(points[:700], quarter[:700], action_count=4)
    shape = MlpShape(sizes=(2, 48, 24, 4))
    trained = new_mlp(shape, seed=0, normal=data.normal())
    train(trained, data, TrainConfig(steps=150, learning_rate=5e-3, warmup=5, patience=0))
    return mlp_subject(opened(arrays_of(trained), shape.config()), points[:700], quarter[:700], points[700:])


def test_the_whole_chain_makes_a_ranker_smaller_that_passes_into_a_file(subject: Subject, tmp_path: Path) -> None:
    recipe = Compression(
        width=10,
        distill_steps=160,
        prune=(0.25,),
        finetune_steps=30,
        bits=(8,),
        learning_rate=5e-3,
        batch=32,
        floor=ALIKE,
    )
    told: list[str] = []
    done = compress(subject, recipe, told=lambda row: told.append(row.stage))
    stages = {row.stage: row for row in done.rows}
    assert told == list(stages)
    assert list(stages) == ["as given", "distil into width 10", "prune 0.25", "prune 0.25, fine-tune", "8 bits"]
    assert done.rows[0].agreement == 1
    judged = [row for row in done.rows if row.verdict not in (Verdict.GIVEN, Verdict.UNTUNED)]
    assert [row.verdict for row in judged] == [Verdict.KEPT] * 3
    sizes = [row.size_bytes for row in (done.rows[0], *judged)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 0.4 * sizes[0]
    assert stages["8 bits"].parameters == stages["prune 0.25, fine-tune"].parameters
    assert done.state.config["width"] == 8
    trained = subject.side(subject.network(multiplied_out(done.state.written), done.state.config))
    written, parity = gate.export(
        tmp_path / "small",
        done.state.written,
        done.state.config,
        Manifest(),
        trained=trained,
        questions=subject.questions,
    )
    assert parity.passed
    assert open_policy(written.path).parameters == stages["8 bits"].parameters


def test_a_stage_that_fails_is_undone_and_the_next_starts_from_what_stood(subject: Subject) -> None:
    recipe = Compression(width=4, distill_steps=3, bits=(8,), floor=ALIKE)
    done = compress(subject, recipe)
    verdicts = {row.stage: row.verdict for row in done.rows}
    assert verdicts["distil into width 4"] is Verdict.UNDONE
    assert verdicts["8 bits"] is Verdict.KEPT
    assert done.state.config == subject.policy.config
    expected = in_bits(subject.policy.arrays, 8)
    assert {name: array.tobytes() for name, array in done.state.written.items()} == {
        name: array.tobytes() for name, array in expected.items()
    }


def test_what_is_done_decides_where_episodes_are_played(subject: Subject) -> None:
    """The logits pass; the episodes say otherwise."""
    calls: list[int] = []

    def play(policy: Policy) -> dict[tuple[str, int], bool]:
        calls.append(policy.parameters)
        return {(f"task-{index}", 0): len(calls) == 1 or index > 0 for index in range(10)}

    done = compress(subject, Compression(bits=(8,), floor=ALIKE), play=play)
    assert len(calls) == 2
    assert (done.rows[-1].success, done.rows[-1].verdict) == (0.9, Verdict.UNDONE)
    assert not done.smaller


def test_tasks_that_the_given_policy_does_not_do_prove_nothing_of_a_smaller_one(subject: Subject) -> None:
    """Equal failures are no success: no stage is played, and none is said to have passed by it."""
    calls: list[int] = []

    def play(policy: Policy) -> dict[tuple[str, int], bool]:
        calls.append(policy.parameters)
        return {("task", seed): False for seed in range(10)}

    done = compress(subject, Compression(bits=(8,), floor=ALIKE), play=play)
    assert len(calls) == 1
    assert [(row.verdict, row.success) for row in done.rows] == [(Verdict.GIVEN, 0.0), (Verdict.KEPT, None)]


def test_memory_is_that_of_the_arrays_and_of_what_they_are_opened_into(circle: Subject) -> None:
    """The file's bytes, and each matrix once more, since the runtime turns it; few bits are multiplied out."""
    arrays, config = dict(circle.policy.arrays), dict(circle.policy.config)
    matrices = 4 * (2 * 48 + 48 * 24 + 24 * 4)
    for written in (arrays, in_bits(arrays, 8)):
        held = memory_bytes(written, config, circle.questions[0])
        assert size_bytes(written, config) + matrices <= held < 4 * (size_bytes(arrays, config) + matrices)


def test_the_same_compression_gives_the_same_bytes(circle: Subject) -> None:
    recipe = Compression(prune=(0.5,), finetune_steps=10, bits=(8,), floor=ANYTHING)
    one, other = (compress(circle, recipe).state.written for _ in range(2))
    assert {name: array.tobytes() for name, array in one.items()} == {n: a.tobytes() for n, a in other.items()}


def test_rounds_of_pruning_go_on_until_one_is_undone(circle: Subject) -> None:
    """The second round would leave one unit in a layer: quarters of a plane cannot be told on a line."""
    recipe = Compression(prune=(0.5, 0.95), finetune_steps=80, bits=(8, 4), floor=ALIKE, learning_rate=5e-3)
    done = compress(circle, recipe)
    assert done.state.config["sizes"] == [2, 24, 12, 4]
    rows = {row.stage: row for row in done.rows}
    assert rows["prune 0.5, fine-tune"].verdict is Verdict.KEPT
    assert rows["prune 0.95, fine-tune"].verdict is Verdict.UNDONE
    assert rows["8 bits"].verdict is Verdict.KEPT
    assert rows["8 bits"].agreement >= 0.9
    assert rows["4 bits"].size_bytes < rows["8 bits"].size_bytes


def test_zeros_stay_zero_while_the_rest_is_tuned(circle: Subject) -> None:
    done = compress(circle, Compression(sparse=0.5, finetune_steps=40, floor=ANYTHING))
    for name, array in done.state.written.items():
        if name.endswith(".weight"):
            assert (array == 0).sum() == array.size // 2
            assert not np.array_equal(array, np.where(array == 0, 0, circle.policy.arrays[name]))
    assert done.rows[-1].size_bytes == done.rows[0].size_bytes, "zeros save no bytes in a dense file"
    assert done.rows[-1].zeros > 0.4


def test_units_that_taylor_keeps_decide_better_than_those_that_it_drops(circle: Subject) -> None:
    arrays, config = dict(circle.policy.arrays), dict(circle.policy.config)
    axis = axes_of(config)["layers.0"]
    trained = circle.network(arrays, config)
    scores = by_taylor(products(trained, circle.learn), axis)

    def agreement(units: list[int]) -> float:
        small, told = shrunk(arrays, config, "layers.0", units)
        theirs = network(small, told).logits(np.asarray(circle.questions))  # type: ignore[call-arg]
        ours = circle.policy.network.logits(np.asarray(circle.questions))  # type: ignore[call-arg]
        return float((theirs.argmax(axis=1) == ours.argmax(axis=1)).mean())

    assert agreement(kept(scores, 0.75)) > agreement(kept(-scores, 0.75)) + 0.05


def test_what_cannot_be_compressed_is_one_line(circle: Subject, subject: Subject) -> None:
    with pytest.raises(ConfigError, match=r"No axis named 'layers\.9'"):
        compress(circle, Compression(prune=(0.5,), axes=("layers.9",)))
    few = opened(in_bits(circle.policy.arrays, 8), dict(circle.policy.config))
    with pytest.raises(ConfigError, match="few bits already"):
        compress(circle._replace(policy=few), Compression(prune=(0.5,)))
    with pytest.raises(ConfigError, match="0 held out"):
        reader_subject(subject.policy, LEARN, [])
