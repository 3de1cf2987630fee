"""The one thread that writes: it takes what many callers hand it and commits it in groups.

What it knows: transactions, futures, group commit. What it does not do: SQL of its own beyond BEGIN and COMMIT.

A future is resolved only after the commit that carries its work returned, and commits are synchronous (fsync). While
one commit waits for the disk the next group collects: many callers share one fsync, a single caller waits for one.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from potstill.errors import StoreError
from potstill.trajectories.connection import begin_immediate, is_full, translate

Work = Callable[[Any], Any]
"""Takes the writing connection. Must be repeatable: when a group fails, each of its members runs again alone."""

GROUP_LIMIT = 256
QUEUE_LIMIT = 1024
"""Callers of ``submit`` wait when this many works are queued: memory stays bounded."""


class Unreachable(StoreError):
    """The database is away: of what was to be written nothing is."""


class CommitUnknown(StoreError):
    """The connection was lost in a commit, and nobody could be asked since whether it was one.

    Never write the same again: it may be there. ``again()`` queues it once more so that it is written if, and only if,
    that commit was none; its future gives the work's result in either case, raises ``Unreachable`` while the database
    is away, or another ``CommitUnknown``, which is to be asked instead.
    """

    def __init__(self, message: str, again: Callable[[], Future[Any]]) -> None:
        super().__init__(message)
        self.again = again


class _Job(msgspec.Struct, frozen=True):
    work: Work
    future: Future[Any]
    alone: bool


class NoWriter:
    """Stands in for the writer of a store that was opened for reading."""

    def __init__(self, path: Path | str) -> None:
        self._path = path

    def submit(self, work: Work, *, alone: bool = False) -> Future[Any]:
        raise StoreError(f"The store {self._path} was opened for reading: nothing is written into it.")

    def close(self) -> None:
        """There is nothing to finish."""


class Writer:
    """Owns the writing connection from the moment it is made until ``close``."""

    def __init__(self, connection: Any, path: Path | str) -> None:
        self._connection = connection
        self._path = path
        self._queue: queue.Queue[_Job | None] = queue.Queue(QUEUE_LIMIT)
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name="potstill-store-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Work, *, alone: bool = False) -> Future[Any]:
        """Queue work. ``alone``: run it outside any transaction of ours (vacuum, checkpoint)."""
        future: Future[Any] = Future()
        with self._lock:
            if self._closed:
                raise StoreError(f"The store {self._path} is closed.")
            self._queue.put(_Job(work, future, alone))
        return future

    def close(self) -> None:
        """Finish what is queued, then close the connection. May be called twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._thread.join()
        self._end()

    def _end(self) -> None:
        self._connection.close()

    def _loop(self) -> None:
        stop = False
        while not stop:
            group: list[_Job] = []
            single: _Job | None = None
            job = self._queue.get()
            while job is not None:
                if job.future.set_running_or_notify_cancel():
                    if job.alone:
                        single = job
                        break
                    group.append(job)
                if len(group) >= GROUP_LIMIT or self._queue.empty():
                    break
                job = self._queue.get()
            stop = job is None
            self._run_group(group)
            if single is not None:
                self._run_alone(single)

    def _run_group(self, group: list[_Job], *, again: bool = False) -> None:
        if not group:
            return
        try:
            results = self._transaction(group)
        except Exception as error:
            freed = not again and is_full(error) and self._shrink_log()
            if self._concerns_all(error) or (len(group) == 1 and not freed):
                self._fail(group, error)
                return
            for job in group:  # one bad member must not fail the others
                self._run_group([job], again=True)
            return
        for job, result in zip(group, results, strict=True):
            job.future.set_result(result)

    def _transaction(self, group: list[_Job]) -> list[Any]:
        begin_immediate(self._connection)
        try:
            results = [job.work(self._connection) for job in group]
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        return results

    def _fail(self, group: list[_Job], error: Exception) -> None:
        for job in group:
            job.future.set_exception(self._translated(error))

    def _concerns_all(self, error: Exception) -> bool:
        """Whether no member of a group would fare better alone."""
        return False

    def _shrink_log(self) -> bool:
        """On a full disk, move what the log holds into the database and cut it: it may hold pages many times over."""
        with suppress(sqlite3.Error):
            busy = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            return not busy
        return False

    def _run_alone(self, job: _Job) -> None:
        try:
            result = job.work(self._connection)
        except Exception as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            job.future.set_exception(self._translated(error))
            return
        job.future.set_result(result)

    def _translated(self, error: Exception) -> Exception:
        return translate(error, Path(self._path)) if isinstance(error, sqlite3.Error) else error
