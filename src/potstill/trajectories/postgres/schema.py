"""The store's tables on PostgreSQL: SQLite's migrations in PostgreSQL's words, counted in a table.

What it knows: the schema, who may change it when, the functions that stand in for SQLite's. What it does not do: the
list of migrations (``migrations.MIGRATIONS``): both engines have the same schemas under the same numbers.
"""

from __future__ import annotations

import hashlib

from potstill.errors import SchemaTooNew, StoreError
from potstill.trajectories.migrations import MIGRATIONS
from potstill.trajectories.postgres import dialect
from potstill.trajectories.postgres.connection import PostgresConnection
from potstill.trajectories.postgres.location import Location

_PROLOGUE = (
    "CREATE TABLE {schema}.migrations (version BIGINT PRIMARY KEY, applied_at TIMESTAMPTZ NOT NULL DEFAULT now())",
    "CREATE TABLE {schema}.{numbers} (name TEXT PRIMARY KEY, seq BIGINT NOT NULL) WITH (fillfactor = 10)",
    # In the transaction that uses the number: one that is rolled back was never given, one that commits is never lost.
    "CREATE FUNCTION {schema}.next_number(of TEXT) RETURNS BIGINT LANGUAGE sql AS $$ INSERT INTO {schema}.{numbers} "
    "AS held VALUES (of, 1) ON CONFLICT (name) DO UPDATE SET seq = held.seq + 1 RETURNING seq $$",
    "CREATE FUNCTION {schema}.json_valid(body TEXT) RETURNS BOOLEAN LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS "
    "$$ BEGIN PERFORM body::json; RETURN body IS NOT NULL; EXCEPTION WHEN data_exception THEN RETURN false; END $$",
    "CREATE FUNCTION {schema}.json_extract(body TEXT, path TEXT) RETURNS TEXT LANGUAGE sql IMMUTABLE PARALLEL SAFE AS "
    "$$ SELECT body::json #>> string_to_array(substr(path, 3), '.') $$",
)
_AFTER = {3: "ALTER TABLE journal ALTER COLUMN frame SET STORAGE EXTERNAL"}
"""What PostgreSQL is told besides, by number of schema. Frames are compressed already."""


def lock_of(location: Location, work: str = "") -> int:
    """The advisory lock that a writer of this schema holds, or who does other ``work`` alone: 64 bits of a hash."""
    named = f"potstill/{location.schema}" + (f"/{work}" if work else "")
    return int.from_bytes(hashlib.blake2b(named.encode(), digest_size=8).digest(), "big", signed=True)


def version_of(connection: PostgresConnection, location: Location) -> int:
    """Schema of the store, 0 if there is none. Raises ``SchemaTooNew``, ``StoreError`` where others have tables."""
    tables = connection.execute(
        "SELECT count(*), count(*) FILTER (WHERE tablename = 'migrations') FROM pg_tables WHERE schemaname = ?",
        (location.schema,),
    ).fetchone()
    if tables[0] and not tables[1]:
        raise StoreError(
            f"Schema {location.schema!r} of {location.shown} holds tables of another program. "
            "Name another schema: postgresql://.../database?schema=NAME"
        )
    if not tables[0]:
        return 0
    newest = f'SELECT coalesce(max(version), 0) FROM "{location.schema}".migrations'
    version = int(connection.execute(newest).fetchone()[0])
    if version > len(MIGRATIONS):
        raise SchemaTooNew(
            f"{location.shown} was written by a newer potstill (schema {version}; this one knows up to "
            f"{len(MIGRATIONS)}). Type: pip install --upgrade potstill"
        )
    return version


def migrate(connection: PostgresConnection, location: Location) -> int:
    """Bring the store to the newest schema, alone, in one transaction; returns how many migrations ran."""
    if version_of(connection, location) == len(MIGRATIONS):
        return 0
    connection.begin(lock_of(location))
    try:
        version = version_of(connection, location)  # another process may have been faster
        if not version:
            _begin(connection, location)
        for number, migration in enumerate(MIGRATIONS[version:], version + 1):
            if callable(migration):
                raise StoreError(f"Schema {number} cannot be made on PostgreSQL: it is written for SQLite only.")
            for sql in migration.split(";\n"):
                if sql.strip():
                    connection.raw.execute(dialect.table(sql).encode())
            if number in _AFTER:
                connection.raw.execute(_AFTER[number].encode())
            connection.execute("INSERT INTO migrations(version) VALUES (?)", (number,))
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    return len(MIGRATIONS) - version


def _begin(connection: PostgresConnection, location: Location) -> None:
    there = "SELECT 1 FROM pg_namespace WHERE nspname = ?"
    if connection.execute(there, (location.schema,)).fetchone() is None:  # IF NOT EXISTS would ask for the right first
        connection.raw.execute(f'CREATE SCHEMA "{location.schema}"'.encode())
    for sql in _PROLOGUE:
        connection.raw.execute(sql.format(schema=f'"{location.schema}"', numbers=dialect.NUMBERS).encode())
