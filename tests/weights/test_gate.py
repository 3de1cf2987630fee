"""The parity gate: equal sides pass, and each way in which an export can be wrong is found and named."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import policy_files as files
from potstill.distill.weights import gate
from potstill.distill.weights.gate import COMPRESSED, EXACT, Floor, GateFailed, Parity, compare
from potstill.distill.weights.gate_shapes import LONG, Question, shaped
from potstill.distill.weights.gate_success import success
from potstill.distill.weights.lineage import Manifest, read
from potstill.edge.layers import SCALE, quantized
from potstill.edge.mlp import Mlp
from potstill.edge.policy import open_policy
from potstill.edge.ranker import Ranker
from potstill.errors import ConfigError
from potstill.types import Past, Situation

PLACES = ["shelf 1", "shelf 2", "cabinet 1", "cabinet 2"]


def questions(n: int = 12) -> list[Question]:
    drawn = np.random.default_rng(0)
    found = []
    for number in range(n):
        past = tuple(
            Past(observation=f"You see {PLACES[turn % 4]}.", action=f"go to {PLACES[turn % 4]}")
            for turn in range(number % 5)
        )
        actions = tuple(f"go to {place}" for place in drawn.permutation(PLACES)[: 2 + number % 3])
        goal = f"put a mug in {PLACES[number % 4]}"
        found.append(
            Question(situation=Situation(goal=goal, observation=f"You are at {number}.", past=past), admissible=actions)
        )
    return found


def side(ranker: Ranker, change: Any = lambda question, logits: logits) -> gate.Side:
    """A network that answers in batches, as a trained one does."""
    return lambda asked: [
        change(one, ranker.logits(msgspec.to_builtins(one.situation), list(one.admissible))) for one in asked
    ]


RANKER = Ranker(files.ranker_arrays(), files.RANKER)


def test_equal_sides_pass_in_every_shape_and_batch() -> None:
    found = compare(side(RANKER), side(RANKER), questions())
    assert found.passed
    assert found.differing == ()
    assert {(row.shape, row.batch) for row in found.rows} == {
        (shape, batch)
        for shape in ("as recorded", "no past", "long past", "one action", "half the actions")
        for batch in gate.BATCHES
    }
    assert all(row.agreement == 1 and row.kl_nats == 0 and row.difference == 0 for row in found.rows)


@pytest.mark.parametrize(("apart", "largest", "passes"), [(4.4e-4, 1.0, True), (2e-3, 1.0, False), (2e-3, 4.0, False)])
def test_rounding_may_turn_a_near_tie_around_and_nothing_else(apart: float, largest: float, passes: bool) -> None:
    """One of 34 decisions changes. A tie is within a thousandth of a nat, however large the logits are; one
    disagreement is 3 %."""
    ours, theirs = np.array([largest, largest - apart]), np.array([largest - apart, largest])
    asked = [[float(index)] for index in range(34)]
    exported = [theirs, *[ours] * 33]
    found = compare(lambda some: [ours] * len(some), lambda _: exported, asked, floor=COMPRESSED, batches=[34])
    assert found.passed == passes
    assert found.rows[0].agreement == (1 if passes else 33 / 34)
    exact = msgspec.structs.replace(COMPRESSED, tie_nats=EXACT.tie_nats)
    assert not compare(lambda some: [ours] * len(some), lambda _: exported, asked, floor=exact, batches=[34]).passed


def test_the_table_by_hand() -> None:
    """Logits (0, ln 3) against (ln 3, 0): KL = .25 ln(.25/.75) + .75 ln(.75/.25) = .5 ln 3; the difference is ln 3."""
    ours, theirs = np.log([1.0, 3.0]), np.log([3.0, 1.0])
    found = compare(
        lambda asked: [ours] * len(asked), lambda asked: [ours, theirs][: len(asked)], [[0.0], [1.0]], batches=[2]
    )
    (row,) = found.rows
    assert row.agreement == 0.5
    assert row.kl_most_nats == pytest.approx(0.5 * np.log(3))
    assert row.kl_nats == pytest.approx(0.25 * np.log(3))
    assert row.difference == pytest.approx(np.log(3) / np.log(3))
    (one,) = found.differing
    assert (one.index, one.trained, one.exported) == (1, "1", "0")


def test_actions_that_are_equally_likely_are_the_same_decision() -> None:
    ours, theirs = np.array([1.0, 1.0]), np.array([1.0, 1.0 + 1e-6])
    assert compare(lambda asked: [ours] * len(asked), lambda asked: [theirs] * len(asked), [[0.0]]).passed
    apart = np.array([1.1, 1.0])
    assert not compare(lambda asked: [apart] * len(asked), lambda asked: [theirs] * len(asked), [[0.0]]).passed


def frozen_length(question: Question, logits: Any) -> Any:
    """An export that was traced with five turns and cuts what is longer."""
    return logits if len(question.situation.past) <= 5 else logits[::-1].copy()


def test_an_export_that_froze_its_length_fails_though_all_recorded_questions_agree() -> None:
    found = compare(side(RANKER), side(RANKER, frozen_length), questions())
    assert not found.passed
    assert {one.shape for one in found.differing} == {"long past"}
    assert all(row.agreement == 1 for row in found.rows if row.shape == "as recorded")


def test_a_side_that_depends_on_its_batch_fails() -> None:
    def leaky(asked: Any) -> Any:
        return [logits + 0.5 * len(asked) * np.arange(len(logits)) for logits in side(RANKER)(asked)]

    found = compare(leaky, lambda asked: [leaky([one])[0] for one in asked], questions())
    assert not found.passed
    assert {row.batch for row in found.rows if row.difference > 0} == {3, 32}


def test_inputs_that_differ_are_named_and_counted() -> None:
    def wrong(question: Question, logits: Any) -> Any:
        return -logits if question.situation.observation == "You are at 7." else logits

    found = compare(side(RANKER), side(RANKER, wrong), questions())
    assert {one.index for one in found.differing} == {7}
    assert "You are at 7." in found.differing[0].question
    assert found.differing[0].trained in questions()[7].admissible
    assert found.differing_in_all >= len(found.differing)
    assert str(GateFailed(found)).startswith("The exported policy does not act as the trained one")
    assert "question 7" in str(GateFailed(found))


def test_many_questions_are_asked_elsewhere_by_an_even_sample() -> None:
    found = shaped(questions(170))
    assert len(found["as recorded"]) == 170
    assert [index for index, _ in found["no past"]] == list(range(0, 170, 4))
    assert all(len(question.situation.past) == LONG for _, question in found["long past"])
    assert {len(question.admissible) for _, question in found["one action"]} == {1}


def write(tmp_path: Path, **options: Any) -> tuple[Any, Parity]:
    given = {"trained": side(RANKER), "questions": questions(), **options}
    arrays = given.pop("arrays", files.ranker_arrays())
    return gate.export(tmp_path / "student", arrays, files.RANKER, Manifest(), **given)


def test_what_passes_is_written_with_its_table(tmp_path: Path) -> None:
    written, parity = write(tmp_path)
    assert parity.passed
    assert read(tmp_path / "student").manifest.metrics["parity"] == parity.summary()
    assert parity.summary()["agreement"] == 1
    assert written.manifest == read(tmp_path / "student").manifest


def test_what_fails_is_not_written(tmp_path: Path) -> None:
    arrays = files.ranker_arrays()
    arrays["hidden.weight"] = arrays["hidden.weight"][::-1].copy()
    with pytest.raises(GateFailed, match=r"Nothing was written\.") as caught:
        write(tmp_path, arrays=arrays)
    assert os.listdir(tmp_path) == []
    assert "\n" not in str(caught.value)
    assert caught.value.parity.differing


def small() -> dict[str, Any]:
    arrays: dict[str, Any] = dict(files.ranker_arrays())
    for name in [name for name in arrays if name.endswith(".weight")]:
        arrays[name], arrays[name + SCALE] = quantized(arrays[name])
    return arrays


def test_fewer_bits_pass_a_lower_floor_only(tmp_path: Path) -> None:
    with pytest.raises(GateFailed):
        write(tmp_path, arrays=small())
    with pytest.raises(GateFailed, match=r"\): still 'go to .+', .+ nats and .+ from what it was;? ") as caught:
        write(tmp_path, arrays=small(), floor=Floor(agreement=0, kl_nats=1e-9, difference=None, tie_nats=0.5))
    assert "became" not in str(caught.value)
    written, parity = write(tmp_path, arrays=small(), floor=Floor(agreement=0.5, kl_nats=0.05, difference=None))
    assert 0 < max(row.difference for row in parity.rows) < 0.5
    assert open_policy(written.path).parameters == sum(array.size for array in files.ranker_arrays().values())


def test_a_perceptron_passes_too(tmp_path: Path) -> None:
    arrays = files.mlp_arrays()
    trained, vectors = Mlp(arrays, files.MLP), np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    _, parity = gate.export(
        tmp_path / "m", arrays, files.MLP, Manifest(), trained=trained.logits, questions=list(vectors)
    )
    assert [row.shape for row in parity.rows] == ["as recorded"] * 3
    assert max(row.difference for row in parity.rows) < 1e-5


def constant(*logits: float) -> gate.Side:
    return lambda asked: [np.array(logits)] * len(asked)


@pytest.mark.parametrize(
    ("trained", "exported", "asked", "says"),
    [
        (constant(1), constant(1), [], "no held-out questions"),
        (constant(1, 2), constant(1, 2, 3), [[0.0]], "2 logits where the exported one has 3"),
        (constant(1, 2), constant(1, 2), questions(2)[1:], r"shape \(2,\) for 3 actions"),
        (constant(1, float("nan")), constant(1, 2), [[0.0]], "not finite"),
        (constant(), constant(), [[0.0]], "shape"),
        (lambda asked: [], constant(1), [[0.0]], "answered 0 of 1"),
    ],
)
def test_sides_that_cannot_be_compared(trained: Any, exported: Any, asked: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        compare(trained, exported, asked)


def test_the_floors_that_come_with_it() -> None:
    assert EXACT.agreement == 1
    assert EXACT.difference is not None
    assert COMPRESSED.agreement < 1


def outcomes(*won: bool) -> dict[tuple[str, int], bool]:
    return {(f"task-{number}", 0): bool(one) for number, one in enumerate(won)}


def test_success_by_hand() -> None:
    """Ten pairs, two lost and one won: 7/10 against 6/10; McNemar's exact p of (2, 1) is 1."""
    ours, theirs = outcomes(*[1] * 7, 0, 0, 0), outcomes(0, 0, *[1] * 6, 0, 0)
    found = success(ours, theirs)
    assert (found.trained, found.exported) == (0.7, 0.6)
    assert found.difference == pytest.approx(-0.1)
    assert found.interval[0] < -0.1 < 0 < found.interval[1]
    assert found.p_mcnemar == 1
    assert found.lost == (("task-0", 0), ("task-1", 0))
    assert not found.passed
    assert success(ours, theirs, margin=0.1).passed
    assert success(theirs, ours).passed


