"""What every group of the store's methods needs: a connection to read with, and the one thread that writes.

What it knows: who holds which connection. What it does not do: tables, or opening files (``store``).
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from potstill.locks import exclusive
from potstill.trajectories import connection as connections
from potstill.trajectories import retention
from potstill.trajectories.sql import Connection
from potstill.trajectories.writer import NoWriter, Writer

T = TypeVar("T")


class Access:
    """A store's file, open. ``path``: as it is shown; of a store that is no file, its URL without the password."""

    def __init__(self, path: Path | str, writer: Writer | NoWriter, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock
        self._readers: deque[sqlite3.Connection] = deque()
        self._writer = writer
        self._copy: tempfile.TemporaryDirectory[str] | None = None

    def close(self) -> None:
        """Write what is queued and close. Not needed for durability of what was acknowledged."""
        self._writer.close()
        while self._readers:
            self._readers.pop().close()
        if self._copy is not None:
            self._copy.cleanup()

    @contextlib.contextmanager
    def alone(self, name: str) -> Iterator[bool]:
        """Work that one process at a time does on this store: True for who has it, False while another one does.

        Held until the block ends, and freed by the system where its holder dies. Not to be waited for.
        """
        place = hashlib.sha256(f"{Path(self.path).resolve()}\x1f{name}".encode()).hexdigest()[:16]
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(exclusive(Path(tempfile.gettempdir()) / f"potstill-{place}.lock", wait=False))
            except BlockingIOError:
                yield False
                return
            yield True

    def _write(self, work: Callable[[Connection], T]) -> T:
        result: T = self._writer.submit(work).result()
        return result

    def _give_back(self) -> None:
        """Give the space of what was removed back to the system."""
        self._writer.submit(retention.give_back, alone=True).result()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Connection]:
        """A connection inside one read transaction, so that everything read belongs to one state of the store."""
        path = Path(self.path)
        with connections.translated(path):
            try:
                connection = self._readers.pop()
            except IndexError:
                connection = connections.connect(path, readonly=True)
            try:
                connection.execute("BEGIN")
                yield connection
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                self._readers.append(connection)
