"""``potstill run --playbook`` of a mistyped name: refused before a progress bar, a model or a game is opened."""

from __future__ import annotations

from pathlib import Path

from playbook_models import on_path
from terminal import potstill

from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.operations import Add, Batch
from potstill.trajectories import Store


def test_a_mistyped_book_is_all_that_is_said(tmp_path: Path) -> None:
    db = str(tmp_path / "run.db")
    with Store.open(db) as store:
        Playbook(store, "default", "house").apply(Batch(operations=(Add(section="x", content="Ask."),), actor="ana"))
    student = ("--student", "python:playbook_models:open_student#s")
    words = ("--env", "house-rules", "--n", "1", "--arm", "playbook", "--playbook", "hous", *student, "--db", db)
    done = potstill("run", *words, PYTHONPATH=on_path())
    assert done.returncode == 2, done.stderr
    assert "Did you mean 'house'?" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    with Store.read(db) as store:
        assert store.runs() == []
