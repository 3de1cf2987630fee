"""What a format of log is, and how it says that it does not understand a row.

What it knows: the contract. What it does not do: open files; ``logs.reader`` gives each row as the JSON text that it
is, from JSON lines or out of a whole document.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from potstill.logs.records import Record, Source


class Skipped(Exception):
    """A row that gives no record, with the reason in a few words that are the same for all rows of that kind."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class LogFormat(Protocol):
    """One format. Stateless: rows may be read by several processes, and in any order."""

    name: str
    """As it is told to the user: ``openai-chat``."""
    arrays: tuple[str, ...]
    """Where the rows stand in a whole JSON document, as dotted paths of arrays (``simulations``; ``""``: the document
    is an array; ``.``: the whole document is one row)."""

    def fits(self, row: Mapping[str, Any]) -> bool:
        """True if a decoded row is of this format; the first format in ``FORMATS`` that fits is taken."""
        ...

    def head(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """What rows need of the rest of a whole document (its members beside the arrays); given to ``records``."""
        ...

    def records(self, row: bytes, source: Source, head: Mapping[str, Any]) -> Iterable[Record]:
        """The records of one row. Raises ``Skipped``; ``msgspec.MsgspecError`` is told as a row that is not JSON."""
        ...


@runtime_checkable
class Divisible(Protocol):
    """A format whose rows hold smaller whole things: a row that is cut off is worth those that stand before the cut."""

    parts: Mapping[str, tuple[str, ...]]
    """For a path of ``arrays``, the arrays below a row, each in the one before it; the last holds the whole things."""


Rows = Sequence[Mapping[str, Any]]
