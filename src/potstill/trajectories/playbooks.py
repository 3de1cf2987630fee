"""Playbooks as rows: a log that only grows, and the bullets as they are now, changed in the same transaction.

What it knows: tables, revisions, numbers, keys that were seen, which batches name a source. What it does not do: what a
batch means. What is written is decided by a function that is handed in and runs inside the writer's transaction, so it
sees what every earlier batch left, and must only decide. Bodies are JSON whose meaning is the caller's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import msgspec

from potstill.errors import PotstillError, StoreError
from potstill.trajectories.access import Access
from potstill.trajectories.erasing import overwriting
from potstill.trajectories.journal import check_name
from potstill.trajectories.learning import Noted, check_run, note_done
from potstill.trajectories.sql import Connection, insert_rows

_MOST_IDS = 64
"""Of one question."""


class LogRow(NamedTuple):
    """A batch of a book."""

    revision: int
    """The book's with it, from 1, without gaps."""
    at: float
    """Unix seconds."""
    body: str


class BulletRow(NamedTuple):
    id: str
    number: int
    body: str


class Written(NamedTuple):
    """What a batch writes."""

    body: str
    """Of its row in the log."""
    bullets: Sequence[BulletRow] = ()
    """Those that it adds or changes."""
    next_number: int = 1
    """Of the bullet that is added next."""
    sources: Collection[str] = ()
    """Ids by which the batch can be found."""


class Rewritten(NamedTuple):
    """What a book is from now on, where something was erased."""

    written: Written
    """The row that says so; its bullets are all of the book's."""
    rows: Mapping[int, tuple[str, Collection[str]]]
    """Rows of the log that have another body, by revision: it, and the sources by which the batch is found from now
    on."""


class Changed(NamedTuple):
    row: LogRow
    """What the log holds of the batch."""
    repeated: bool
    """It was there already."""


class PlaybookState(NamedTuple):
    """A book at one moment."""

    revision: int
    """0: there is no such book."""
    next_number: int
    erasures: int
    """Grows when something was erased: what was read of the book before holds for nothing then."""
    bullets: list[BulletRow]


class PlaybookInfo(NamedTuple):
    namespace: str
    name: str
    revision: int
    bullets: int
    """Removed ones among them."""
    created_at: float
    """Unix seconds."""
    changed_at: float


Read = Callable[[Collection[str]], dict[str, str]]
"""Bodies of the book's bullets by their ids; those that are not there are left out."""


