"""The one thread of a process that writes to PostgreSQL, and what it does when the connection goes.

What it knows: transactions that are alone in the store, lost connections, whether a lost commit was one. What it does
not do: SQL of its own.

A group whose connection went before its commit is tried again on a new one. One that was lost in its commit is asked
about by its transaction's id first: nothing is written twice, and nothing is reported that is not so. Where the server
stays away for longer than patience lasts, the question is handed to the caller (``CommitUnknown``).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import psycopg

from potstill.trajectories.postgres.connection import PostgresConnection, connect, lost, translate
from potstill.trajectories.postgres.location import Location
from potstill.trajectories.postgres.schema import lock_of
from potstill.trajectories.writer import CommitUnknown, Unreachable, Work, Writer, _Job

PATIENCE_S = 10.0
"""How long a group waits for the server to come back. While it is away, later ones try once each."""
PAUSE_S = 0.1


class _InDoubt(Unreachable):
    """A group's commit of which nothing is known: its transaction, and what its works gave."""

    def __init__(self, message: str, transaction: str, results: list[Any]) -> None:
        super().__init__(message)
        self.transaction = transaction
        self.results = results


class PostgresWriter(Writer):
    """Owns a connection, and its successors."""

    _connection: PostgresConnection | None

    def __init__(self, connection: PostgresConnection, location: Location, patience_s: float = PATIENCE_S) -> None:
        self._location = location
        self._patience_s = patience_s
        self._away = False
        super().__init__(connection, location.shown)

    def _concerns_all(self, error: Exception) -> bool:
        return isinstance(error, Unreachable)

    def _transaction(self, group: Sequence[_Job]) -> list[Any]:
        deadline = time.monotonic() + (0.0 if self._away else self._patience_s)
        committing: str | None = None
        results: list[Any] = []
        while True:
            try:
                connection = self._open()
                if committing is not None and self._was_committed(connection, committing):
                    break
                committing = None
                transaction = connection.begin(lock_of(self._location))
                results = [job.work(connection) for job in group]
                committing = transaction
                connection.commit()
                break
            except BaseException as error:
                if not self._gone(error):
                    self._undo()
                    raise
                self._drop()
                if time.monotonic() > deadline:
                    self._away = True
                    raise self._unreachable(error, committing, results) from None
                time.sleep(PAUSE_S)
        self._away = False
        return results

    def _open(self) -> PostgresConnection:
        if self._connection is None:
            self._connection = connect(self._location)
        return self._connection

    def _was_committed(self, connection: PostgresConnection, transaction: str) -> bool:
        """Under the lock that the lost transaction held: it has ended."""
        connection.begin(lock_of(self._location))
        try:
            return connection.committed(transaction)
        finally:
            connection.rollback()

    def _gone(self, error: BaseException) -> bool:
        broken = self._connection is not None and self._connection.broken
        return lost(error) or (broken and isinstance(error, psycopg.Error))

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _undo(self) -> None:
        try:
            if self._connection is not None:
                self._connection.rollback()
        except psycopg.Error:
            self._drop()

    def _fail(self, group: list[_Job], error: Exception) -> None:
        if not isinstance(error, _InDoubt):
            return super()._fail(group, error)
        for job, result in zip(group, error.results, strict=True):
            work = _unless_committed(error.transaction, job.work, result)
            job.future.set_exception(CommitUnknown(str(error), partial(self.submit, work)))

    def _unreachable(self, error: BaseException, committing: str | None, results: list[Any]) -> Unreachable:
        assert isinstance(error, psycopg.Error)
        said = f"{translate(error, self._location)} "
        if committing is None:
            return Unreachable(f"{said}Nothing of this was written; it is tried again when it is asked for again.")
        return _InDoubt(
            f"{said}The connection was lost in a commit: whether this was written is not known until the server is "
            f"back (SELECT pg_xact_status('{committing}')).",
            committing,
            results,
        )

    def _run_alone(self, job: _Job) -> None:
        try:
            result = job.work(self._open())
        except Exception as error:
            if self._gone(error):
                self._drop()
            else:
                self._undo()
            job.future.set_exception(self._translated(error))
            return
        job.future.set_result(result)

    def _translated(self, error: Exception) -> Exception:
        return translate(error, self._location) if isinstance(error, psycopg.Error) else error

    def _end(self) -> None:
        self._drop()


def _unless_committed(transaction: str, work: Work, result: Any) -> Work:
    """The work, to be done again only where that transaction was rolled back. It has ended: it held the lock that this
    one has now."""

    def once(connection: PostgresConnection) -> Any:
        return result if connection.committed(transaction) else work(connection)

    return once
