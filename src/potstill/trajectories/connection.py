"""Opening SQLite connections the way the store needs them, and saying what went wrong in our own errors.

What it knows: pragmas, durability, SQLite's result codes. What it does not do: tables, episodes.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from potstill.errors import DiskFull, StoreError

BUSY_TIMEOUT_S = 60.0
"""How long a writer waits for another process's transaction before it gives up."""
MINIMUM_SQLITE = (3, 37, 0)
"""STRICT tables; Debian 12 has 3.40, Ubuntu 22.04 has 3.37."""
LOW_SPACE_BYTES = 256 * 1024
"""An I/O error with less than this left on the disk is a full disk (SQLite cannot always tell)."""


def connect(path: Path, *, readonly: bool = False) -> sqlite3.Connection:
    """A connection in autocommit mode, usable from any thread (one at a time), with foreign keys enforced."""
    if sqlite3.sqlite_version_info < MINIMUM_SQLITE:
        raise StoreError(
            f"SQLite {sqlite3.sqlite_version} is too old for the store; it needs 3.37 or newer. "
            "Use a newer Python build."
        )
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA foreign_keys = ON")
    if readonly:
        connection.execute("PRAGMA query_only = ON")
    return connection


def must_hold_a_store(path: Path) -> None:
    """Raise ``StoreError`` where there is no file or an empty one; SQLite would make a database of either."""
    if not path.exists():
        raise StoreError(f"No store at {path}. Record one with: potstill run --db {path}, or name another with --db.")
    if not path.is_file():
        raise StoreError(f"{path} is not a file. Name a store with --db.")
    if path.stat().st_size == 0 and not Path(f"{path}-wal").exists():
        raise StoreError(f"{path} is empty, so it is no store. Record one there: potstill run --db {path}")


def make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"The folder {path.parent} for the store cannot be made: {error.strerror}.") from error


def prepare_writer(connection: sqlite3.Connection, max_bytes: int | None) -> None:
    """Settings of the writing connection: WAL, durable commits, pages that can be given back."""
    if connection.execute("PRAGMA page_count").fetchone()[0] == 0:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # possible only while the file is empty
    _enter_wal(connection)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    if max_bytes is not None:
        page = int(connection.execute("PRAGMA page_size").fetchone()[0])
        connection.execute(f"PRAGMA max_page_count = {max(1, max_bytes // page)}")


def _enter_wal(connection: sqlite3.Connection) -> None:
    """Switching to WAL needs the file alone for a moment and does not honour the busy time-out: try again."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
            continue
        if mode != "wal":
            raise StoreError(f"This file system cannot hold a write-ahead log (journal mode stayed '{mode}').")
        return


def begin_immediate(connection: sqlite3.Connection) -> None:
    """Start a writing transaction, waiting for other processes to finish theirs.

    SQLite's own waiting sleeps up to 100 ms between tries and starves beside a busy writer, whose pauses are far
    shorter; a try every few milliseconds at random times gets its turn.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            time.sleep(random.uniform(0.0002, 0.003))
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}")


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ``StoreError`` and ``DiskFull`` with a sentence that helps."""
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error, path) from error


def translate(error: sqlite3.Error, path: Path) -> StoreError:
    code = _code(error)
    if code == sqlite3.SQLITE_FULL or (code in _IO_CODES and _free_bytes(path) < LOW_SPACE_BYTES):
        return DiskFull(
            f"No space left for the store {path} ({_free_bytes(path):,} bytes free there, or its size limit is "
            "reached). Everything acknowledged before is kept. Free some space, then remove old episodes with: "
            "potstill trajectories prune --before DATE"
        )
    if code == sqlite3.SQLITE_BUSY:
        return StoreError(f"Another process has been writing to {path} for {BUSY_TIMEOUT_S:.0f} s. Try again.")
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return StoreError(f"{path} is not a readable potstill store ({error}). Give another file with --db.")
    if code == sqlite3.SQLITE_READONLY:
        return StoreError(f"The store {path} cannot be written: no permission, or a read-only file system.")
    if code == sqlite3.SQLITE_CANTOPEN:
        return StoreError(f"The store {path} cannot be opened. Check that its folder exists and may be written.")
    return StoreError(f"The store {path} failed: {error}.")


def is_full(error: Exception) -> bool:
    return isinstance(error, sqlite3.Error) and _code(error) == sqlite3.SQLITE_FULL


_IO_CODES = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)


def _code(error: sqlite3.Error) -> int:
    """The primary result code (the low byte of the extended one)."""
    return int(getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def _free_bytes(path: Path) -> int:
    """What cannot be told is enough: no such folder, or a file system that holds no files (``/proc``)."""
    try:
        usage = shutil.disk_usage(path.parent)
    except OSError:
        return LOW_SPACE_BYTES
    return usage.free if usage.total else LOW_SPACE_BYTES


def files_bytes(path: Path) -> int:
    """Bytes that the database and its log take on disk."""
    return sum(p.stat().st_size for p in (path, Path(f"{path}-wal")) if p.exists())
