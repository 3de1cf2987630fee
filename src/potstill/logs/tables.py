"""CSV, row by row, as the JSON objects that formats read.

What it knows: quoting, quotes that are never closed, empty cells, rows that are too long. What it does not do: types; a
cell is text.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO

import msgspec

from potstill.logs.formats.base import LogFormat
from potstill.logs.lines import LINE_LIMIT, TooLong, numbered
from potstill.logs.records import Record
from potstill.logs.report import Tally
from potstill.logs.rows import Interpreter

KEPT_EMPTY = "answer"
"""The column in which an empty cell is a value of its own; in all others it is unknown."""
ROW_LINES = 10_000
ROW_CHARACTERS = 2**20
"""A row of several lines that is longer than either has a quote that nobody closed."""
_NEVER_CLOSED = "quote never closed"


def read_table(
    file: BinaryIO,
    shown: str,
    row_format: LogFormat,
    delimiter: str,
    tally: Tally,
    *,
    strict: bool,
    limit: int = LINE_LIMIT,
) -> Iterator[Record]:
    """The records of a table whose first row names its columns."""
    interpreter = Interpreter(shown, row_format, tally, strict=strict)
    before = csv.field_size_limit(limit)
    try:
        header: list[str] | None = None
        for line, cells in _rows(_Lines(file, tally, limit), delimiter, tally):
            if header is None:
                header = [cell.strip() for cell in cells]
            else:
                yield from _row(interpreter, header, cells, line)
    finally:
        csv.field_size_limit(before)


def _rows(lines: _Lines, delimiter: str, tally: Tally) -> Iterator[tuple[int, list[str]]]:
    """Each row's cells with the number of its first line.

    Rows are parsed strictly, for only that tells a quote that is never closed: it is closed by the next quote, wherever
    that stands, or not at all. Only the lines up to where it opened are lost: those behind it are read again. A line
    that is no strict CSV by itself (text behind a closing quote) is taken as most programs take it.
    """
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    columns = 0
    while True:
        lines.begin()
        try:
            cells = next(rows, None)
            if cells is None:
                return
            if lines.several and len(cells) > columns > 0:
                raise _Unclosed
        except (csv.Error, _Unclosed) as error:
            first = lines.first
            if lines.several or lines.ended:
                number = lines.go_back()
                tally.skip(
                    _NEVER_CLOSED, first, f"it opens in line {number}; what stands behind that line is read again"
                )
                continue
            try:
                cells = next(csv.reader([lines.text], delimiter=delimiter))
            except csv.Error:
                tally.skip("not CSV", first, str(error))
                continue
        columns = columns or len(cells)
        yield lines.first, cells


def _row(interpreter: Interpreter, header: list[str], cells: list[str], line: int) -> tuple[Record, ...]:
    if len(cells) > len(header):
        interpreter.tally.skip("too many cells", line, f"{len(cells)} cells under {len(header)} columns")
        return ()
    row = {name: cell for name, cell in zip(header, cells, strict=False) if cell or name == KEPT_EMPTY}
    try:
        return interpreter.records(msgspec.json.encode(row), line)
    except UnicodeEncodeError:
        interpreter.tally.skip("not UTF-8", line)
        return ()


class _Unclosed(Exception):
    """A row went on for longer than any row does, or has more cells than the table has columns."""


class _Lines:
    """Lines as text for the csv module, bounded in length. Bytes that are not UTF-8 stay recognisable."""

    def __init__(self, file: BinaryIO, tally: Tally, limit: int) -> None:
        self._lines = numbered(file, limit=limit)
        self._tally = tally
        self._limit = limit
        self._again: deque[tuple[int, str]] = deque()
        self._taken: list[tuple[int, str]] = []
        self._characters = 0
        self.ended = False
        """True if the file ended in the row."""

    def begin(self) -> None:
        """A new row begins."""
        self._taken.clear()
        self._characters = 0
        self.ended = False

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        taken = self._taken
        if taken and (len(taken) >= ROW_LINES or self._characters > ROW_CHARACTERS):
            raise _Unclosed
        line = self._again.popleft() if self._again else self._next()
        taken.append(line)
        self._characters += len(line[1])
        return line[1]

    def _next(self) -> tuple[int, str]:
        for number, line in self._lines:
            if isinstance(line, TooLong):
                self._tally.skip("line too long", number, f"{line.size} bytes; at most {self._limit} are read")
            else:
                return number, line.decode("utf-8", "surrogateescape")
        self.ended = True
        raise StopIteration

    @property
    def several(self) -> bool:
        """True if the row stands on more than one line."""
        return len(self._taken) > 1

    @property
    def first(self) -> int:
        """Number of the row's first line (blank lines before it are passed over)."""
        return self._taken[0][0]

    @property
    def text(self) -> str:
        """The row's first line."""
        return self._taken[0][1]

    def go_back(self) -> int:
        """Give the lines behind the one where the row's last quote opened again; returns that one's number."""
        opened, inside = 0, False
        for index, (_, text) in enumerate(self._taken[:-1]):
            quotes = text.replace('""', "").count('"')
            inside ^= quotes % 2 == 1
            if inside and quotes:
                opened = index
        self._again.extendleft(reversed(self._taken[opened + 1 :]))
        return self._taken[opened][0]
