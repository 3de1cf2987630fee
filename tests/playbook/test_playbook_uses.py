"""Which bullets an episode was shown: written with its trajectory, joined with its outcome, gone with it."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines import raw
from potstill.distill.playbook import operations as ops
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.operations import Batch, Stage
from potstill.errors import StoreError
from potstill.trajectories import Store, uses
from potstill.trajectories.exchange import Exchange
from potstill.trajectories.export import export
from potstill.trajectories.importing import import_file
from potstill.types import (
    Action,
    Answerer,
    Call,
    ErrorRecord,
    Observation,
    Outcome,
    OutcomeSource,
    PlaybookUse,
    Step,
    Task,
    Trajectory,
    TrajectoryKind,
)

USE = PlaybookUse(name="support", revision=4, shown=("b-2", "b-1"), withheld=("b-7",), trial=True, cited=("b-1",))


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "s.db") as opened:
        yield opened


def episode(id, use=USE, calls=(Answerer.STUDENT, Answerer.TEACHER, Answerer.STUDENT), **fields):
    step = Step(
        index=0,
        observation=Observation(text="a door"),
        action=Action(text="open"),
        answerer=Answerer.STUDENT,
        calls=tuple(Call(model="m", answerer=one) for one in calls),
        bullets=("b-1",),
    )
    return Trajectory(
        id=id,
        task=Task(id="t", environment="house"),
        kind=TrajectoryKind.STUDENT,
        steps=(step,),
        started_at=1_790_000_000.0,
        playbook=use,
        **fields,
    )


def names(store, name="support", namespace="default", **asked):
    return [row.trajectory_id for row in store.playbook_uses(namespace, name, **asked)]


def test_a_row_says_what_was_shown_how_it_ended_and_how_often_it_was_paid_for(store):
    store.append(episode("one", outcome=Outcome(success=True)))
    store.append(episode("none", use=None))
    broken = ErrorRecord(kind="EnvCrashed", message="code 139")
    store.append(episode("two", use=PlaybookUse(name="support"), calls=(), error=broken))
    first, second = store.playbook_uses("default", "support")
    assert (first.trajectory_id, first.use, first.outcome) == ("one", USE, Outcome(success=True))
    assert (first.error, first.calls, first.started_at) == (None, 2, 1_790_000_000.0)
    assert (second.trajectory_id, second.outcome, second.error, second.calls) == ("two", None, broken, 0)
    assert store.get("one") == episode("one", outcome=Outcome(success=True))
    assert names(store, after=first.seq) == ["two"]
    assert names(store, after=second.seq) == []


def test_an_outcome_that_comes_late_or_is_corrected_counts_as_it_is_now(store):
    store.append(episode("one"))
    store.set_outcome("one", Outcome(success=True, source=OutcomeSource.JUDGE))
    store.set_outcome("one", Outcome(success=False, source=OutcomeSource.HUMAN, score=0.25))
    (row,) = store.playbook_uses("default", "support")
    assert row.outcome == Outcome(success=False, source=OutcomeSource.HUMAN, score=0.25)


def test_tenants_and_books_are_told_apart(store):
    store.append(episode("a", namespace="acme"))
    store.append(episode("b", use=msgspec.structs.replace(USE, name="sales")))
    assert names(store) == []
    assert names(store, namespace="acme") == ["a"]
    assert names(store, "sales") == ["b"]


def test_the_same_episode_again_is_one_row(store):
    store.append(episode("one"))
    store.append(episode("one"))
    assert names(store) == ["one"]


def test_many_are_read_in_parts_beside_a_writer(store, monkeypatch):
    monkeypatch.setattr(uses, "AT_ONCE", 3)
    for number in range(7):
        store.append(episode(f"e{number}"))
    reading = store.playbook_uses("default", "support")
    assert next(reading).trajectory_id == "e0"
    store.append(episode("e7"))
    assert [row.trajectory_id for row in reading] == [f"e{number}" for number in range(1, 8)]


def test_it_goes_with_its_trajectory(store):
    for number in range(4):
        store.append(episode(f"e{number}"))
    store.remove(["e1", "e3"])
    assert names(store) == ["e0", "e2"]
    store.prune(1_800_000_000.0)
    assert names(store) == []
    with raw(store) as connection:
        assert connection.execute("SELECT count(*) FROM playbook_uses").fetchone()[0] == 0


def test_an_export_that_is_imported_brings_it_into_another_tenant(store, tmp_path):
    store.append(episode("one", outcome=Outcome(success=True)))
    written = io.BytesIO()
    export(store.select(), written, "jsonl")
    with Store.open(tmp_path / "other.db") as other:
        assert import_file(other, io.BytesIO(written.getvalue()), namespace="acme").added == 1
        (row,) = other.playbook_uses("acme", "support")
        assert (row.use, row.calls, row.outcome) == (USE, 2, Outcome(success=True))
        assert names(other) == []


def test_a_live_episode_that_goes_on_has_one_row_with_a_larger_number(store):
    for started in (1.0, 2.0):
        said = Exchange(namespace="default", episode_id="e", route="auto", dialect="openai-chat", started_at=started)
        (seq,) = store.record([said])
        more = msgspec.structs.replace(USE, shown=("b-2", "b-1", "b-9")) if started == 2.0 else USE
        before = store.episode("default", "e").folded_seq
        store.fold("default", "e", episode("live", use=more), seq, after_seq=before)
        rows = list(store.playbook_uses("default", "support"))
        assert [row.use for row in rows] == [more]
    assert names(store, after=rows[0].seq - 1) == ["live"]


@pytest.mark.parametrize("name", ["", "a\x00b"])
def test_a_name_that_cannot_be_kept_is_refused_with_nothing_stored(store, name):
    with pytest.raises(StoreError, match="its playbook's name is"):
        store.append(episode("one", use=PlaybookUse(name=name)))
    assert store.ids() == []


def test_a_damaged_row_is_told(store):
    store.append(episode("one"))
    with raw(store) as connection:
        connection.execute("UPDATE playbook_uses SET body = 'x'")
    with pytest.raises(StoreError, match="playbook of trajectory 'one' is damaged"):
        names(store)


def test_forgetting_a_source_leaves_the_record_of_who_was_shown_what(store):
    """Ids and numbers are no trace of what was learnt: the scan finds none in them."""
    book = Playbook(store, "default", "support")
    taught = ops.Add(section="others", content="ask for the red key", stage=Stage.LIVE)
    book.apply(Batch(operations=(taught,), actor="curator", sources=("one",)))
    store.append(episode("one"))
    forgotten, traces = book.forget_source("one", actor="ana")
    assert forgotten.erased
    assert traces == ()
    assert names(store) == ["one"]


IDS = st.lists(st.text(min_size=1, max_size=8).map(lambda text: f"b-{text}"), max_size=4, unique=True).map(tuple)


@given(
    st.builds(
        PlaybookUse,
        name=st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1, max_size=20),
        revision=st.integers(0, 2**40),
        shown=IDS.filter(lambda ids: all(id.isprintable() for id in ids)),
        trial=st.booleans(),
    )
)
def test_any_use_reads_back_as_it_was(use):
    body = uses.prepare(episode("one", use=use))
    assert body is not None
    assert uses._read((1, "one", body, None, 2.0)) == uses.UseRow(1, "one", use, None, None, 2, 2.0)


def test_a_store_of_the_schema_before_takes_them(tmp_path: Path):
    from contextlib import closing

    from potstill.trajectories import connection as connections
    from potstill.trajectories.migrations import MIGRATIONS, migrate

    path = tmp_path / "old.db"
    with closing(connections.connect(path)) as old:
        connections.prepare_writer(old, None)
        migrate(old, path, MIGRATIONS[:5])
    with Store.open(path) as store:
        store.append(episode("one"))
        assert names(store) == ["one"]
