"""``potstill distill weights --dagger``: labels on the student's own episodes, priced, resumed after a kill."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from terminal import environment

from command_line import Here, expert_store
from potstill.distill.weights.data import build
from potstill.edge import tensors
from potstill.trajectories import Store
from potstill.trajectories.splits import split_of
from potstill.types import Answerer, Reason, Trajectory

TORCH = importlib.util.find_spec("torch") is not None
pytestmark = [
    pytest.mark.extra,
    pytest.mark.skipif(not TORCH, reason="torch is not installed (make test-all installs the extra weights)"),
]
HELD_OUT = 0.3
LEARN = ("--width", "8", "--held-out", str(HELD_OUT), "--batch", "8", "--steps", "30", "--patience", "0")
ASK = ("--dagger", "2", "--labels", "24", "--teacher", "expert", "--max-steps", "10")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with 10 episodes of the expert of house-rules."""
    return expert_store(tmp_path_factory.mktemp("dagger") / "taught.db", 10)


def labels(episode: Trajectory) -> int:
    return sum(call.answerer is Answerer.TEACHER for step in episode.steps for call in step.calls)


def test_labels_are_asked_for_within_the_budget_recorded_and_learnt(db: str, tmp_path: Path, here: Here) -> None:
    out = tmp_path / "taught.policy"
    done = here("distill", "weights", "--db", db, "--out", str(out), *LEARN, *ASK, "--beta", "linear:0.6", "--json")
    assert done.code == 0, done.err
    made = json.loads(done.out)
    assert [(one["beta"], one["budget"]) for one in made["rounds"]] == [(0.6, 12), (0.0, 12)]
    assert made["steps"] == 30
    with Store.read(db) as store:
        episodes = list(store.select(run_id="taught-labels"))
        demonstrations = list(store.select(kind="teacher", success=True))
    asked = [step for one in episodes for step in one.steps if any(c.answerer is Answerer.TEACHER for c in step.calls)]
    assert sum(map(labels, episodes)) == sum(one["labels"] for one in made["rounds"]) == len(asked) == 24
    reasons = {step.decision.reason for step in asked if step.decision is not None}
    assert Reason.LABELLED in reasons
    assert Reason.NOT_CONFIDENT in reasons  # beta lets the teacher act in round 1
    second = [step for one in episodes if one.arm == "round-2" for step in one.steps]
    assert {step.answerer for step in second} == {Answerer.STUDENT}
    fractions = {"train": 1 - HELD_OUT, "valid": HELD_OUT}
    assert {split_of(one.task, fractions) for one in episodes} == {"train"}, "a held-out task was played for labels"
    merged = build([*demonstrations, *episodes], only_successes=False, fractions=fractions, equal="drop")
    assert made["decisions"] == len(merged.splits["train"])
    told = {one.action for one in merged.splits["train"] if one.trajectory_id in {e.id for e in episodes}}
    assert told <= {step.decision.label or step.action.text for step in asked if step.decision is not None}


def test_measure_sees_what_the_labels_cost(db: str, tmp_path: Path, here: Here) -> None:
    words = ("--out", str(tmp_path / "a.policy"), *LEARN, *ASK, "--beta", "constant:0", "--label-run", "asked")
    assert here("distill", "weights", "--db", db, *words).code == 0
    prices = ("--price-teacher-as", "claude-sonnet-5-5", "--cpu-hour-usd", "0.05")
    done = here("measure", "--db", db, "--run", "asked", *prices, "--json")
    assert done.code == 0, done.err
    rows: list[dict[str, Any]] = json.loads(done.out)["arms"]
    assert {row["arm"] for row in rows} == {"round-1", "round-2"}
    assert all(row["cost_per_episode_usd"] > 0 and row["teacher_cost_share"] > 0.9 for row in rows)
    assert all(row["teacher_step_share"] == 0 for row in rows), "nobody but the student acted"
    refused = here("run", "--resume", "asked", "--db", db)
    assert refused.code == 2
    assert "student in training" in refused.err


