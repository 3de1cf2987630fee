"""Reads untrusted JSON with errors that name the field at fault; writes JSON that may be too deep.

What it knows: JSON's types, how to call them, and that null counts as absent. What it does not do: any dialect's
fields.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from typing import Any

import msgspec

from potstill.errors import BadRequest

EMPTY: tuple[Any, ...] = (None, [], {})
"""Values that say nothing: a field that holds one of them is as good as absent."""

MAX_NUMBER = 1e300
"""Larger ones do not survive arithmetic; infinity is one of them."""

Fault = Callable[[str], Exception]
"""What is raised, made of a message: ``BadRequest`` for a client's JSON, ``BadResponse`` for an upstream's."""
_NAMED = re.compile(r"'([\w.\[\]-]+)' (?:is|must)\b")


class Fields:
    """The fields of one JSON object that stands at ``where``.

    Every getter gives None (a list: empty) where the field is absent or null, and raises ``fault`` for another type;
    those called ``need`` raise it where the field is absent, too. ``rest`` knows which fields no getter was asked for.
    """

    __slots__ = ("_asked", "fault", "value", "where")

    def __init__(self, value: Any, where: str = "", fault: Fault = BadRequest) -> None:
        if not isinstance(value, dict):
            raise fault((f"'{where}'" if where else "The body") + f" must be an object, not {said(value)}.")
        self.value: dict[str, Any] = value
        self.where = where
        self.fault = fault
        self._asked: set[str] = set()

    def take(self, key: str) -> Any:
        """Of any type."""
        self._asked.add(key)
        return self.value.get(key)

    def text(self, key: str) -> str | None:
        value: str | None = self._of(key, str, "a text")
        return value

    def need(self, key: str) -> str:
        value = self.text(key)
        if value is None:
            raise self.missing(key, "a text")
        return value

    def flag(self, key: str) -> bool | None:
        value: bool | None = self._of(key, bool, "true or false")
        return value

    def integer(self, key: str) -> int | None:
        """Also where it is written as 5.0."""
        value = self.take(key)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise self.wrong(key, "a whole number", value)
        return value

    def count(self, key: str) -> int | None:
        value = self.integer(key)
        if value is not None and value < 0:
            raise self.fault(f"'{self.path(key)}' is {value}; it must be a whole number, 0 or more.")
        return value

    def need_count(self, key: str) -> int:
        value = self.count(key)
        if value is None:
            raise self.missing(key, "a whole number, 0 or more")
        return value

    def number(self, key: str) -> float | None:
        value = self.take(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(key, "a number", value)
        if not -MAX_NUMBER < value < MAX_NUMBER:
            raise self.fault(f"'{self.path(key)}' must be a number of ordinary size, not {said(value)}.")
        return float(value)

    def items(self, key: str) -> list[Any]:
        return self._of(key, list, "a list") or []

    def map(self, key: str) -> dict[str, Any] | None:
        value: dict[str, Any] | None = self._of(key, dict, "an object")
        return value

    def inner(self, key: str) -> Fields | None:
        """The object in a field, to be read in its turn."""
        value = self.map(key)
        return None if value is None else Fields(value, self.path(key), self.fault)

    def need_inner(self, key: str) -> Fields:
        return Fields(self.take(key), self.path(key), self.fault)

    def rest(self, known: Container[str] | None = None) -> dict[str, Any]:
        """The fields that are not null and none of ``known``; without ``known``, those that no getter was asked for."""
        known = self._asked if known is None else known
        return {key: value for key, value in self.value.items() if key not in known and value is not None}

    def path(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key

    def wrong(self, key: str, wanted: str, value: Any) -> Exception:
        return self.fault(f"'{self.path(key)}' must be {wanted}, not {said(value)}.")

    def missing(self, key: str, wanted: str) -> Exception:
        return self.fault(f"'{self.path(key)}' is missing: it must be {wanted}.")

    def _of(self, key: str, kind: type, wanted: str) -> Any:
        value = self.take(key)
        if value is not None and not isinstance(value, kind):
            raise self.wrong(key, wanted, value)
        return value


def load(body: bytes, fault: Fault = BadRequest, what: str = "The body") -> Fields:
    """The JSON object that ``body`` is. Raises ``fault``, saying where the JSON is malformed."""
    try:
        value = msgspec.json.decode(body)
    except RecursionError:
        raise fault(f"{what} is nested too deeply.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise fault(f"{what} is not valid JSON: {error}.") from None
    if not isinstance(value, dict):
        raise fault(f"{what} must be a JSON object, not {said(value)}.")
    return Fields(value, "", fault)


def dumps(value: Any, fault: Fault = BadRequest, what: str = "What is to be written") -> bytes:
    """JSON bytes. Raises ``fault`` where the value is nested too deeply to be written, or is no text."""
    try:
        return msgspec.json.encode(value)
    except RecursionError:
        raise fault(f"{what} cannot be written as JSON: it is nested too deeply.") from None
    except (TypeError, ValueError) as error:
        raise fault(f"{what} cannot be written as JSON: {error}.") from None


def field_in(message: str) -> str | None:
    """The field that an error of this reader names, as OpenAI's errors have it in ``param``.

    >>> field_in("'messages[0].role' is missing: it must be a text.")
    'messages[0].role'
    """
    found = _NAMED.match(message)
    return None if found is None else found[1]


def said(value: Any) -> str:
    """A JSON value as an error message shows it: short, and texts quoted."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    shown = repr(value[:41] if isinstance(value, str) else value)
    return shown if len(shown) <= 40 else shown[:39] + "…"
