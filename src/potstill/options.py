"""Options that were typed as KEY=VALUE, checked against the annotations of whatever takes them.

What it knows: signatures, and how to say a type in words. What it does not do: know any option, or check ranges
(whoever takes an option does that).
"""

from __future__ import annotations

import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from potstill.errors import ConfigError

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_PLAIN = (str, int, float, bool, list, dict)
_MAY_BE_SECRET = re.compile("key|header|token|secret|password", re.IGNORECASE)
"""Names of options whose values are never repeated in a message."""


def checked_options(what: str, taker: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with numbers as text where text is asked for. Raises ``ConfigError`` for a value of a wrong type.

    Only plain values, as text and JSON give them, are looked at. What ``taker`` does not annotate is handed on as it
    is, and so are choices among names, for whoever offers them knows the nearest one.

    >>> checked_options("the depot", lambda rows: None, {"rows": "3"})
    {'rows': '3'}
    """
    hints = _hints(taker)
    return {key: _checked(what, key, value, hints[key]) if key in hints else value for key, value in options.items()}


def _checked(what: str, key: str, value: Any, hint: Any) -> Any:
    if not isinstance(value, _PLAIN) or typing.get_origin(hint) is Literal:
        return value
    try:
        msgspec.convert(value, hint)
        return value
    except msgspec.ValidationError:
        if isinstance(value, int | float) and str in _members(hint):
            return str(value).lower() if isinstance(value, bool) else str(value)
    except TypeError:  # a type that msgspec does not know: only its owner can tell
        return value
    shown = "of the wrong kind" if _MAY_BE_SECRET.search(key) else repr(value)
    raise ConfigError(f"The option '{key}' of {what} is {shown}; it must be {_allowed(hint)}.")


def _hints(taker: Callable[..., Any]) -> dict[str, Any]:
    """The type of each parameter that can be resolved; names imported for type checkers only cannot."""
    function = inspect.unwrap(getattr(taker, "__func__", taker))
    space = getattr(function, "__globals__", None) or vars(sys.modules[function.__module__])
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(taker).parameters.items():
        if parameter.annotation is parameter.empty:
            continue
        holder = types.SimpleNamespace(__annotations__={name: parameter.annotation})
        try:
            found |= typing.get_type_hints(holder, globalns=space)
        except (NameError, TypeError):
            continue
    return found


def _members(hint: Any) -> tuple[Any, ...]:
    union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    return typing.get_args(hint) if union else (hint,)


def _allowed(hint: Any) -> str:
    words = [_in_words(member) for member in _members(hint) if member is not type(None)]
    return " or ".join(dict.fromkeys(words))


def _in_words(hint: Any) -> str:
    origin = typing.get_origin(hint) or hint
    if origin in _WORDS:
        return _WORDS[origin]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return 'a JSON object such as {"name": "value"}'
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return 'a JSON list such as ["name"]'
    return f"a {getattr(origin, '__name__', origin)}, which only Python code can give"
