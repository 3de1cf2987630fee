"""Reads a client's JSON with errors that name the field at fault; writes JSON that may be too deep.

What it knows: JSON's types and how to call them. What it does not do: any dialect's fields.
"""

from __future__ import annotations

from typing import Any

import msgspec

from potstill.errors import BadRequest

EMPTY: tuple[Any, ...] = (None, [], {})
"""Values that say nothing: a field that holds one of them is as good as absent."""


class Fields:
    """A JSON object whose fields are taken out one by one; ``rest`` holds those that nobody took.

    Every getter gives None where the field is absent or null, and raises ``BadRequest`` for another type.
    """

    def __init__(self, value: Any, where: str = "") -> None:
        if not isinstance(value, dict):
            raise BadRequest(f"{where or 'the body'} must be an object, not {said(value)}")
        self.where = where
        self._values = dict(value)

    @property
    def rest(self) -> dict[str, Any]:
        return {key: value for key, value in self._values.items() if value is not None}

    def place(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key

    def take(self, key: str) -> Any:
        return self._values.pop(key, None)

    def text(self, key: str) -> str | None:
        value = self.take(key)
        if value is not None and not isinstance(value, str):
            raise self.wrong(key, "a text", value)
        return value

    def need_text(self, key: str) -> str:
        value = self.text(key)
        if value is None:
            raise BadRequest(f"{self.place(key)} is missing: it must be a text")
        return value

    def flag(self, key: str) -> bool | None:
        value = self.take(key)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(key, "true or false", value)
        return value

    def integer(self, key: str) -> int | None:
        value = self.take(key)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise self.wrong(key, "a whole number", value)
        return value

    def number(self, key: str) -> float | None:
        value = self.take(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e300:
            raise self.wrong(key, "a number", value)
        return float(value)

    def items(self, key: str) -> list[Any] | None:
        value = self.take(key)
        if value is not None and not isinstance(value, list):
            raise self.wrong(key, "a list", value)
        return value

    def map(self, key: str) -> dict[str, Any] | None:
        value = self.take(key)
        if value is not None and not isinstance(value, dict):
            raise self.wrong(key, "an object", value)
        return value

    def wrong(self, key: str, wanted: str, value: Any) -> BadRequest:
        return BadRequest(f"{self.place(key)} must be {wanted}, not {said(value)}")


def loads(body: bytes) -> Any:
    """The JSON value in a client's body; ``BadRequest`` says where it is malformed."""
    try:
        return msgspec.json.decode(body)
    except RecursionError:
        raise BadRequest("the body is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from None


def dumps(value: Any) -> bytes:
    """JSON bytes. ``BadRequest`` where the value is nested too deeply to be written."""
    try:
        return msgspec.json.encode(value)
    except RecursionError:
        raise BadRequest("what is to be written is nested too deeply") from None


def said(value: Any) -> str:
    """A JSON value as an error message shows it: short, and texts quoted."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    shown = repr(value)
    return shown if len(shown) <= 40 else shown[:39] + "…"
