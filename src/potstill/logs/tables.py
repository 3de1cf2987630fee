"""CSV, row by row, as the JSON objects that formats read.

What it knows: quoting, empty cells, rows that are too long. What it does not do: types; a cell is text.
"""

from __future__ import annotations

import csv
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
    lines = _Lines(file, tally, limit)
    before = csv.field_size_limit(limit)
    try:
        rows = csv.reader(lines, delimiter=delimiter, strict=False)
        header: list[str] | None = None
        while True:
            line = lines.number + 1
            try:
                cells = next(rows, None)
            except csv.Error as error:
                tally.skip("not CSV", lines.number, str(error))
                continue
            if cells is None:
                return
            line = max(line, lines.first_of(line))
            if header is None:
                header = [cell.strip() for cell in cells]
            else:
                yield from _row(interpreter, header, cells, line)
    finally:
        csv.field_size_limit(before)


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


class _Lines:
    """Lines as text for the csv module, bounded in length. Bytes that are not UTF-8 stay recognisable."""

    def __init__(self, file: BinaryIO, tally: Tally, limit: int) -> None:
        self._lines = numbered(file, limit=limit)
        self._tally = tally
        self._limit = limit
        self.number = 0
        self._taken: list[int] = []

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        for number, line in self._lines:
            if isinstance(line, TooLong):
                self._tally.skip("line too long", number, f"{line.size} bytes; at most {self._limit} are read")
                continue
            self.number = number
            self._taken.append(number)
            return line.decode("utf-8", "surrogateescape")
        raise StopIteration

    def first_of(self, line: int) -> int:
        """The number of the first line that was taken since this was last asked (blank lines are passed over)."""
        first = self._taken[0] if self._taken else line
        self._taken.clear()
        return first
