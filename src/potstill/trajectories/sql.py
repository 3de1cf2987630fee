"""What the store's statements need of a database connection, so that they run on more than one engine.

What it knows: the few methods of ``sqlite3`` that the statements use. What it does not do: any engine. Statements are
written in the SQL that SQLite and PostgreSQL share; where they differ, ``postgres.dialect`` rewrites SQLite's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Protocol

Values = Sequence[Any] | Mapping[str, Any]


class Found(Protocol):
    """The rows of a statement."""

    @property
    def rowcount(self) -> int: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...
    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    def execute(self, sql: str, values: Values = ..., /) -> Found: ...
    def executemany(self, sql: str, values: Iterable[Values], /) -> Found: ...


ROWS_AT_ONCE = (64, 16, 4, 1)
"""Few different numbers: each is a statement to prepare."""


def insert_rows(connection: Connection, insert: str, rows: Sequence[tuple[Any, ...]], then: str = "") -> None:
    """Insert many rows in few statements: each statement lets other threads run, and then has to wait for its turn.

    ``insert`` ends with ``VALUES``; ``then`` follows the values.
    """
    at = 0
    for count in ROWS_AT_ONCE:
        while len(rows) - at >= count:
            some = rows[at : at + count]
            places = f"({', '.join('?' * len(some[0]))})"
            connection.execute(f"{insert}{', '.join([places] * count)}{then}", tuple(chain.from_iterable(some)))
            at += count
