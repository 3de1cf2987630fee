"""Whole JSON documents and archives of them, as rows: small ones in memory, large ones as a stream.

What it knows: where a format says that its rows stand (``LogFormat.arrays``), and ``ijson``. What it does not do:
interpret rows. Memory stays within a fixed multiple of ``SMALL_BYTES``, however large the document is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, BinaryIO, NamedTuple

import msgspec

from potstill.logs.formats.base import Divisible, LogFormat, Skipped
from potstill.logs.formats.registry import formats
from potstill.logs.lines import LINE_LIMIT
from potstill.logs.rows import decoded, decoded_object
from potstill.logs.zipped import zipfile
from potstill.zstandard import ZstdError

SMALL_BYTES = 32 * 2**20
"""Documents up to here are decoded at once."""
_MEMBER_EVENTS = 50_000
"""A member of a large document with more parts than this is no head matter and is let go."""
_HEADS = ("header.json", "_journal/start.json")

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode

Open = Callable[[], BinaryIO]


class Broken(Exception):
    """The document ends or goes wrong where a row should be. ``element`` is the row's number."""

    def __init__(self, element: int, detail: str) -> None:
        super().__init__(detail)
        self.element = element


class NothingWhole(Broken):
    """It goes wrong before the first row is complete, so that nobody can tell its format."""


class Document(NamedTuple):
    """A document whose format is known. ``rows`` may raise ``Broken``."""

    format: LogFormat
    head: Mapping[str, Any]
    rows: Iterator[bytes]


# --- small: decoded at once -----------------------------------------------------------------------------------------


def rows_at(document: bytes | msgspec.Raw, path: str) -> list[msgspec.Raw]:
    """The elements of the array at a dotted path of a JSON document; none where there is no such array."""
    value: Any = document
    try:
        for name in path.split(".") if path else ():
            value = _members(value)[name]
        return _elements(value)
    except (msgspec.MsgspecError, KeyError, RecursionError):
        return []


def head_of(known: LogFormat, document: bytes, path: str) -> Mapping[str, Any]:
    """What the format needs of the document beside its rows."""
    try:
        members = _members(document)
    except msgspec.MsgspecError:
        return known.head({})
    around = {name: value for name, value in members.items() if name != path.partition(".")[0]}
    return known.head({name: msgspec.json.decode(value) for name, value in around.items()})


def small(document: bytes, forced: LogFormat | None) -> Document | None:
    """A document in memory; None if no format fits it. Raises ``msgspec.MsgspecError`` if it is not JSON."""
    msgspec.json.decode(document, type=msgspec.Raw)
    whole: dict[str, Any] | None = None
    for known in (forced,) if forced is not None else formats():
        for path in known.arrays:
            if path == ".":
                whole = whole if whole is not None else decoded_object(document) or {}
                if whole and known.fits(whole):
                    return Document(known, known.head(whole), iter((document,)))
            elif any(_fits(known, row) for row in rows_at(document, path)[:5]):
                rows = (bytes(row) for row in rows_at(document, path))
                return Document(known, head_of(known, document, path), rows)
    return None


def mended(document: bytes) -> bytes | None:
    """The document as strict JSON, where only NaN, infinities or halves of characters kept it from being that."""
    try:
        value, changed = decoded(document)
    except Skipped:
        return None
    return changed if isinstance(value, dict | list) else None


def _fits(known: LogFormat, row: bytes | msgspec.Raw) -> bool:
    value = decoded_object(bytes(row))
    return value is not None and known.fits(value)


# --- large: streamed ------------------------------------------------------------------------------------------------


def large(reopen: Open, forced: LogFormat | None) -> Document | None:
    """A document that is read twice: for what stands around its rows, and for the rows. None if no format fits."""
    known_formats = (forced,) if forced is not None else formats()
    with reopen() as file:
        around, arrays, trouble = _skim(file, {path for known in known_formats for path in known.arrays})
    first = {path: _first_row(reopen, path) for path in arrays}
    for known in known_formats:
        for path in known.arrays:
            row = first.get(path)
            if row is None and path in arrays and isinstance(known, Divisible):
                row = _whole_parts(reopen, path, 1, known.parts.get(path, ()))
            if row is not None and known.fits(row):
                return Document(known, known.head(around), _stream(reopen, path, known))
    if trouble:
        raise NothingWhole(1, f"it is cut off or damaged before its first row is complete ({trouble}): get it again")
    return None


