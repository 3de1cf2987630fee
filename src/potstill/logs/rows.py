"""One row into records: the file's own format first, then whatever explains why that did not work.

What it knows: how a row can be broken (cut off, not UTF-8, NaN, half of a character, another format's), and that each
of these is counted with its line. What it does not do: read files.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import msgspec

from potstill.logs.formats.base import LogFormat, Skipped
from potstill.logs.formats.registry import formats
from potstill.logs.records import Record, Source
from potstill.logs.report import Tally

_TROUBLE = (
    Skipped,
    msgspec.MsgspecError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
"""What a format may raise for a foreign row. A row never ends the reading: it is counted with what was raised."""
_decode = msgspec.json.Decoder().decode


class Interpreter:
    """Turns the rows of one file into records and keeps its tally.

    ``strict``: the format was named by the user, so no other is tried.
    """

    def __init__(
        self,
        file: str,
        row_format: LogFormat,
        tally: Tally,
        head: Mapping[str, Any] | None = None,
        *,
        strict: bool = False,
    ) -> None:
        self._file = file
        self._format = row_format
        self._read = row_format.records
        self._head = head or {}
        self._strict = strict
        self.tally = tally

    def records(self, row: bytes, line: int) -> tuple[Record, ...]:
        """The records of one row; none if it was skipped."""
        try:
            found = self._read(row, Source(self._file, line), self._head)
            records = found if type(found) is tuple else tuple(found)
            if records:
                self.tally.rows += 1
                self.tally.understood += 1
                return records
            trouble: Exception = Skipped("no record in it")
        except _TROUBLE as raised:
            trouble = raised
        return self._look_again(row, line, trouble)

    def _look_again(self, row: bytes, line: int, trouble: Exception) -> tuple[Record, ...]:
        """Mend the row or find its format; else count why it was skipped."""
        try:
            value, mended = decoded(row)
            if not isinstance(value, dict):
                raise Skipped("not an object", f"it is {_shown(row)}")
            if mended is not None:
                row = mended
                if records := self._attempted(self._format, row, line):
                    return records
            if not self._strict and not self._format.fits(value):
                for other in formats():
                    if other is not self._format and other.fits(value) and (found := self._attempted(other, row, line)):
                        self.tally.mixed[other.name] = self.tally.mixed.get(other.name, 0) + 1
                        return found
        except _TROUBLE as raised:
            trouble = raised
        reason, detail = _explained(trouble)
        self.tally.skip(reason, line, detail)
        return ()

    def _attempted(self, row_format: LogFormat, row: bytes, line: int) -> tuple[Record, ...]:
        records = tuple(
            row_format.records(row, Source(self._file, line), self._head if row_format is self._format else {})
        )
        if records:
            self.tally.rows += 1
            self.tally.understood += 1
        return records


def _explained(trouble: Exception) -> tuple[str, str]:
    """Reason and detail of what was raised for a row."""
    if isinstance(trouble, Skipped):
        return trouble.reason, trouble.detail
    if isinstance(trouble, RecursionError):
        return "nested too deeply", ""
    if isinstance(trouble, msgspec.MsgspecError):
        return "not as its format has it", str(trouble)
    return "not as its format has it", f"{type(trouble).__name__}: {trouble}"


def decoded(row: bytes) -> tuple[Any, bytes | None]:
    """The row's value, and the row as strict JSON where it was not. Raises ``Skipped``."""
    try:
        return _decode(row), None
    except RecursionError as error:
        raise Skipped("nested too deeply") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        trouble = str(error)
    try:
        value = _strict(json.loads(row.decode()))
        return value, msgspec.json.encode(value)
    except UnicodeDecodeError as error:
        raise Skipped("not UTF-8", f"byte {error.start + 1} is 0x{row[error.start]:02x}") from error
    except RecursionError as error:
        raise Skipped("nested too deeply") from error
    except ValueError as error:
        cut_off = row.lstrip()[:1] == b"{" and not row.endswith(b"\n")
        raise Skipped("cut off" if cut_off else "not JSON", f"{trouble}: {_shown(row)}") from error


def decoded_object(row: bytes) -> dict[str, Any] | None:
    """The object that a row is, mended if need be; None if it is none."""
    try:
        value, _ = decoded(row)
    except Skipped:
        return None
    return value if isinstance(value, dict) else None


def _strict(value: Any) -> Any:
    """``value`` as strict JSON can carry it: NaN and infinities as text (so that formats call them bad numbers), halves
    of characters as U+FFFD."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_strict(key): _strict(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_strict(inner) for inner in value]
    return value


def _shown(row: bytes) -> str:
    text = row[:60].decode("utf-8", "replace").strip()
    return repr(text + "…" if len(row) > 60 else text)
