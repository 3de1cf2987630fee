"""Errors on their way to a client: which status, headers and bytes say them in its dialect.

What it knows: kinds of problems and their HTTP status, and how each dialect says an error within a stream. What it does
not do: the shape of an error's body (the dialects' files), or decide what is an error.
"""

from __future__ import annotations

import math

import msgspec

from potstill.errors import BadRequest, ModelError, Untranslatable
from potstill.wire.dialect import Problem, dialect

CHAT, RESPONSES, ANTHROPIC = "openai-chat", "openai-responses", "anthropic"

Headers = list[tuple[bytes, bytes]]
JSON: Headers = [(b"content-type", b"application/json")]


class Refused(Exception):
    """A request that ends with a problem before the first byte of its answer was sent.

    ``body``, ``status``, ``headers``: the upstream's own words, where they are the client's dialect.
    """

    def __init__(self, problem: Problem, status: int = 0, headers: Headers | None = None, body: bytes = b"") -> None:
        super().__init__(problem.message)
        self.problem = problem
        self.status = status or problem.status
        self.headers = headers or []
        self.body = body


def refused(status: int, kind: str, message: str, **more: object) -> Refused:
    return Refused(msgspec.convert({"status": status, "kind": kind, "message": message, **more}, Problem))


def problem_of(error: Exception) -> Problem:
    """What a client is told of an exception."""
    if isinstance(error, Refused):
        return error.problem
    if isinstance(error, BadRequest):
        code = "untranslatable" if isinstance(error, Untranslatable) else None
        return Problem(status=400, kind="invalid_request", message=str(error), code=code)
    if isinstance(error, ModelError):
        return Problem(status=502, kind="upstream", message=str(error))
    return Problem(
        status=500,
        kind="internal",
        message=f"The gateway failed ({type(error).__name__}); its log says where. The request may be sent again.",
    )


def translated(problem: Problem, dialect_name: str) -> Problem:
    """An upstream's problem with the status that clients of another dialect know it by: Anthropic says 529 where OpenAI
    says 503, and 402 or 400 where OpenAI says 429 for money that is gone."""
    anthropic = dialect_name == ANTHROPIC
    status = problem.status
    if problem.kind == "overloaded":
        status = 529 if anthropic else 503
    elif problem.kind == "quota":
        status = 402 if anthropic else 429
    return msgspec.structs.replace(problem, status=status)


def body_of(problem: Problem, dialect_name: str) -> bytes:
    return dialect(dialect_name).encode_problem(problem)


def headers_of(problem: Problem) -> Headers:
    """Beside the content's: how long to wait. Official clients, which send a refused request again at once, do not
    where money is gone: they honour ``x-should-retry``."""
    headers: Headers = []
    if problem.retry_after_s is not None:
        headers.append((b"retry-after", str(max(1, math.ceil(problem.retry_after_s))).encode()))
    if problem.kind == "quota":
        headers.append((b"x-should-retry", b"false"))
    return headers


def event_of(problem: Problem, dialect_name: str) -> bytes:
    """The problem as the last event of a stream that has begun, as official clients raise it."""
    if dialect_name == RESPONSES:
        event = {
            "type": "error",
            "code": problem.code or problem.kind,
            "message": problem.message,
            "param": None,
            "sequence_number": 0,
        }
        return b"event: error\ndata: " + msgspec.json.encode(event) + b"\n\n"
    name = b"event: error\n" if dialect_name == ANTHROPIC else b""
    return name + b"data: " + body_of(problem, dialect_name) + b"\n\n"
