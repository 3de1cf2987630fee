"""Opening a store by its place: a file of SQLite, or a ``postgresql://`` URL.

What it knows: which engine a place names. What it does not do: either engine. Psycopg is imported only for a URL.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from potstill.errors import ConfigError, MissingExtra
from potstill.trajectories.store import Store

if TYPE_CHECKING:
    from potstill.trajectories.postgres.store import PostgresStore

SCHEMES = ("postgresql://", "postgres://")


def is_url(place: str | Path) -> bool:
    """Whether a place is a database on a server and not a file."""
    return str(place).startswith(SCHEMES)


def shown(place: str | Path) -> str:
    """The place as it may be printed: a URL without its password."""
    if not is_url(place):
        return str(place)
    from potstill.trajectories.postgres.location import locate

    return locate(str(place)).shown


def secrets_of(place: str | Path) -> tuple[str, ...]:
    """Texts by which a store is opened and that no record may hold: a URL's password, else the environment's."""
    if not is_url(place):
        return ()
    from potstill.trajectories.postgres.location import locate

    return locate(str(place)).secrets or tuple(filter(None, (os.environ.get("PGPASSWORD"),)))


def open_store(
    place: str | Path,
    *,
    create: bool = True,
    max_bytes: int | None = None,
    clock: Callable[[], float] = time.time,
) -> Store:
    """Open a store to write, making it where there is none (``create``), its schema the newest.

    ``postgresql://user@host/database?schema=NAME`` needs the extra ``postgres``; the password is best given in
    ``PGPASSWORD`` or ``~/.pgpass``. ``max_bytes`` is for files only. Raises ``StoreError``, ``SchemaTooNew``,
    ``ConfigError`` for a URL that is wrong, ``MissingExtra``.
    """
    if not is_url(place):
        return Store.open(place, create=create, max_bytes=max_bytes, clock=clock)
    if max_bytes is not None:
        raise ConfigError("max_bytes limits a file; how large a store on PostgreSQL may grow is its server's to say.")
    return _on_postgres().at(str(place), create=create, clock=clock)


def read_store(place: str | Path) -> Store:
    """Open a store that nothing is written into. Raises as ``open_store``; a store that is not there is not made."""
    if not is_url(place):
        return Store.read(place)
    return _on_postgres().at_to_read(str(place))


def needs_driver() -> None:
    """Raises ``MissingExtra`` where PostgreSQL's driver is not installed, also where that does not find libpq."""
    try:
        import psycopg  # noqa: F401
        import psycopg_pool  # noqa: F401
    except ImportError as error:
        raise MissingExtra("A store on PostgreSQL", "postgres") from error


def _on_postgres() -> type[PostgresStore]:
    needs_driver()
    from potstill.trajectories.postgres.store import PostgresStore

    return PostgresStore
