"""TRL's trainers for real: a tiny model with random weights, two steps each, in a process of its own, offline."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
if importlib.util.find_spec("trl") is None:
    pytest.skip("the extra trl is not installed", allow_module_level=True)

from engine_examples import record  # noqa: E402

from command_line import Here, Said  # noqa: E402
from potstill.distill.weights.engines import running, trl_script  # noqa: E402
from potstill.models.tuned_file import read_tuned  # noqa: E402
from potstill.trajectories import Store  # noqa: E402
from tiny_lm import tiny_checkpoint  # noqa: E402

pytestmark = pytest.mark.extra
GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "engines.md"
WORLD = ("--held-out", "0.4", "--history", "0", "--rank", "2", "--batch", "2", "--json")


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> str:
    return record(tmp_path_factory.mktemp("taught") / "taught.db", student=True)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "base"))


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The script in this process: TRL, which takes seconds to import, is imported once for the tests that use it."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def run(command: list[str], folder: Path, tell: Callable[[str], None]) -> None:
        for name in (trl_script.REFUSED, trl_script.STOP):
            (folder / name).unlink(missing_ok=True)
        with contextlib.redirect_stdout(sys.stderr):
            code = trl_script.main([str(folder)])
        if code == trl_script.REFUSES:
            raise running.ConfigError((folder / trl_script.REFUSED).read_text().strip())
        if code == trl_script.STOPPED:
            raise running.Stopped

    def check(python: str, method: str, settings: dict[str, Any], launch: tuple[str, ...]) -> None:
        try:
            trl_script.check(method, settings, list(launch))
        except trl_script.Refused as why:
            raise running.ConfigError(str(why)) from None

    monkeypatch.setattr(running, "run", run)
    monkeypatch.setattr(running, "check", check)


def rows_of(out: Path) -> list[dict[str, Any]]:
    text = out.with_name(f"{out.name}.training").joinpath("rows.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def report_of(out: Path) -> Any:
    return json.loads((out.with_name(f"{out.name}.training") / "trained" / "report.json").read_text())


def after(checkpoint: Path, do: Callable[[], object]) -> threading.Thread:
    """Does it once this checkpoint is whole."""

    def watch() -> None:
        while not (checkpoint / "trainer_state.json").exists():
            time.sleep(0.005)
        do()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def kept(folder: Path) -> int:
    """The step of the newest checkpoint."""
    return max(int(path.name.rpartition("-")[2]) for path in (folder / "checkpoints").glob("checkpoint-*"))


def test_a_stopped_training_goes_on_to_the_same_student(
    db: str, base: str, tmp_path: Path, here: Here, inside: None
) -> None:
    def engine(name: str, *more: str) -> Said:
        words = ("--db", db, "--base", base, "--steps", "16", "--save-every", "1", "--learning-rate", "0.01")
        words += ("--set", "logging_steps=1")
        return here("distill", "engine", "trl-sft", *WORLD, *words, "--out", str(tmp_path / name), *more)

    whole = engine("whole-lm")
    assert whole.code == 0, whole.err
    made = json.loads(whole.out)
    assert (made["steps"], made["parity"]["agreement"]) == (16, 1.0)
    losses = [one["loss"] for one in report_of(tmp_path / "whole-lm")["log"] if "loss" in one]
    assert len(losses) == 16
    assert losses[-1] < losses[0]
    folder = tmp_path / "again-lm.training"
    stopping = after(folder / "checkpoints" / "checkpoint-2", (folder / "stop").touch)
    stopped = engine("again-lm")
    stopping.join()
    assert (stopped.code, "--resume" in stopped.err) == (130, True), stopped.err
    assert not (tmp_path / "again-lm").exists()
    assert 2 <= kept(folder) < 16
    (folder / "checkpoints" / "checkpoint-15").mkdir()  # as a kill leaves one that was being written
    other = engine("again-lm", "--resume", "--seed", "1")
    assert (other.code, "of another training: --seed was 0 and is 1." in other.err) == (2, True), other.err
    other = engine("again-lm", "--resume", "--set", "weight_decay=0.1", "--rank", "4")
    assert "--rank was 2 and is 4; --set weight_decay was not set and is 0.1" in other.err
    again = engine("again-lm", "--resume")
    assert again.code == 0, again.err
    weights = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("whole-lm", "again-lm")]
    assert weights[0] == weights[1]

    out = tmp_path / "whole-lm"
    assert here("lineage", "verify", str(out)).code == 0
    manifest = json.loads(here("lineage", "show", str(out)).out)["manifest"]
    assert manifest["teachers"][0]["model"] == "expert"
    assert manifest["configuration"]["engine"] == "trl"
    assert manifest["configuration"]["settings"]["learning_rate"] == 0.01
    assert manifest["metrics"]["parity_with_engine"]["kl_nats"] < 1e-4
    assert str(tmp_path) not in json.dumps(manifest["configuration"]["adapter"])
    world = ("--env", "house-rules", "--split", "test", "--n", "1", "--max-steps", "3", "--db", str(tmp_path / "p.db"))
    played = here("run", *world, "--student", f"tuned:{out}", "--arm", "zero-shot", "--run", "acts")
    assert played.code == 0, played.err
    with Store.read(str(tmp_path / "p.db")) as store:
        (episode,) = store.select(run_id="acts")
    row = rows_of(out)[0]
    prompt = episode.steps[0].calls[-1].prompt
    assert [one.role for one in prompt] == [one["role"] for one in row["prompt"]]
    assert prompt[0].content == row["prompt"][0]["content"]
    shown = here("run", *world, "--student", f"tuned:{out}", "--arm", "context")
    assert (shown.code, "shows demonstrations" in shown.err) == (2, True)


def test_rationales_are_learnt_and_the_student_says_so(
    db: str, base: str, tmp_path: Path, here: Here, inside: None
) -> None:
    made, out = tmp_path / "made.jsonl", tmp_path / "reasoning-lm"
    assert here("distill", "rationales", "--db", db, "--from", "subgoals", "--out", str(made)).code == 0
    words = ("--db", db, "--base", base, "--steps", "1", "--out", str(out), "--rationales", str(made))
    done = here("distill", "engine", "trl-sft", *WORLD, *words, "--reasoning", "with-action")
    assert done.code == 0, done.err
    told = [row["completion"][0]["content"] for row in rows_of(out)]
    assert all(one.startswith("reasoning: Subgoal: ") for one in told)
    reasoned = {"templated": len(told)}
    assert read_tuned(out).reasoned_by == reasoned
    manifest = json.loads(here("lineage", "show", str(out)).out)["manifest"]
    assert manifest["metrics"]["rationales"]["decisions"] == reasoned
    assert made.name in [one["name"] for one in manifest["datasets"]]
    silent = here("distill", "engine", "trl-sft", *WORLD, *words)
    assert (silent.code, "Type: --reasoning with-action" in silent.err) == (2, True), silent.err


def test_dpo_learns_pairs_behind_the_prompts_of_run(
    db: str, base: str, tmp_path: Path, here: Here, inside: None
) -> None:
    out = tmp_path / "dpo-lm"
    words = ("--db", db, "--base", base, "--steps", "2", "--set", "beta=0.5", "--out", str(out))
    done = here("distill", "engine", "trl-dpo", *WORLD, *words)
    assert done.code == 0, done.err
    assert json.loads(done.out)["steps"] == 2
    rows = rows_of(out)
    with Store.read(db) as store:
        wrong = {step.action.text for one in store.select(run_id="student") for step in one.steps[::3]}
    assert rows
    for row in rows:
        ((chosen,), (rejected,)) = row["chosen"], row["rejected"]
        assert chosen["content"] != rejected["content"]
        assert rejected["content"] in wrong
    assert json.loads((out.with_name("dpo-lm.training") / "job.json").read_text())["settings"]["beta"] == 0.5
    assert here("lineage", "verify", str(out)).code == 0
    unknown = here("distill", "engine", "trl-dpo", *WORLD, *words, "--set", "betta=0.5")
    assert (unknown.code, "Did you mean 'beta'?" in unknown.err) == (2, True), unknown.err


def test_distillation_learns_the_distribution_of_a_larger_model(
    db: str, base: str, tmp_path: Path, here: Here, inside: None
) -> None:
    teacher = tiny_checkpoint(tmp_path / "large", hidden=48)
    out = tmp_path / "distilled-lm"
    words = ("--db", db, "--base", base, "--teacher-model", str(teacher), "--steps", "2", "--merged", "--out", str(out))
    done = here("distill", "engine", "trl-distill", *WORLD, *words)
    assert done.code == 0, done.err
    assert json.loads(done.out)["parity"]["agreement"] == 1.0
    assert json.loads((out / "student.json").read_text())["merged"]
    manifest = json.loads(here("lineage", "show", str(out)).out)["manifest"]
    assert [one["model"] for one in manifest["teachers"]] == [str(teacher)]
    assert len(manifest["configuration"]["teacher_sha256"]) == 64


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            ("--set", "weight_dekay=0.1"),
            "SFTConfig of this TRL has no setting 'weight_dekay'. Did you mean 'weight_decay'?",
        ),
        (("--set", "beta=0.5"), "no setting 'beta'"),
        (("--set", "lr_scheduler_type=cosin"), "TRL does not take these settings"),
        (("--launch", "accelerate launch --num_proces 4"), "--num_proces. Did you mean '--num_processes'?"),
        (("--launch", "accelerate launch --num_processes four"), "invalid int value: 'four'"),
        (("--launch", "accelerate launch 4"), "would start '4'"),
    ],
)
def test_an_estimate_knows_what_trl_and_its_launcher_take(
    db: str, base: str, tmp_path: Path, here: Here, inside: None, more: tuple[str, ...], said: str
) -> None:
    words = ("--db", db, "--base", base, "--out", str(tmp_path / "no-lm"), *more, "--dry-run")
    done = here("distill", "engine", "trl-sft", *WORLD, *words)
    assert (done.code, said in done.err) == (2, True), done.err
    assert "Traceback" not in done.err


def test_the_environments_own_process_is_asked(db: str, base: str, tmp_path: Path, here: Here) -> None:
    words = ("--db", db, "--base", base, "--out", str(tmp_path / "no-lm"), "--dry-run")
    done = here("distill", "engine", "trl-sft", *WORLD, *words, "--set", "weight_dekay=0.1")
    assert (done.code, "Did you mean 'weight_decay'?" in done.err) == (2, True), done.err


def test_control_c_reaches_the_engine_behind_its_launcher(db: str, base: str, tmp_path: Path, here: Here) -> None:
    folder = tmp_path / "far-lm.training"
    launch = ("--launch", "accelerate launch --cpu --num_processes 1 --num_machines 1")
    words = ("--db", db, "--base", base, "--steps", "300", "--save-every", "1", "--out", str(tmp_path / "far-lm"))
    pressing = after(folder / "checkpoints" / "checkpoint-1", lambda: os.kill(os.getpid(), signal.SIGINT))
    stopped = here("distill", "engine", "trl-sft", *WORLD, *words, *launch)
    pressing.join()
    assert (stopped.code, "--resume" in stopped.err) == (130, True), stopped.err
    state = json.loads((folder / "checkpoints" / f"checkpoint-{kept(folder)}" / "trainer_state.json").read_text())
    assert 1 <= state["global_step"] < 300


def test_every_command_of_the_guide_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: Here, inside: None
) -> None:
    """With a tiny base and two steps in the place of what the guide names."""
    pytest.importorskip("minigrid")
    monkeypatch.chdir(tmp_path)
    tiny_checkpoint(tmp_path / "tiny")
    instead = {"--base": "tiny", "--steps": "2", "--n": "4", "--python": sys.executable}
    blocks = re.findall(r"^```bash\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    for line in "".join(blocks).splitlines():
        if line.startswith("potstill "):
            words = shlex.split(line)[1:]
            done = here(*(instead.get(before, word) for before, word in zip(["", *words], words, strict=False)))
            assert done.code == 0, (line, done.err)
    assert (tmp_path / "student-lm" / "student.json").exists()
    assert len((tmp_path / "swift.jsonl").read_text().splitlines()) == 4
