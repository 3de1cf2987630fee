"""``potstill distill weights --env A --env B``: one student for both, and what is told of each."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from terminal import potstill

from command_line import Here
from potstill.distill.weights import lineage

pytestmark = [
    pytest.mark.extra,
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed (extra weights)"),
    pytest.mark.skipif(importlib.util.find_spec("minigrid") is None, reason="minigrid is not installed"),
]
BOTH = ("--env", "minigrid", "--env", "house-rules")
TINY = ("--steps", "30", "--width", "8", "--held-out", "0.3", "--look-every", "15")


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with episodes of the experts of two environments: many orders, few errands."""
    file = str(tmp_path_factory.mktemp("taught") / "taught.db")
    for words in (("house-rules", "--n", "24"), ("minigrid", "--n", "12", "--option", "level=PutNextLocal")):
        done = potstill("distill", "context", "--split", "train", "--teacher", "expert", "--db", file, "--env", *words)
        assert done.returncode == 0, done.stderr
    return file


def test_one_student_learns_both_and_each_is_told_apart(db: str, tmp_path: Path, here: Here) -> None:
    out = tmp_path / "both.policy"
    play = ("--play", "2", "--option", "minigrid:level=PutNextLocal", "--max-steps", "6")
    done = here("distill", "weights", "--db", db, "--out", str(out), *BOTH, *TINY, *play, "--json")
    assert done.code == 0, done.err
    made = json.loads(done.out)
    apart = made["environments"]
    assert list(apart) == ["house-rules", "minigrid"]
    assert apart["house-rules"]["decisions"] > apart["minigrid"]["decisions"]
    assert [told["weight"] for told in apart.values()] == pytest.approx([0.5, 0.5])
    assert sum(told["held_out"] for told in apart.values()) == made["held_out"]
    assert made["agreement"] == pytest.approx(sum(told["agreement"] for told in apart.values()) / 2)
    assert made["success"] == pytest.approx(sum(told["success"] for told in apart.values()) / 2)
    assert made["parity"]["success"]["episodes"] == 4
    told = lineage.read(out).manifest
    assert told.datasets[0].name == "house-rules,minigrid"
    assert told.metrics["environments"]["minigrid"]["agreement"] == apart["minigrid"]["agreement"]
    for world in (("house-rules",), ("minigrid", "--option", "level=PutNextLocal")):
        words = ("--split", "test", "--n", "1", "--student", f"policy:{out}", "--arm", "zero-shot", "--db", db)
        played = here("run", "--env", *world, *words, "--run", f"plays-{world[0]}", "--max-steps", "4")
        assert played.code == 0, played.err
    small = tmp_path / "small.policy"
    smaller = here("compress", str(out), "--out", str(small), "--int8", "--least-agreement", "0.5", *play, "--json")
    assert smaller.code == 0, smaller.err
    assert small.stat().st_size < out.stat().st_size
    again = here("distill", "retrain", str(out), "--db", db)
    assert again.code == 2
    assert "a retraining takes new episodes of one environment. Name it: --env house-rules" in again.err


def test_a_table_by_environment_is_printed(db: str, tmp_path: Path, here: Here) -> None:
    play = ("--play", "30", "--option", "minigrid:level=PutNextLocal", "--max-steps", "2")
    done = here("distill", "weights", "--db", db, "--out", str(tmp_path / "a.policy"), *BOTH, *TINY, *play)
    assert done.code == 0, done.err
    assert "held-out tasks that were played, on the average of house-rules and minigrid, which count" in done.err
    assert "environment\tdecisions\tweight\theld_out\tagreement" in done.out
    assert "potstill run --env house-rules " in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*BOTH, "--env", "minigrid"), "twice"),
        (("--env", "house-rules", "--env", "alfworld"), "no successful teacher episode of 'alfworld'"),
        ((*BOTH, "--play", "2", "--option", "level=PutTwo"), "Type for example: --option house-rules:level=PutTwo"),
        ((*BOTH, "--play", "2", "--option", "grid:level=PutTwo"), "does not say which of house-rules and minigrid"),
        ((*BOTH, "--play", "2", "--tasks", "games"), "--option house-rules:directory=DIR"),
        ((*BOTH, "--dagger", "1", "--labels", "9", "--teacher", "expert"), "--dagger plays and asks in one"),
        ((*BOTH, "--held-out", "0.01"), "held out"),
        ((*BOTH, "--student", "lm"), "A language model learns one environment"),
        ((), "Name one: --env NAME"),
    ],
)
def test_what_cannot_be_is_one_line(db: str, tmp_path: Path, here: Here, words: tuple[str, ...], said: str) -> None:
    out = tmp_path / "a.policy"
    done = here("distill", "weights", "--db", db, "--out", str(out), *words)
    assert (done.code, done.out) == (2, "")
    (line,) = [line for line in done.err.splitlines() if line.startswith("error")]
    assert said in line
    assert not out.exists()
