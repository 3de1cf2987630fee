"""Single values out of foreign rows: numbers, times, texts, usage. What is none is unknown, and a problem is noted.

What it knows: how logs write times (ISO 8601, Unix seconds, milli-, micro- and nanoseconds) and put JSON into texts.
What it does not do: know any format, raise, or guess.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from potstill.errors import NOT_JSON
from potstill.logs.formats.cells import MOST_AMOUNT, MOST_TIME, MOST_TOKENS
from potstill.logs.records import Problem
from potstill.types import Usage
from potstill.wire.usage import normalise_usage

ERROR_CHARACTERS = 200
_COUNTED = ("prompt_tokens", "input_tokens", "inputTokens", "promptTokenCount", "prompt_token_count")
_decode = msgspec.json.decode


def first(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The first member of ``names`` that is there and not null."""
    get = row.get
    for name in names:
        value = get(name)
        if value is not None:
            return value
    return None


def mapping(value: Any) -> Mapping[str, Any]:
    """An object, also where it was put into a text as JSON; else an empty one."""
    if type(value) is dict:
        return value
    value = structured(value)
    return value if isinstance(value, Mapping) else {}


def structured(value: Any) -> Any:
    """``value``, decoded if it is a text that holds a JSON object or array."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return _decode(value)
        except NOT_JSON:
            return value
    return value


def listed(value: Any) -> list[Any]:
    """An array; anything else is an empty one."""
    return value if isinstance(value, list) else []


def text(value: Any) -> str | None:
    """A name or id as text; numbers are ids too. Empty is unknown."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value).strip() or None


def number(value: Any, name: str, problems: list[Problem], most: float = MOST_AMOUNT) -> float | None:
    """A number from 0 to ``most`` (dollars and seconds of one record are never more), also out of a text."""
    if value is None or value == "":
        return None
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not 0 <= found <= most:
        problems.append(Problem("bad_number", f"{name} is {str(value)[:40]!r}"))
        return None
    return found


def seconds(value: Any, name: str, problems: list[Problem]) -> float | None:
    """Unix seconds of a time. A time without a zone is taken as UTC."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        try:
            found = datetime.fromisoformat(value.strip())
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            pass
    when = number(value, name, problems, MOST_TIME)
    if when is None:
        return None
    for unit, most in ((1e9, 1e17), (1e6, 1e14), (1e3, 1e11)):
        if when >= most:
            return when / unit
    return when or None


def lasted(start: float | None, end: float | None, problems: list[Problem]) -> float | None:
    """Seconds from ``start`` to ``end``; a clock that ran backwards is a problem."""
    if start is None or end is None:
        return None
    if end < start:
        problems.append(Problem("bad_value", f"it ended {start - end:.3g} s before it started"))
        return None
    return number(end - start, "the time from start to end", problems)


def usage(raw: Any, problems: list[Problem]) -> Usage | None:
    """Tokens by ``wire.usage``. Counts that contradict each other are unknown, and so is a prompt of no tokens."""
    if not isinstance(raw, Mapping) or all(raw.get(name) is None for name in _COUNTED):
        return None
    found = normalise_usage(raw)
    total = raw.get("total_tokens")
    if found is None:
        problems.append(Problem("bad_usage", _counts(raw)))
        return None
    if found.input_tokens == 0:
        problems.append(Problem("bad_usage", f"a prompt of no tokens: {_counts(raw)}"))
        return None
    if isinstance(total, int) and 0 < total < found.input_tokens + found.output_tokens and "prompt_tokens" in raw:
        problems.append(Problem("bad_usage", f"more than the total: {_counts(raw)}"))
        return None
    return believable(found, problems)


def believable(usage: Usage | None, problems: list[Problem]) -> Usage | None:
    """The usage, or None with a problem where it counts more tokens than any request has."""
    if usage is None or (usage.input_tokens <= MOST_TOKENS and usage.output_tokens <= MOST_TOKENS):
        return usage
    problems.append(Problem("bad_number", f"{usage.input_tokens} tokens in, {usage.output_tokens} out"[:160]))
    return None


def whole(raw: Mapping[str, Any], name: str) -> int | None:
    """A count, or None where there is none."""
    value = raw.get(name)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def tokens(raw: Mapping[str, Any], name: str, problems: list[Problem]) -> int | None:
    """A count of tokens; a problem, and unknown, where it is negative or more than anything has."""
    found = whole(raw, name)
    if found is None or 0 <= found <= MOST_TOKENS:
        return found
    problems.append(Problem("bad_number", f"{name} is {str(found)[:40]}"))
    return None


def counted(value: Any) -> Any:
    """A count that tables write as text, as a number; anything else as it is."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


def chat_usage(
    *, prompt: Any, completion: Any, total: Any = None, read: Any = None, write: Any = None, reasoning: Any = None
) -> dict[str, Any]:
    """Counts as a usage object of chat completions, where the prompt includes what was cached."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": total,
        "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": write},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


def told_error(*candidates: Any) -> str | None:
    """The first of ``candidates`` that says what went wrong, on one line and cut."""
    for value in candidates:
        value = structured(value)
        if isinstance(value, Mapping):
            inner = value.get("error")
            if isinstance(inner, Mapping | str) and inner:
                value = inner
        if isinstance(value, Mapping):
            said = first(value, ("message", "error_message", "detail", "description", "type", "code", "name"))
            value = said if isinstance(said, str | int) else (msgspec.json.encode(value).decode() if value else None)
        if value not in (None, "", False, 0, []):
            return " ".join(str(value).split())[:ERROR_CHARACTERS] or None
    return None


def _counts(raw: Mapping[str, Any]) -> str:
    flat = {name: value for name, value in raw.items() if not isinstance(value, str) and value is not None}
    return str(flat)[:160]
