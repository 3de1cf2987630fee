"""Nearest vectors on the server, where its extension ``vector`` (pgvector) is installed in the database.

What it knows: a table beside that of the vectors of record, in the extension's type, and its index. What it does not
do: anything where the extension is absent: the search is then made here, exactly (``knowledge.nearest``).

The table is made by the first search, and filled from then on by whoever puts vectors. Without an index the server
compares all vectors of a space, as exactly as here; with one (HNSW, arXiv 1603.09320) it finds nearly all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from potstill.errors import StoreError
from potstill.trajectories.postgres.connection import PostgresConnection

if TYPE_CHECKING:
    from potstill.protocols import FloatMatrix

MOST_INDEXED = 2000
"""Numbers in a vector that pgvector's index takes."""
_AT_ONCE = 500

_WHERE = (
    "SELECT n.nspname, EXISTS (SELECT 1 FROM pg_attribute AS a WHERE a.attrelid = to_regclass(?) "
    "AND a.attname = 'embedding' AND NOT a.attisdropped) FROM pg_extension AS e "
    "JOIN pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'vector'"
)


class Extension(NamedTuple):
    """Where pgvector's type and operators are."""

    schema: str
    table: bool
    """Whether the store's table of vectors in its type is there."""

    @property
    def type(self) -> str:
        return f'"{self.schema}".vector'


class Space(NamedTuple):
    number: int
    dimension: int


def extension(connection: PostgresConnection, schema: str) -> Extension | None:
    """None where the database has no pgvector."""
    row = connection.execute(_WHERE, (f'"{schema}".nearest',)).fetchone()
    return None if row is None else Extension(row[0], bool(row[1]))


def space_of(connection: PostgresConnection, name: str) -> Space | None:
    row = connection.execute("SELECT id, dimension FROM spaces WHERE name = ?", (name,)).fetchone()
    return None if row is None else Space(int(row[0]), int(row[1]))


def fill(connection: PostgresConnection, schema: str) -> None:
    """Make the table, and put into it what was kept before the extension was there."""
    import numpy as np

    found = extension(connection, schema)
    if found is None or found.table:  # others were faster
        return
    connection.raw.execute(b"DROP TABLE IF EXISTS nearest")  # an extension that was dropped took a column along
    connection.raw.execute(
        "CREATE TABLE nearest (seq BIGINT PRIMARY KEY REFERENCES vectors(seq) ON DELETE CASCADE, "
        f"space BIGINT NOT NULL, embedding {found.type} NOT NULL)".encode()
    )
    connection.raw.execute(b"CREATE INDEX nearest_space ON nearest(space)")
    missing = (
        "SELECT seq, vector FROM vectors WHERE NOT EXISTS (SELECT 1 FROM nearest WHERE nearest.seq = vectors.seq) "
        f"ORDER BY seq LIMIT {_AT_ONCE}"
    )
    while rows := connection.execute(missing).fetchall():
        connection.executemany(
            f"INSERT INTO nearest(seq, space, embedding) SELECT seq, space, ?::{found.type} FROM vectors WHERE seq = ?",
            [(_text(np.frombuffer(vector, dtype="<f4")), seq) for seq, vector in rows],
        )


def put(
    connection: PostgresConnection, found: Extension, space: Space, ids: Sequence[str], matrix: FloatMatrix
) -> None:
    """Keep beside what was put, or replaced, in the same transaction."""
    connection.executemany(
        f"INSERT INTO nearest(seq, space, embedding) SELECT seq, space, ?::{found.type} FROM vectors "
        "WHERE space = ? AND id = ? ON CONFLICT(seq) DO UPDATE SET embedding = excluded.embedding",
        [(_text(matrix[at]), space.number, id) for at, id in enumerate(ids)],
    )


def search(
    connection: PostgresConnection, found: Extension, space: Space, query: FloatMatrix, k: int
) -> list[tuple[str, float]]:
    """The ids with the largest inner products, best first."""
    distance = f'(embedding::{found.type}({space.dimension})) OPERATOR("{found.schema}".<#>) ?::{found.type}'
    text = _text(query)
    rows = connection.execute(
        f"SELECT vectors.id, -distance FROM (SELECT seq, {distance} AS distance FROM nearest "
        f"WHERE space = {space.number} ORDER BY {distance} LIMIT ?) AS best JOIN vectors ON vectors.seq = best.seq "
        "ORDER BY distance, vectors.seq",
        (text, text, k),
    )
    return [(id, float(score)) for id, score in rows]


def index(connection: PostgresConnection, found: Extension, space: Space) -> None:
    """Make the approximate index of a space, outside any transaction, while others read and write."""
    if space.dimension > MOST_INDEXED:
        raise StoreError(
            f"Vectors of {space.dimension} numbers cannot be indexed: pgvector's index takes {MOST_INDEXED} at most. "
            "Without an index the search is exact."
        )
    connection.raw.execute(
        f"CREATE INDEX CONCURRENTLY IF NOT EXISTS nearest_of_{space.number} ON nearest USING hnsw "
        f'((embedding::{found.type}({space.dimension})) "{found.schema}".vector_ip_ops) '
        f"WHERE space = {space.number}".encode()
    )


def _text(vector: FloatMatrix) -> str:
    return f"[{','.join(map(repr, vector.tolist()))}]"
