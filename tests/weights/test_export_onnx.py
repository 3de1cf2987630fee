"""ONNX files: the same numbers as numpy at every size, equal bytes for equal policies, or no file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx

import policy_files as files
from potstill.distill.weights import artefact
from potstill.distill.weights.compress.quantize import in_bits
from potstill.distill.weights.export.drawn import drawn_questions
from potstill.distill.weights.export.networks import graph_of
from potstill.distill.weights.export.onnx import export
from potstill.distill.weights.export.runtime import onnx_side, session
from potstill.distill.weights.gate import COMPRESSED, EXACT, Floor, GateFailed, compare, edge_side
from potstill.distill.weights.gate_shapes import Question
from potstill.distill.weights.lineage import Dataset, Manifest, read
from potstill.distill.weights.lineage_verify import Status, verify
from potstill.edge.policy import Policy, network, open_policy
from potstill.errors import ConfigError
from potstill.types import Past, Situation

pytestmark = pytest.mark.extra
NORMAL = {"input.mean": np.arange(4, dtype=np.float32), "input.scale": np.full(4, 0.5, np.float32)}


def policy(arrays: dict[str, Any], config: dict[str, Any]) -> Policy:
    return Policy(network(arrays, config), config, {}, arrays, 1.0)


def written(path: Path, arrays: dict[str, Any] | None = None) -> Path:
    artefact.write(
        path, arrays or files.ranker_arrays(), files.RANKER, Manifest(datasets=(Dataset(name="d", sha256="ab" * 32),))
    )
    return path


@pytest.mark.parametrize("bits", [None, 8, 4])
@pytest.mark.parametrize("kind", ["ranker", "film", "relu", "tanh"])
def test_onnx_runtime_computes_what_numpy_computes(kind: str, bits: int | None) -> None:
    config = {"ranker": files.RANKER, "film": files.FILM}.get(kind, {**files.MLP, "activation": kind})
    perceptron = {**files.mlp_arrays(), **NORMAL}
    arrays = {"ranker": files.ranker_arrays(), "film": files.film_arrays()}.get(kind, perceptron)
    made = policy(arrays if bits is None else in_bits(arrays, bits), config)
    data = graph_of(made)
    parity = compare(edge_side(made), onnx_side(session(data), config), drawn_questions(made, 60))
    assert parity.passed
    assert parity.summary()["agreement"] == 1
    assert parity.summary()["difference"] < 1e-5
    assert graph_of(made) == data


def test_the_smallest_questions_are_answered_in_one_batch_with_large_ones() -> None:
    """No word, no past, one action, beside many of each: padding changes nothing."""
    made = policy(files.ranker_arrays(), files.RANKER)
    past = tuple(Past(observation="You see a mug 2." * 9, action="go to shelf 1") for _ in range(50))
    asked = [
        Question(situation=Situation(goal="", observation="!", past=()), admissible=("...",)),
        Question(situation=Situation(goal="put a mug in it", observation="", past=past), admissible=tuple("abcdefgh")),
    ]
    side = onnx_side(session(graph_of(made)), files.RANKER)
    numbers = edge_side(made)(asked)
    for together, alone, ours in zip(side(asked), [side([one])[0] for one in asked], numbers, strict=True):
        np.testing.assert_allclose(together, ours, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(alone, ours, rtol=1e-5, atol=1e-5)


def test_a_grid_without_mission_and_past_beside_one_with_a_long_past() -> None:
    made = policy(files.film_arrays(), files.FILM)
    few, *others = drawn_questions(made, 40)
    most = max(others, key=lambda one: len(one.situation.past))
    silent = msgspec.structs.replace(few, situation=msgspec.structs.replace(few.situation, goal="", past=()))
    asked = [silent, most]
    side = onnx_side(session(graph_of(made)), files.FILM)
    numbers = edge_side(made)(asked)
    for together, alone, ours in zip(side(asked), [side([one])[0] for one in asked], numbers, strict=True):
        np.testing.assert_allclose(together, ours, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(alone, ours, rtol=1e-5, atol=1e-5)


def test_where_there_is_no_candidate_the_softmax_is_zero() -> None:
    made = policy(files.ranker_arrays(), files.RANKER)
    running = session(graph_of(made))
    from potstill.distill.weights.export import feed
    from potstill.edge.words import Words

    asked = [
        Question(situation=Situation(goal="go", observation=""), admissible=actions)
        for actions in (("go",), ("a", "b"))
    ]
    (logits,) = running.run(None, feed.texts(asked, Words(files.VOCABULARY, 5)))
    assert logits.shape == (2, 2)
    assert logits[0, 1] == -np.inf
    assert np.isfinite(np.delete(logits.ravel(), 1)).all()


def test_one_file_with_its_words_and_its_parent(tmp_path: Path) -> None:
    source = written(tmp_path / "student.policy")
    made = open_policy(source)
    done = export(source, made, tmp_path / "student.onnx", drawn_questions(made, 20))
    assert sorted(os.listdir(tmp_path)) == ["student.onnx", "student.onnx.lineage.json", "student.policy"]
    assert done.bits == 32
    model = onnx.load(str(tmp_path / "student.onnx"))
    told = {one.key: one.value for one in model.metadata_props}
    assert msgspec.json.decode(told["potstill.config"])["vocabulary"] == files.VOCABULARY
    assert not any(one.external_data for one in model.graph.initializer)
    assert {one.dim_param for one in model.graph.input[0].type.tensor_type.shape.dim} == {"U", "L"}
    lineage = read(tmp_path / "student.onnx").manifest
    assert lineage.kind == "ranker-onnx"
    assert lineage.parents[0].manifest_sha256 == read(source).sha256
    assert lineage.metrics["parity"]["agreement"] == 1
    assert lineage.datasets == read(source).manifest.datasets
    assert verify([tmp_path / "student.onnx"]).complete
    again = export(source, made, tmp_path / "again.onnx", drawn_questions(made, 20))
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "student.onnx").read_bytes()
    assert again.size_bytes == done.size_bytes


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    source = written(tmp_path / "student.policy")
    out = tmp_path / "student.onnx"
    export(source, open_policy(source), out, drawn_questions(open_policy(source), 5))
    data = bytearray(out.read_bytes())
    data[len(data) // 2] ^= 1
    out.write_bytes(data)
    assert [one.part for one in verify([out]).findings if one.status is Status.CHANGED] == ["file"]


def test_eight_bits_are_smaller_and_judged(tmp_path: Path) -> None:
    config = {**files.RANKER, "width": 32, "hidden": 64, "embedding": 32}
    source = tmp_path / "student.policy"
    artefact.write(source, files.ranker_arrays(config), config, Manifest())
    made = open_policy(source)
    asked = drawn_questions(made, 20)
    loose = Floor(agreement=0.5, kl_nats=None, difference=None)
    whole = export(source, made, tmp_path / "whole.onnx", asked)
    small = export(source, made, tmp_path / "small.onnx", asked, bits=8, floor=loose)
    assert small.bits == 8
    assert small.quantized is not None
    assert small.size_bytes < 0.5 * whole.size_bytes
    assert small.parity.summary()["difference"] < 1e-4 < small.quantized.summary()["difference"]
    with pytest.raises(GateFailed, match=r"still 'mug put in', .* nats"):
        export(source, made, tmp_path / "no.onnx", asked, bits=8, floor=Floor())
    assert not (tmp_path / "no.onnx").exists()


def test_a_barely_trained_ranker_is_rounded_although_near_ties_turn_around(tmp_path: Path) -> None:
    """Its logits lie within a thousandth of each other: which is largest is nobody's preference. A real ranker whose
    choices change as often is refused (above, ``became``)."""
    config = {**files.RANKER, "width": 32, "hidden": 64, "embedding": 32}
    arrays = files.ranker_arrays(config)
    arrays["score.weight"] = arrays["score.weight"] * np.float32(6e-6)
    source = tmp_path / "student.policy"
    artefact.write(source, arrays, config, Manifest())
    made = open_policy(source)
    done = export(source, made, tmp_path / "small.onnx", drawn_questions(made, 60), bits=8)
    assert done.quantized is not None
    assert done.quantized.summary()["agreement"] == 1
    exact = msgspec.structs.replace(COMPRESSED, tie_nats=EXACT.tie_nats)
    with pytest.raises(GateFailed, match="became"):
        export(source, made, tmp_path / "no.onnx", drawn_questions(made, 60), bits=8, floor=exact)


def test_a_graph_that_computes_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a wrong operator would do: here the file is another policy's."""
    source, other = written(tmp_path / "student.policy"), policy(files.ranker_arrays(seed=1), files.RANKER)
    made, out = open_policy(source), tmp_path / "student.onnx"
    out.write_bytes(b"old")
    monkeypatch.setattr("potstill.distill.weights.export.onnx.graph_of", lambda _: graph_of(other))
    with pytest.raises(GateFailed, match=r"question \d+: .*became.*Nothing was written"):
        export(source, made, out, drawn_questions(made, 20))
    assert out.read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["student.onnx", "student.policy"]


def test_what_cannot_be_exported_is_one_line(tmp_path: Path) -> None:
    source = written(tmp_path / "student.policy", in_bits(files.ranker_arrays(), 8))
    made = open_policy(source)
    with pytest.raises(ConfigError, match="few bits already"):
        export(source, made, tmp_path / "a.onnx", drawn_questions(made, 2), bits=8)
    with pytest.raises(ConfigError, match="is the policy itself"):
        export(source, made, source, drawn_questions(made, 2))
    with pytest.raises(ConfigError, match="Allowed: 8"):
        export(source, made, tmp_path / "a.onnx", drawn_questions(made, 2), bits=4)
    assert os.listdir(tmp_path) == ["student.policy"]
