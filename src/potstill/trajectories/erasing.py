"""Erasing so that nothing is left in the file: what every part of the store does that forgets.

What it knows: SQLite's pages. What it does not do: choose what goes (``playbooks``, ``learning``).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from potstill.trajectories.sql import Connection


@contextmanager
def overwriting(connection: Connection) -> Iterator[None]:
    """On SQLite: what rows are replaced by goes over their bytes, else these stay in the file until others need the
    space, and what was forgotten could be read there."""
    ours = isinstance(connection, sqlite3.Connection)
    if ours:
        connection.execute("PRAGMA secure_delete = ON").fetchone()
    try:
        yield
    finally:
        if ours:
            connection.execute("PRAGMA secure_delete = OFF").fetchone()
