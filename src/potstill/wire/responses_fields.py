"""Reading fields of untrusted JSON: the value where it has its type, else an error that names the field.

What it knows: JSON types. What it does not do: which fields there are. ``None`` counts as absent everywhere.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from potstill.errors import BadRequest, BadResponse

Fault = type[BadRequest] | type[BadResponse]


class Fields:
    """The fields of one JSON object that stands at ``where``; what is wrong raises ``fault``."""

    def __init__(self, value: Any, where: str = "", fault: Fault = BadRequest) -> None:
        if not isinstance(value, dict):
            raise fault(f"{where or 'the body'} must be an object, not {_kind(value)}.")
        self.value: dict[str, Any] = value
        self.where = where
        self.fault = fault

    def text(self, key: str) -> str | None:
        value: str | None = self._get(key, str, "a text")
        return value

    def need(self, key: str) -> str:
        value = self.text(key)
        if value is None:
            raise self.fault(f"'{self.path(key)}' is missing; it must be a text.")
        return value

    def flag(self, key: str) -> bool | None:
        value: bool | None = self._get(key, bool, "true or false")
        return value

    def count(self, key: str) -> int | None:
        value = self.number(key)
        if value is None:
            return None
        if not value.is_integer() or value < 0:
            raise self.fault(f"'{self.path(key)}' is {value:g}; it must be a whole number, 0 or more.")
        return int(value)

    def number(self, key: str) -> float | None:
        value = self.value.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.fault(f"'{self.path(key)}' must be a number, not {_kind(value)}.")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self.fault(f"'{self.path(key)}' is not a finite number.")
        return number

    def items(self, key: str) -> list[Any]:
        """Empty where absent."""
        return self._get(key, list, "a list") or []

    def map(self, key: str) -> dict[str, Any] | None:
        value: dict[str, Any] | None = self._get(key, dict, "an object")
        return value

    def inner(self, key: str) -> Fields | None:
        value = self.map(key)
        return None if value is None else Fields(value, self.path(key), self.fault)

    def path(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key

    def rest(self, known: frozenset[str]) -> dict[str, Any]:
        """The fields that are none of ``known`` and not null."""
        return {key: value for key, value in self.value.items() if key not in known and value is not None}

    def _get(self, key: str, kind: type, name: str) -> Any:
        value = self.value.get(key)
        if value is not None and not isinstance(value, kind):
            raise self.fault(f"'{self.path(key)}' must be {name}, not {_kind(value)}.")
        return value


def decode_object(body: bytes, fault: Fault, what: str) -> Fields:
    """The JSON object that ``body`` is; raises ``fault`` for anything else."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise fault(f"{what} is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise fault(f"{what} must be a JSON object, not {_kind(value)}.")
    return Fields(value, "", fault)


def encode_object(value: Any, fault: Fault, what: str) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, UnicodeEncodeError, RecursionError) as error:
        raise fault(f"{what} cannot be written as JSON: {error}.") from None


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names: dict[type, str] = {bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list"}
    return names.get(type(value), "an object")
