"""What a playbook's learning runs have done, by position: the journal from which an interrupted run goes on.

What it knows: the table, and that a position is done once. What it does not do: what a position is, what its body
means (``distill.playbook.learn``). A position that changes the book is noted in the transaction that changes it
(``playbook_change(noted=...)``), so a kill leaves both or neither. Positions below 0 are asides: spending beside
them. And which episodes a run was to learn from, in what is kept of the run itself (``runs.config``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec

from potstill.errors import NOT_JSON, StoreError
from potstill.trajectories.access import Access
from potstill.trajectories.erasing import overwriting
from potstill.trajectories.journal import check_name
from potstill.trajectories.sql import Connection

_RUN = "namespace = ? AND name = ? AND run = ?"
IDS_UNDER = frozenset({"episodes", "episode"})
"""Fields of a body (a JSON object) that hold ids of episodes."""


FORGOTTEN = "sha256:"
"""Begins what stands in the place of an episode's id that a run was to learn from."""


def forgotten_mark(id: str) -> str:
    """What stands in the place of an id: it says nothing of it, and still tells one episode from another."""
    return FORGOTTEN + hashlib.sha256(id.encode(errors="surrogatepass")).hexdigest()


class Noted(NamedTuple):
    """A position of a run that is done with a batch."""

    run: str
    position: int
    body: Callable[[int], str]
    """Its row's, of the book's revision with the batch."""


class LearningRow(NamedTuple):
    position: int
    at: float
    """Unix seconds."""
    body: str


class LearningRun(NamedTuple):
    """One run of one book."""

    name: str
    """Of the book."""
    run: str
    last: int
    """The last position that is done."""
    started_at: float
    """Unix seconds."""
    changed_at: float


class LearningMethods(Access):
    """All writes return when they are durable."""

    def learning_note(self, namespace: str, name: str, run: str, position: int, body: str) -> None:
        """Note a position that changed nothing in the book. ``StoreError`` where it is noted already."""
        check_run(namespace, name, run)
        self._write(lambda connection: note(connection, namespace, name, run, position, self._clock(), body))

    def learning_aside(self, namespace: str, name: str, run: str, body: str) -> int:
        """Note something beside the positions; returns the number below 0 that it was given."""
        check_run(namespace, name, run)

        def work(connection: Connection) -> int:
            query = f"SELECT coalesce(min(position), 0) FROM learning WHERE {_RUN}"
            lowest = int(connection.execute(query, (namespace, name, run)).fetchone()[0])
            number = (lowest if lowest < 0 else 0) - 1
            note(connection, namespace, name, run, number, self._clock(), body)
            return number

        return self._write(work)

    def learning_rows(self, namespace: str, name: str, run: str) -> list[LearningRow]:
        """All of a run, by position."""
        query = f"SELECT position, at, body FROM learning WHERE {_RUN} ORDER BY position"
        with self._reading() as connection:
            return [LearningRow(*row) for row in connection.execute(query, (namespace, name, run))]

    def learning_runs(self, namespace: str, name: str | None = None) -> list[LearningRun]:
        """The runs of a tenant, or of one of its books, the oldest first."""
        query = (
            "SELECT name, run, max(position), min(at), max(at) FROM learning "
            "WHERE namespace = ?1 AND (?2 IS NULL OR name = ?2) GROUP BY name, run ORDER BY min(at), name, run"
        )
        with self._reading() as connection:
            return [LearningRun(*row) for row in connection.execute(query, (namespace, name))]

    def learning_forget(self, namespace: str, name: str, id: str) -> int:
        """Put nothing in the place of an episode's id in the journals of a book's runs, and ``forgotten_mark`` where a
        run was to learn from it; how many rows may have held it.

        It is overwritten in the file too (on PostgreSQL: its space is freed for other rows).
        """
        spelt = msgspec.json.encode(id).decode()

        def work(connection: Connection) -> int:
            query = "SELECT run, position, body FROM learning WHERE namespace = ? AND name = ?"
            found = [row for row in connection.execute(query, (namespace, name)) if spelt in row[2]]
            runs = [row for row in _configs(connection, namespace, name) if spelt in row[1]]
            with overwriting(connection):
                for run, position, body in found:
                    update = f"UPDATE learning SET body = ? WHERE {_RUN} AND position = ?"
                    connection.execute(update, (_without(body, id, ""), namespace, name, run, position))
                for run, config in runs:
                    without = _without(config, id, forgotten_mark(id))
                    connection.execute("UPDATE runs SET config = ? WHERE id = ?", (without, run))
            return len(found) + len(runs)

        changed = self._write(work)
        if changed:
            self._give_back()
        return changed

    def learning_names(self, namespace: str, name: str, id: str) -> bool:
        """Whether a run of the book learns from this episode, or may have."""
        spelt = msgspec.json.encode(id).decode()
        return any(spelt in text for _, text in self.learning_texts(namespace, name))

    def learning_texts(self, namespace: str, name: str) -> Iterator[tuple[str, str]]:
        """What a book's journals and runs hold: where (``learning.body of 3 of run``), and what stands there."""
        query = "SELECT run, position, body FROM learning WHERE namespace = ? AND name = ? ORDER BY run, position"
        with self._reading() as connection:
            for run, position, body in connection.execute(query, (namespace, name)):
                yield f"learning.body of {position} of {run}", body
            for run, config in _configs(connection, namespace, name):
                yield f"runs.config of {run}", config

    def learning_remove(self, namespace: str, name: str, run: str) -> int:
        """Remove a run's journal; how many rows went. What it wrote into the book stays.

        The book knows these batches by their keys: a run of the same name that does the same is not applied again.
        """
        query = f"DELETE FROM learning WHERE {_RUN}"
        return self._write(lambda connection: connection.execute(query, (namespace, name, run)).rowcount)


