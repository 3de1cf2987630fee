"""The store on PostgreSQL: the public operations are ``Store``'s; here is where they read and write.

What it knows: the pool of reading connections, sizes, vacuum. What it does not do: statements of its own on episodes.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

from potstill.errors import StoreError
from potstill.trajectories import journal, knowledge
from potstill.trajectories.migrations import MIGRATIONS
from potstill.trajectories.postgres import pgvector
from potstill.trajectories.postgres.connection import PostgresConnection, arguments, connect, prepare, translated
from potstill.trajectories.postgres.location import Location, locate
from potstill.trajectories.postgres.schema import lock_of, migrate, version_of
from potstill.trajectories.postgres.writer import PATIENCE_S, PostgresWriter
from potstill.trajectories.sql import Connection
from potstill.trajectories.store import Store
from potstill.trajectories.writer import NoWriter

if TYPE_CHECKING:
    from potstill.protocols import FloatMatrix
    from potstill.trajectories.knowledge import FloatVector

_log = logging.getLogger("potstill.store")

READERS = 8
"""Connections for reading at most; they are closed after some minutes without use."""

_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = ? ORDER BY tablename"
_BYTES = (
    "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class "
    "WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = ?) AND relkind = 'r'"
)


class PostgresStore(Store):
    """Opened by ``opening.open_store`` and ``opening.read_store``."""

    def __init__(
        self, location: Location, writer: PostgresWriter | NoWriter, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(location.shown, writer, clock)
        self._location = location
        self._noted = False
        self._pool: ConnectionPool[Any] = ConnectionPool(
            location.conninfo,
            kwargs=arguments(location),
            min_size=0,
            max_size=READERS,
            timeout=PATIENCE_S,
            reconnect_timeout=PATIENCE_S,
            configure=lambda raw: prepare(raw, location),
            check=ConnectionPool.check_connection,
            name="potstill-readers",
            open=True,
        )

    @classmethod
    def at(
        cls,
        url: str,
        *,
        create: bool = True,
        clock: Callable[[], float] = time.time,
        patience_s: float = PATIENCE_S,
    ) -> PostgresStore:
        """Open the store at a URL, making or renewing its tables. Raises as ``Store.open``, and ``ConfigError``."""
        location = locate(url)
        with translated(location):
            connection = connect(location)
            try:
                if not create:
                    _must_be_there(connection, location)
                migrate(connection, location)
            except BaseException:
                connection.close()
                raise
        return cls(location, PostgresWriter(connection, location, patience_s), clock)

    @classmethod
    def at_to_read(cls, url: str) -> PostgresStore:
        """Open the store at a URL to read. One of an older schema is not brought to the newest: ``StoreError``."""
        location = locate(url)
        with translated(location), contextlib.closing(connect(location)) as connection:
            version = _must_be_there(connection, location)
        if version < len(MIGRATIONS):
            raise StoreError(
                f"{location.shown} was written by an older potstill (schema {version}; this one reads "
                f"{len(MIGRATIONS)}). A gateway or a run of this version that writes into it brings it up."
            )
        return cls(location, NoWriter(location.shown))

    def close(self) -> None:
        super().close()
        self._pool.close()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Connection]:
        """A connection inside one read transaction, so that everything read belongs to one state of the store."""
        with translated(self._location):
            raw = self._reader()
            connection = PostgresConnection(raw)
            try:
                raw.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                yield connection
            finally:
                with contextlib.suppress(psycopg.Error):
                    connection.rollback()
                self._pool.putconn(raw)

    @contextlib.contextmanager
    def alone(self, name: str) -> Iterator[bool]:
        """See ``Access.alone``: an advisory lock of a connection of its own, freed by the server where that goes."""
        with translated(self._location):
            connection = connect(self._location)
        try:
            with translated(self._location):
                asked = "SELECT pg_try_advisory_lock(?::bigint)"
                has = bool(connection.execute(asked, (lock_of(self._location, name),)).fetchone()[0])
            yield has
        finally:
            connection.close()

    def _reader(self) -> psycopg.Connection[Any]:
        """A connection, or what keeps the pool from making one."""
        try:
            raw: psycopg.Connection[Any] = self._pool.getconn()
            return raw
        except PoolTimeout:
            connect(self._location).close()
            raise StoreError(f"All {READERS} reading connections to {self.path} are in use. Try again.") from None

    def _bytes(self) -> int:
        """What the store's tables and indexes take on the server's disk."""
        with self._reading() as connection:
            return int(connection.execute(_BYTES, (self._location.schema,)).fetchone()[0])

    def _give_back(self) -> None:
        """Free what was removed for new rows, and what lies at the ends of tables for others."""

        def vacuum(connection: PostgresConnection) -> None:
            names = [name for (name,) in connection.execute(_TABLES, (self._location.schema,)).fetchall()]
            connection.raw.execute(f"VACUUM {', '.join(names)}".encode())

        self._writer.submit(vacuum, alone=True).result()

    # --- vectors ----------------------------------------------------------------------------------------------------

    def nearest(self, space: str, query: FloatVector, k: int) -> list[tuple[str, float]]:
        """See ``Store.nearest``. Exact, unless ``index_vectors`` was called for the space."""
        checked = knowledge.checked_matrix(space, [""], query[None])[0]
        with self._pooled() as connection:
            found = pgvector.extension(connection, self._location.schema)
            held = pgvector.space_of(connection, space)
            if found is not None and found.table and held is not None:
                knowledge.check_dimension(held.dimension, len(checked))
                return pgvector.search(connection, found, held, checked, max(0, k))
        if found is None or isinstance(self._writer, NoWriter):
            self._note_once(found)
            return super().nearest(space, query, k)
        if held is None:
            return []
        self._fill()
        return self.nearest(space, query, k)

    def index_vectors(self, space: str) -> bool:
        """Have the server find a space's nearest vectors by an approximate index from now on (HNSW of pgvector).

        For spaces of 100,000 vectors and more; takes minutes there, while others read and write. False where the
        database has no pgvector, or there is no such space.
        """
        with self._pooled() as connection:
            found = pgvector.extension(connection, self._location.schema)
            held = pgvector.space_of(connection, space)
        if found is None or held is None:
            self._note_once(found)
            return False
        if not found.table:
            self._fill()
        with translated(self._location), contextlib.closing(connect(self._location)) as connection:
            pgvector.index(connection, found, held)
        return True

    def _put_vectors(self, connection: Connection, space: str, ids: Sequence[str], matrix: FloatMatrix) -> None:
        super()._put_vectors(connection, space, ids, matrix)
        assert isinstance(connection, PostgresConnection)
        found = pgvector.extension(connection, self._location.schema)
        held = pgvector.space_of(connection, space)
        if found is not None and found.table and held is not None:
            pgvector.put(connection, found, held, ids, matrix)

    def _fill(self) -> None:
        def work(connection: Connection) -> None:
            assert isinstance(connection, PostgresConnection)
            pgvector.fill(connection, self._location.schema)

        self._write(work)

    def _note_once(self, found: pgvector.Extension | None) -> None:
        if found is None and not self._noted:
            self._noted = True
            _log.info(
                "%s has no pgvector: nearest vectors are searched here, exactly. To have the server search: "
                "CREATE EXTENSION vector",
                self.path,
            )

    @contextlib.contextmanager
    def _pooled(self) -> Iterator[PostgresConnection]:
        with self._reading() as connection:
            assert isinstance(connection, PostgresConnection)
            yield connection

    def check(self) -> list[str]:
        """Exchanges whose base is missing; PostgreSQL keeps foreign keys itself. Empty if all is sound."""
        with self._reading() as connection:
            return [f"exchange {seq}: its base is missing" for seq in journal.baseless(connection)]


def _must_be_there(connection: PostgresConnection, location: Location) -> int:
    version = version_of(connection, location)
    if not version:
        raise StoreError(f"No store at {location.shown}. Record one with: potstill run --db '{location.shown}'")
    return version
