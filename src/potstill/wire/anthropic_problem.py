"""Errors in Anthropic's words to a ``Problem`` and back.

What it knows: Anthropic's error types, their HTTP status, and how it says that money has run out.
What it does not do: retries; headers (``retry-after`` is read where the answer's headers are).
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from potstill.errors import NOT_JSON
from potstill.wire.dialect import Problem
from potstill.wire.openai_chat import ErrorBody, decode_error, excerpt

TYPES = {
    "invalid_request": "invalid_request_error",
    "authentication": "authentication_error",
    "permission": "permission_error",
    "not_found": "not_found_error",
    "too_large": "request_too_large",
    "rate_limit": "rate_limit_error",
    "quota": "billing_error",
    "overloaded": "overloaded_error",
    "timeout": "timeout_error",
    "upstream": "api_error",
    "internal": "api_error",
}
STATUS = {
    "invalid_request": 400,
    "authentication": 401,
    "quota": 402,
    "permission": 403,
    "not_found": 404,
    "too_large": 413,
    "rate_limit": 429,
    "internal": 500,
    "upstream": 500,
    "timeout": 504,
    "overloaded": 529,
}
"""The status that Anthropic's own endpoint gives with each kind."""

_KINDS = {word: kind for kind, word in TYPES.items() if kind != "internal"} | {"conflict_error": "invalid_request"}
_BY_STATUS = {
    401: "authentication",
    402: "quota",
    403: "permission",
    404: "not_found",
    408: "timeout",
    413: "too_large",
    429: "rate_limit",
    503: "overloaded",
    504: "timeout",
    529: "overloaded",
}
OVERFLOW = "context_length_exceeded"
"""What OpenAI's clients look for. Anthropic's look for these words in the message, to shorten the conversation:"""
_TOO_LONG = "prompt is too long"
_NO_MONEY = re.compile(r"credit balance is too low|spend limit|usage limits", re.IGNORECASE)


def write_problem(problem: Problem) -> bytes:
    return msgspec.json.encode(error_object(problem.kind, problem.message, problem.code))


def error_object(kind: str, message: str, code: str | None = None) -> dict[str, Any]:
    """``kind``: one of ``dialect.KINDS`` or already Anthropic's word; anything else is ``api_error``."""
    word = TYPES.get(kind) or (kind if kind in _KINDS else "api_error")
    if code == OVERFLOW and _TOO_LONG not in message:
        message = f"{_TOO_LONG}: {message}"
    error: dict[str, Any] = {"type": word, "message": message}
    if code is not None:
        error["details"] = {"error_code": code}
    return {"type": "error", "error": error}


def read_problem(status: int, body: bytes) -> Problem:
    """Any body gives something readable."""
    try:
        known = decode_error(body)
    except RecursionError:
        known = ErrorBody(message=excerpt(body))
    kind = kind_of_error(known.kind, status)
    code = OVERFLOW if known.is_overflow else known.code or _code(body)
    if _NO_MONEY.search(known.message) or (code or "").endswith("spend_limit_reached"):
        kind = "quota"
    return Problem(status=status, kind=kind, message=known.message, code=code or None)


def kind_of_error(word: str, status: int) -> str:
    if word in _KINDS and word != "api_error":
        return _KINDS[word]
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return "invalid_request" if 400 <= status < 500 else "upstream"


def _code(body: bytes) -> str | None:
    try:
        value = msgspec.json.decode(body)
    except NOT_JSON:
        return None
    for key in ("error", "details", "error_code"):
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, str) else None
