"""The journal of learning runs, on both engines: a position is done once, and with its batch or not at all."""

from __future__ import annotations

import pytest
from playbook_workers import add, batch

from potstill.distill.playbook.apply import Refused
from potstill.distill.playbook.operations import Update
from potstill.errors import StoreError
from potstill.trajectories import Store
from potstill.trajectories.learning import Noted


def rows(store, run="r"):
    return [(row.position, row.body) for row in store.learning_rows("default", "support", run)]


def test_what_is_noted_comes_back_by_position(store):
    store.learning_note("default", "support", "r", 2, "two")
    store.learning_note("default", "support", "r", 0, "zero")
    store.learning_note("default", "support", "other", 0, "of another run")
    store.learning_note("tenant", "support", "r", 0, "of another tenant")
    assert rows(store) == [(0, "zero"), (2, "two")]
    assert [(run.name, run.run, run.last) for run in store.learning_runs("default")] == [
        ("support", "r", 2),
        ("support", "other", 0),
    ]
    assert store.learning_runs("default", "another book") == []
    assert store.learning_remove("default", "support", "r") == 2
    assert (rows(store), rows(store, "other")) == ([], [(0, "of another run")])


def test_a_position_is_done_once(store):
    store.learning_note("default", "support", "r", 0, "first")
    with pytest.raises(StoreError, match="another process works on the same run"):
        store.learning_note("default", "support", "r", 0, "second")
    assert rows(store) == [(0, "first")]


def test_asides_are_numbered_below_zero(store):
    store.learning_note("default", "support", "r", 0, "zero")
    assert [store.learning_aside("default", "support", "r", str(n)) for n in range(3)] == [-1, -2, -3]
    assert rows(store) == [(-3, "2"), (-2, "1"), (-1, "0"), (0, "zero")]


def test_a_batch_and_its_position_are_written_together(store, book):
    book.apply(batch(add("one"), key="k1"), noted=Noted("r", 1, lambda revision: f"at {revision}"))
    assert rows(store) == [(1, "at 1")]


def test_a_refused_batch_notes_nothing(store, book):
    book.apply(batch(add("one")))
    with pytest.raises(Refused):
        book.apply(batch(Update(id="b-1", content="x", revision=7)), noted=Noted("r", 1, lambda revision: "no"))
    assert (rows(store), book.revision) == ([], 1)


def test_a_position_that_is_done_keeps_its_batch_out(store, book):
    """Two processes with the same run: the second one's batch is not applied."""
    book.apply(batch(add("one"), key="k1"), noted=Noted("r", 1, str))
    with pytest.raises(StoreError, match="is done already"):
        book.apply(batch(add("two"), key="k2"), noted=Noted("r", 1, str))
    assert (book.revision, rows(store)) == (1, [(1, "1")])


def test_a_repeated_batch_is_noted_once(store, book):
    first = batch(add("one"), key="k1")
    book.apply(first)
    assert book.apply(first, noted=Noted("r", 1, str)).repeated
    assert book.apply(first, noted=Noted("r", 1, str)).repeated
    assert (book.revision, rows(store)) == (1, [(1, "1")])


@pytest.mark.parametrize("name", ["", "a\x00b"])
def test_names_that_cannot_be_kept_are_refused(store, book, name):
    with pytest.raises(StoreError, match="its run is"):
        store.learning_note("default", "support", name, 0, "x")
    with pytest.raises(StoreError, match="its run is"):
        book.apply(batch(add("one")), noted=Noted(name, 1, str))
    assert book.revision == 0


def test_an_id_is_taken_out_of_the_journals_and_nothing_else(store):
    body = '{"kind":"e-1","episodes":["e-1","e-12"],"skipped":[{"episode":"e-1","why":"e-1"}]}'
    store.learning_note("default", "support", "r", 0, body)
    store.learning_note("default", "support", "s", 3, '{"episodes":["e-12"]}')
    store.learning_note("default", "other", "r", 0, body)
    store.learning_note("default", "support", "r", 1, '"e-1" is no object {')
    assert store.learning_forget("default", "support", "e-1") == 2
    assert rows(store)[0] == (0, '{"kind":"e-1","episodes":["","e-12"],"skipped":[{"episode":"","why":"e-1"}]}')
    assert rows(store)[1] == (1, '"e-1" is no object {')  # the scan of a forgetting shows it
    assert rows(store, "s") == [(3, '{"episodes":["e-12"]}')]
    assert store.learning_rows("default", "other", "r")[0].body == body
    places = dict(store.learning_texts("default", "support"))
    assert sorted(places) == ["learning.body of 0 of r", "learning.body of 1 of r", "learning.body of 3 of s"]
    assert store.learning_forget("default", "support", "e-1") == 2


def test_no_byte_of_an_id_that_was_forgotten_is_left_in_the_file(tmp_path):
    path = tmp_path / "s.db"
    with Store.open(path) as store:
        for position in range(50):
            episodes = f'{{"episodes":["{"ZOLTANQUUX" if position == 7 else position}"]}}'
            store.learning_note("default", "support", "r", position, episodes)
        assert store.learning_forget("default", "support", "ZOLTANQUUX") == 1
        for file in (path, tmp_path / "s.db-wal"):
            assert b"ZOLTANQUUX" not in (file.read_bytes() if file.exists() else b"")
