"""A connection to PostgreSQL that takes the store's statements, and what went wrong there in our own errors.

What it knows: sessions, transactions, PostgreSQL's error classes. What it does not do: tables, episodes, retrying.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from potstill.errors import DiskFull, MissingExtra, StoreError
from potstill.trajectories.postgres import dialect
from potstill.trajectories.postgres.location import Location
from potstill.trajectories.sql import Found, Values

try:
    import psycopg
    from psycopg import adapt, errors, pq
    from psycopg.types.string import StrDumper, TextBinaryLoader, TextLoader
except ImportError as error:  # also where libpq is not found
    raise MissingExtra("A store on PostgreSQL", "postgres") from error

if TYPE_CHECKING:
    from psycopg.adapt import Buffer

LOCK_TIMEOUT_S = 60
"""How long a writer waits for another one's transaction before it gives up."""
IDLE_TIMEOUT_S = 60
"""How long a writer that stopped in the middle of a transaction (its host is gone) may keep the others waiting."""

_SESSION = """
SELECT set_config('search_path', '"{schema}"', false), set_config('lock_timeout', '{lock}s', false),
  set_config('idle_in_transaction_session_timeout', '{idle}s', false);
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') IN ('off', 'local');
"""


class _Texts(StrDumper):
    def dump(self, obj: str) -> Buffer | None:
        return super().dump(dialect.escaped(obj))


class _TextsRead(TextLoader):
    def load(self, data: Buffer) -> str:
        return dialect.unescaped(str(super().load(data)))


class _TextsReadBinary(TextBinaryLoader):
    def load(self, data: Buffer) -> str:
        return dialect.unescaped(str(super().load(data)))


class _Untyped(_Texts):
    """A text whose type is that of the place it stands in."""

    oid = 0


def _adapters() -> adapt.AdaptersMap:
    adapters = adapt.AdaptersMap(psycopg.adapters)
    adapters.register_dumper(str, _Untyped)
    for name in ("text", "varchar"):
        adapters.register_loader(name, _TextsRead)
        adapters.register_loader(name, _TextsReadBinary)
    return adapters


_ADAPTERS = _adapters()


class _NoRows(NamedTuple):
    """Of a statement that had no values to run with."""

    rowcount: int = 0

    def fetchone(self) -> None:
        return None

    def fetchall(self) -> list[Any]:
        return []

    def __iter__(self) -> Iterator[Any]:
        return iter(())


class PostgresConnection:
    """Takes what ``sql.Connection`` takes, in SQLite's words; autocommit outside ``begin``."""

    def __init__(self, raw: psycopg.Connection[Any]) -> None:
        self.raw = raw

    def execute(self, sql: str, values: Values = (), /) -> Found:
        made = dialect.statement(sql)
        return self.raw.cursor(binary=True).execute(made.sql, made.values(values))

    def executemany(self, sql: str, values: Iterable[Values], /) -> Found:
        made = dialect.statement(sql)
        every = [made.values(one) for one in values]
        if not every:
            return _NoRows()
        cursor = self.raw.cursor()
        cursor.executemany(made.sql, every)
        return cursor

    # --- transactions -----------------------------------------------------------------------------------------------

    def begin(self, lock: int) -> str:
        """Begin a writing transaction alone in the store; returns its id, for ``committed``.

        What is read afterwards is what the one before left: each statement has a snapshot of its own, taken after the
        lock was.
        """
        cursor = self.raw.execute(
            "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; "
            f"SELECT pg_advisory_xact_lock({lock}); SELECT pg_current_xact_id()::text"
        )
        cursor.nextset()
        cursor.nextset()
        row = cursor.fetchone()
        assert row is not None
        return str(row[0])

    def commit(self) -> None:
        if self.raw.execute("COMMIT").statusmessage != "COMMIT":
            raise StoreError("The transaction had failed before, so the server undid it.")

    def rollback(self) -> None:
        if not self.broken and self.raw.info.transaction_status != pq.TransactionStatus.IDLE:
            self.raw.execute("ROLLBACK")

    def committed(self, transaction: str) -> bool:
        """Whether a transaction that has ended was committed: asked after its connection was lost in its commit."""
        row = self.raw.execute("SELECT pg_xact_status(%s::text::xid8)", (transaction,)).fetchone()
        return row is not None and row[0] == "committed"

    @property
    def broken(self) -> bool:
        return self.raw.closed or self.raw.info.status != pq.ConnStatus.OK

    def close(self) -> None:
        self.raw.close()


def arguments(location: Location) -> dict[str, Any]:
    """For ``psycopg.connect`` and for the pool."""
    return {"autocommit": True, "context": _ADAPTERS, "application_name": "potstill"}


def prepare(raw: psycopg.Connection[Any], location: Location) -> None:
    """A session as the store needs it: its schema, durable commits, no waiting without an end."""
    raw.execute(_SESSION.format(schema=location.schema, lock=LOCK_TIMEOUT_S, idle=IDLE_TIMEOUT_S))


def connect(location: Location) -> PostgresConnection:
    """Raises ``psycopg.Error``; see ``translated``."""
    raw: psycopg.Connection[Any] = psycopg.connect(location.conninfo, **arguments(location))
    try:
        prepare(raw, location)
    except BaseException:
        raw.close()
        raise
    return PostgresConnection(raw)


# --- errors ---------------------------------------------------------------------------------------------------------


@contextmanager
def translated(location: Location) -> Iterator[None]:
    """Turn PostgreSQL's errors into ``StoreError`` and ``DiskFull``, without the password."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error, location) from None  # libpq's own text may hold what was connected with


def translate(error: psycopg.Error, location: Location) -> StoreError:
    said = location.clean(str(error).strip().replace("\n", " ")) or type(error).__name__
    if isinstance(error, errors.DiskFull):
        return DiskFull(
            f"No space left for the store {location.shown} on its server. Everything acknowledged before is kept. Free "
            "some space, then remove old episodes with: potstill trajectories prune --before DATE"
        )
    if isinstance(error, errors.LockNotAvailable):
        return StoreError(f"Another process has been writing to {location.shown} for {LOCK_TIMEOUT_S} s. Try again.")
    if isinstance(error, errors.InsufficientPrivilege):
        return StoreError(
            f"The store {location.shown} refuses this user: {said}. It needs a schema of its own: "
            f"CREATE SCHEMA {location.schema} AUTHORIZATION the_user"
        )
    if lost(error):
        return StoreError(f"The store {location.shown} cannot be reached: {said}")
    return StoreError(f"The store {location.shown} failed: {said}")


def lost(error: BaseException) -> bool:
    """Whether the connection is gone or was not made, so that another one may do better."""
    if isinstance(error, errors.AdminShutdown | errors.CrashShutdown | errors.CannotConnectNow):
        return True
    if isinstance(error, errors.IdleInTransactionSessionTimeout | errors.TooManyConnections):
        return True
    plain = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) and error.sqlstate is None
    return plain or (isinstance(error, psycopg.Error) and (error.sqlstate or "").startswith("08"))
