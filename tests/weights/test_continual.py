"""The rules of a house change: good new episodes make a student that is promoted, poisoned ones one that is not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

torch = pytest.importorskip("torch")

from potstill.cli.main import main  # noqa: E402
from potstill.distill.weights.continual import versions  # noqa: E402
from potstill.distill.weights.lineage import read  # noqa: E402
from potstill.distill.weights.lineage_verify import verify  # noqa: E402
from potstill.errors import ConfigError  # noqa: E402
from potstill.trajectories import Store  # noqa: E402
from potstill.types import Action, Trajectory  # noqa: E402

pytestmark = pytest.mark.extra
HERE = Path(__file__).parent
WORLD = ("--option", "train=300")
BEFORE, AFTER = ("--option", "rules=0", *WORLD), ("--option", "rules=3", *WORLD)
TRAIN = ("--patience", "0", "--epochs", "12", "--learning-rate", "0.004", "--threads", "1")


def potstill(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


def record(db: Path, n: int, *options: str) -> None:
    words = ("--env", "house-rules", "--split", "train", "--n", n, "--teacher", "expert", "--jobs", 1, "--run", db.stem)
    assert potstill("distill", "context", *words, *options, "--db", db) == 0


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student of a house without rules; stores with episodes after rules were made, and with lies about them."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("continual")
    record(folder / "before.db", 60, *BEFORE)
    words = (
        "--width",
        16,
        "--batch",
        32,
        "--held-out",
        0.3,
        "--out",
        folder / "s.policy",
        "--db",
        folder / "before.db",
    )
    assert potstill("distill", "weights", *words, *TRAIN) == 0
    record(folder / "good.db", 200, *AFTER)
    record(folder / "more.db", 120, *AFTER, "--seed", "1")
    with Store.read(folder / "more.db") as good, Store.open(folder / "bad.db") as bad:
        for episode in good.select():
            bad.append(poisoned(episode))
    with Store.read(folder / "more.db") as good, Store.open(folder / "night.db") as nights:
        for episode in good.select():
            nights.append(at_night(episode))
    return folder


def poisoned(episode: Trajectory) -> Trajectory:
    """The last of what is listed, later the last but one: it leads nowhere, and is said to be a success."""
    steps = []
    for number, step in enumerate(episode.steps):
        listed = step.observation.admissible or ()
        lie = Action(text=listed[-2 if number else -1]) if listed else step.action
        steps.append(msgspec.structs.replace(step, action=lie))
    return msgspec.structs.replace(episode, steps=tuple(steps))


def at_night(episode: Trajectory) -> Trajectory:
    """Another order, of a kind that the student never saw, in which other things are to be done."""
    task = msgspec.structs.replace(
        episode.task, id=f"night/{episode.task.id}", goal=f"{episode.task.goal}\nshift: night"
    )
    return msgspec.structs.replace(poisoned(episode), task=task)


def words_of(student: Path, store: str) -> list[str]:
    playing = ("--play", "40", "--jobs", "1", "--max-steps", "6", *AFTER, "--margin", "0.05", "--forget-old")
    return ["distill", "retrain", str(student), "--db", str(student.parent / store), *playing, *TRAIN]


def quick_words(student: Path) -> list[str]:
    """A few steps, judged by labels, and whatever comes of them is promoted."""
    return [*words_of(student, "good.db"), "--steps", "3", "--margin", "0.99"]


def json_of(capsys: pytest.CaptureFixture[str], words: list[str]) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = potstill(*words, "--json")
    said = capsys.readouterr()
    assert said.out, said.err
    return code, json.loads(said.out)


@pytest.fixture
def student(before: Path, tmp_path: Path) -> Path:
    shutil.copytree(before, tmp_path / "work")
    return tmp_path / "work" / "s.policy"


def test_a_student_follows_a_drift_refuses_lies_and_goes_back(
    student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = student.read_bytes()
    code, found = json_of(capsys, words_of(student, "good.db"))
    assert (code, found["promoted"]) == (0, True), found
    assert found["new_success"] > found["success"]
    assert found["difference_ci"][0] > -0.05
    assert versions.version_of(student) == found["version"]
    checked = verify([student])
    assert checked.passed
    assert checked.complete, "its parent is among the versions"

    promoted = student.read_bytes()
    code, poisoned = json_of(capsys, words_of(student, "bad.db"))
    assert (code, poisoned["promoted"]) == (1, False), poisoned
    assert poisoned["before"] == found["version"]
    assert poisoned["new_success"] < poisoned["success"]
    assert student.read_bytes() == promoted != old

    assert potstill("distill", "rollback", student) == 0
    assert student.read_bytes() == old
    assert potstill("distill", "rollback", student, "--to", found["version"][:8]) == 0
    assert student.read_bytes() == promoted
    events = versions.history(student)
    assert [one.what for one in events] == ["promoted", "rejected", "rolled-back", "rolled-back"]
    assert [one.comparison.get("non_inferior") for one in events[:2]] == [True, False]


@pytest.mark.parametrize(("share", "promoted"), [(1.0, False), (0.5, True)])
def test_what_was_known_must_stay_known(
    student: Path, capsys: pytest.CaptureFixture[str], share: float, promoted: bool
) -> None:
    """New tasks ask for the opposite. Learnt alone, they take the place of what was known; learnt with it, not."""
    old = student.read_bytes()
    words = ["distill", "retrain", str(student), "--db", str(student.parent / "night.db"), *TRAIN, "--margin", "0.3"]
    code, found = json_of(capsys, [*words, "--new-share", str(share)])
    assert found["new_success"] > found["success"] + 0.3, "it learns what is new, whatever it forgets"
    (known,) = found["old"]
    assert (known["judged_by"], known["success"]) == ("held-out decisions", 1.0)
    assert (known["new_success"] < 0.5) == (not promoted), found
    assert (code, found["promoted"], known["non_inferior"]) == (not promoted, promoted, promoted)
    assert (student.read_bytes() != old) == promoted
    if not promoted:
        assert "On what it knew before" in found["why"]
        (event,) = versions.history(student)
        assert event.comparison["old"][0]["difference"] < -0.3
        code, found = json_of(capsys, [*words, "--new-share", "1", "--forget-old"])
        assert (code, found["promoted"], found["old"]) == (0, True, [])


def killed(where: str, *words: str) -> None:
    """Run a command whose process ends by SIGKILL where it would call this function of ``versions``."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    command = [sys.executable, str(HERE / "continual_killed.py"), where, *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_a_kill_leaves_the_old_one_or_the_new_one_whole(student: Path) -> None:
    old = student.read_bytes()
    killed("promote", *quick_words(student))
    assert student.read_bytes() == old, "trained and judged, not yet promoted"
    assert potstill(*quick_words(student), "--resume") == 0
    new = student.read_bytes()
    assert new != old
    killed("_replace", "distill", "rollback", str(student))
    assert student.read_bytes() == new
    killed("_log", "distill", "rollback", str(student))
    assert student.read_bytes() == old, "the history lacks a line, and what acts is whole"


