"""A killed training that goes on ends with the same bytes as one that was not; another's checkpoint is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

torch = pytest.importorskip("torch")

from train_killed import RECIPE, run  # noqa: E402

from potstill.distill.weights.train.checkpoint import read_checkpoint, write_checkpoint  # noqa: E402
from potstill.errors import ConfigError  # noqa: E402

pytestmark = pytest.mark.extra
HERE = Path(__file__).parent


def test_a_killed_training_ends_with_the_same_bytes(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    whole = run(tmp_path / "whole.pt", kill_at=-1, resume=False)
    path = tmp_path / "killed.pt"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    killed = subprocess.run(
        [sys.executable, str(HERE / "train_killed.py"), str(path), "19", "anew"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert torch.load(path, weights_only=True)["progress"]["step"] == 16
    assert run(path, kill_at=-1, resume=True) == whole
    assert run(path, kill_at=-1, resume=True) == whole  # also from its end


def test_a_checkpoint_of_another_configuration_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    short = msgspec.structs.replace(RECIPE, train=msgspec.structs.replace(RECIPE.train, steps=1))
    run(path, kill_at=-1, resume=False, recipe=short)
    for changed, named in (
        (msgspec.structs.replace(RECIPE, train=msgspec.structs.replace(short.train, seed=1)), r"seed 0 / 1"),
        (msgspec.structs.replace(short, width=16), r"network: hidden .*network: width \d+ / 16\. Give the same"),
        (RECIPE, r"another training \(its value / this one's\): steps 1 / 30\. Give"),
    ):
        with pytest.raises(ConfigError, match=named) as error:
            run(path, kill_at=-1, resume=True, recipe=changed)
        assert "\n" not in str(error.value)


def test_what_is_no_checkpoint_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no checkpoint .*--resume"):
        read_checkpoint(tmp_path / "none.pt", {})
    for content in (b"", b"not a checkpoint", os.urandom(200)):
        (tmp_path / "bad.pt").write_bytes(content)
        with pytest.raises(ConfigError, match="not a checkpoint that can be read"):
            read_checkpoint(tmp_path / "bad.pt", {})
    torch.save({"format": 99}, tmp_path / "new.pt")
    with pytest.raises(ConfigError, match="format 1"):
        read_checkpoint(tmp_path / "new.pt", {})


def test_a_checkpoint_replaces_the_one_before_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "c.pt"
    write_checkpoint(path, {"a": "1"}, {"network": torch.ones(3)})
    before = path.read_bytes()
    with pytest.raises(Exception, match="pickle"):
        write_checkpoint(path, {"a": "2"}, {"network": lambda: None})
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == ["c.pt"]
    assert torch.equal(read_checkpoint(path, {"a": "1"})["network"], torch.ones(3))