def _skim(file: BinaryIO, wanted: set[str]) -> tuple[dict[str, Any], set[str], str]:
    """The small members of a document, which of the ``wanted`` paths are arrays in it, and where it breaks off."""
    import ijson

    trouble = ""
    around: dict[str, Any] = {}
    arrays: set[str] = set()
    builder, name, events = None, "", 0
    try:
        for prefix, event, value in ijson.parse(file, use_float=True):
            if event == "start_array" and prefix in wanted:
                arrays.add(prefix)
                if prefix == "":
                    break
            if prefix == "":
                if builder is not None:
                    around[name] = builder.value
                builder, name, events = (ijson.ObjectBuilder(), value, 0) if event == "map_key" else (None, "", 0)
            elif builder is not None:
                builder.event(event, value)
                events += 1
                builder = builder if events <= _MEMBER_EVENTS else None
    except (ijson.JSONError, EOFError, OSError) as error:
        trouble = _first_line(error)  # what stands before the break is read; the stream of rows tells where it is
    return around, arrays, trouble


def _first_row(reopen: Open, path: str) -> dict[str, Any] | None:
    with reopen() as file:
        try:
            row = decoded_object(next(_elements_of(file, path), b""))
        except Broken:
            return None
    return row


def _stream(reopen: Open, path: str, known: LogFormat) -> Iterator[bytes]:
    try:
        with reopen() as file:
            yield from _elements_of(file, path)
    except Broken as broken:
        parts = known.parts.get(path, ()) if isinstance(known, Divisible) else ()
        row = _whole_parts(reopen, path, broken.element, parts)
        if row is None:
            raise
        yield msgspec.json.encode(row)
        raise Broken(broken.element, f"{broken}; what stands whole before that is read") from broken


def _whole_parts(reopen: Open, path: str, element: int, parts: tuple[str, ...]) -> dict[str, Any] | None:
    """The row that breaks off, with those of its ``parts`` that are whole; None if it has none."""
    import ijson

    if not parts:
        return None
    row_at = f"{path}.item"
    part_at = ".item.".join((row_at.removesuffix(".item"), *parts)) + ".item"
    builder, number, whole, half = ijson.ObjectBuilder(), 0, 0, False
    with reopen() as file, suppress(ijson.JSONError, EOFError, OSError, ValueError):
        for prefix, event, value in ijson.parse(file, use_float=True):
            number += prefix == row_at and event == "start_map"
            if number == element and prefix.startswith(row_at):
                builder.event(event, value)
                if prefix == part_at and event in ("start_map", "end_map"):
                    half = event == "start_map"
                    whole += not half
    row: Any = getattr(builder, "value", None)
    if half:
        innermost = row
        for name in parts[:-1]:
            innermost = innermost[name][-1]
        innermost[parts[-1]].pop()
    return row if whole else None


def _elements_of(file: BinaryIO, path: str) -> Iterator[bytes]:
    import ijson

    number = 0
    try:
        for element in ijson.items(file, f"{path}.item" if path else "item", use_float=True):
            number += 1
            yield msgspec.json.encode(element)
    except (ijson.JSONError, EOFError, OSError, ValueError, RecursionError) as error:
        raise Broken(number + 1, _first_line(error)) from error


def _first_line(error: Exception) -> str:
    """What went wrong, without the drawing of an arrow that the parser puts below it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


_DAMAGED = (zipfile.BadZipFile, ZstdError, NotImplementedError, OSError, EOFError, RuntimeError)

# --- archives -------------------------------------------------------------------------------------------------------


def archive(path: str, forced: LogFormat | None) -> Document | None:
    """A zip archive of ``samples/*.json`` with a header (as inspect_ai writes). Raises ``Broken`` for what is none."""
    try:
        with zipfile.ZipFile(path) as opened:
            head = next((_read(opened, name) for name in _HEADS if name in opened.namelist()), b"{}")
            names = _samples(opened)
            first = _read(opened, names[0]) if names else b""
    except _DAMAGED as error:
        raise Broken(1, str(error)) from error
    for known in (forced,) if forced is not None else formats():
        if _fits(known, first):
            return Document(known, known.head(decoded_object(head) or {}), _archived(path))
    return None


def _samples(opened: zipfile.ZipFile) -> list[str]:
    return [name for name in opened.namelist() if name.startswith("samples/") and name.endswith(".json")]


def _archived(path: str) -> Iterator[bytes]:
    with zipfile.ZipFile(path) as opened:
        for number, name in enumerate(_samples(opened), 1):
            try:
                yield _read(opened, name)
            except _DAMAGED as error:
                raise Broken(number, f"{name}: {error}") from error


def _read(opened: zipfile.ZipFile, name: str) -> bytes:
    with opened.open(name) as file:
        data = file.read(LINE_LIMIT + 1)
    if len(data) > LINE_LIMIT:
        raise OSError(f"longer than {LINE_LIMIT // 2**20} MB")
    return data
