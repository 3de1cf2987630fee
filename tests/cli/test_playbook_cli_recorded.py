"""``potstill distill playbook`` before it spends, and on what a store holds: keys, test splits, outcomes."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import msgspec
import pytest
from playbook_models import on_path
from terminal import potstill

from potstill.trajectories import Store
from potstill.types import Outcome

sys.path.append(str(Path(__file__).parent.parent / "trajectories"))
from trajectory_fakes import episode

TEACHER = "python:playbook_models:open_teacher#t"


def recorded(path: Path, **splits: str) -> str:
    db = str(path / "learn.db")
    with Store.open(db) as store:
        for id, split in splits.items():
            one = episode(id, steps=1)
            task = msgspec.structs.replace(one.task, split=split)
            store.append(msgspec.structs.replace(one, task=task, outcome=Outcome(success=id == "a")))
    return db


def distill(db: str, *words: str, **extra: str):
    return potstill("distill", "playbook", *words, "--book", "house", "--db", db, PYTHONPATH=on_path(), **extra)


def test_episodes_of_test_splits_teach_only_when_told(tmp_path: Path) -> None:
    db = recorded(tmp_path, a="train", b="", c="valid_unseen", d="test")
    done = distill(db, "--from-store", "--teacher", TEACHER)
    assert done.returncode == 0, done.stderr
    assert "2 of 4 episodes were left out, which are of other splits than train: test, valid_unseen" in done.stderr
    (row,) = json.loads(potstill("playbook", "runs", "--db", db, "--json").stdout)
    assert (row["learnt_from"], row["success"]) == (2, "1/2")
    told = json.loads(distill(db, "--from-store", "--teacher", TEACHER, "--split", "test", "--json").stdout)
    assert told["episodes"] == 1


def test_a_missing_key_is_said_before_anything_is_played(tmp_path: Path) -> None:
    db = recorded(tmp_path, a="train")
    words = ("--from-store", "--teacher", TEACHER, "--curator", "deepseek:deepseek-chat")
    dry = distill(db, *words, "--dry-run", DEEPSEEK_API_KEY="")
    assert dry.returncode == 0, dry.stderr
    assert "No key for the curator, deepseek:deepseek-chat. Type: export DEEPSEEK_API_KEY=" in dry.stderr
    done = distill(db, *words, DEEPSEEK_API_KEY="")
    assert done.returncode == 3, done.stderr
    assert "No key for the curator" in done.stderr
    assert json.loads(potstill("playbook", "runs", "--db", db, "--json").stdout) == []


def test_a_refused_curator_is_told_in_a_sentence_and_what_comes_next_works(tmp_path: Path) -> None:
    db = recorded(tmp_path, a="train")
    words = ("--from-store", "--teacher", TEACHER, "--curator", "python:playbook_models:open_prose#p")
    done = distill(db, *words)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if " not written (" in line]
    assert len(line.split("): ")[1].split()) > 3, line
    assert f"Nothing was written, so there is no book yet. Next: potstill playbook runs --book house --db {db}" in (
        done.stderr
    )
    assert potstill("playbook", "runs", "--book", "house", "--db", db).returncode == 0


def roles(reflector: str, curator: str) -> list[str]:
    models = {"prose": "python:playbook_models:open_prose#p", "teacher": TEACHER}
    return ["--from-store", "--reflector", models[reflector], "--curator", models[curator]]


@pytest.mark.parametrize("bad", [("prose", "teacher"), ("teacher", "prose")])
def test_what_could_not_be_learnt_from_is_said_and_taken_again(tmp_path: Path, bad: tuple[str, str]) -> None:
    db = recorded(tmp_path, a="train", b="train")
    for number in range(2):
        done = distill(db, *roles(*bad), "--run", f"r{number}")
        assert done.returncode == 0, done.stderr
        assert "Not learnt from: a (no-json)" in done.stderr
        assert "tried 3 times in all. To try again, type: potstill distill playbook --from-store" in done.stderr
    rows = json.loads(potstill("playbook", "runs", "--db", db, "--json").stdout)
    assert [row["learnt_from"] for row in rows] == [0, 0]
    good = json.loads(distill(db, *roles("teacher", "teacher"), "--json").stdout)
    assert (good["episodes"], good["skipped"], good["applied"]["ADD"]) == (2, [], 1)
    assert distill(db, *roles("teacher", "teacher")).returncode != 0


def test_after_three_attempts_it_is_taken_only_when_told(tmp_path: Path) -> None:
    db = recorded(tmp_path, a="train")
    for number in range(3):
        assert distill(db, *roles("teacher", "prose"), "--run", f"r{number}").returncode == 0
    done = distill(db, *roles("teacher", "teacher"))
    assert done.returncode == 2, done.stderr
    assert "in 3 attempts nothing could be learnt from them" in done.stderr
    told = json.loads(distill(db, *roles("teacher", "teacher"), "--again", "--json").stdout)
    assert told["episodes"] == 1


def test_the_missing_package_is_said_before_anything_is_paid(tmp_path: Path) -> None:
    db = recorded(tmp_path, a="train")
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(
        "import importlib.util as u, sys\n"
        "found = u.find_spec\n"
        "u.find_spec = lambda name, *more: None if name == 'json_repair' else found(name, *more)\n"
    )
    path = os.pathsep.join([str(hidden), on_path()])
    words = ("distill", "playbook", "--from-store", "--teacher", TEACHER, "--book", "house", "--db", db)
    done = potstill(*words, PYTHONPATH=path)
    assert done.returncode == 2, done.stderr
    assert "needs the extra 'playbook'. Type: pip install 'potstill[playbook]'" in done.stderr
    dry = potstill(*words, "--dry-run", PYTHONPATH=path)
    assert (dry.returncode, "pip install 'potstill[playbook]'" in dry.stderr) == (0, True), dry.stderr
    assert json.loads(potstill("playbook", "runs", "--db", db, "--json").stdout) == []
