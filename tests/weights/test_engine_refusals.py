"""An engine that cannot do its work is refused in one line before it starts. Needs no TRL."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")

from engine_examples import fake_python, record  # noqa: E402

from command_line import Here  # noqa: E402
from potstill.distill.weights.engines import running, trl_script  # noqa: E402
from potstill.errors import ConfigError, PotstillError  # noqa: E402
from potstill.locks import exclusive  # noqa: E402
from tiny_lm import tiny_checkpoint  # noqa: E402

pytestmark = pytest.mark.extra
VERSIONS = dict.fromkeys(("trl", "torch", "transformers", "peft", "accelerate", "datasets"), "1.16.0")


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> str:
    return record(tmp_path_factory.mktemp("taught") / "taught.db", student=False)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``chat``; ``plain`` without a template; ``odd``, which writes an empty thought before answers that it learns."""
    folder = tmp_path_factory.mktemp("bases")
    tiny_checkpoint(folder / "chat")
    tiny_checkpoint(folder / "plain", chat=False)
    tiny_checkpoint(folder / "large", vocabulary=512)
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(tiny_checkpoint(folder / "odd")))
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "{{ m['content'] }}", "{% if m['role'] == 'assistant' %}reasoning: {% endif %}{{ m['content'] }}"
    )
    tokenizer.save_pretrained(str(folder / "odd"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(tiny_checkpoint(folder / "other")))
    tokenizer.add_tokens(["weighing"])
    tokenizer.save_pretrained(str(folder / "other"))
    return folder


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("trl-sft", "--base", "plain"), "has no chat template"),
        (("trl-sft", "--base", "odd"), "writes the answer"),
        (("trl-sft", "--base", "smolm2-135m"), "Did you mean 'smollm2-135m'"),
        (("trl-sft",), "--base smollm2-135m"),
        (("trl-dpo", "--base", "chat"), "no pair for trl-dpo"),
        (("trl-dpo", "--base", "chat", "--reasoning", "with-action"), "learns actions alone"),
        (("trl-sft", "--base", "chat", "--teacher-model", "chat"), "--teacher-model is for trl-distill"),
        (("trl-distill", "--base", "chat"), "Type: --teacher-model PATH"),
        (("trl-distill", "--base", "chat", "--teacher-model", "other"), "vocabularies of"),
        (("trl-distill", "--base", "chat", "--teacher-model", "large"), "512 tokens"),
        (("trl-sft", "--base", "chat", "--set", "max_steps=3"), "Type --steps"),
        (("trl-sft", "--base", "chat", "--set", "beta"), "is not KEY=VALUE"),
        (("trl-sft", "--base", "chat", "--launch", "tochrun --nproc 2"), "'tochrun', which is no program"),
        (("trl-sft", "--base", "chat", "--launch", "accelerate lunch"), "starts no script"),
        (("trl-sft", "--base", "chat", "--launch", "accelerate 'launch"), "Check its quotes"),
        (("trl-sft", "--base", "chat", "--resume"), "nothing to resume"),
        (("trl-sft", "--base", "chat", "--rank", "0"), "rank is 0"),
    ],
)
def test_what_cannot_be_trained(
    db: str, bases: Path, tmp_path: Path, here: Here, words: tuple[str, ...], said: str
) -> None:
    given = tuple(str(bases / word) if (bases / word).is_dir() else word for word in words)
    python = fake_python(tmp_path, json.dumps(VERSIONS))
    out = str(tmp_path / "no-lm")
    world = ("--db", db, "--held-out", "0.4", "--history", "0", "--python", python)
    done = here("distill", "engine", *given, *world, "--out", out)
    assert (done.code, done.out) == (2, "")
    (line,) = [line for line in done.err.splitlines() if line.startswith("error")]
    assert said in line
    assert not Path(out).exists()
    assert "--resume" not in words or [path.name for path in tmp_path.iterdir()] == ["python"]


@pytest.mark.parametrize(
    ("says", "said"),
    [
        (json.dumps({"torch": "2.13.0"}), "lacks trl, transformers, peft, accelerate, datasets"),
        (json.dumps({**VERSIONS, "trl": "1.9.2"}), "has TRL 1.9.2. Allowed: 1.10"),
        (json.dumps({**VERSIONS, "trl": "2.0.0.dev0"}), "has TRL 2.0.0.dev0"),
        ("no JSON", "is no Python"),
    ],
)
def test_an_environment_that_cannot_train(
    db: str, bases: Path, tmp_path: Path, here: Here, says: str, said: str
) -> None:
    words = ("trl-sft", "--base", str(bases / "chat"), "--out", str(tmp_path / "no-lm"), "--db", db)
    done = here("distill", "engine", *words, "--python", fake_python(tmp_path, says))
    assert (done.code, said in done.err) == (2, True), done.err
    done = here("distill", "engine", *words, "--python", str(tmp_path / "none"))
    assert (done.code, "does not run" in done.err) == (2, True), done.err


