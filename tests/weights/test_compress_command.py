"""``potstill compress`` and ``potstill export``: a trained file becomes a smaller one and an ONNX one, or one line."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")

import policy_files as files
from command_line import Here, call, expert_store
from potstill.distill.weights import artefact
from potstill.distill.weights.lineage import Manifest, read
from potstill.distill.weights.lineage_verify import verify

pytestmark = pytest.mark.extra
needs_onnx = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime")), reason="the extra onnx is absent"
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a policy as a user has it: its data beside it."""
    folder = tmp_path_factory.mktemp("trained")
    db = expert_store(folder / "taught.db", 20)
    words = ("--epochs", 3, "--width", 8, "--held-out", 0.3)
    assert call("distill", "weights", "--db", db, "--out", folder / "student.policy", *words) == 0
    return folder


@pytest.fixture
def policy(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return tmp_path / "student.policy"


def test_a_trained_policy_becomes_smaller_and_names_its_parent(policy: Path, here: Here) -> None:
    out = policy.with_name("small.policy")
    words = ("--prune", 0.5, "--axis", "hidden", "--finetune-steps", 5, "--int8", "--play", 3, "--max-steps", 12)
    floor = ("--least-agreement", 0.3, "--most-kl", 5, "--margin", 1)
    done = here("compress", policy, "--out", out, *words, *floor, "--json")
    assert done.code == 0, done.err
    made = json.loads(done.out)
    assert made["size_bytes"] == out.stat().st_size
    assert made["share"] == out.stat().st_size / policy.stat().st_size
    assert [row["verdict"] for row in made["stages"]] == ["given", "not judged yet", "kept", "kept"]
    assert made["stages"][-1]["size_bytes"] < 0.8 * made["stages"][0]["size_bytes"]
    assert made["stages"][0]["success"] is not None
    assert made["parity"]["agreement"] == 1
    lineage = read(out).manifest
    assert lineage.parents[0].name == "student.policy"
    assert lineage.datasets == read(policy).manifest.datasets
    assert [row["stage"] for row in lineage.metrics["stages"]] == [row["stage"] for row in made["stages"]]
    assert verify([out]).complete
    again = policy.with_name("again.policy")
    assert here("compress", policy, "--out", again, *words, *floor).code == 0
    assert again.read_bytes() == out.read_bytes()


def test_where_nothing_passes_nothing_is_written(policy: Path, here: Here) -> None:
    before = sorted(path.name for path in policy.parent.iterdir())
    out = policy.with_name("no.policy")
    done = here("compress", policy, "--out", out, "--width", 4, "--distill-steps", 1, "--least-agreement", 1)
    assert (done.code, done.out) == (1, "")
    (line,) = [line for line in done.err.splitlines() if line.startswith("error")]
    assert "No stage does what the student does (distil into width 4: agreement" in line
    assert "Nothing was written" in line
    assert sorted(path.name for path in policy.parent.iterdir()) == before


@needs_onnx
def test_a_policy_is_exported_and_judged_by_its_held_out_decisions(policy: Path, here: Here) -> None:
    out = policy.with_name("student.onnx")
    done = here("export", policy, "--onnx", out, "--json")
    assert done.code == 0, done.err
    said = json.loads(done.out)
    assert (said["asked"], said["bits"], said["agreement"]) == ("held-out decisions", 32, 1.0)
    assert said["size_bytes"] == out.stat().st_size
    assert verify([out]).complete
    shutil.rmtree(policy.with_name("student.policy.training"))
    done = here("export", policy, "--onnx", out, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["asked"] == "questions made of its vocabulary"


@needs_onnx
def test_an_onnx_file_plays_as_the_policy_and_says_what_it_takes(policy: Path, here: Here) -> None:
    """The two sides play the same held-out tasks; without the data that hold them out, nothing is written."""
    out = policy.with_name("student.onnx")
    words = ("--play", 4, "--max-steps", 12, "--margin", 0.5)
    done = here("export", policy, "--onnx", out, *words, "--json")
    assert done.code == 0, done.err
    said = json.loads(done.out)
    numpy, onnx = said["table"]
    assert (numpy["student"], onnx["student"]) == ("policy in numpy", "ONNX Runtime, 32 bits")
    assert (numpy["size_bytes"], onnx["size_bytes"]) == (policy.stat().st_size, out.stat().st_size)
    assert all(row[name] > 0 for row in (numpy, onnx) for name in ("latency_ms", "cpu_ms"))
    assert numpy["memory_bytes"] > policy.stat().st_size / 2
    assert onnx["memory_bytes"] >= 0
    assert abs(onnx["kl_nats"]) < 1e-5
    played = read(out).manifest.metrics["parity"]["success"]
    assert played["episodes"] == 4
    assert (numpy["success"], onnx["success"]) == (played["trained"], played["exported"])
    assert played["margin"] == 0.5
    plain = here("export", policy, "--onnx", out, *words[2:], "--play", 40)
    few = re.search(r"--play 40: (\d+) held-out tasks of 'house-rules' are there, and so many are played", plain.err)
    assert few is not None, plain.err
    assert f"on {few[1]} held-out tasks that both played; 50.0% less is allowed" in plain.err
    out.unlink()
    shutil.rmtree(policy.with_name("student.policy.training"))
    done = here("export", policy, "--onnx", out, "--play", 4)
    assert done.code == 2
    assert "--play needs them" in done.err
    assert not out.exists()


@needs_onnx
def test_an_onnx_file_that_does_fewer_tasks_is_not_written(tmp_path: Path) -> None:
    """What the logits of held-out decisions did not show, the episodes do."""
    from potstill.distill.weights.export.drawn import drawn_questions
    from potstill.distill.weights.export.onnx import export
    from potstill.distill.weights.gate import GateFailed
    from potstill.edge.policy import open_policy

    source, out = tmp_path / "student.policy", tmp_path / "student.onnx"
    artefact.write(source, files.ranker_arrays(), files.RANKER, Manifest())
    made = open_policy(source)
    won = {("a", 0): True, ("b", 0): True}
    lost = {**won, ("b", 0): False}
    with pytest.raises(GateFailed, match=r"succeeded in 50.0% of 2 episodes.*lost: b \(seed 0\)\. Nothing"):
        export(source, made, out, drawn_questions(made, 5), play=lambda side, policy: (won, lost))
    assert not out.exists()
    done = export(
        source, made, out, drawn_questions(made, 5), play=lambda side, policy: (won, lost), success_margin=0.5
    )
    assert done.parity.success is not None
    assert done.parity.success.difference == -0.5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("export", "student.policy", "--onnx", "a.onnx", "--max-steps", "3"), "are for --play, which is 0"),
        (("compress", "student.policy", "--int8"), "--out small.policy"),
        (
            ("compress", "student.policy", "--out", "a.policy", "--int8", "--base", "tiny"),
            "--base is for tuned language",
        ),
        (
            ("compress", "student.policy", "--out", "a.policy", "--prune", ".5", "--axis", "heads"),
            "No axis named 'heads'",
        ),
        (("compress", "student.policy", "--out", "a.policy"), "--prune 0.5 --int8"),
        (("compress", "student.policy", "--out", "no/a.policy", "--int8"), "no folder no"),
        (("compress", "student.policy", "--out", "student.policy", "--int8"), "is the policy itself"),
        (("compress", "none.policy", "--out", "a.policy", "--int8"), "Cannot read the policy none.policy"),
        (("compress", "bare.policy", "--out", "a.policy", "--int8"), "--data FOLDER"),
        (("compress", "mlp.policy", "--out", "a.policy", "--int8"), "--data FOLDER"),
        (("compress", "film.policy", "--out", "a.policy", "--int8"), "--data FOLDER"),
        (("compress", "student.policy", "--out", ".", "--int8"), "is a folder, and the student is one file"),
        (("compress", "student.policy", "--out", "a.policy", "--int8", "--sign", "mlp.policy"), "is not a key in PEM"),
        (("export", "student.policy", "--onnx", "."), "is a directory"),
        (("export", "student.policy", "--onnx", "a.onnx", "--sign", "mlp.policy"), "is not a key in PEM"),
        (("compress", "student.policy", "--out", "a.policy", "--prune", "1.5"), "is 1.5. Allowed"),
        (("compress", "student.policy", "--out", "a.policy", "--prune", ".5", "--axis", "hiden"), "mean 'hidden'"),
        (("compress", "student.policy", "--out", "a.policy", "--int8", "--data", "."), "manifest.json"),
        (("export", "student.policy"), "--onnx student.onnx"),
        (("export", "student.policy", "--onnx", "no/a.onnx"), "no folder no"),
        (("export", "none.policy", "--onnx", "a.onnx"), "There is no file or folder none.policy. Name a policy's"),
        (
            ("export", "student.policy", "--onnx", "a.gguf"),
            "ends in .gguf, as files of language models (potstill export",
        ),
        (("export", "student.policy", "--onnx", "student.policy"), "Type: --onnx student.onnx"),
        (("compress", "student.policy", "--out", "a.onnx", "--int8"), "Type: --out a.policy"),
    ],
)
def test_what_cannot_be_is_one_line(
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    here: Here,
    words: tuple[str, ...],
    said: str,
) -> None:
    shutil.copy(trained / "student.policy", tmp_path)
    artefact.write(tmp_path / "bare.policy", files.ranker_arrays(), files.RANKER, Manifest())
    artefact.write(tmp_path / "mlp.policy", files.mlp_arrays(), files.MLP, Manifest())
    artefact.write(tmp_path / "film.policy", files.film_arrays(), files.FILM, Manifest())
    monkeypatch.chdir(tmp_path)
    done = here(*words)
    assert done.code in (2, 3)
    assert done.out == ""
    (line,) = [line for line in done.err.splitlines() if line.startswith("error")]
    assert said in line
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "bare.policy",
        "film.policy",
        "mlp.policy",
        "student.policy",
    ]


def test_without_the_extra_it_is_named(policy: Path, monkeypatch: pytest.MonkeyPatch, here: Here) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    done = here("export", policy, "--onnx", policy.with_name("a.onnx"))
    assert done.code == 2
    assert "pip install 'potstill[onnx]'" in done.err
