"""``potstill distill weights --student film``: from episodes in grids to a file that acts, and one line otherwise."""

from __future__ import annotations

import importlib.util
import json
import shlex
from pathlib import Path

import pytest

from command_line import Here

pytest.importorskip("minigrid", reason="needs: pip install 'potstill[minigrid]'")

from potstill.edge import seal, tensors
from potstill.trajectories import Store

pytestmark = [
    pytest.mark.extra,
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs: pip install 'potstill[weights]'"),
]
STEPS = ("--option", "level=GoToLocal", "--option", "action_space=primitive")
GRID = (*STEPS, "--option", "view=grid")
TINY = ("--student", "film", "--width", "8", "--steps", "8", "--held-out", "0.3")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def record(here: Here, *options: str) -> None:
    words = ("--env", "minigrid", "--split", "train", "--n", "12", "--teacher", "expert")
    done = here("distill", "context", *words, *options)
    assert done.code == 0, done.err


def test_grids_become_a_file_that_acts_in_grids_and_says_so_elsewhere(here: Here) -> None:
    record(here, *GRID)
    played = ("--play", "2", *GRID, "--max-steps", "5")
    done = here("distill", "weights", "--out", "student.policy", *TINY, *played, "--json")
    assert done.code == 0, done.err
    made = json.loads(done.out)
    assert made["parity"]["agreement"] == 1.0
    assert made["success"] == made["parity"]["success"]["trained"]
    texts = tensors.read("student.policy")[1]
    assert json.loads(texts[seal.CONFIG])["kind"] == "film"
    assert json.loads(texts[seal.MANIFEST])["configuration"]["student"] == "film"
    assert here("lineage", "verify", "student.policy").code == 0
    words = (
        "--env",
        "minigrid",
        "--n",
        "2",
        "--student",
        "policy:student.policy",
        "--arm",
        "zero-shot",
        "--max-steps",
        "4",
    )
    assert here("run", *words, *GRID, "--run", "grids").code == 0
    elsewhere = here("run", *words, *STEPS, "--run", "words")
    with Store.read("potstill.db") as store:
        steps = [step for episode in store.select(run_id="grids") for step in episode.steps]
        wrong = list(store.select(run_id="words"))
    assert steps
    assert {call.model for step in steps for call in step.calls} == {"policy:student.policy"}
    assert all(not episode.succeeded and "no grid" in str(episode.error) for episode in wrong), elsewhere


def test_the_command_that_is_named_at_the_end_works_when_typed(here: Here) -> None:
    record(here, *GRID)
    done = here("distill", "weights", "--out", "student.policy", *TINY)
    assert done.code == 0, done.err
    command = done.err.strip().rpartition("Next: ")[2]
    assert "--option level=GoToLocal --option action_space=primitive --option view=grid --student policy:" in command
    assert here(*shlex.split(command)[1:], "--n", "1", "--max-steps", "2", "--run", "typed").code == 0
    with Store.read("potstill.db") as store:
        (episode,) = store.select(run_id="typed")
    assert len(episode.steps) == 2, episode.error


def test_episodes_in_words_are_refused_before_anything_is_trained(here: Here) -> None:
    record(here, *STEPS)
    done = here("distill", "weights", "--out", "student.policy", *TINY)
    assert done.code == 2
    (line,) = [line for line in done.err.splitlines() if line.startswith("error")]
    assert "BabyAI-GoToLocal-v0/primitive/" in line
    assert "is no grid" in line
    assert "--option view=grid" in line
    assert not Path("student.policy").exists()