class PlaybookMethods(Access):
    """All writes return when they are durable."""

    def playbook_change(
        self,
        namespace: str,
        name: str,
        key: str,
        work: Callable[[Read, int, int], Written],
        *,
        noted: Noted | None = None,
        unless: Mapping[str, PotstillError] | None = None,
    ) -> Changed:
        """Append a batch to a book, which is made where there is none.

        ``work`` is given a function that reads bullets, the revision that the book will have, and the number of the
        next bullet; it may run more than once. What it raises is raised here, and nothing was written. ``key``: where
        the book has a batch of this key, that one is returned and ``work`` is not asked; empty: none. ``noted``: the
        position of a learning run that is done with it, kept in the same transaction. ``unless``: keys of other
        batches, each with what is raised where the book has it.
        """
        _check(namespace, name)
        if noted is not None:
            check_run(namespace, name, noted.run)

        def once(connection: Connection) -> Changed | PotstillError:
            if key and (held := _of_key(connection, namespace, name, key)) is not None:
                note_done(connection, namespace, name, noted, held.revision, self._clock(), repeated=True)
                return Changed(held, repeated=True)
            for other in _known(connection, namespace, name, unless or ()):
                return (unless or {})[other]
            revision, number = _book(connection, namespace, name)
            try:
                written = work(partial(_bodies, connection, namespace, name), revision + 1, number)
            except StoreError:
                raise
            except PotstillError as refused:  # nothing was written: others of the group need not be done again
                return refused
            row = LogRow(revision + 1, self._clock(), written.body)
            with overwriting(connection):
                _append(connection, namespace, name, key, row, written)
            note_done(connection, namespace, name, noted, row.revision, row.at)
            return Changed(row, repeated=False)

        done = self._write(once)
        if isinstance(done, PotstillError):
            raise done
        return done

    def playbook_log(self, namespace: str, name: str, after: int = 0, *, until: int | None = None) -> list[LogRow]:
        """A book's batches after a revision, oldest first; ``until``: that revision is the last one."""
        query = (
            "SELECT revision, at, body FROM playbook_log WHERE namespace = ?1 AND name = ?2 AND revision > ?3 "
            "AND (?4 IS NULL OR revision <= ?4) ORDER BY revision"
        )
        with self._reading() as connection:
            return [LogRow(*row) for row in connection.execute(query, (namespace, name, after, until))]

    def playbook_bullets(
        self, namespace: str, name: str, *, after: int = 0, ids: Collection[str] | None = None
    ) -> PlaybookState:
        """A book's bullets by number: all, those that were written after a revision (in counters too), or some."""
        with self._reading() as connection:
            found = connection.execute(f"SELECT {_BOOK} FROM playbooks WHERE {_NAMED}", (namespace, name)).fetchone()
            if found is None:
                return PlaybookState(0, 1, 0, [])
            if ids is None:
                rows = _bullets(connection, namespace, name, after)
            else:
                rows = sorted(_some(connection, namespace, name, ids), key=lambda row: row.number)
        return _state(found, rows)

    def playbooks(self, namespace: str | None) -> list[PlaybookInfo]:
        """The books of a tenant, or (None) of all, by name."""
        query = (
            "SELECT namespace, name, revision, (SELECT count(*) FROM playbook_bullets AS b "
            "WHERE b.namespace = p.namespace AND b.name = p.name), created_at, changed_at FROM playbooks AS p "
            "WHERE (?1 IS NULL OR namespace = ?1) ORDER BY namespace, name"
        )
        with self._reading() as connection:
            return [PlaybookInfo(*row) for row in connection.execute(query, (namespace,))]

    def playbooks_of_source(self, namespace: str, source: str) -> dict[str, list[int]]:
        """Which batches name a source: revisions by the names of the books."""
        query = "SELECT name, revision FROM playbook_sources WHERE namespace = ? AND source = ? ORDER BY name, revision"
        found: dict[str, list[int]] = {}
        with self._reading() as connection:
            for name, revision in connection.execute(query, (namespace, source)):
                found.setdefault(name, []).append(revision)
        return found

    def playbook_known(self, namespace: str, name: str, keys: Collection[str]) -> set[str]:
        """Those of the keys that a batch of the book has."""
        with self._reading() as connection:
            return set(_known(connection, namespace, name, keys))

    # --- erasing ----------------------------------------------------------------------------------------------------

    def playbook_rewrite(
        self, namespace: str, name: str, work: Callable[[list[LogRow], PlaybookState], Rewritten | None], key: str = ""
    ) -> LogRow | None:
        """Erase: give rows of the log other bodies, and the book other bullets, in one transaction.

        ``work`` is given the whole log and the bullets; None: there is nothing to do. ``key``: by which the row that
        says so is known; without one, nothing is done to a book that is not there. What was erased is
        overwritten in the file too (on PostgreSQL: its space is freed for other rows).
        """
        _check(namespace, name)

        def once(connection: Connection) -> LogRow | PotstillError | None:
            rows = _log(connection, namespace, name)
            found = connection.execute(f"SELECT {_BOOK} FROM playbooks WHERE {_NAMED}", (namespace, name)).fetchone()
            if found is None and not key:
                return None
            held = _state(found or (0, 1, 0), _bullets(connection, namespace, name, 0))
            try:
                rewritten = work(rows, held)
            except StoreError:
                raise
            except PotstillError as refused:
                return refused
            if rewritten is None:
                return None
            row = LogRow(held.revision + 1, self._clock(), rewritten.written.body)
            with overwriting(connection):
                new = key if key and _of_key(connection, namespace, name, key) is None else ""
                _rewrite(connection, namespace, name, row, rewritten, held, new)
            return row

        done = self._write(once)
        if isinstance(done, PotstillError):
            raise done
        if done is not None:
            self._give_back()
        return done

    def playbook_texts(self, namespace: str, name: str) -> Iterator[tuple[str, str]]:
        """Everything that a book's rows hold in words: where (``playbook_log.body of 3``), and what stands there."""
        with self._reading() as connection:
            for table, columns in COLUMNS.items():
                query = f"SELECT {_ROW[table]}, {', '.join(columns)} FROM {table} WHERE {_NAMED}"
                for row in connection.execute(query, (namespace, name)):
                    for column, text in zip(columns, row[1:], strict=True):
                        yield f"{table}.{column} of {row[0]}", text

    def playbook_scan(self, namespace: str, name: str, texts: Collection[str]) -> list[tuple[str, str]]:
        """Where a book's rows hold one of these texts, and which, as it is or as JSON has it; empty: nowhere.

        Exact, in upper and lower case as given.
        """
        forms = [(text, {text, msgspec.json.encode(text).decode()[1:-1]}) for text in texts if text]
        return [
            (place, text)
            for place, held in self.playbook_texts(namespace, name)
            for text, spelt in forms
            if any(one in held for one in spelt)
        ]


