"""Langfuse exports: observations (API, user interface, blob storage) and traces with observations and scores.

What it knows: fields of the public API (v2 and v3) and of the blob storage export, read in 2026-11. Only observations
of type GENERATION are calls. What it does not do: join scores or traces of other files to their observations.

Usage types are disjoint by Langfuse's convention and sum to ``total``; some integrations write a prompt that includes
its cached part. The total tells which; where neither sum gives it, the counts are unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from potstill.logs.conversation import told
from potstill.logs.formats import values
from potstill.logs.formats.base import Skipped
from potstill.logs.records import Attempt, LogCall, Problem, Record, Source
from potstill.types import Usage

_OBSERVATION_IDS = ("traceId", "trace_id")
_STARTS = ("startTime", "start_time")
_TASKS = ("task_id", "taskId", "instance_id", "dataset_item_id", "datasetItemId")
_RUNS = ("run", "run_id", "dataset_run_name", "datasetRunName")
_OUTCOMES = ("success", "correct", "resolved", "pass", "passed", "task_success", "reward", "accuracy")
_INPUT = ("input", "input_tokens", "prompt_tokens", "promptTokens")
_OUTPUT = ("output", "output_tokens", "completion_tokens", "completionTokens")
_TOTAL = ("total", "total_tokens", "totalTokens")
_READ = ("input_cached_tokens", "cache_read_input_tokens", "input_cache_read", "cached_tokens", "input_cached")
_WRITE = ("cache_creation_input_tokens", "input_cache_creation", "input_cache_write", "input_cache_creation_5m")
_WRITE_1H = ("input_cache_creation_1h", "ephemeral_1h_input_tokens")
_REASONING = ("output_reasoning_tokens", "reasoning_tokens", "output_reasoning", "thoughts_token_count")


class Langfuse:
    """Rows that are observations, or traces."""

    name = "langfuse"
    arrays = ("data", ".", "observations", "")

    def fits(self, row: Mapping[str, Any]) -> bool:
        return _is_observation(row) or _is_trace(row) or _is_score(row)

    def head(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        return {}

    def records(self, row: bytes, source: Source, head: Mapping[str, Any]) -> Iterable[Record]:
        fields = msgspec.json.decode(row, type=dict[str, Any])
        if _is_score(fields):
            raise Skipped("a score by itself")
        if not _is_trace(fields):
            yield _log_call(fields, source, {})
            return
        observations = [one for one in values.listed(fields.get("observations")) if isinstance(one, Mapping)]
        calls = [_log_call(one, source, fields) for one in observations if one.get("type") == "GENERATION"]
        if not calls:
            raise Skipped("a trace without generations")
        if isinstance(fields.get("scores"), list) and fields["scores"]:
            yield _attempt(fields, calls, source)
        else:
            yield from calls


def _is_observation(row: Mapping[str, Any]) -> bool:
    ids = any(name in row for name in _OBSERVATION_IDS)
    return "id" in row and "type" in row and ids and any(name in row for name in _STARTS)


def _is_trace(row: Mapping[str, Any]) -> bool:
    return "id" in row and isinstance(row.get("observations"), list) and ("timestamp" in row or "projectId" in row)


def _is_score(row: Mapping[str, Any]) -> bool:
    named = any(name in row for name in _OBSERVATION_IDS) and "name" in row and "value" in row
    return named and ("dataType" in row or "data_type" in row)


# --- a generation ---------------------------------------------------------------------------------------------------


def _log_call(row: Mapping[str, Any], source: Source, trace: Mapping[str, Any]) -> LogCall:
    if row.get("type") != "GENERATION":
        raise Skipped("not a generation", str(row.get("type"))[:40])
    model = values.text(values.first(row, ("model", "providedModelName", "provided_model_name")))
    if model is None:
        raise Skipped("no model is named")
    problems: list[Problem] = []
    start = values.seconds(values.first(row, _STARTS), "startTime", problems)
    end = values.seconds(values.first(row, ("endTime", "end_time")), "endTime", problems)
    error = _error(row)
    holders = [values.mapping(holder.get("metadata")) for holder in (row, trace)]
    messages, tools = _prompt(row)
    return LogCall(
        **told(messages, _answer(row), tools=tools)._asdict(),
        model=model,
        run=_named(holders, _RUNS) or values.text(row.get("release")) or "",
        episode_id=values.text(values.first({**trace, **row}, ("sessionId", "session_id", *_OBSERVATION_IDS))),
        task_id=_named(holders, _TASKS),
        call_id=values.text(row.get("id")),
        started_at=start,
        latency_s=values.lasted(start, end, problems),
        usage=None if error else _usage(row, problems),
        cost_usd=_cost(row, problems),
        error=error,
        source=source,
        problems=tuple(problems),
    )


def _named(holders: list[Mapping[str, Any]], names: tuple[str, ...]) -> str | None:
    return next((found for holder in holders if (found := values.text(values.first(holder, names)))), None)


def _error(row: Mapping[str, Any]) -> str | None:
    if row.get("level") != "ERROR":
        return None
    return values.told_error(values.first(row, ("statusMessage", "status_message")), "ERROR")


def _cost(row: Mapping[str, Any], problems: list[Problem]) -> float | None:
    """The dollars. Langfuse writes zero where it knows no price: unknown."""
    details = values.mapping(values.first(row, ("costDetails", "cost_details")))
    total = values.first(row, ("calculatedTotalCost", "totalCost", "total_cost"))
    cost = values.number(details.get("total") if total is None else total, "the cost", problems)
    return cost or None


def _usage(row: Mapping[str, Any], problems: list[Problem]) -> Usage | None:
    details = values.mapping(values.first(row, ("usageDetails", "usage_details")))
    raw = details or values.mapping(row.get("usage"))
    counts = {name: found for name in raw if (found := values.whole(raw, name)) is not None}
    inputs, outputs = (_plain(counts, names) for names in (_INPUT, _OUTPUT))
    if not any(counts.values()) or inputs is None:
        return None
    read, write, write_1h, thought = (_part(counts, names) for names in (_READ, _WRITE, _WRITE_1H, _REASONING))
    cached = (read or 0) + (write or 0) + (write_1h or 0)
    whole = _whole(inputs, cached, outputs or 0, thought or 0, _part(counts, _TOTAL))
    if whole is None or min(counts.values()) < 0:
        problems.append(Problem("bad_usage", f"counts that do not give their total: {counts}"[:160]))
        return None
    usage = Usage(
        input_tokens=whole[0],
        cache_read_tokens=read or 0,
        cache_write_tokens=(write or 0) + (write_1h or 0),
        cache_write_1h_tokens=write_1h or 0,
        output_tokens=whole[1],
        reasoning_tokens=thought or 0,
        cache_reported=read is not None,
    )
    return values.believable(usage, problems)


def _part(counts: Mapping[str, int], names: tuple[str, ...]) -> int | None:
    return next((counts[name] for name in names if name in counts), None)


def _plain(counts: Mapping[str, int], names: tuple[str, ...]) -> int | None:
    """The plain count of a side, with the types of usage on that side that are priced as it is (audio, images)."""
    plain = _part(counts, names)
    if plain is None:
        return None
    known = {*_INPUT, *_OUTPUT, *_READ, *_WRITE, *_WRITE_1H, *_REASONING}
    return plain + sum(count for name, count in counts.items() if name.startswith(names[0]) and name not in known)


def _whole(uncached: int, cached: int, answered: int, thought: int, total: int | None) -> tuple[int, int] | None:
    """(input, output) with their parts; None if the total fits neither or both readings."""
    readings = {
        (prompt, completion)
        for prompt in {uncached, uncached + cached}
        for completion in {answered, answered + thought}
        if cached <= prompt and thought <= completion
    }
    if total is None:
        return max(readings, default=None)
    fitting = [reading for reading in readings if sum(reading) == total]
    return fitting[0] if len(fitting) == 1 else None


def _prompt(row: Mapping[str, Any]) -> tuple[Any, Any]:
    """(messages, tools) of the input: a list of messages, an object that holds one, or a text."""
    told_input = values.structured(row.get("input"))
    if isinstance(told_input, Mapping) and isinstance(told_input.get("messages"), list):
        return told_input["messages"], told_input.get("tools")
    return told_input, None


def _answer(row: Mapping[str, Any]) -> Any:
    output = values.structured(row.get("output"))
    choices = output.get("choices") if isinstance(output, Mapping) else None
    if isinstance(choices, list) and choices and isinstance(choices[0], Mapping):
        return choices[0].get("message")
    return output


# --- a trace --------------------------------------------------------------------------------------------------------


def _attempt(trace: Mapping[str, Any], calls: list[LogCall], source: Source) -> Attempt:
    """A trace that was scored: an attempt at its task, which is the trace itself where no task is named."""
    problems: list[Problem] = []
    first_call = calls[0]
    identity = values.text(trace.get("id"))
    metadata = [values.mapping(trace.get("metadata"))]
    cost = values.number(values.first(trace, ("totalCost", "total_cost")), "totalCost", problems)
    started = values.seconds(trace.get("timestamp"), "timestamp", problems)
    return Attempt(
        task_id=_named(metadata, _TASKS) or identity or "",
        model=first_call.model,
        run=_named(metadata, _RUNS) or values.text(trace.get("release")) or "",
        episode_id=identity,
        success=_success(trace["scores"]),
        error=first_call.error if len(calls) == 1 else None,
        cost_usd=cost or None,
        latency_s=values.number(trace.get("latency"), "latency", problems),
        started_at=started,
        calls=tuple(calls),
        source=source,
        problems=tuple(problems),
    )


def _success(scores: list[Any]) -> bool | None:
    """The first score that says so: a boolean one, or one named as an outcome that is 0 or 1."""
    for score in scores:
        if not isinstance(score, Mapping) or score.get("value") not in (0, 1):
            continue
        boolean = values.first(score, ("dataType", "data_type")) == "BOOLEAN"
        if boolean or str(score.get("name", "")).lower() in _OUTCOMES:
            return bool(score["value"])
    return None


FORMATS = (Langfuse(),)