def test_the_estimate_names_the_command_and_leaves_nothing(db: str, bases: Path, tmp_path: Path, here: Here) -> None:
    python = fake_python(tmp_path, json.dumps(VERSIONS))
    before = sorted(tmp_path.iterdir())
    done = here(
        *("distill", "engine", "trl-sft", "--base", str(bases / "chat"), "--out", str(tmp_path / "a-lm"), "--db", db),
        *("--held-out", "0.4", "--python", python, "--launch", "accelerate launch --num_processes 2"),
        *("--batch", "4", "--epochs", "3", "--dry-run", "--json"),
    )
    assert done.code == 0, done.err
    (row,) = json.loads(done.out)
    assert row["steps"] == 3 * -(-row["rows"] // 4)
    script = tmp_path / "a-lm.training" / "train.py"
    launch = f"{python} -m accelerate.commands.launch --num_processes 2"
    assert row["command"] == f"{launch} {script} {script.parent}"
    assert sorted(tmp_path.iterdir()) == before


def test_a_training_that_runs_is_not_disturbed(db: str, bases: Path, tmp_path: Path, here: Here) -> None:
    """It outlives a potstill that was killed."""
    folder = tmp_path / "a-lm.training"
    (folder / "checkpoints" / "checkpoint-1").mkdir(parents=True)
    python = fake_python(tmp_path, json.dumps(VERSIONS))
    with exclusive(folder / "lock"):
        done = here(
            *("distill", "engine", "trl-sft", "--base", str(bases / "chat"), "--out", str(tmp_path / "a-lm")),
            *("--db", db, "--held-out", "0.4", "--python", python),
        )
    assert (done.code, "A training is running" in done.err) == (2, True), done.err
    assert (folder / "checkpoints" / "checkpoint-1").exists()


# --- the process ------------------------------------------------------------------------------------------------------

ENGINE = """
import pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
(folder / "began").touch()
stop = time.monotonic() + 30
while time.monotonic() < stop and not ((folder / "stop").exists() and "deaf" not in sys.argv):
    time.sleep(0.01)
sys.exit(3)
"""


def run_fake(folder: Path, code: str, *words: str) -> list[str]:
    """What was told while a fake engine ran."""
    (folder / "engine.py").write_text(code)
    told: list[str] = []
    running.run([sys.executable, str(folder / "engine.py"), str(folder), *words], folder, told.append)
    return told


def test_control_c_asks_the_engine_to_stop_and_twice_ends_it(tmp_path: Path) -> None:
    def press(times: int) -> threading.Thread:
        def watch() -> None:
            for file in ("began", "stop")[:times]:
                while not (tmp_path / file).exists():
                    time.sleep(0.01)
                os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=watch)
        thread.start()
        return thread

    pressing = press(1)
    with pytest.raises(running.Stopped):
        run_fake(tmp_path, ENGINE)
    pressing.join()
    (tmp_path / "began").unlink()
    (tmp_path / "stop").unlink()
    pressing = press(2)
    with pytest.raises(KeyboardInterrupt):
        run_fake(tmp_path, ENGINE, "deaf")
    pressing.join()


def test_all_processes_stop_at_one_step(tmp_path: Path) -> None:
    """The second sees the file one step later than the first."""

    def play(rank: int, steps: Any) -> None:
        where = {"init_method": f"file://{tmp_path / 'meeting'}", "rank": rank, "world_size": 2}
        torch.distributed.init_process_group("gloo", **where)
        step = 1
        while not trl_script.any_of(step >= 3 + rank, 2, "cpu", torch):
            step += 1
        steps[rank] = step

    forking = multiprocessing.get_context("fork")
    steps = forking.Array("i", 2)
    children = [forking.Process(target=play, args=(rank, steps), daemon=True) for rank in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert list(steps) == [3, 3]
    assert trl_script.any_of(True, 1, "cpu", torch)


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ("print('noise'); print('Not this one.'); sys.exit(2)", r"^Not this one\.$"),
        ("raise ImportError('no libcuda')", r"cannot load TRL: ImportError: no libcuda\."),
    ],
)
def test_a_check_that_refuses_or_breaks_is_one_line(tmp_path: Path, ends: str, said: str) -> None:
    (tmp_path / "python").write_text(f"#!{sys.executable}\nimport sys\n{ends}\n")
    (tmp_path / "python").chmod(0o755)
    with pytest.raises(ConfigError, match=said):
        running.check(str(tmp_path / "python"), "sft", {"beta": 1}, ())


def test_an_engine_that_fails_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(PotstillError, match=r"exit code 7.*--resume"):
        run_fake(tmp_path, "raise SystemExit(7)")
    told = (
        "import pathlib, sys\n(pathlib.Path(sys.argv[1]) / 'refused.txt').write_text('It cannot be.\\n')\nsys.exit(2)"
    )
    with pytest.raises(ConfigError, match=r"It cannot be\."):
        run_fake(tmp_path, told)
    (tmp_path / "refused.txt").touch()
    assert run_fake(tmp_path, "") == []
