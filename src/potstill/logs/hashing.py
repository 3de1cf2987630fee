"""Values of logs as canonical bytes and their hashes: the same for everything that means the same.

What it knows: that order of keys, ``1.0`` against ``1`` and marks of prompt caches do not count. What it does not do:
messages, or raise: what is no JSON is hashed as it prints. Hashes are BLAKE2b, 64 bits, equal in every process.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import msgspec

from potstill.errors import NOT_JSON

_CACHED_ARGUMENTS = 2000
"""Characters. Arguments up to here are remembered: every later call of an episode repeats them."""

_encode = msgspec.json.encode
_decode = msgspec.json.decode


def tools_told(tools: Any) -> tuple[int, int]:
    """Hash and characters of definitions of tools, (0, 0) for none. Their order counts, as in a provider's cache."""
    if not tools:
        return 0, 0
    encoded = tools.encode("utf-8", "surrogatepass") if isinstance(tools, str) else json_of(tools)
    if b'"cache_control"' in encoded:
        encoded = json_of(without_marks(tools))
    return hash_of(encoded), len(encoded)


def arguments_hash(arguments: Any) -> int:
    """Hash of a tool call's arguments, the same for JSON text and object, for any order of keys, and for 1.0 and 1."""
    if not isinstance(arguments, str):
        return hash_of(normal_json(arguments))
    return _text_hash(arguments) if len(arguments) <= _CACHED_ARGUMENTS else _hash_text(arguments)


def framed(value: Any) -> bytes:
    text = (value if isinstance(value, str) else text_of(value)).encode("utf-8", "surrogatepass")
    return b"%d:%b" % (len(text), text)


def hash_of(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")


def _hash_text(arguments: str) -> int:
    if not arguments.strip():
        return hash_of(b"{}")
    try:
        value = _decode(arguments)
    except NOT_JSON:
        return hash_of(arguments.strip().encode("utf-8", "surrogatepass"))
    return hash_of(normal_json(value))


_text_hash = lru_cache(maxsize=4096)(_hash_text)


def normal_json(value: Any) -> bytes:
    """JSON with sorted keys and without the difference of 1.0 and 1."""
    try:
        return json_of({} if value is None else _whole(value), "deterministic")
    except RecursionError:
        return json_of(value)


def json_of(value: Any, order: Any = None) -> bytes:
    try:
        return _encode(value, order=order)
    except RecursionError:
        return b"(too deep)"
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError):
        return repr(value).encode("utf-8", "surrogatepass")


def _whole(value: Any) -> Any:
    """``value`` with floats that are whole numbers as whole numbers."""
    kind = type(value)
    if kind is float:
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if kind is dict:
        return {key: inner if type(inner) is str else _whole(inner) for key, inner in value.items()}
    if kind is list:
        return [_whole(inner) for inner in value]
    return value


def without_marks(value: Any) -> Any:
    """``value`` without marks of prompt caches."""
    if isinstance(value, dict):
        return {key: without_marks(inner) for key, inner in value.items() if key != "cache_control"}
    return [without_marks(inner) for inner in value] if isinstance(value, list) else value


def first(value: Mapping[str, Any], *names: str) -> Any:
    for name in names:
        found = value.get(name)
        if found is not None:
            return found
    return None


def text_of(value: Any) -> str:
    return json_of(value).decode("utf-8", "surrogatepass")