COLUMNS = {
    "playbooks": ("namespace", "name"),
    "playbook_log": ("namespace", "name", "body"),
    "playbook_sources": ("namespace", "source", "name"),
    "playbook_bullets": ("namespace", "name", "id", "body"),
}
"""Every column of a book that holds text."""
_ROW = {"playbooks": "name", "playbook_log": "revision", "playbook_sources": "revision", "playbook_bullets": "id"}
"""How a row is called."""


# --- rows -----------------------------------------------------------------------------------------------------------

_NAMED = "namespace = ? AND name = ?"
_BOOK = "revision, next_number, erasures"


def _check(namespace: str, name: str) -> None:
    what = f"a batch of playbook {name!r}"
    check_name(what, "namespace", namespace)
    check_name(what, "name", name)


def _digest(key: str) -> bytes:
    """Keys are kept as hashes: they may name what is to be forgotten, and are to be known again all the same."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).digest()


def _of_key(connection: Connection, namespace: str, name: str, key: str) -> LogRow | None:
    query = f"SELECT revision, at, body FROM playbook_log WHERE {_NAMED} AND key = ?"
    row = connection.execute(query, (namespace, name, _digest(key))).fetchone()
    return None if row is None else LogRow(*row)


def _known(connection: Connection, namespace: str, name: str, keys: Collection[str]) -> Iterator[str]:
    by_digest = {_digest(key): key for key in keys if key}
    digests = list(by_digest)
    for start in range(0, len(digests), _MOST_IDS):
        some = digests[start : start + _MOST_IDS]
        query = f"SELECT key FROM playbook_log WHERE {_NAMED} AND key IN ({', '.join('?' * len(some))})"
        for (held,) in connection.execute(query, (namespace, name, *some)).fetchall():
            yield by_digest[bytes(held)]


def _book(connection: Connection, namespace: str, name: str) -> tuple[int, int]:
    query = f"SELECT revision, next_number FROM playbooks WHERE {_NAMED}"
    row = connection.execute(query, (namespace, name)).fetchone()
    return (0, 1) if row is None else (row[0], row[1])


def _state(found: tuple[int, int, int], rows: list[BulletRow]) -> PlaybookState:
    revision, next_number, erasures = found
    return PlaybookState(revision, next_number, erasures, rows)


def _bodies(connection: Connection, namespace: str, name: str, ids: Collection[str]) -> dict[str, str]:
    return {row.id: row.body for row in _some(connection, namespace, name, ids)}


def _some(connection: Connection, namespace: str, name: str, ids: Collection[str]) -> Iterator[BulletRow]:
    asked = [id for id in dict.fromkeys(ids) if id.isascii() and "\x00" not in id]  # no other was ever given
    for start in range(0, len(asked), _MOST_IDS):
        some = asked[start : start + _MOST_IDS]
        marks = ", ".join("?" * len(some))
        query = f"SELECT id, number, body FROM playbook_bullets WHERE {_NAMED} AND id IN ({marks})"
        yield from (BulletRow(*row) for row in connection.execute(query, (namespace, name, *some)))


def _bullets(connection: Connection, namespace: str, name: str, after: int) -> list[BulletRow]:
    query = f"SELECT id, number, body FROM playbook_bullets WHERE {_NAMED} AND written > ? ORDER BY number"
    return [BulletRow(*row) for row in connection.execute(query, (namespace, name, after))]


def _log(connection: Connection, namespace: str, name: str) -> list[LogRow]:
    query = f"SELECT revision, at, body FROM playbook_log WHERE {_NAMED} ORDER BY revision"
    return [LogRow(*row) for row in connection.execute(query, (namespace, name))]


def _append(connection: Connection, namespace: str, name: str, key: str, row: LogRow, written: Written) -> None:
    connection.execute(
        "INSERT INTO playbooks(namespace, name, revision, next_number, erasures, created_at, changed_at) "
        "VALUES (?, ?, ?, ?, 0, ?, ?) ON CONFLICT(namespace, name) DO UPDATE SET revision = excluded.revision, "
        "next_number = excluded.next_number, changed_at = excluded.changed_at",
        (namespace, name, row.revision, written.next_number, row.at, row.at),
    )
    connection.execute(
        "INSERT INTO playbook_log(namespace, name, revision, at, key, body) VALUES (?, ?, ?, ?, ?, ?)",
        (namespace, name, row.revision, row.at, _digest(key) if key else None, row.body),
    )
    _put_sources(connection, namespace, name, row.revision, written.sources)
    _put(connection, namespace, name, row.revision, written.bullets)


def _put_sources(connection: Connection, namespace: str, name: str, revision: int, sources: Iterable[str]) -> None:
    rows = [(namespace, source, name, revision) for source in dict.fromkeys(sources)]
    insert_rows(connection, "INSERT INTO playbook_sources(namespace, source, name, revision) VALUES ", rows)


def _put(connection: Connection, namespace: str, name: str, revision: int, bullets: Iterable[BulletRow]) -> None:
    insert_rows(
        connection,
        "INSERT INTO playbook_bullets(namespace, name, id, number, written, body) VALUES ",
        [(namespace, name, one.id, one.number, revision, one.body) for one in bullets],
        " ON CONFLICT(namespace, name, id) DO UPDATE SET written = excluded.written, body = excluded.body",
    )


def _rewrite(
    connection: Connection, namespace: str, name: str, row: LogRow, rewritten: Rewritten, held: PlaybookState, key: str
) -> None:
    of_revision = f"{_NAMED} AND revision = ?"
    for revision, (body, sources) in rewritten.rows.items():
        place = (namespace, name, revision)
        connection.execute(f"UPDATE playbook_log SET body = ? WHERE {of_revision}", (body, *place))
        connection.execute(f"DELETE FROM playbook_sources WHERE {of_revision}", place)
        _put_sources(connection, namespace, name, revision, sources)
    before, now = {one.id: one for one in held.bullets}, rewritten.written.bullets
    gone = before.keys() - {one.id for one in now}
    gone_rows = [(namespace, name, id) for id in sorted(gone)]
    connection.executemany(f"DELETE FROM playbook_bullets WHERE {_NAMED} AND id = ?", gone_rows)
    changed = [one for one in now if before.get(one.id) != one]
    _append(connection, namespace, name, key, row, rewritten.written._replace(bullets=changed))
    connection.execute(f"UPDATE playbooks SET erasures = erasures + 1 WHERE {_NAMED}", (namespace, name))
