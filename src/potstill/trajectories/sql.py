"""What the store's statements need of a database connection, so that they run on more than one engine.

What it knows: the few methods of ``sqlite3`` that the statements use. What it does not do: any engine. Statements are
written in the SQL that SQLite and PostgreSQL share; where they differ, ``postgres.dialect`` rewrites SQLite's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
