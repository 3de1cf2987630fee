"""OpenTelemetry spans of calls to models, as OTLP JSON: whole documents, one export a line, or one span a line.

What it knows: OTLP's JSON, the GenAI semantic conventions (package 0.66b2, and the names before them), OpenLLMetry and
OpenInference, read in 2026-11. Only spans of single calls count: agents, chains and tools repeat the tokens of
the calls below them, and so does a span of a call with another call below it. What it does not do: messages
(``otel_messages.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from potstill.logs.formats import values
from potstill.logs.formats.base import Skipped
from potstill.logs.formats.otel_messages import conversation
from potstill.logs.records import LogCall, Problem, Source

_CALLS = {"chat", "text_completion", "generate_content", "completion"}
_MODELS = ("gen_ai.response.model", "gen_ai.request.model", "llm.model_name", "llm.response.model", "llm.request.model")
_PROVIDERS = ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system")
_SESSIONS = (
    "gen_ai.conversation.id",
    "session.id",
    "langfuse.session.id",
    "traceloop.association.properties.session_id",
    "thread.id",
)
_TASKS = (
    "task.id",
    "task_id",
    "metadata.task_id",
    "traceloop.association.properties.task_id",
    "potstill.task.id",
)
_COSTS = ("gen_ai.usage.cost", "llm.cost.total", "operation.cost", "potstill.cost_usd")
_PROMPT = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt")
_COMPLETION = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion")
_TOTAL = ("llm.token_count.total", "llm.usage.total_tokens", "gen_ai.usage.total_tokens")
_READ = (
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_read_input_tokens",
    "llm.token_count.prompt_details.cache_read",
)
_WRITE = (
    "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.usage.cache_write.input_tokens",
    "gen_ai.usage.cache_creation_input_tokens",
    "llm.token_count.prompt_details.cache_write",
)
_REASONING = (
    "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.usage.reasoning_tokens",
    "llm.token_count.completion_details.reasoning",
)


class _Span(NamedTuple):
    span: Mapping[str, Any]
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]


class OpenTelemetry:
    """Rows with ``resourceSpans``, with ``scopeSpans``, or that are spans."""

    name = "otel"
    arrays = ("resourceSpans", "resource_spans", "", ".")
    parts: Mapping[str, tuple[str, ...]] = {
        "resourceSpans": ("scopeSpans", "spans"),
        "resource_spans": ("scope_spans", "spans"),
    }

    def fits(self, row: Mapping[str, Any]) -> bool:
        if any(isinstance(row.get(name), list) for name in (*_RESOURCES, *_SCOPES)):
            return True
        context = row.get("context")
        named = "traceId" in row and "spanId" in row
        return "attributes" in row and (named or (isinstance(context, Mapping) and "span_id" in context))

    def head(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        return {}

    def records(self, row: bytes, source: Source, head: Mapping[str, Any]) -> Iterable[LogCall]:
        calls = [span for span in _spans(msgspec.json.decode(row, type=dict[str, Any])) if _is_call(span.attributes)]
        if not calls:
            raise Skipped("no span is a call of a model")
        above = {_id(span.span, "parentSpanId", "parent_id") for span in calls}
        for span in calls:
            if _id(span.span, "spanId", "span_id") not in above:
                yield _log_call(span, source)


# --- spans ----------------------------------------------------------------------------------------------------------

_RESOURCES = ("resourceSpans", "resource_spans")
_SCOPES = ("scopeSpans", "scope_spans", "instrumentationLibrarySpans")


def _spans(row: Mapping[str, Any]) -> Iterator[_Span]:
    """The spans of an export, of a resource, or the one that the row is."""
    resources = values.first(row, _RESOURCES)
    if isinstance(resources, list):
        for resource in resources:
            if isinstance(resource, Mapping):
                yield from _spans(resource)
        return
    resource = _attributes(values.mapping(row.get("resource")).get("attributes"))
    scopes = values.first(row, _SCOPES)
    within = [scope.get("spans") for scope in values.listed(scopes) if isinstance(scope, Mapping)]
    for group in within if scopes is not None else [[row]]:
        for span in values.listed(group):
            if isinstance(span, Mapping):
                yield _Span(span, _attributes(span.get("attributes")), resource)


def _attributes(raw: Any) -> Mapping[str, Any]:
    """Attributes as an object: OTLP writes them as a list of keys and typed values."""
    if isinstance(raw, Mapping):
        return raw
    return {str(pair.get("key")): _value(pair.get("value")) for pair in values.listed(raw) if isinstance(pair, Mapping)}


def _value(typed: Any) -> Any:
    """A typed value. OTLP's JSON writes 64-bit integers as text."""
    if not isinstance(typed, Mapping) or not typed:
        return None
    kind, value = next(iter(typed.items()))
    if kind == "intValue":
        return int(value) if isinstance(value, str) and value.lstrip("-").isdecimal() else value
    inner = value.get("values") if isinstance(value, Mapping) else None
    if kind == "arrayValue":
        return [_value(one) for one in values.listed(inner)]
    return _attributes(inner) if kind == "kvlistValue" else value


