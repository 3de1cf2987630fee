"""A test of the store runs on each engine: ``Store.open(path)`` is then a file, or a schema of the tests' PostgreSQL.

``raw(store)`` looks into a store's tables behind its back, whichever engine it is on.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from potstill.trajectories.opening import is_url, open_store, read_store
from potstill.trajectories.store import Store

_on: Callable[[Path | str], str] | None = None
"""Where a file's place is on PostgreSQL; None: files are files."""


def use(monkeypatch, url_for: Callable[[Path | str], str]) -> None:
    """Until the end of a test, ``Store.open`` and ``Store.read`` open on PostgreSQL what stands for a file."""

    def opened(path, *, create=True, max_bytes=None, clock=time.time):
        return open_store(_place(path), create=create, clock=clock)

    monkeypatch.setattr(Store, "open", staticmethod(opened))
    monkeypatch.setattr(Store, "read", staticmethod(lambda path: read_store(_place(path))))
    monkeypatch.setitem(globals(), "_on", url_for)


def _place(path: Path | str) -> str:
    return str(path) if is_url(path) or _on is None else _on(path)


@contextmanager
def raw(place: Store | Path | str) -> Iterator[sqlite3.Connection]:
    """A connection that takes SQLite's SQL; what it changes is committed."""
    place = _place(place.path if isinstance(place, Store) else place)
    if not is_url(place):
        with closing(sqlite3.connect(place)) as connection, connection:
            yield connection
        return
    from potstill.trajectories.postgres.connection import connect
    from potstill.trajectories.postgres.location import locate

    with closing(connect(locate(place))) as connection:
        yield connection  # type: ignore[misc]
