"""The JSON object in what a model answered: found among prose and fences, repaired where that needs no guessing.

What it knows: where an object begins and whether its end was reached, what is too long, too deep or too broken to read.
What it does not do: judge what the object says (``border``).

Well-formed objects are read with the standard library. Almost-JSON (single quotes, unescaped quotes, commas too many,
comments, a forgotten last brace) goes through ``json-repair``, the extra ``playbook``, within limits: its time grows
with the square of the quotes and brackets. A text that breaks off is *half*: a lesson cut in the middle looks like a
whole one, so its last entry is never trusted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from enum import StrEnum
from typing import Any

from potstill.errors import MissingExtra
from potstill.types import Struct

MAX_ANSWER_CHARACTERS = 2_000_000
"""Of a model's answer; longer ones are not read at all."""
MAX_DEPTH = 100
MAX_REPAIRED_CHARACTERS = 40_000
MAX_REPAIRED_MARKS = 1_500
"""Quotes and opening brackets in a text to be repaired."""
MAX_REPAIRED_DEPTH = 32


_BRACES_IN_PROSE = 50


class Why(StrEnum):
    """Why something that a model said was refused."""

    TOO_LONG = "too-long"
    NO_JSON = "no-json"
    HALF = "half"
    BROKEN = "broken"
    TOO_DEEP = "too-deep"
    AMBIGUOUS = "ambiguous"
    SHAPE = "shape"
    """A field is missing or of another type."""
    UNKNOWN_OPERATION = "unknown-operation"
    UNKNOWN_ID = "unknown-id"
    LOOKALIKE = "lookalike"
    """An id with characters that only look like those of one."""
    EMPTY = "empty"
    CONTENT_TOO_LONG = "content-too-long"
    TOO_MANY = "too-many"
    CONFLICT = "conflict"
    """Two operations on one bullet, or two opinions about one."""


class Refusal(Struct, frozen=True, kw_only=True):
    """Something that was not taken, in words that its author can be sent back."""

    why: Why
    message: str
    position: int | None = None
    """Of the operation or tag at fault, from 1; None: the answer as a whole."""

    def __str__(self) -> str:
        return self.message


class Found(Struct, frozen=True, kw_only=True):
    value: dict[str, Any]
    half: bool = False
    """The text broke off: the last entry of the last list may be cut."""


def find(text: str, keys: Collection[str], *, half: bool = False) -> Found | Refusal:
    """The one object in ``text`` that has one of these keys. ``half``: repair also a text that breaks off.

    Raises ``MissingExtra`` where something would have to be repaired and the library is not installed.

    >>> find('I think so: {"operations": []} Done.', ["operations"]).value
    {'operations': []}
    """
    if len(text) > MAX_ANSWER_CHARACTERS:
        return _refusal(Why.TOO_LONG, f"It has {len(text):,} characters; at most {MAX_ANSWER_CHARACTERS:,} are read.")
    if text.lstrip().startswith("<think>"):
        text = text.partition("</think>")[2]
    answer: dict[str, Any] | None = None
    seen = False
    for start, end, value in _objects(text, keys):
        seen = True
        if isinstance(value, RecursionError) or (isinstance(value, dict) and _depth(value) > MAX_DEPTH):
            return _refusal(Why.TOO_DEEP, "Its JSON is nested too deeply. Write one flat object.")
        if not isinstance(value, dict):
            if answer is None:
                return _repaired(text[start:], keys, half)
            return _refusal(Why.AMBIGUOUS, "It holds a second object, which cannot be read. Write one JSON object.")
        if any(key in value for key in keys):
            if answer not in (None, value):
                return _refusal(Why.AMBIGUOUS, "It holds different answers. Write one JSON object.")
            if _goes_on(text[end : end + 100]):
                return _refusal(Why.BROKEN, _NO_GUESSING)
            answer = value
    if answer is not None:
        return Found(value=answer)
    if seen:
        return _refusal(Why.SHAPE, f"No JSON object in it has {_either(keys)}.")
    return _refusal(Why.NO_JSON, f"It is prose. Write a JSON object with {_either(keys)}.")


def _objects(text: str, keys: Collection[str]) -> Iterator[tuple[int, int, Any]]:
    """Each object that begins in prose, with where it begins and ends; the error instead of one that cannot be read,
    and then no more: what stands inside a broken object is somebody's text, not an answer. Braces in prose are passed
    over."""
    names = "|".join(map(re.escape, keys))
    opening = re.compile(r"\{\s*(?:[\"'“}]|(?:" + names + r")\b)")
    decoder = json.JSONDecoder(strict=False)
    place = 0
    passed = 0
    while begin := opening.search(text, place):
        start = begin.start()
        try:
            value, place = decoder.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            end = _extent(text[start:])[0]
            passed += 1
            if end is None or passed > _BRACES_IN_PROSE or any(key in text[start : start + end] for key in keys):
                if end is None and not any(key in text[start:] for key in keys):
                    return
                yield start, len(text), error
                return
            place = start + end
        else:
            yield start, place, value


