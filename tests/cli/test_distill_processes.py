"""``potstill distill weights --processes``: whatever ends it, the others end too, and it goes on to the same bytes."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from terminal import environment

from command_line import Here

TORCH = importlib.util.find_spec("torch") is not None
needs_torch = pytest.mark.skipif(not TORCH, reason="torch is not installed (make test-all installs the extra weights)")
STEPS = ("--steps", "1000", "--batch", "8", "--width", "8", "--held-out", "0.3", "--patience", "0")
CHECKPOINTED = 200
"""Steps between two checkpoints."""


def others_of(process: subprocess.Popen[str]) -> list[int]:
    """The processes that it started."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    return [int(pid) for pid, parent in map(str.split, listed.splitlines()) if int(parent) == process.pid]


def alive(pid: int) -> bool:
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(listed.strip()) and not listed.startswith("Z")


def until(happened: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.communicate()[1]
        time.sleep(0.01)


def ended_by(ending: Callable[[subprocess.Popen[str], int], None], checkpoint: Path, *words: str) -> tuple[int, str]:
    """Run the command until its next checkpoint, then end it; its exit code and what it said."""

    def written() -> int:
        return checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0

    before = written()
    process = subprocess.Popen(
        [sys.executable, "-m", "potstill", *words],
        env=environment(OMP_NUM_THREADS="1"),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    until(lambda: written() > before, process)
    (other,) = others_of(process)
    ending(process, other)
    told = process.communicate(timeout=120)[1]
    until(lambda: not alive(other))
    return process.returncode, told


@pytest.mark.extra
@needs_torch
def test_whatever_ends_one_of_two_processes_the_training_goes_on_to_the_same_bytes(
    db: str, tmp_path: Path, here: Here
) -> None:
    import torch

    def at() -> int:
        return int(torch.load(checkpoint, weights_only=True)["progress"]["step"])

    words = ("distill", "weights", "--db", db, *STEPS, "--processes", "2")
    whole, broken = tmp_path / "whole.policy", tmp_path / "broken.policy"
    assert here(*words, "--out", str(whole)).code == 0
    command = (*words, "--out", str(broken))
    checkpoint = tmp_path / "broken.policy.training" / "checkpoint.pt"

    code, told = ended_by(lambda process, other: os.killpg(process.pid, signal.SIGINT), checkpoint, *command)
    assert (code, "type the same command with --resume" in told) == (130, True), told
    assert "Traceback" not in told
    first = at()
    assert first >= CHECKPOINTED

    code, told = ended_by(lambda process, other: os.kill(other, signal.SIGKILL), checkpoint, *command, "--resume")
    (line,) = [line for line in told.splitlines() if line.startswith("error")]
    assert code == 1
    assert line.startswith("error: Process 2 was killed by SIGKILL at step ")
    assert "--resume" in line
    second = at()
    assert second > first

    code, told = ended_by(
        lambda process, other: os.killpg(process.pid, signal.SIGKILL), checkpoint, *command, "--resume"
    )
    assert code == -signal.SIGKILL
    assert second < at() < 1000

    alone = here(*command[:-3], "1", *command[-2:], "--resume")
    assert alone.code == 2
    assert "its processes is 2, this one's is 1" in alone.err
    assert here(*command, "--resume").code == 0
    assert broken.read_bytes() == whole.read_bytes()


@pytest.mark.extra
@needs_torch
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--student", "lm", "--base", "smollm2-135m"), "--student lm trains in one process. Leave --processes away"),
        (("--search", "4"), "--search trains in one process"),
        (("--batch", "1"), "processes is 2, and a step has 1 decisions to share"),
        (("--batch", "1", "--processes", "0"), "0 is not in the range"),
    ],
)
def test_what_several_processes_cannot_do_is_one_line(
    recorded: Path, tmp_path: Path, here: Here, words: tuple[str, ...], said: str
) -> None:
    out = tmp_path / "a.policy"
    done = here("distill", "weights", "--db", str(recorded), "--out", str(out), "--processes", "2", *words)
    assert (done.code, done.out) == (2, "")
    (line,) = [line for line in done.err.splitlines() if line.startswith("error")]
    assert said in line
    assert list(tmp_path.iterdir()) == []