def _configs(connection: Connection, namespace: str, name: str) -> list[tuple[str, str]]:
    """What is kept of the runs that have a journal with this book, or were to have one."""
    rows = connection.execute("SELECT id, config FROM runs").fetchall()
    return [(run, config) for run, config in rows if _of_book(config, namespace, name)]


def _of_book(config: str, namespace: str, name: str) -> bool:
    try:
        value = msgspec.json.decode(config)
    except NOT_JSON:
        return False
    if not isinstance(value, dict) or value.get("namespace") != namespace:
        return False
    return any(isinstance(part, dict) and part.get("book") == name for part in value.values())


def _without(body: str, id: str, mark: str) -> str:
    """The same body with the mark in the id's places; as it is where it cannot be read."""
    try:
        value = msgspec.json.decode(body)
    except NOT_JSON:
        return body
    return msgspec.json.encode(_cleared(value, id, mark, "")).decode()


def _cleared(value: Any, id: str, mark: str, under: str) -> Any:
    if isinstance(value, dict):
        return {key: _cleared(one, id, mark, key) for key, one in value.items()}
    if isinstance(value, list):
        return [_cleared(one, id, mark, under) for one in value]
    return mark if under in IDS_UNDER and value == id else value


def check_run(namespace: str, name: str, run: str) -> None:
    """Raises ``StoreError`` for names that cannot be kept."""
    what = f"learning run {run!r}"
    for field, value in (("namespace", namespace), ("name", name), ("run", run)):
        check_name(what, field, value)


def note(connection: Connection, namespace: str, name: str, run: str, position: int, at: float, body: str) -> None:
    """Within a transaction. Raises ``StoreError`` where the position is done: somebody else works on the same run."""
    done = connection.execute(
        "INSERT INTO learning(namespace, name, run, position, at, body) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT(namespace, name, run, position) DO NOTHING",
        (namespace, name, run, position, at, body),
    )
    if done.rowcount != 1:
        raise StoreError(
            f"Position {position} of learning run {run!r} of playbook {name!r} is done already: another process works "
            "on the same run. Wait for it, or give this one another run."
        )


def note_done(
    connection: Connection,
    namespace: str,
    name: str,
    noted: Noted | None,
    revision: int,
    at: float,
    *,
    repeated: bool = False,
) -> None:
    """Within the batch's transaction. ``repeated``: the batch was there, and perhaps this row with it."""
    if noted is None:
        return
    if repeated:
        query = f"SELECT 1 FROM learning WHERE {_RUN} AND position = ?"
        if connection.execute(query, (namespace, name, noted.run, noted.position)).fetchone() is not None:
            return
    note(connection, namespace, name, noted.run, noted.position, at, noted.body(revision))