def _depth(value: dict[str, Any]) -> int:
    """How deep lists and objects are nested, counted no further than ``MAX_DEPTH`` and one."""
    depth = 0
    level: list[Any] = [value]
    while level and depth <= MAX_DEPTH:
        depth += 1
        inner = (part for each in level for part in (each.values() if isinstance(each, dict) else each))
        level = [part for part in inner if isinstance(part, dict | list)]
    return depth


# --- repair ---------------------------------------------------------------------------------------------------------


_NO_GUESSING = "Its JSON is too broken to be repaired without guessing. Write it once more."


def _goes_on(behind: str) -> bool:
    """Whether a quote within a string ended an object early: JSON goes on behind it."""
    return behind.lstrip().startswith(('"', ",", "}"))


_MORE = re.compile(r"\{\s*[\"'“]|[\"']\s*[,:\]}]")
"""Behind the end of an object: as if it had gone on, and a quote had hidden that."""


def _repaired(text: str, keys: Collection[str], half: bool) -> Found | Refusal:
    """``text`` begins with an object that is not JSON."""
    if not any(key in text for key in keys):
        return _refusal(Why.NO_JSON, f"It has no JSON object with {_either(keys)}.")
    text = text.rstrip().rstrip("`").rstrip()
    end, in_string, depth = _extent(text)
    if end is not None:
        text, behind = text[:end], text[end:]
        if not behind.lstrip().startswith("```") and _MORE.search(behind):
            return _refusal(Why.BROKEN, _NO_GUESSING)
    broken_off = end is None and not _complete(text, in_string, depth)
    if broken_off and not half:
        return _refusal(Why.HALF, "Its JSON breaks off before its end. Write it once more, shorter.")
    if refusal := _too_much(text, keys):
        return refusal
    return _by_library(text, keys, broken_off)


def _extent(text: str) -> tuple[int | None, bool, int]:
    """Where the object that begins the text ends, by its quotes and brackets; else None, whether the text ends within
    a string, and how many brackets are open there."""
    depth = 0
    in_string = False
    for token in re.finditer(r"\\.|[\"{}\[\]]", text, re.DOTALL):
        mark = token[0]
        if mark == '"':
            in_string = not in_string
        elif not in_string and mark in "{[":
            depth += 1
        elif not in_string and mark in "}]":
            depth -= 1
            if depth == 0:
                return token.end(), False, 0
    return None, in_string, depth


def _complete(text: str, in_string: bool, depth: int) -> bool:
    """Whether a text without an end was written to its end all the same: one last brace is missing, or a quote within a
    string hides the end."""
    if in_string:
        return re.search(r"\"\s*[}\]][\s}\]]*$", text) is not None
    return depth == 1 and text.endswith("]")


def _too_much(text: str, keys: Collection[str]) -> Refusal | None:
    if len(text) > MAX_REPAIRED_CHARACTERS:
        limit = f"one of more than {MAX_REPAIRED_CHARACTERS:,} characters is not repaired"
        return _refusal(Why.BROKEN, f"It is not JSON, and {limit}; it has {len(text):,}.")
    if sum(map(text.count, "\"'{[(“”")) > MAX_REPAIRED_MARKS:
        return _refusal(Why.BROKEN, f"It is not JSON, and has more than {MAX_REPAIRED_MARKS:,} quotes and brackets.")
    deepest = depth = 0
    for mark in re.findall(r"[{}\[\]]", text):
        depth += 1 if mark in "{[" else -1
        deepest = max(deepest, depth)
    if deepest > MAX_REPAIRED_DEPTH:
        return _refusal(Why.TOO_DEEP, f"It is not JSON, and nested {deepest} deep. Write one flat object.")
    if any(_times(text, key) > 1 for key in keys):
        return _refusal(Why.AMBIGUOUS, "It is not JSON, and one of its fields stands there twice. Write it once more.")
    return None


def _times(text: str, key: str) -> int:
    """How often this is a field's name."""
    return len(re.findall(rf"[\"'“]{re.escape(key)}[\"'”]\s*:|[{{,]\s*{re.escape(key)}\s*:", text))


def _by_library(text: str, keys: Collection[str], broken_off: bool) -> Found | Refusal:
    try:
        import json_repair
    except ImportError:
        raise MissingExtra("Repairing a model's almost-JSON", "playbook") from None
    try:
        value = json_repair.loads(text, skip_json_loads=True)
    except (ValueError, RecursionError, IndexError) as error:
        return _refusal(Why.BROKEN, f"Its JSON cannot be repaired ({type(error).__name__}). Write it once more.")
    if not isinstance(value, dict) or not any(key in value for key in keys):
        return _refusal(Why.BROKEN, f"It is not JSON, and repaired it has no {_either(keys)}. Write it once more.")
    if not broken_off and any(_DEBRIS.search(string) for string in _strings(value)):
        return _refusal(Why.BROKEN, _NO_GUESSING)
    return Found(value=value, half=broken_off)


_DEBRIS = re.compile(r"[\"']\s*[}\]][\s}\],]*$|[\"']\s*,\s*[\"'][a-z_]+[\"']\s*:")
"""What was meant as the JSON around a string, and stands in it after a bad repair."""


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _strings(each)


def _either(keys: Collection[str]) -> str:
    return " or ".join(f"'{key}'" for key in keys)


def _refusal(why: Why, message: str) -> Refusal:
    return Refusal(why=why, message=message)
