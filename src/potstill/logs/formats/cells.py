"""Values as people write them into attempt files, turned into what they mean; what means nothing is told.

What it knows: numbers, counts, times, outcomes and errors in the spellings that JSON and CSV writers use. What it does
not do: know columns, or guess; each function raises ``ValueError`` for a value that it does not take.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import msgspec

MOST_AMOUNT = 1e9
"""Dollars or seconds of one record: nothing that ran cost or took more, so a larger number is a mistake."""
MOST_TOKENS = 10**12
MOST_TIME = 1e20
"""Unix time in nanoseconds, of the year 5138."""
_NO_ERROR = {"", "false", "none", "null", "0"}
_NULL = {"", "null", "none"}
_TRUTH = {
    "true": True,
    "false": False,
    "yes": True,
    "no": False,
    "1": True,
    "0": False,
}
_SCALES = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))
"""Unix times above the first number are nano-, micro- and milliseconds."""


def is_null(value: Any) -> bool:
    """True for what stands for unknown: null, and in text (a CSV cell) also nothing, ``null`` and ``None``."""
    return value is None or (isinstance(value, str) and value.strip().lower() in _NULL)


def text(value: Any) -> str:
    """A scalar as text; objects and lists as JSON with sorted keys, so that equal ones are equal texts."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    return msgspec.json.encode(value, order="sorted").decode()


def number(value: Any) -> float:
    """A finite number, or its text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("not a number")
    found = float(value)
    if not math.isfinite(found):
        raise ValueError("not finite")
    return found


def amount(value: Any, most: float = MOST_AMOUNT) -> float:
    """A number from 0 to ``most``, which no dollars and no seconds of one record exceed."""
    found = number(value)
    if not 0 <= found <= most:
        raise ValueError("negative" if found < 0 else "too large")
    return found


def count(value: Any) -> int:
    """A whole number from 0 on; 12.0 is 12."""
    precise = value if type(value) is int else number(value)
    found = int(precise)
    if found != precise:
        raise ValueError("not whole")
    if not 0 <= found < 2**63:
        raise ValueError("negative" if found < 0 else "too large")
    return found


def tokens(value: Any) -> int:
    """A count of tokens: whole, from 0 on, and not more than any request or attempt can have."""
    found = count(value)
    if found > MOST_TOKENS:
        raise ValueError("too large")
    return found


def signal(value: Any) -> float:
    """A finite number, where true is 1 and false is 0."""
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and (known := _TRUTH.get(value.strip().lower())) is not None:
        return float(known)
    return number(value)


def unix_seconds(value: Any) -> float:
    """Unix time from seconds (or milli-, micro-, nanoseconds), or ISO 8601 text; without a zone it is UTC."""
    if isinstance(value, str):
        try:
            seconds = number(value)
        except ValueError:
            return iso_seconds(value)
        return unix_seconds(seconds)
    seconds = amount(value, MOST_TIME)
    for above, scale in _SCALES:
        if seconds > above:
            return seconds / scale
    return seconds


def iso_seconds(value: str) -> float:
    """Unix seconds of ISO 8601 text; without a zone it is UTC. Raises ``ValueError``."""
    when = datetime.fromisoformat(value.strip())
    return (when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp()


def outcome(value: Any) -> bool | None:
    """Success. A score from 1 on is one, up to 0 is none; in between it cannot be told, which is a ``ValueError``."""
    if isinstance(value, bool) or is_null(value):
        return value if isinstance(value, bool) else None
    if isinstance(value, str) and (known := _TRUTH.get(value.strip().lower())) is not None:
        return known
    score = number(value)
    if 0 < score < 1:
        raise ValueError("a score between 0 and 1")
    return score >= 1


def failure(value: Any) -> str | None:
    """What went wrong, or None where nothing did."""
    if value is True:
        return "error"
    if not value:
        return None
    told = text(value)
    plain = told.strip().lower()
    if plain in _NO_ERROR:
        return None
    return "error" if plain in ("true", "1") else told
