"""A request and its answer, as clients, proxies and batch APIs write them into one row, whichever dialect they speak.

What it knows: where request and answer stand in a row (named members, HTTP bodies, the row itself), the names of the
members around them (ids, times, dollars, errors), and which of three dialects it is. What it does not do: read what
the dialects say (``openai_chat.py``, ``openai_responses.py``, ``anthropic.py``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from potstill.logs.conversation import Conversation
from potstill.logs.formats import values
from potstill.logs.formats.base import Skipped
from potstill.logs.formats.stream import events, joined
from potstill.logs.records import LogCall, Problem, Source
from potstill.types import Usage

_REQUESTS = ("request", "request_body", "requestBody", "req", "body", "params", "kwargs", "input")
_ANSWERS = ("response", "response_body", "responseBody", "resp", "output", "completion", "result", "message")
_SESSIONS = (
    "session_id",
    "sessionId",
    "conversation_id",
    "conversationId",
    "thread_id",
    "threadId",
    "trace_id",
    "traceId",
    "episode_id",
    "simulation_id",
)
_CALL_IDS = ("request_id", "requestId", "call_id", "id")
_STARTS = (
    "started_at",
    "start_time",
    "startTime",
    "request_time",
    "timestamp",
    "ts",
    "time",
    "created_at",
    "createdAt",
)
_ENDS = ("ended_at", "finished_at", "end_time", "endTime", "response_time", "completed_at")
_COSTS = ("cost_usd", "response_cost", "total_cost", "cost")
_ERRORS = ("error", "exception", "error_message")
_RUNS = ("run", "run_id", "run_name", "experiment")
_TASKS = ("task_id", "taskId", "instance_id")
_SERVICES = {"batch", "flex", "priority"}
_CLAUDE_CODE_SESSION = re.compile(r"session_([0-9a-fA-F-]{8,})$")


class Exchange(NamedTuple):
    """One row, taken apart."""

    row: Mapping[str, Any]
    request: Mapping[str, Any]
    answer: Mapping[str, Any]
    """Empty where there is none."""
    status: int | None
    batch: bool


def exchange(row: Mapping[str, Any]) -> Exchange | None:
    """The request and answer of a row; None where it holds no request to a model and no answer of one."""
    batch = "custom_id" in row
    request, answer = _request(row), _answer(row)
    if not request and not answer and not (batch and ("error" in row or "result" in row)):
        return None
    holder = row.get("response")
    status = holder.get("status_code", holder.get("status")) if isinstance(holder, Mapping) else None
    status = values.first(row, ("status_code", "statusCode", "http_status", "status")) if status is None else status
    return Exchange(row, request, answer, status if isinstance(status, int) else None, batch)


def dialect(found: Exchange) -> str | None:
    """``chat``, ``responses`` or ``anthropic``; None if neither request nor answer tells."""
    spoken = _answer_dialect(found.answer) or _request_dialect(found)
    if spoken is None and found.batch:
        result = found.row.get("result")
        return "anthropic" if isinstance(result, Mapping) and "type" in result else "chat"
    return spoken


def log_call(
    found: Exchange,
    source: Source,
    conversation: Conversation,
    usage: Usage | None,
    problems: list[Problem],
) -> LogCall:
    """The call of a row, given what its dialect said. Raises ``Skipped`` for a request without an answer."""
    row, request, answer = found.row, found.request, found.answer
    error = _error(found)
    if error is None and not answer:
        reason = "a batch's request, without its answer" if found.batch else "a request without an answer"
        raise Skipped(reason)
    model = values.text(answer.get("model")) or values.text(request.get("model")) or values.text(row.get("model"))
    if model is None:
        raise Skipped("no model is named" if error is None else "failed, and no model is named", error or "")
    start = values.seconds(values.first(row, _STARTS), "the start", problems)
    end = values.seconds(values.first(row, _ENDS), "the end", problems)
    created = values.seconds(values.first(answer, ("created", "created_at")), "created", problems)
    return LogCall(
        **conversation._asdict(),
        model=model,
        provider=values.text(row.get("provider")) or values.text(answer.get("provider")),
        run=_named(found, _RUNS) or "",
        episode_id=_session(found),
        task_id=_named(found, _TASKS),
        call_id=values.text(answer.get("id")) or values.text(values.first(row, _CALL_IDS)),
        started_at=start if start is not None else created,
        latency_s=_latency(row, start, end, problems),
        usage=None if error else usage,
        cost_usd=_cost(found, problems),
        service=_service(found),
        error=error,
        source=source,
        problems=tuple(problems),
    )


# --- where request and answer stand ---------------------------------------------------------------------------------


def _request(row: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in _REQUESTS:
        if name in row:
            body = _body(row[name])
            if isinstance(body.get("messages"), list) or ("model" in body and ("input" in body or "prompt" in body)):
                return body
    flat = isinstance(row.get("messages"), list) and ("model" in row or bool(_answer(row)))
    return row if flat else {}


def _answer(row: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in _ANSWERS:
        if name in row:
            body = _body(row[name])
            if not _answer_dialect(body):
                body = joined(_pieces(row[name])) or body
            body = values.mapping(body.get("message")) if _is_batch_result(body) else body
            if _answer_dialect(body) or "error" in body or body.get("type") == "error":
                return body
    return row if _answer_dialect(row) else {}


def _pieces(value: Any) -> list[Any]:
    """What may be a stream: a list of its pieces, its text, or an HTTP message with either as its body."""
    value = value.get("body") if isinstance(value, Mapping) else value
    if isinstance(value, str) and value.startswith(("data:", "event:")):
        return events(value)
    return values.listed(values.structured(value))


def _is_batch_result(body: Mapping[str, Any]) -> bool:
    return body.get("type") == "succeeded" and "message" in body


def _body(value: Any) -> Mapping[str, Any]:
    """An object, or the body of the HTTP message that it is."""
    outer = values.mapping(value)
    inner = values.mapping(values.first(outer, ("body", "json", "params"))) if outer else {}
    return inner if inner and "messages" not in outer and "choices" not in outer else outer


def _answer_dialect(answer: Mapping[str, Any]) -> str | None:
    if isinstance(answer.get("choices"), list):
        return "chat"
    if answer.get("object") == "response" and isinstance(answer.get("output"), list):
        return "responses"
    if answer.get("type") == "message" and answer.get("role") == "assistant":
        return "anthropic"
    return None


def _request_dialect(found: Exchange) -> str | None:
    request, answer = found.request, found.answer
    if not request:
        return None
    if "input" in request and "messages" not in request:
        return "responses"
    url = str(values.mapping(found.row.get("request")).get("url", "")) + str(found.row.get("url", ""))
    claude = str(request.get("model", "")).startswith("claude")
    if answer.get("type") == "error" or "system" in request or url.endswith("/v1/messages") or claude:
        return "anthropic"
    return "chat" if isinstance(request.get("messages"), list) else None


# --- what stands around them ----------------------------------------------------------------------------------------


def _error(found: Exchange) -> str | None:
    answer, row = found.answer, found.row
    failed = [row.get(name) for name in _ERRORS] + [answer.get("error")]
    if answer.get("type") == "error" or (found.status or 0) >= 400:
        failed.append(answer or f"HTTP {found.status}")
    result = row.get("result")
    if found.batch and isinstance(result, Mapping) and result.get("type") != "succeeded":
        failed += [result.get("error"), result.get("type")]
    return values.told_error(*failed)


def _metadata(found: Exchange) -> list[Mapping[str, Any]]:
    return [found.row, *(values.mapping(holder.get("metadata")) for holder in (found.row, found.request))]


def _named(found: Exchange, names: tuple[str, ...]) -> str | None:
    return next((name for holder in _metadata(found) if (name := values.text(values.first(holder, names)))), None)


def _session(found: Exchange) -> str | None:
    named = _named(found, _SESSIONS)
    if named:
        return named
    conversation = found.request.get("conversation")
    if isinstance(conversation, Mapping):
        return values.text(conversation.get("id"))
    user = values.mapping(found.request.get("metadata")).get("user_id")
    inner = values.text(values.mapping(user).get("session_id"))
    match = _CLAUDE_CODE_SESSION.search(user) if isinstance(user, str) else None
    return inner or (match.group(1) if match else values.text(conversation))


def _latency(row: Mapping[str, Any], start: float | None, end: float | None, problems: list[Problem]) -> float | None:
    told = values.number(values.first(row, ("latency_s", "duration_s", "elapsed_s")), "the latency", problems)
    if told is not None:
        return told
    told = values.number(values.first(row, ("latency_ms", "duration_ms", "elapsed_ms")), "the latency", problems, 1e12)
    return told / 1000 if told is not None else values.lasted(start, end, problems)


def _cost(found: Exchange, problems: list[Problem]) -> float | None:
    told = values.first(found.row, _COSTS)
    if isinstance(told, Mapping):
        told = values.first(told, ("total_usd", "total", "usd"))
    if told is None:
        told = values.mapping(found.answer.get("usage")).get("cost")
    return values.number(told, "the cost", problems)


def _service(found: Exchange) -> str:
    if found.batch:
        return "batch"
    tier = found.answer.get("service_tier")
    usage_tier = values.mapping(found.answer.get("usage")).get("service_tier")
    if usage_tier == "batch":
        return "batch"
    return tier if isinstance(tier, str) and tier in _SERVICES else "standard"
