"""What a file is, from its first bytes: JSON lines, a whole JSON document, CSV, an archive; and which format its rows
have.

What it knows: how these begin. What it does not do: read whole files; the format of a whole document is found where it
is read (``documents.py``), for its rows may stand far behind.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from potstill.logs.documents import rows_at
from potstill.logs.formats import generic
from potstill.logs.formats.base import LogFormat
from potstill.logs.formats.registry import formats
from potstill.logs.inputs import ZIP, foreign
from potstill.logs.rows import decoded_object

HEAD_BYTES = 4 * 2**20
"""How much of a file is looked at."""
_ROWS = 100
_TABLES = (".csv", ".tsv")
_LINES = (".jsonl", ".ndjson")

Kind = Literal["lines", "document", "table", "archive", "empty", "unknown"]


class Layout(NamedTuple):
    """How a file's rows are found and read."""

    kind: Kind
    format: LogFormat | None = None
    inner: str | None = None
    """JSON lines in which each line is a whole document: the path of the array with its rows."""
    delimiter: str = ","
    why: str = ""
    """Of unknown files: what is wrong, in words."""
    notes: tuple[str, ...] = ()


def layout_of(head: bytes, path: str, forced: LogFormat | None = None) -> Layout:
    """The layout of a file that begins with ``head`` (its first ``HEAD_BYTES``, decompressed)."""
    if head.startswith(ZIP):
        return Layout("archive", forced)
    if why := foreign(head):
        return Layout("unknown", why=why)
    head = head.removeprefix(b"\xef\xbb\xbf")
    start = head.lstrip()
    if not start or start.rstrip() in (b"[]", b"{}"):
        return Layout("empty")
    name = path.lower().removesuffix(".gz")
    if name.endswith(_TABLES):
        return _table(start, forced)
    if name.endswith(_LINES):
        return lines_layout(start, forced)
    if start[:1] == b"[":
        return Layout("document", forced)
    if start[:1] == b"{":
        return _objects(start, forced)
    rows = _samples(start)
    return _lines(rows, forced) if rows else _table(start, forced)


def lines_layout(start: bytes, forced: LogFormat | None = None) -> Layout:
    """The layout of JSON lines that begin with ``start``."""
    found = _samples(start)
    if not found and start[:1] == b"{" and b"\n" not in start.rstrip() and len(start) < HEAD_BYTES // 2:
        return Layout("unknown", why="its only line is cut off or no JSON: get it again")
    return _lines(found, forced)


def _objects(start: bytes, forced: LogFormat | None) -> Layout:
    """A file that begins with ``{``: JSON lines if its first line is an object with others behind it, or if it is not
    but others are; else one document."""
    first, _, rest = start.partition(b"\n")
    if decoded_object(first) is not None:
        if rest.strip():
            return _lines(_samples(start), forced)
        alone = _lines([first], forced)
        return alone if alone.kind == "lines" and alone.inner is None else Layout("document", forced)
    behind = [line for line in rest.split(b"\n", _ROWS)[:_ROWS] if line.startswith(b"{")]
    if any(decoded_object(line) is not None for line in behind):
        return _lines(_samples(start), forced)
    return Layout("document", forced)


def _samples(start: bytes) -> list[bytes]:
    """The first lines that hold an object."""
    found = []
    for line in start.split(b"\n", 20 * _ROWS)[: 20 * _ROWS]:
        if line.lstrip()[:1] == b"{" and decoded_object(line) is not None:
            found.append(line)
            if len(found) == _ROWS:
                break
    return found


def _lines(samples: Sequence[bytes], forced: LogFormat | None) -> Layout:
    rows = [row for sample in samples if (row := decoded_object(sample)) is not None]
    for row, sample in zip(rows, samples, strict=False):
        for known in (forced,) if forced is not None else formats():
            if known.fits(row):
                return Layout("lines", known, notes=_notes(known, rows))
        for known in (forced,) if forced is not None else formats():
            if (inner := inner_path(known, sample)) is not None:
                return Layout("lines", known, inner)
    if forced is not None:
        return Layout("lines", forced, notes=_notes(forced, rows))
    return Layout("unknown", why=_why(rows))


def inner_path(known: LogFormat, document: bytes) -> str | None:
    """Where a line that is a whole document holds rows of this format; None if it holds none."""
    for path in known.arrays:
        if path not in ("", "."):
            for row in rows_at(document, path)[:3]:
                value = decoded_object(bytes(row))
                if value is not None and known.fits(value):
                    return path
    return None


def _table(start: bytes, forced: LogFormat | None) -> Layout:
    line = start.partition(b"\n")[0].decode("utf-8", "replace")
    header, delimiter = _header(line)
    row = dict.fromkeys(header, "")
    fitting = forced or next((known for known in formats() if known.fits(row)), None)
    if fitting is None:
        return Layout("unknown", why=_why([row]) if len(header) > 1 else "it is neither JSON nor CSV")
    return Layout("table", fitting, delimiter=delimiter, notes=_notes(fitting, [row]))


def _header(line: str) -> tuple[list[str], str]:
    """The columns of a table and what stands between them: the delimiter that gives the most known columns."""
    read = {mark: _cells(line, mark) for mark in ",\t;|"}
    best = max(read, key=lambda mark: (len(generic.COLUMNS.intersection(read[mark])), len(read[mark])))
    return read[best], best


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:  # a log of a terminal, with carriage returns inside of its lines
        return []


def _notes(known: LogFormat, rows: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    if known is not generic.GENERIC:
        return ()
    unknown = generic.unknown_columns(row for row in rows if known.fits(row))
    return (f"columns that the format does not have, ignored: {', '.join(unknown[:20])}",) if unknown else ()


def _why(rows: Sequence[Mapping[str, Any]]) -> str:
    """Why rows fit no format, as far as it can be told."""
    if not rows:
        return "none of its first lines is a JSON object"
    for name in generic.REQUIRED:
        if name not in rows[0] and (hint := generic.near_miss(rows[0], name)):
            return hint
    return f"its first row has: {', '.join(list(rows[0])[:12])}"
