"""Environments of the examples: what would run at every start of Python is refused, what was made is found again."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

import framework_venv


def wheel(folder: Path, *files: str) -> Path:
    path = folder / "some-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in files:
            archive.writestr(name, "import os")
    return path


@pytest.mark.parametrize("name", ["some.pth", "some-1.0.data/purelib/x.pth", "sitecustomize.py", "usercustomize.py"])
def test_files_that_run_at_every_start_are_seen(name: str, tmp_path: Path) -> None:
    assert framework_venv.started_by(wheel(tmp_path, "some/__init__.py", name)) == [name]
    assert framework_venv.started_by(wheel(tmp_path, "some/__init__.py", "some/pth.py")) == []


def test_a_wheel_that_runs_at_every_start_is_refused_before_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def run(command: list[str]) -> None:
        asked.append(command)
        if "download" in command:
            wheel(Path(command[command.index("-d") + 1]), "some.pth")

    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path))
    monkeypatch.setattr(framework_venv, "_run", run)
    with pytest.raises(framework_venv.Refused, match=r"some-1\.0-py3-none-any\.whl: some\.pth"):
        framework_venv.make("dspy")
    assert ["download" in command for command in asked] == [True]
    assert framework_venv.interpreter("dspy") is None


def test_an_environment_is_made_once_and_its_forerunner_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def build(name: str, folder: Path) -> None:
        made.append(folder)
        (folder / "bin").mkdir(parents=True)

    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path))
    monkeypatch.setattr(framework_venv, "_python", build)
    old = tmp_path / "example-environments" / "dspy-000000000000"
    old.mkdir(parents=True)
    first = framework_venv.make("dspy")
    assert framework_venv.make("dspy") == first == framework_venv.interpreter("dspy")
    assert len(made) == 1
    assert not old.exists()


@pytest.mark.parametrize("name", framework_venv.PYTHON)
def test_every_package_is_pinned(name: str, repository: Path) -> None:
    lines = (repository / "requirements" / f"examples-{name}.txt").read_text().splitlines()
    wanted = [line for line in lines if not line.startswith("#")]
    assert all("==" in line for line in wanted)
    assert len({line.split("==")[0].lower() for line in wanted}) == len(wanted)