@pytest.mark.parametrize(
    ("ours", "theirs"), [({}, {}), (outcomes(1), outcomes(1, 1)), (outcomes(1), {("other", 0): True})]
)
def test_success_needs_the_same_episodes(ours: Any, theirs: Any) -> None:
    with pytest.raises(ConfigError, match="same tasks and seeds"):
        success(ours, theirs)


def test_an_export_that_fails_tasks_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(GateFailed, match=r"succeeded in 50.0% of 2 episodes, .* lost: task-1 \(seed 0\)") as caught:
        write(tmp_path, play=lambda policy: (outcomes(1, 1), outcomes(1, 0)))
    assert os.listdir(tmp_path) == []
    assert caught.value.parity.differing == ()
    _, parity = write(tmp_path, play=lambda policy: (outcomes(1, 0), outcomes(1, 0)))
    told = read(tmp_path / "student").manifest.metrics["parity"]["success"]
    assert (told["episodes"], told["trained"], told["exported"]) == (2, 0.5, 0.5)
    assert parity.success is not None
    assert parity.success.passed


def test_no_episode_is_played_where_the_logits_differ_already(tmp_path: Path) -> None:
    def play(policy: Any) -> Any:
        raise AssertionError("played")

    with pytest.raises(GateFailed):
        write(tmp_path, arrays=small(), play=play)


