"""Logs of inspect_ai: ``.json`` files, and the samples inside ``.eval`` files; one sample of one epoch is one attempt.

What it knows: log version 2 (inspect_ai 0.3.285, read in 2026-11): scores, usage by model, events of models' calls with
their inputs written out or as ranges of a pool. What it does not do: open ``.eval`` files (the reader does), or count
what graders cost: tokens and calls are those of the evaluated model's side.

Providers differ in whether ``input_tokens`` holds cached tokens; ``total_tokens`` tells, and where it fits neither
reading the counts are unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from potstill.logs.conversation import Conversation, Thread, told
from potstill.logs.formats import values
from potstill.logs.formats.base import Skipped
from potstill.logs.hashing import tools_told
from potstill.logs.records import Attempt, LogCall, Problem, Source
from potstill.types import Usage

_GRADES: dict[Any, bool] = {"C": True, "I": False, "P": False, "N": False, "yes": True, "no": False}
_ATTACHED = "attachment://"


class InspectAI:
    """Rows that are samples; ``head`` is the log around them."""

    name = "inspect-ai"
    arrays = ("samples", ".")

    def fits(self, row: Mapping[str, Any]) -> bool:
        sample = "epoch" in row and "id" in row and "target" in row and ("messages" in row or "scores" in row)
        return sample or (isinstance(row.get("eval"), Mapping) and isinstance(row.get("samples"), list))

    def head(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        evaluation = values.mapping(document.get("eval"))
        names = ("model", "task", "run_id", "eval_id", "packages")
        return {name: evaluation[name] for name in names if name in evaluation}

    def records(self, row: bytes, source: Source, head: Mapping[str, Any]) -> Iterable[Attempt]:
        fields = msgspec.json.decode(row, type=dict[str, Any])
        if "samples" not in fields:
            yield _attempt(fields, source, head)
            return
        whole = self.head(fields)
        samples = [sample for sample in values.listed(fields["samples"]) if isinstance(sample, Mapping)]
        if not samples:
            raise Skipped("a log without samples", values.text(fields.get("status")) or "")
        for sample in samples:
            yield _attempt(sample, source, whole)


def _attempt(sample: Mapping[str, Any], source: Source, head: Mapping[str, Any]) -> Attempt:
    problems: list[Problem] = []
    output = values.mapping(sample.get("output"))
    model = values.text(head.get("model")) or values.text(output.get("model"))
    if model is None:
        problems.append(Problem("bad_value", "the log does not name its model"))
    raw = values.mapping(values.mapping(sample.get("model_usage")).get(model or ""))
    usage = _usage(raw, problems)
    task, identity, epoch = values.text(head.get("task")), values.text(sample.get("id")), values.whole(sample, "epoch")
    start = values.seconds(sample.get("started_at"), "started_at", problems)
    end = values.seconds(sample.get("completed_at"), "completed_at", problems)
    taken = values.number(sample.get("total_time"), "total_time", problems)
    package = values.mapping(head.get("packages")).get("inspect_ai")
    return Attempt(
        task_id=f"{task}/{identity}" if task else identity or "",
        model=model or "unknown",
        run=values.text(head.get("run_id")) or "",
        episode_id=values.text(sample.get("uuid")) or _episode(head, identity, epoch),
        sample=None if epoch is None else epoch - 1,
        answer=values.text(output.get("completion")),
        success=_success(sample.get("scores"), problems),
        error=values.told_error(sample.get("error")),
        cost_usd=values.number(raw.get("total_cost"), "total_cost", problems),
        input_tokens=usage.input_tokens if usage else None,
        cached_input_tokens=usage.cache_read_tokens if usage else None,
        cache_write_tokens=usage.cache_write_tokens if usage else None,
        output_tokens=usage.output_tokens if usage else None,
        latency_s=taken if taken is not None else values.lasted(start, end, problems),
        started_at=start,
        harness=f"inspect_ai {package}" if isinstance(package, str) else "inspect_ai",
        calls=tuple(_calls(sample, source)),
        source=source,
        problems=tuple(problems),
    )


def _episode(head: Mapping[str, Any], identity: str | None, epoch: int | None) -> str | None:
    evaluation = values.text(head.get("eval_id"))
    return f"{evaluation}/{identity}/{epoch}" if evaluation and identity else None


def _success(scores: Any, problems: list[Problem]) -> bool | None:
    """The first scorer's verdict, as inspect_ai's own headline: full marks are a success, anything less is not."""
    named = scores if isinstance(scores, Mapping) else {}
    score = next(iter(named.values()), None)
    value = score.get("value") if isinstance(score, Mapping) else score
    if isinstance(value, str) and value in _GRADES:
        return _GRADES[value]
    if isinstance(value, int | float) and 0 <= value <= 1:
        return value == 1
    if value is not None:
        problems.append(Problem("bad_value", f"a score of {str(value)[:40]!r} is neither success nor failure"))
    return None


def _usage(raw: Mapping[str, Any], problems: list[Problem]) -> Usage | None:
    read, write = values.whole(raw, "input_tokens_cache_read"), values.whole(raw, "input_tokens_cache_write")
    inputs, outputs = values.whole(raw, "input_tokens"), values.whole(raw, "output_tokens")
    if inputs is None:
        return None
    total = raw.get("total_tokens")
    apart = inputs + (read or 0) + (write or 0)
    prompt = apart if total is not None and apart + (outputs or 0) == total else inputs
    counts = values.chat_usage(
        prompt=prompt, completion=outputs, total=total, read=read, write=write, reasoning=raw.get("reasoning_tokens")
    )
    return values.usage(counts, problems)


# --- calls ----------------------------------------------------------------------------------------------------------


def _calls(sample: Mapping[str, Any], source: Source) -> Iterator[LogCall]:
    """The calls of models in a sample's events, without graders' and without answers out of inspect_ai's own cache."""
    attachments = values.mapping(sample.get("attachments"))
    pool = _Pool(_resolved(values.mapping(sample.get("events_data")).get("messages"), attachments))
    for event in values.listed(sample.get("events")):
        if not isinstance(event, Mapping) or event.get("event") != "model" or event.get("pending"):
            continue
        if event.get("role") != "grader" and event.get("cache") != "read":
            yield _call(event, pool, attachments, source)