def test_a_candidate_of_another_parent_is_not_promoted(before: Path, student: Path) -> None:
    other = student.with_name("other.policy")
    words = ("--width", 8, "--steps", 2, "--out", other, "--db", before / "before.db")
    assert potstill("distill", "weights", *words) == 0
    with pytest.raises(ConfigError, match="replaced meanwhile"):
        versions.promote(student, other, at="now", comparison={})
    with pytest.raises(ConfigError, match="nothing to go back to"):
        versions.roll_back(student, at="now")


def test_the_loss_stays_as_it_was(before: Path, tmp_path: Path) -> None:
    student = tmp_path / "margin.policy"
    words = ("--width", 8, "--steps", 2, "--held-out", 0.3, "--out", student, "--db", before / "before.db")
    assert potstill("distill", "weights", *words, "--loss", "kind=margin", "--loss", "margin=2") == 0
    words = ("--db", before / "night.db", "--steps", 2, "--margin", 0.99)
    assert potstill("distill", "retrain", student, *words) == 0
    assert loss_of(student) == ("margin", 2.0)
    words = ("--db", before / "good.db", "--steps", 2, "--margin", 0.99)
    assert potstill("distill", "retrain", student, *words, "--loss", "kind=hard") == 0
    assert loss_of(student)[0] == "hard"


def loss_of(student: Path) -> tuple[str, float]:
    loss = read(student).manifest.configuration["train"]["loss"]
    return loss["kind"], loss.get("margin", 1.0)


def test_too_few_new_tasks_are_said_in_the_words_of_the_command(
    student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = student.with_name("few.db")
    with Store.read(student.with_name("night.db")) as nights, Store.open(few) as one:
        one.append(next(iter(nights.select())))
    assert potstill("distill", "retrain", student, "--db", few) == 2
    said = capsys.readouterr().err
    assert "The 1 new episodes have too few tasks" in said
    assert "'valid'" not in said


def test_nothing_new_is_said_before_anything_is_trained(
    student: Path, before: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert potstill("distill", "retrain", student, "--db", before / "before.db", "--run", "no-such-run") == 2
    assert "holds no episode of a run 'no-such-run'. See which runs there are" in capsys.readouterr().err
    shutil.rmtree(student.with_name("s.policy.training"))
    assert potstill("distill", "retrain", student, "--db", before / "good.db") == 2
    assert "Put the folder of its training beside it" in capsys.readouterr().err
