"""Texts that a server-sent stream spells out piece by piece, as one text and back.

What it knows: in which fields the three dialects put pieces, and that pieces of different choices, items and parts
belong to different texts. What it does not do: rules (``secrets_rules``), frames other than ``data`` lines of JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import msgspec

from potstill.errors import NOT_JSON
from potstill.record.json_texts import decoded, encoded, tokens
from potstill.record.pieces import segments

PIECES = (
    *("content", "text", "delta", "arguments", "partial_json"),
    *("thinking", "reasoning", "reasoning_content", "refusal"),
)
_PIECE = re.compile(rb'"(?:%b)"\s*:\s*"([^"\\]*+(?:\\.[^"\\]*+)*+)"' % "|".join(PIECES).encode())
_FURTHER = re.compile(rb'index"\s*+:\s*+[1-9]')
_DIGITS = 20
_INDEXES = ("index", "item_id", "output_index", "content_index", "summary_index")
_Place = tuple[dict[str, Any], str]
_Change = tuple[str, str, str]
"""A field's name, its text, and the new one."""
_Pieces = dict[tuple[Any, ...], list[tuple[int, _Place]]]


def is_stream(data: bytes) -> bool:
    return data.startswith((b"data:", b"event:", b":", b"id:", b"retry:"))


def interleaved(data: bytes) -> bool:
    """Whether pieces of several choices or parts may stand between each other."""
    return any(_FURTHER.search(part) is not None for part in segments(data))


def streamed_text(data: bytes) -> bytes:
    """All pieces behind each other, still escaped: enough to see that no secret can be among them."""
    return b"".join(piece for part in segments(data) for piece in _PIECE.findall(part))


def redact_stream(data: bytes, text: Callable[[str], str], line: Callable[[bytes], bytes]) -> bytes:
    """``text`` cleans a text that came in pieces, ``line`` the JSON of one event. Other lines are cleaned as text."""
    lines = data.split(b"\n")
    events: dict[int, Any] = {}
    for number, raw in enumerate(lines):
        if raw.startswith(b"data:"):
            try:
                events[number] = _event(raw[5:])
            except (*NOT_JSON, ValueError):
                continue
    pieces: _Pieces = {}
    for number, event in events.items():
        _collect(event, (), number, pieces)
    changed: dict[int, list[_Change]] = {}
    for places in pieces.values():
        _clean(places, text, changed)
    return b"\n".join(_line(raw, number, events, changed, line) for number, raw in enumerate(lines))


def _event(raw: bytes) -> Any:
    """An event's JSON. What a strict reader refuses is read too: half a surrogate, a number of any length, bytes that
    are no UTF-8."""
    try:
        return msgspec.json.decode(raw)
    except NOT_JSON:
        return json.loads(raw.decode("utf-8", "surrogateescape"), strict=False, parse_int=_number)


def _number(digits: str) -> int:
    """An index as it is; of a longer number only that it is one."""
    return int(digits) if len(digits) < _DIGITS else 0


def _line(
    raw: bytes, number: int, events: dict[int, Any], changed: dict[int, list[_Change]], line: Callable[[bytes], bytes]
) -> bytes:
    if number in events:
        return raw[:5] + line(_replaced(raw[5:], changed.get(number, [])))
    return line(raw) if raw else raw


def _replaced(raw: bytes, changes: list[_Change]) -> bytes:
    """The JSON of an event with other texts in its fields; all else stays byte for byte."""
    if not changes:
        return raw
    out, end, field = [], 0, ""
    for token in tokens(raw):
        text = None if token.parts is None else decoded(token.parts)
        change = next((one for one in changes if one[:2] == (field, text)), None)
        if change is not None and token.parts is not None and not token.sign:
            changes.remove(change)
            out += [raw[end : token.start], encoded(change[2], token.parts)]
            end = token.end
        field = text if text is not None and token.sign else ""
    return b"".join([*out, raw[end:]])


def _collect(value: Any, path: tuple[Any, ...], number: int, pieces: _Pieces) -> None:
    """Note every piece under the text that it belongs to."""
    if isinstance(value, list):
        for inner in value:
            _collect(inner, path, number, pieces)
    elif isinstance(value, dict):
        where = (*path, *(value.get(name) for name in _INDEXES if isinstance(value.get(name), int | str)))
        for name, inner in value.items():
            if isinstance(inner, str) and name in PIECES:
                pieces.setdefault((*where, name), []).append((number, (value, name)))
            elif isinstance(inner, dict | list):
                _collect(inner, (*where, name), number, pieces)


def _clean(places: list[tuple[int, _Place]], text: Callable[[str], str], changed: dict[int, list[_Change]]) -> None:
    """Clean a text in pieces: what replaces a stretch stands where that began. Adds to what changed in which event."""
    parts = [holder[name] for _, (holder, name) in places]
    if len(parts) < 2:
        return
    whole = "".join(parts)
    clean = text(whole)
    if clean == whole:
        return
    head = _common(whole, clean)
    tail = _common(whole[head:][::-1], clean[head:][::-1])
    first, last = head, len(whole) - tail
    at = 0
    for number, (holder, name) in places:
        piece = holder[name]
        start, end = at, at + len(piece)
        at = end
        if end <= first or start >= last:
            continue
        new = piece[: max(0, first - start)]
        new += clean[head : len(clean) - tail] if start <= first < end or (start == first == end) else ""
        new += piece[last - start :] if last < end else ""
        if new != piece:
            changed.setdefault(number, []).append((name, piece, new))


def _common(left: str, right: str) -> int:
    """Length of the common beginning."""
    length = min(len(left), len(right))
    low, high = 0, length
    while low < high:
        middle = (low + high + 1) // 2
        if left[:middle] == right[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
