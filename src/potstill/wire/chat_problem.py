"""Errors of the OpenAI chat completions dialect: ``{"error": {"message", "type", "param", "code"}}``.

What it knows: which types, codes and HTTP statuses mean which of ``dialect.KINDS``. What it does not do: headers (the
caller knows ``retry-after``), retries.
"""

from __future__ import annotations

from typing import Any

import msgspec

from potstill.wire.dialect import KINDS, Problem
from potstill.wire.openai_chat import ErrorBody, decode_error
from potstill.wire.reading import dumps, field_in

MAX_MESSAGE_CHARS = 2000
_WORDS: dict[str, tuple[str, str | None]] = {
    "invalid_request": ("invalid_request_error", None),
    "authentication": ("invalid_request_error", "invalid_api_key"),
    "permission": ("permission_error", "permission_denied"),
    "not_found": ("invalid_request_error", "not_found"),
    "too_large": ("invalid_request_error", "request_too_large"),
    "rate_limit": ("rate_limit_error", "rate_limit_exceeded"),
    "quota": ("insufficient_quota", "insufficient_quota"),
    "overloaded": ("server_error", "overloaded"),
    "timeout": ("server_error", "timeout"),
    "upstream": ("server_error", "upstream_error"),
    "internal": ("server_error", "internal_error"),
}
"""Type and code of each kind."""
_BY_CODE = {code: kind for kind, (_, code) in _WORDS.items() if code} | {
    "authentication_error": "authentication",
    "model_not_found": "not_found",
    "not_found_error": "not_found",
    "permission_error": "permission",
    "timeout_error": "timeout",
    "overloaded_error": "overloaded",
    "rate_limit_error": "rate_limit",
    "billing_hard_limit_reached": "quota",
    "billing_not_active": "quota",
}
_STATUS = dict(zip(KINDS, (400, 401, 403, 404, 413, 429, 429, 503, 504, 502, 500), strict=True))
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


def encode_problem(problem: Problem) -> bytes:
    return dumps(error_object(problem))


def error_object(problem: Problem) -> dict[str, Any]:
    type_, code = _WORDS.get(problem.kind, _WORDS["upstream"])
    param = field_in(problem.message) if problem.kind == "invalid_request" else None
    error = {"message": problem.message, "type": type_, "param": param, "code": problem.code or code}
    return {"error": error}


def decode_problem(status: int, body: bytes) -> Problem:
    """What an upstream's error means. Any body gives a problem; ``status`` below 400 (an error within a stream, or in
    an answer that says 200) is replaced by the one that the body tells, else by the usual one of its kind."""
    error = decode_error(body, MAX_MESSAGE_CHARS)
    status = status if status >= 400 else _told_status(error)
    kind = _kind(status, error)
    status = status or _STATUS[kind]
    message = error.message or f"the upstream answered with status {status} and no reason"
    return Problem(status=status, kind=kind, message=message, code=_code(error))


def problem_of(value: Any) -> Problem:
    """The problem in the ``error`` of a stream's chunk."""
    return decode_problem(0, msgspec.json.encode({"error": value}))


def _told_status(error: ErrorBody) -> int:
    """0: it tells none."""
    told = int(error.code) if error.code.isascii() and error.code.isdigit() and len(error.code) == 3 else 0
    return told if 400 <= told <= 599 else 0


def _kind(status: int, error: ErrorBody) -> str:
    if error.is_overflow:
        return "invalid_request"
    if error.is_quota:
        return "quota"
    for word in (error.code, error.kind):
        if word in _BY_CODE:
            return _BY_CODE[word]
    if status == 0:
        return "invalid_request" if error.kind == "invalid_request_error" else "upstream"
    return _BY_STATUS.get(status) or ("upstream" if status >= 500 else "invalid_request")


def _code(error: ErrorBody) -> str | None:
    """Where the message alone says that the context overflows, the code that clients look for."""
    if error.is_overflow:
        return "context_length_exceeded"
    return error.code or None
