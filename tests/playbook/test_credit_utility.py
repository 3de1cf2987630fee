"""Proof before votes: what credit measured decides who has room on the page."""

from __future__ import annotations

import json
import threading

import pytest
from click.testing import CliRunner

from potstill.cli.playbook import playbook
from potstill.cli.playbook_wiring import playbook_context
from potstill.distill.playbook import operations as ops
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.budget import Budget
from potstill.distill.playbook.context import PlaybookConfig, PlaybookContext
from potstill.distill.playbook.credit import utility
from potstill.distill.playbook.credit.report import report
from potstill.distill.playbook.credit.utility import Measured, measured, utilities_of
from potstill.distill.playbook.operations import Batch, Stage
from potstill.trajectories import Store
from potstill.types import Outcome, OutcomeSource, PlaybookUse, Task, Trajectory, TrajectoryKind


def change(book, *operations):
    book.apply(Batch(operations=operations, actor="ana"))


def trial(number, shown, success, revision=2):
    every = {"b-1", "b-2", "b-3"}
    return Trajectory(
        id=f"t-{number}",
        task=Task(id=f"task-{number}", environment="desk"),
        kind=TrajectoryKind.STUDENT,
        outcome=Outcome(success=success, source=OutcomeSource.ENVIRONMENT),
        playbook=PlaybookUse(
            name="desk",
            revision=revision,
            shown=tuple(sorted(shown)),
            withheld=tuple(sorted(every - set(shown))),
            trial=True,
        ),
    )


@pytest.fixture
def book(tmp_path):
    """b-1 has the votes and does harm, b-2 has none and helps, of b-3 nothing is known."""
    with Store.open(tmp_path / "s.db") as store:
        book = Playbook(store, "default", "desk")
        change(book, *(ops.Add(section="others", content=letter * 40, stage=Stage.LIVE) for letter in "xyz"))
        change(book, ops.Tag(id="b-1", helpful=9))
        for number in range(400):
            shown = [id for bit, id in ((1, "b-1"), (2, "b-2"), (4, "b-3")) if number & bit]
            harmed, helped = "b-1" in shown, "b-2" in shown
            store.append(trial(number, shown, helped if harmed == (not helped) else number & 8 > 0))
        yield book


def test_only_effects_whose_interval_excludes_nothing_are_utilities(book):
    found = measured(book)
    assert found.keys() == {"b-1", "b-2"}
    assert -1.0 <= found["b-1"] < 0.0
    assert 1.0 < found["b-2"] <= 2.0
    assert utilities_of(report(book)) == found


def test_what_was_proven_has_room_before_what_has_votes(book):
    small = PlaybookConfig(budget=Budget(tokens=20))
    assert PlaybookContext(book, small).page().ids == ("b-1",)
    assert PlaybookContext(book, small, utility=Measured(book)).page().ids == ("b-2",)


def test_runs_show_what_was_proven(book):
    config = {"budget": {"tokens": 20}, "holdout_share": 0.0}
    assert playbook_context(book.store, "default", "desk", config).page().ids == ("b-2",)


def typed(book, *words):
    done = CliRunner().invoke(playbook, [*words, "--budget", "20", "--json", "--db", str(book.store.path)])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_compaction_that_somebody_types_gives_room_to_what_was_proven(book):
    assert typed(book, "show", "--rendered")["bullets"] == ["b-2"], "as the next epoch will be"
    typed(book, "compact")
    kept = PlaybookContext.of(book, PlaybookConfig(budget=Budget(tokens=20)))
    assert kept.page().ids == ("b-2",)


def test_nothing_is_measured_where_all_bullets_fit_or_the_last_time_is_not_long_ago(book, monkeypatch):
    times, now = [], [0.0]
    monkeypatch.setattr(utility, "measured", lambda book: times.append(now[0]) or {"b-2": 1.5})
    known = Measured(book, fresh_s=60.0, clock=lambda: now[0])
    PlaybookContext(book, utility=known).page()
    assert times == []
    context = PlaybookContext(book, PlaybookConfig(budget=Budget(tokens=20)), utility=known)
    context.compact(), context.compact()
    assert times == [0.0]
    now[0] = 61.0
    context.page()
    assert times == [0.0], "only a compaction asks"
    context.compact()
    assert times == [0.0, 61.0]


def test_who_cannot_wait_is_given_what_was_known_before(book, monkeypatch):
    gate, threads = threading.Event(), []

    def slow(book):
        threads.append(threading.current_thread().name)
        gate.wait(30)
        return {"b-2": 1.5}

    monkeypatch.setattr(utility, "measured", slow)
    known = Measured(book, beside=True)
    assert known(()) == {}
    assert known(()) == {}
    gate.set()
    known.wait(30)
    assert known(()) == {"b-2": 1.5}
    assert threads == ["potstill-credit"]


def test_a_measurement_that_fails_leaves_it_to_the_votes(book, monkeypatch, caplog):
    def broken(book):
        raise OSError("gone")

    monkeypatch.setattr(utility, "measured", broken)
    context = PlaybookContext(book, PlaybookConfig(budget=Budget(tokens=20)), utility=Measured(book))
    assert context.page().ids == ("b-1",)
    assert "could not be read" in caplog.text