def test_a_killed_training_asks_for_nothing_twice_and_ends_with_the_same_arrays(
    db: str, tmp_path: Path, here: Here
) -> None:
    other = str(shutil.copy(db, tmp_path / "killed.db"))
    out = {name: tmp_path / name / "student.policy" for name in ("whole", "killed")}
    for path in out.values():
        path.parent.mkdir()
    assert here("distill", "weights", "--db", db, "--out", str(out["whole"]), *LEARN, *ASK).code == 0
    command = ("distill", "weights", "--db", other, "--out", str(out["killed"]), *LEARN, *ASK)
    process = subprocess.Popen([sys.executable, "-m", "potstill", *command], env=environment(), stderr=subprocess.PIPE)
    while process.poll() is None and _episodes(other) < 2:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    with Store.read(other) as store:
        before = {one.id: one for one in store.select(run_id="student-labels")}
    assert len(before) >= 2
    again = here(*command)
    assert again.code == 2
    assert "--resume" in again.err
    resumed = here(*command, "--resume", "--jobs", "2")
    assert resumed.code == 0, resumed.err
    with Store.read(other) as store:
        after = {one.id: one for one in store.select(run_id="student-labels")}
    with Store.read(db) as store:
        whole = {one.id: [step.action for step in one.steps] for one in store.select(run_id="student-labels")}
    assert {id: after[id] for id in before} == before
    assert {id: [step.action for step in one.steps] for id, one in after.items()} == whole
    one, other_arrays = (tensors.read(path)[0] for path in out.values())
    assert {n: a.tobytes() for n, a in one.items()} == {n: a.tobytes() for n, a in other_arrays.items()}


def _episodes(db: str) -> int:
    with Store.read(db) as store:
        return len(store.summaries(run_id="student-labels"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--dagger", "2", "--teacher", "expert"), "--labels 500"),
        (("--dagger", "2", "--labels", "9"), "--teacher expert"),
        (("--dagger", "2", "--labels", "1", "--teacher", "expert"), "at least one for each round"),
        ((*ASK, "--beta", "linaer:1"), "Did you mean 'linear'"),
        ((*ASK, "--certainty", "margn"), "Did you mean 'margin'"),
        ((*ASK, "--ask-below", "1.2"), "below is 1.2"),
        ((*ASK, "--price-teacher-as", "no-such-model"), "no-such-model"),
        ((*ASK, "--option", "nonsense=1"), "nonsense"),
        (("--labels", "9"), "--dagger"),
    ],
)
def test_what_cannot_be_is_one_line_before_anything_is_trained(
    db: str, tmp_path: Path, here: Here, words: tuple[str, ...], said: str
) -> None:
    done = here("distill", "weights", "--db", db, "--out", str(tmp_path / "no.policy"), *LEARN, *words)
    assert (done.code, done.out) == (2, "")
    (line,) = [line for line in done.err.splitlines() if line.startswith("error")]
    assert said in line
    assert not list(tmp_path.glob("no.policy*"))


def test_a_dry_run_says_what_the_labels_would_cost(db: str, tmp_path: Path, here: Here) -> None:
    words = ("--out", str(tmp_path / "no.policy"), *LEARN, *ASK, "--price-teacher-as", "claude-sonnet-5-5")
    done = here("distill", "weights", "--db", db, *words, "--dry-run", "--json")
    assert done.code == 0, done.err
    (row,) = json.loads(done.out)
    # on the average over an episode of 10 steps, which are fewer than half of 30: 120 + 150 + 60 * (10 + 1) / 2 tokens
    assert (row["rounds"], row["labels"], row["teacher_input_tokens"]) == (2, 24, 24 * 600)
    assert row["uncached_cost_usd"] > 0
    with Store.read(db) as store:
        assert store.summaries(run_id="no-labels") == []
