"""Decisions on bullets that changed since they were read: refused, with nothing of the batch applied."""

from __future__ import annotations

import pytest
from playbook_logs import Log, add

from potstill.distill.playbook import operations as ops
from potstill.distill.playbook.apply import Refused, Why
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.learn import keeping
from potstill.distill.playbook.learn.desk import Desk
from potstill.distill.playbook.learn.health import Health
from potstill.distill.playbook.learn.journal import Journal, Kind
from potstill.distill.playbook.learn.plan import Turn
from potstill.distill.playbook.learn.result import Validated
from potstill.distill.playbook.learn.settings import Settings
from potstill.distill.playbook.learn.writing import Tools
from potstill.distill.playbook.operations import Batch, Stage
from potstill.distill.playbook.undo import undo
from potstill.trajectories import Store

DECISIONS = [
    lambda revision: ops.Remove(id="b-1", revision=revision),
    lambda revision: ops.Quarantine(id="b-1", revision=revision),
    lambda revision: ops.SetStage(id="b-1", stage=Stage.LIVE, revision=revision),
    lambda revision: ops.Pin(id="b-1", revision=revision),
    lambda revision: ops.Restore(id="b-1", revision=revision),
]


@pytest.mark.parametrize("decision", DECISIONS)
def test_a_decision_holds_for_what_was_read(decision):
    log = Log()
    log.do(add("one"))
    log.do(ops.Update(id="b-1", content="another", revision=1), actor="ana")
    before = log.bullets["b-1"]
    with pytest.raises(Refused, match="b-1 is at revision 2 now, this was written for 1") as refused:
        log.do(add("two"), decision(1))
    assert (refused.value.why, refused.value.index, refused.value.id) == (Why.STALE, 1, "b-1")
    assert log.bullets == {"b-1": before}
    log.do(decision(2))
    log.do(decision(None))
    assert log.bullets["b-1"].revision == 4


def test_votes_do_not_make_a_decision_stale():
    log = Log()
    log.do(add("one"))
    log.do(ops.Tag(id="b-1", harmful=3))
    log.do(ops.Quarantine(id="b-1", revision=1))
    assert log.bullets["b-1"].quarantined


def test_a_way_back_does_not_undo_what_came_after_it_was_looked_for():
    log = Log()
    log.do(add("one"))
    log.do(add("two"))
    back = undo(log.entries, 1)
    log.do(ops.Update(id="b-2", content="bob's own", revision=1), actor="bob")
    with pytest.raises(Refused, match="b-2 is at revision 2 now"):
        log.append(back)
    assert not log.bullets["b-2"].removed


def test_keeping_the_best_leaves_what_others_write_while_it_looks(tmp_path, monkeypatch):
    with Store.open(tmp_path / "s.db") as store:
        book = Playbook(store, "default", "book")
        tools = Tools(Desk(book, Settings()), Journal(book, "r"), None, Settings(), Health(), None, False)
        book.apply(Batch(operations=(add("one"),), actor="curator"))
        book.apply(Batch(operations=(add("two"),), actor="curator", key=tools.prefix + "x"))
        looked = keeping._by_others

        def and_then(*given):
            found = looked(*given)
            if len(book.bullets()) < 3:
                book.apply(Batch(operations=(add("ana's own"),), actor="ana"))
            return found

        monkeypatch.setattr(keeping, "_by_others", and_then)
        best, last = (
            Validated(position=n, epoch=0, revision=n, episodes=9, succeeded=right) for n, right in ((1, 9), (2, 3))
        )
        keeping.keep_best(tools, Turn(9, Kind.KEEP), best, last)
        assert [(one.content, one.removed) for one in book.bullets().values()] == [
            ("one", False),
            ("two", True),
            ("ana's own", False),
        ]


@pytest.mark.parametrize("texts", range(3, 16))
def test_each_part_of_a_long_way_back_is_nearer_to_its_end(tmp_path, monkeypatch, texts):
    monkeypatch.setattr("potstill.distill.playbook.undo.MAX_OPERATIONS", 2)
    with Store.open(tmp_path / "s.db") as store:
        book = Playbook(store, "default", "book")
        tools = Tools(Desk(book, Settings()), Journal(book, "r"), None, Settings(), Health(), None, False)
        book.apply(Batch(operations=tuple(add(f"text {n}") for n in range(texts)), actor="curator"))
        for n in range(texts):
            change = ops.Update(id=f"b-{n + 1}", content=f"worse {n}", revision=1)
            book.apply(Batch(operations=(change,), actor="curator", key=tools.prefix + str(n)))
        written, apply = [], book.apply

        def counted(batch, **noted):
            written.append(batch)
            assert len(written) <= texts, "it goes back and forth"
            return apply(batch, **noted)

        monkeypatch.setattr(book, "apply", counted)
        best, last = (
            Validated(position=n, epoch=0, revision=n, episodes=9, succeeded=right) for n, right in ((1, 9), (2, 3))
        )
        keeping.keep_best(tools, Turn(9, Kind.KEEP), best, last)
        assert [one.content for one in book.bullets().values()] == [f"text {n}" for n in range(texts)]
