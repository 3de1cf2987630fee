"""``potstill playbook report --apply`` where one batch is not enough, and where somebody writes in between."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from potstill.cli.playbook import credit, playbook
from potstill.cli.playbook.books import FIRST
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.operations import Add, Batch, Pin, Stage
from potstill.errors import PotstillError
from potstill.trajectories import Store
from potstill.types import Outcome, PlaybookUse

sys.path.append(str(Path(__file__).parent.parent / "trajectories"))
from trajectory_fakes import episode


@pytest.fixture
def db(tmp_path: Path) -> str:
    """A book of one good bullet, then 1,200 with which nothing succeeds."""
    path = str(tmp_path / "store.db")
    with Store.open(path) as store:
        book = Playbook(store, "default", FIRST)
        book.apply(Batch(operations=(Add(section="s", content="Good.", stage=Stage.LIVE),), actor="ana"))
        for k in range(2):
            adds = (Add(section="s", content=f"Bad {k} {n}.", stage=Stage.LIVE) for n in range(600))
            book.apply(Batch(operations=tuple(adds), actor="import"))
        for n in range(200):
            use = PlaybookUse(name=FIRST, revision=1 if n < 100 else 3, shown=("b-1",))
            store.append(episode(f"e{n}", steps=1, playbook=use, outcome=Outcome(success=n < 100)))
    return path


def test_a_way_back_of_two_batches_is_done_by_one_command(db: str) -> None:
    looked = CliRunner().invoke(playbook, ["report", "--no-prices", "--db", db], catch_exceptions=False)
    assert "1,200 changes proposed, in 2 batches" in looked.stderr
    done = CliRunner().invoke(playbook, ["report", "--no-prices", "--apply", "--db", db], catch_exceptions=False)
    assert "Done in revision 5. To undo, type: potstill playbook rollback 3" in done.stderr
    with Store.open(db) as store:
        bullets = Playbook(store, "default", FIRST).bullets()
    assert [id for id, one in bullets.items() if one.shown] == ["b-1"]


def test_a_part_that_is_refused_says_what_was_done_before_it(db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody pins a bullet between the two batches."""
    plain = credit.applied

    def raced(book: Playbook, batch: Batch) -> object:
        done = plain(book, batch)
        book.apply(Batch(operations=(Pin(id="b-1201"),), actor="ana"))
        return done

    monkeypatch.setattr(credit, "applied", raced)
    result = CliRunner().invoke(playbook, ["report", "--no-prices", "--apply", "--db", db])
    assert isinstance(result.exception, PotstillError)
    assert str(result.exception).startswith("1 of 2 batches were applied, up to revision 4.")
    assert "b-1201 is at revision 2 now" in str(result.exception)
    monkeypatch.undo()
    CliRunner().invoke(playbook, ["report", "--no-prices", "--apply", "--db", db], catch_exceptions=False)
    with Store.open(db) as store:
        bullets = Playbook(store, "default", FIRST).bullets()
    assert [id for id, one in bullets.items() if one.shown] == ["b-1", "b-1201"]
