"""``potstill distill weights``: from recorded episodes to a file that acts, and one line where that cannot be."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from terminal import environment

from command_line import Here
from potstill.trajectories import Store

TORCH = importlib.util.find_spec("torch") is not None
needs_torch = pytest.mark.skipif(not TORCH, reason="torch is not installed (make test-all installs the extra weights)")
TINY = ("--epochs", "3", "--width", "8", "--held-out", "0.3")


@pytest.mark.extra
@needs_torch
def test_a_store_becomes_a_file_that_acts(db: str, tmp_path: Path, here: Here) -> None:
    out = tmp_path / "student.policy"
    done = here("distill", "weights", "--db", db, "--out", str(out), *TINY, "--json")
    assert done.code == 0, done.err
    made = json.loads(done.out)
    assert made["size_bytes"] == out.stat().st_size
    assert made["episodes"] == 20
    assert made["parity"]["agreement"] == 1.0
    assert 0 <= made["agreement"] <= 1
    words = ("--env", "house-rules", "--split", "test", "--n", "3", "--student", f"policy:{out}", "--arm", "zero-shot")
    played = here("run", *words, "--db", db, "--run", "acts")
    assert played.code == 0, played.err
    with Store.read(db) as store:
        steps = [step for episode in store.select(run_id="acts") for step in episode.steps]
    assert steps
    assert all(step.action.text in (step.observation.admissible or ()) for step in steps)
    assert {call.model for step in steps for call in step.calls} == {f"policy:{out}"}
    assert "takes its place" not in done.err
    assert "takes its place" in here("distill", "weights", "--db", db, "--out", str(out), *TINY).err
    out.write_bytes(out.read_bytes()[:-4] + b"\0\0\1\0")
    changed = here("run", *words, "--db", db, "--run", "changed")
    assert (changed.code, changed.out) == (3, "")
    assert "--resume" not in changed.err, "there is no run to go on with"
    assert "episodes" not in changed.err, "nothing was begun"
    with Store.read(db) as store:
        assert "changed" not in {run.run_id for run in store.runs()}


@pytest.mark.extra
@needs_torch
def test_held_out_tasks_are_played_and_the_file_does_as_many(db: str, tmp_path: Path, here: Here) -> None:
    out = tmp_path / "played.policy"
    words = ("--width", "8", "--held-out", "0.3", "--steps", "20", "--look-every", "10", "--play", "3", "--json")
    done = here("distill", "weights", "--db", db, "--out", str(out), *words, "--max-steps", "12")
    assert done.code == 0, done.err
    made = json.loads(done.out)
    compared = made["parity"]["success"]
    assert (compared["episodes"], compared["difference"]) == (3, 0.0)
    assert made["success"] == compared["exported"] == compared["trained"]


@pytest.mark.extra
@needs_torch
def test_a_dry_run_says_what_and_how_long_and_writes_nothing(
    db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: Here
) -> None:
    for name, value in {"STUDENT": "local:smollm2-135m", "ENV": "alfworld", "TASKS": "games"}.items():
        monkeypatch.setenv(f"POTSTILL_{name}", value)  # settings of runs change nothing here
    done = here("distill", "weights", "--db", db, "--out", str(tmp_path / "no.policy"), *TINY, "--dry-run", "--json")
    assert done.code == 0, done.err
    (row,) = json.loads(done.out)
    assert (row["episodes"], row["environment"]) == (20, "house-rules")
    assert row["decisions"] > row["held_out"] > 0
    assert row["cpu_s"] > 0
    assert list(tmp_path.glob("no.policy*")) == []


@pytest.mark.extra
@needs_torch
def test_after_ctrl_c_resume_ends_with_the_same_bytes(db: str, tmp_path: Path, here: Here) -> None:
    words = ("--db", db, "--steps", "120", "--width", "8", "--held-out", "0.3", "--batch", "8", "--patience", "0")
    out = {name: tmp_path / f"{name}.policy" for name in ("whole", "stopped")}
    assert here("distill", "weights", "--out", str(out["whole"]), *words).code == 0
    command = ("distill", "weights", "--out", str(out["stopped"]), *words)
    process = subprocess.Popen(
        [sys.executable, "-m", "potstill", *command], env=environment(), stderr=subprocess.PIPE, text=True
    )
    folder = tmp_path / "stopped.policy.training"
    while not list(folder.glob("data-*")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=120)[1]
    kept = (folder / "checkpoint.pt").exists()
    assert process.returncode in (0, 130)
    if process.returncode == 130 and kept:
        assert "type the same command with --resume" in told
    again = here(*command, *(("--resume",) if kept else ()))
    assert again.code == 0, again.err
    assert out["whole"].read_bytes() == out["stopped"].read_bytes()


@pytest.mark.extra
@needs_torch
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--out student.policy"),
        (("--out", "no/such/folder/a.policy"), "no folder no/such/folder"),
        (("--out", "."), "is a folder, and the student is one file"),
        (
            ("--out", "a.gguf"),
            "as files of language models (potstill export --gguf) do, and would be taken for one. Type:",
        ),
        (("--out", "a.onnx"), "Type: --out a.policy"),
        (("--out", "a.policy", "--sign", "taught.txt"), "taught.txt is not a key in PEM"),
        (("--out", "a", "--student", "mlp", "--sign", "taught.txt"), "taught.txt is not a key in PEM"),
        (("--out", "a.policy", "--env", "minigrid"), "no successful teacher episode of 'minigrid'"),
        (("--out", "a.policy", "--split", "test"), "in the split 'test'"),
        (("--out", "a.policy", "--namespace", "other"), "no successful teacher episode"),
        (("--out", "a.policy", "--student", "rankr"), "Did you mean 'ranker'"),
        (("--out", "a.policy", "--width", "1"), "width is 1"),
        (("--out", "a.policy", "--learning-rate", "0"), "learning_rate is 0"),
        (("--out", "a.policy", "--resume"), "no checkpoint"),
        (("--out", "a.policy", "--max-steps", "9"), "for --play"),
        (("--out", "a.policy", "--loss", "kind=sfot"), "Did you mean 'soft'"),
        (("--out", "a.policy", "--loss", "kind=soft"), "kind=hard"),
        (("--out", "a.policy", "--play", "2", "--option", "rules"), "not KEY=VALUE"),
    ],
)
def test_what_cannot_be_is_one_line(
    recorded: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    here: Here,
    words: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taught.txt").write_text("no key")
    if "--sign" in words:
        pytest.importorskip("cryptography")
    done = here("distill", "weights", "--db", str(recorded), *words)
    assert (done.code, done.out) == (2, "")
    assert "--sign" not in words or not list(tmp_path.glob("*.training")), "nothing was read before it was refused"
    (line,) = [line for line in done.err.splitlines() if line.startswith("error")]
    assert said in line
    assert not list(tmp_path.glob("*.policy"))


@pytest.mark.extra
@needs_torch
@pytest.mark.parametrize(
    "more",
    [(), ("--search", "3"), ("--dagger", "1", "--labels", "5", "--teacher", "expert", "--label-run", "asked")],
)
def test_a_resume_with_nothing_to_go_on_from_leaves_and_replaces_nothing(
    recorded: Path, tmp_path: Path, here: Here, more: tuple[str, ...]
) -> None:
    if "--search" in more:
        pytest.importorskip("optuna")
    out = tmp_path / "student.policy"
    out.write_text("what is there")
    done = here("distill", "weights", "--db", str(recorded), "--out", str(out), *more, "--resume")
    assert (done.code, "nothing to resume" in done.err) == (2, True), done.err
    assert "takes its place" not in done.err
    assert list(tmp_path.iterdir()) == [out]
    with Store.read(recorded) as store:
        assert "asked" not in {run.run_id for run in store.runs()}


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, here: Here) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    done = here("distill", "weights", "--db", "no.db", "--out", "a.policy")
    assert done.code == 2
    assert done.err == "error: Training a policy needs the extra 'weights'. Type: pip install 'potstill[weights]'\n"


def test_the_help_says_what_a_policy_does(monkeypatch: pytest.MonkeyPatch, here: Here) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    done = here("distill", "weights", "--help")
    assert done.code == 0
    assert "chooses among the actions that an environment lists" in " ".join(done.out.split())