def _resolved(value: Any, attachments: Mapping[str, Any]) -> Any:
    """``value`` with long texts put back in place of their hashes."""
    if not attachments:
        return value
    if isinstance(value, str):
        return attachments.get(value[len(_ATTACHED) :], value) if value.startswith(_ATTACHED) else value
    if isinstance(value, list):
        return [_resolved(one, attachments) for one in value]
    return {name: _resolved(one, attachments) for name, one in value.items()} if isinstance(value, Mapping) else value


def _call(event: Mapping[str, Any], pool: _Pool, attachments: Mapping[str, Any], source: Source) -> LogCall:
    problems: list[Problem] = []
    output = values.mapping(_resolved(event.get("output"), attachments))
    choices = output.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    error = values.told_error(event.get("error"), output.get("error"))
    message = choice.get("message") if isinstance(choice, Mapping) else None
    prompt = _resolved(event.get("input"), attachments)
    if prompt:
        conversation = told(prompt, message, tools=event.get("tools"))
    else:
        conversation = pool.told(event.get("input_refs"), message, event.get("tools"))
    raw = values.mapping(output.get("usage"))
    return LogCall(
        **conversation._asdict(),
        model=values.text(event.get("model")) or values.text(output.get("model")) or "unknown",
        call_id=values.text(event.get("uuid")),
        started_at=values.seconds(event.get("timestamp"), "timestamp", problems),
        latency_s=values.number(output.get("time"), "time", problems),
        usage=None if error else _usage(raw, problems),
        cost_usd=values.number(raw.get("total_cost"), "total_cost", problems),
        error=error,
        source=source,
        problems=tuple(problems),
    )


class _Pool:
    """The messages of a sample, of which a call's prompt is written as ranges (start, stop).

    Prompts that begin with the pool's first message, each longer than the one before, are one conversation: its
    messages are hashed once.
    """

    def __init__(self, messages: Any) -> None:
        self._messages = messages if isinstance(messages, list) else []
        self._thread = Thread()
        self._read = 0

    def told(self, ranges: Any, answer: Any, tools: Any) -> Conversation:
        """What the call says whose prompt stands at ``ranges``."""
        pairs = [(pair[0], pair[1]) for pair in values.listed(ranges) if _is_range(pair)]
        if len(pairs) == 1 and pairs[0][0] == 0 and self._read <= pairs[0][1] <= len(self._messages):
            for message in self._messages[self._read : pairs[0][1]]:
                self._thread.add(message)
            self._read = pairs[0][1]
            return self._thread.call(answer, tools=tools_told(tools))
        return told([one for start, stop in pairs for one in self._messages[start:stop]], answer, tools=tools)


def _is_range(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(isinstance(bound, int) for bound in pair)


FORMATS = (InspectAI(),)
