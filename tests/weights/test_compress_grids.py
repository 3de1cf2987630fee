"""A grid student is made smaller as the others are: it keeps its past, acts by numpy alone, and becomes ONNX."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

pytest.importorskip("torch")

from grid_examples import decisions

from command_line import Here
from potstill.distill.weights import gate
from potstill.distill.weights.compress.chain import compress
from potstill.distill.weights.compress.quantize import multiplied_out
from potstill.distill.weights.compress.recipe import Compression
from potstill.distill.weights.compress.stages import Compressed, Verdict
from potstill.distill.weights.compress.subject import Subject, subject_of
from potstill.distill.weights.gate import Floor
from potstill.distill.weights.lineage import Manifest
from potstill.distill.weights.policies.ranker import arrays_of
from potstill.distill.weights.train import students
from potstill.distill.weights.train.config import TrainConfig
from potstill.distill.weights.train.recipe import FilmRecipe
from potstill.distill.weights.train.teaching import teach
from potstill.edge.film import Film as EdgeFilm
from potstill.edge.policy import Policy, network

pytestmark = pytest.mark.extra
LEARN, HELD = (
    [one for one in decisions(count, seed) if "red" in one.situation.goal] for count, seed in ((1500, 0), (150, 1))
)
ALIKE = Floor(agreement=0.85, kl_nats=None, difference=None)
RECIPE = Compression(
    width=14,
    distill_steps=200,
    prune=(0.25,),
    finetune_steps=30,
    sparse=0.3,
    bits=(8, 4),
    learning_rate=1e-2,
    batch=32,
    floor=ALIKE,
)


@pytest.fixture(scope="module")
def subject() -> Subject:
    """A grid student that learnt most of the toy's rule, and is calibrated."""
    train = TrainConfig(batch=32, patience=0, steps=150, learning_rate=5e-3, schedule="constant")
    recipe = FilmRecipe(width=16, dropout=0.0, train=train)
    prepared = students.prepare(LEARN, HELD, recipe)
    teach(prepared, recipe)
    arrays, config = arrays_of(prepared.network), {**prepared.network.shape.config(), "temperature": 1.5}
    return subject_of(Policy(network(arrays, config), config, {}, arrays, 1.5), LEARN, HELD)


@pytest.fixture(scope="module")
def done(subject: Subject) -> Compressed:
    return compress(subject, RECIPE)


def test_the_whole_chain_makes_a_grid_student_smaller(subject: Subject, done: Compressed, tmp_path: Path) -> None:
    verdicts = {row.stage: row.verdict for row in done.rows}
    assert verdicts["distil into width 14"] is Verdict.KEPT
    assert verdicts["prune 0.25, fine-tune"] is Verdict.KEPT
    assert verdicts["8 bits"] is Verdict.KEPT
    assert "4 bits" in verdicts
    sizes = [done.state.config[name] for name in ("goal", "memory", "condition", "channels", "squeezed", "hidden")]
    assert sizes == [11, 11, 11, 6, 3, 21]
    kept = ("vocabulary", "actions", "size", "symbols", "buckets", "blocks", "temperature")
    assert {name: done.state.config[name] for name in kept} == {name: subject.policy.config[name] for name in kept}
    assert done.rows[-1].size_bytes < 0.25 * done.rows[0].size_bytes
    trained = subject.side(subject.network(multiplied_out(done.state.written), done.state.config))
    _, parity = gate.export(
        tmp_path / "small.policy",
        done.state.written,
        done.state.config,
        Manifest(),
        trained=trained,
        questions=subject.questions,
    )
    assert {row.shape for row in parity.rows} >= {"long past", "no past"}


def test_what_it_did_before_is_learnt_as_in_training(subject: Subject, done: Compressed) -> None:
    """Having turned, the toy's teacher picks up whatever it sees: a student without a past could not know."""
    small = network(done.state.written, done.state.config)
    assert isinstance(small, EdgeFilm)
    turned = [one for one in HELD if one.action == "pick up"]

    def picks_up(past: bool) -> float:
        situations = [msgspec.to_builtins(one.situation) for one in turned]
        told = [situation if past else {**situation, "past": []} for situation in situations]
        logits = [small.logits(said, list(one.admissible)) for said, one in zip(told, turned, strict=True)]
        return float(
            np.mean([one.admissible[int(np.argmax(x))] == "pick up" for x, one in zip(logits, turned, strict=True)])
        )

    assert picks_up(past=True) > picks_up(past=False) + 0.4


@pytest.mark.skipif(importlib.util.find_spec("minigrid") is None, reason="the extra minigrid is absent")
def test_the_command_makes_one_that_plays_runs_at_the_edge_and_becomes_onnx(tmp_path: Path, here: Here) -> None:
    db, student, small = (tmp_path / name for name in ("store.db", "student.policy", "small.policy"))
    world = ("--option", "action_space=primitive", "--option", "view=grid", "--option", "level=GoToLocal")
    told = here("distill", "context", "--env", "minigrid", "--n", 8, "--teacher", "expert", *world, "--db", db)
    assert told.code == 0, told.err
    words = ("--student", "film", "--width", 8, "--steps", 10, "--look-every", 10, "--held-out", 0.3)
    told = here("distill", "weights", "--db", db, "--out", student, *words)
    assert told.code == 0, told.err
    stages = ("--width", 6, "--distill-steps", 5, "--prune", 0.3, "--finetune-steps", 3, "--int8")
    floor = ("--least-agreement", 0, "--most-kl", 9, "--margin", 1, "--play", 2, "--max-steps", 6)
    told = here("compress", student, "--out", small, *stages, *floor, *world, "--json")
    assert told.code == 0, told.err
    made = json.loads(told.out)
    assert [row["verdict"] for row in made["stages"]] == ["given", "kept", "not judged yet", "kept", "kept"]
    assert made["size_bytes"] == small.stat().st_size < 0.5 * student.stat().st_size
    one = HELD[0]
    asked = {**msgspec.to_builtins(one.situation), "admissible": ["turn left", "turn right"]}
    assert here("edge", "copy", tmp_path / "runtime").code == 0
    command = [sys.executable, "-m", "edge", str(small)]
    ran = subprocess.run(
        command, cwd=tmp_path / "runtime", input=json.dumps(asked), capture_output=True, text=True, check=True
    )
    assert json.loads(ran.stdout)["action"] in asked["admissible"]
    if importlib.util.find_spec("onnxruntime") is not None:
        told = here(
            "export", small, "--onnx", tmp_path / "small.onnx", "--data", next(tmp_path.glob("*.training/data-*"))
        )
        assert told.code == 0, told.err