def _is_call(attributes: Mapping[str, Any]) -> bool:
    """True for a single call of a model, by the first of the conventions' marks that is there."""
    operation = attributes.get("gen_ai.operation.name")
    if operation is not None:
        return isinstance(operation, str) and operation in _CALLS
    kind = attributes.get("openinference.span.kind")
    if kind is not None:
        return bool(kind == "LLM")
    if attributes.get("traceloop.span.kind") is not None:
        return False
    request = attributes.get("llm.request.type")
    if request is not None:
        return isinstance(request, str) and request in _CALLS
    return values.first(attributes, _MODELS) is not None and values.first(attributes, _PROMPT) is not None


# --- one call -------------------------------------------------------------------------------------------------------


def _log_call(found: _Span, source: Source) -> LogCall:
    span, attributes, resource = found
    problems: list[Problem] = []
    events = [
        (str(event.get("name")), _attributes(event.get("attributes")))
        for event in values.listed(span.get("events"))
        if isinstance(event, Mapping)
    ]
    start = values.seconds(values.first(span, ("startTimeUnixNano", "start_time")), "the start", problems)
    end = values.seconds(values.first(span, ("endTimeUnixNano", "end_time")), "the end", problems)
    error = _error(span, attributes, events)
    model = values.text(values.first(attributes, _MODELS))
    if model is None:
        problems.append(Problem("bad_value", "the span names no model"))
    return LogCall(
        **conversation(attributes, events)._asdict(),
        model=model or "unknown",
        provider=values.text(values.first(attributes, _PROVIDERS)),
        run=_run(attributes, resource),
        episode_id=_episode(span, attributes),
        task_id=values.text(values.first(attributes, _TASKS)),
        call_id=values.text(attributes.get("gen_ai.response.id")) or _id(span, "spanId", "span_id"),
        started_at=start,
        latency_s=values.lasted(start, end, problems),
        usage=None if error else values.usage(_usage(attributes), problems),
        cost_usd=values.number(values.first(attributes, _COSTS), "the cost", problems),
        error=error,
        answerer=values.text(attributes.get("potstill.answerer")),
        source=source,
        problems=tuple(problems),
    )


def _run(attributes: Mapping[str, Any], resource: Mapping[str, Any]) -> str:
    """The service; of our own gateway's tenants each, for two of them may give an episode the same name."""
    service, tenant = values.text(resource.get("service.name")) or "", values.text(attributes.get("potstill.tenant"))
    return service if tenant in (None, "default") else f"{service}/{tenant}"


def _usage(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The conventions count cached tokens as a part of the prompt, as chat completions do."""
    return values.chat_usage(
        prompt=values.first(attributes, _PROMPT),
        completion=values.first(attributes, _COMPLETION),
        total=values.first(attributes, _TOTAL),
        read=values.first(attributes, _READ),
        write=values.first(attributes, _WRITE),
        reasoning=values.first(attributes, _REASONING),
    )


def _id(span: Mapping[str, Any], name: str, own: str) -> str | None:
    """An id of a span, in OTLP or as the SDK's ``to_json`` writes it."""
    return values.text(span.get(name)) or values.text(values.mapping(span.get("context")).get(own) or span.get(own))


def _episode(span: Mapping[str, Any], attributes: Mapping[str, Any]) -> str | None:
    """The session, else the trace; a call that is the root of its trace may still belong to others: unknown."""
    session = values.text(values.first(attributes, _SESSIONS))
    if session is None and _id(span, "parentSpanId", "parent_id") is not None:
        return _id(span, "traceId", "trace_id")
    return session


def _error(
    span: Mapping[str, Any], attributes: Mapping[str, Any], events: list[tuple[str, Mapping[str, Any]]]
) -> str | None:
    status = values.mapping(span.get("status"))
    code = values.first(status, ("code", "status_code"))
    kind = attributes.get("error.type")
    if code not in (2, "2", "STATUS_CODE_ERROR", "ERROR") and kind is None:
        return None
    thrown = next((said for name, said in events if name == "exception"), {})
    said = values.first(status, ("message", "description"))
    return values.told_error(said, thrown.get("exception.message"), kind, thrown.get("exception.type"), "error")


FORMATS = (OpenTelemetry(),)