@pytest.mark.extra
def test_a_network_of_pytorch_passes_the_gate_into_a_file_below_a_megabyte_in_eight_bits(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'potstill[weights]'")
    from potstill.distill.weights.policies.ranker import arrays_of, new_ranker, ranker_shape
    from potstill.distill.weights.train.ranker import trained_side

    words = [f"{first}{second}" for first in "abcdefghij" for second in "abcdefghij"]
    network = new_ranker(ranker_shape([*files.VOCABULARY, *words]), seed=3)
    arrays, config = arrays_of(network), network.shape.config()
    given = {"trained": trained_side(network), "questions": questions(40)}
    _, parity = gate.export(tmp_path / "student", arrays, config, Manifest(), **given)
    assert {row.shape for row in parity.rows} >= {"long past", "no past"}
    assert max(row.difference for row in parity.rows) < 1e-4
    bits: dict[str, Any] = dict(arrays)
    for name in [name for name in arrays if name.endswith(".weight")]:
        bits[name], bits[name + SCALE] = quantized(arrays[name])
    written, _ = gate.export(
        tmp_path / "small", bits, config, Manifest(), floor=Floor(agreement=0.8, kl_nats=0.05, difference=None), **given
    )
    assert written.size_bytes < 1_000_000
    assert written.size_bytes < 0.45 * (tmp_path / "student").stat().st_size
    with pytest.raises(GateFailed):
        gate.export(tmp_path / "wrong", {**arrays, "age.weight": arrays["age.weight"] + 3}, config, Manifest(), **given)
    assert sorted(os.listdir(tmp_path)) == ["small", "student"]
