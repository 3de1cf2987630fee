"""From a teacher's episodes to a cascade that keeps its success: train, calibrate, act by the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from potstill.cli.main import main  # noqa: E402
from potstill.trajectories import Store  # noqa: E402
from potstill.types import Answerer, TrajectoryKind  # noqa: E402

pytestmark = pytest.mark.extra
WORLD = ("--env", "house-rules", "--option", "rules=2", "--option", "train=400", "--teacher", "expert", "--jobs", 1)


def potstill(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    captured = capsys.readouterr()
    assert not ended.value.code, captured.err
    return captured.out


def test_a_cascade_at_the_certified_probability_keeps_what_was_promised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    db, student = tmp_path / "s.db", tmp_path / "student.policy"
    record = ("distill", "context", *WORLD, "--split", "train", "--db", db)
    potstill(capsys, *record, "--n", 40, "--run", "taught")
    potstill(capsys, *record, "--n", 160, "--seed", 1, "--run", "labels")
    words = ("--run", "taught", "--width", 16, "--batch", 32, "--learning-rate", 0.01)
    words += ("--steps", 60, "--look-every", 60)  # the first that agrees would be right and not sure
    potstill(capsys, "distill", "weights", *words, "--patience", 0, "--held-out", 0.2, "--out", student, "--db", db)
    said = tmp_path / "calibration.json"
    given = ("--student", f"policy:{student}", "--teacher", "expert@labels", "--keep", 0.9)
    told: dict[str, Any] = json.loads(potstill(capsys, "calibrate", db, *given, "--out", said, "--require", "--json"))
    assert told["n"] < 160, "tasks that were learnt are left out"
    assert 0 < told["escalation_share"] < 1
    acting = ("--student", f"policy:{student}", "--arm", "cascade", "--split", "test", "--n", 40)
    potstill(capsys, "run", *WORLD, *acting, "--calibration", said, "--db", db, "--run", "acting")
    with Store.read(db) as store:
        played = list(store.select(run_id="acting", kind=TrajectoryKind.CASCADE))
    steps = [step for episode in played for step in episode.steps]
    assert sum(episode.succeeded for episode in played) >= 0.9 * len(played)
    student_steps = sum(step.answerer is Answerer.STUDENT for step in steps) / len(steps)
    assert student_steps == pytest.approx(1 - told["escalation_share"], abs=0.15)
