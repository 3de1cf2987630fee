"""What Ctrl-C says of a training: of a checkpoint that it wrote, of one that was there, and of none."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest

pytest.importorskip("torch")

from potstill.cli.training.checkpointed import checkpointed

pytestmark = pytest.mark.extra


def stopped(path: Path, *, resume: bool = False, writes: bool = False, begun: bool = False) -> str:
    """What is said when Ctrl-C comes, once ``path`` was written or not."""

    def train() -> None:
        with checkpointed(path, "student", 10, resume=resume, begun=begun) as (keeping, bar):
            bar.update(1)
            assert (keeping.path, keeping.resume) == (path, resume)
            if writes:
                path.write_bytes(b"new")
            raise KeyboardInterrupt

    with pytest.raises(click.Abort) as found:
        train()
    return str(found.value.__cause__)


def test_a_checkpoint_that_was_written_is_where_to_go_on(tmp_path: Path) -> None:
    said = stopped(tmp_path / "c.pt", writes=True)
    assert said == f"the checkpoint {tmp_path / 'c.pt'} is kept. To go on, type the same command with --resume"


def test_before_the_first_there_is_nothing_to_go_on_from(tmp_path: Path) -> None:
    assert stopped(tmp_path / "c.pt") == "no checkpoint was written yet. To begin anew, type the same command"
    assert stopped(tmp_path / "c.pt", begun=True).startswith("the parts before this one are kept. To go on, type")


def test_an_earlier_trainings_checkpoint_is_not_this_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.pt"
    path.write_bytes(b"old")
    os.utime(path, ns=(1, 1))
    assert stopped(path) == f"no checkpoint was written yet. To begin anew, type the same command; {path} is as it was"
    assert f"{path} is there and is replaced" in capsys.readouterr().err
    assert "is kept. To go on" in stopped(path, resume=True)
    assert "is kept. To go on" in stopped(path, writes=True)
