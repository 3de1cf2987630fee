"""``potstill distill weights --processes``: whatever ends it, the others end too, and it goes on to the same bytes."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from terminal import environment

from command_line import Here

TORCH = importlib.util.find_spec("torch") is not None
needs_torch = pytest.mark.skipif(not TORCH, reason="torch is not installed (make test-all installs the extra weights)")
PLAYED = ("--play", "1", "--max-steps", "1", "--look-every", "30", "--patience", "0")
"""A checkpoint is written at each look."""
STEPS = ("--steps", "240", "--batch", "4", "--width", "8", "--held-out", "0.3", *PLAYED)


def other_than(first: int) -> int | None:
    """The process that trains beside the first one, once there is one."""
    listed = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(None, 2) for line in listed.splitlines() if "train.processes_child" in line]
    return next((int(pid) for pid, parent, _ in rows if int(parent) == first), None)


def alive(pid: int) -> bool:
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(listed.strip()) and not listed.startswith("Z")


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def signalled(which: signal.Signals, checkpoint: Path, *words: str) -> tuple[int, str]:
    """Run the command until its next checkpoint and signal its group, as a terminal does; its exit code, and what it
    said. Its other process has ended, too."""

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
    until(lambda: written() > before or process.poll() is not None)
    other = other_than(process.pid)
    assert other is not None, process.communicate()[1]
    os.killpg(process.pid, which)
    told = process.communicate(timeout=120)[1]
    until(lambda: not alive(other))
    return process.returncode, told


@pytest.mark.extra
@needs_torch
def test_whatever_ends_two_processes_they_go_on_to_the_same_bytes(db: str, tmp_path: Path, here: Here) -> None:
    import torch

    def at() -> int:
        return int(torch.load(checkpoint, weights_only=True)["progress"]["step"])

    words = ("distill", "weights", "--db", db, *STEPS, "--processes", "2")
    whole, broken = tmp_path / "whole.policy", tmp_path / "broken.policy"
    assert here(*words, "--out", str(whole)).code == 0
    command = (*words, "--out", str(broken))
    checkpoint = tmp_path / "broken.policy.training" / "checkpoint.pt"

    code, told = signalled(signal.SIGINT, checkpoint, *command)
    assert (code, "type the same command with --resume" in told) == (130, True), told
    assert "Traceback" not in told
    interrupted = at()
    code, told = signalled(signal.SIGKILL, checkpoint, *command, "--resume")
    assert code == -signal.SIGKILL, told
    assert 0 < interrupted < at() < 240

    alone = here(*words[:-1], "1", "--out", str(broken), "--resume")
    assert alone.code == 2
    assert "(its value / this one's): processes 2 / 1." in alone.err
    assert here(*command, "--resume").code == 0
    assert broken.read_bytes() == whole.read_bytes()


@pytest.mark.extra
@needs_torch
def test_a_process_that_is_killed_ends_the_command_in_one_line(recorded: Path, tmp_path: Path, here: Here) -> None:
    killed: list[int] = []

    def kill() -> None:
        until(lambda: other_than(os.getpid()) is not None)
        killed.append(other_than(os.getpid()) or 0)
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    done = here("distill", "weights", "--db", str(recorded), *STEPS, "--processes", "2", "--out", tmp_path / "a.policy")
    killer.join()
    (line,) = [line for line in done.err.splitlines() if line.startswith("error")]
    assert (done.code, done.out) == (1, "")
    assert line.startswith("error: Process 2 was killed by SIGKILL ")
    assert not (tmp_path / "a.policy").exists()
    assert not alive(killed[0])


@pytest.mark.extra
@needs_torch
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--student", "lm", "--base", "smollm2-135m"), "--student lm trains in one process. Leave --processes away"),
        (("--search", "4"), "--search trains in one process"),
        (("--student", "film", "--augment", "colours"), "draws by whole batches, and --processes 2 shares them out"),
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
