"""Trajectories of SWE-agent (``.traj``) and mini-swe-agent (``.traj.json``): one file, one attempt at one issue.

What it knows: SWE-agent 1.1 (and what 0.7 wrote otherwise), mini-swe-agent's formats 1 and 1.1, read in 2026-11.
Neither says whether the issue was solved: that is known after the evaluation, so ``success`` is unknown unless the file
was given ``resolved``. What it does not do: tokens by call for SWE-agent, which writes sums only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import msgspec

from potstill.logs.conversation import Conversation, Thread, told
from potstill.logs.formats import values
from potstill.logs.formats.base import Skipped
from potstill.logs.records import Attempt, LogCall, Problem, Source

_ENDED = {
    "submitted",
    "limitsexceeded",
    "timeexceeded",
    "formaterror",
    "repeatedformaterror",
    "contextwindowexceeded",
    "contextwindowexceedederror",
    "userinterruption",
}
"""Ways in which mini-swe-agent's own attempt ends; anything else is the name of an exception."""
_BROKEN = {"exit_environment_error", "exit_error", "exit_api", "exit_command_error", "early_exit"}
"""Ways in which the machinery around SWE-agent's attempt breaks."""
_OUTCOME = ("resolved", "success")


class SweAgent:
    """Rows that are a whole trajectory."""

    name = "swe-agent"
    arrays = (".", "")

    def fits(self, row: Mapping[str, Any]) -> bool:
        info = row.get("info")
        steps = isinstance(row.get("trajectory"), list) or isinstance(row.get("messages"), list)
        return steps and isinstance(info, Mapping) and ("exit_status" in info or "model_stats" in info)

    def head(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        return {}

    def records(self, row: bytes, source: Source, head: Mapping[str, Any]) -> Iterable[Attempt]:
        fields = msgspec.json.decode(row, type=dict[str, Any])
        info = values.mapping(fields.get("info"))
        mini = isinstance(fields.get("messages"), list)
        if not (fields["messages"] if mini else fields.get("trajectory")):
            raise Skipped("a trajectory without steps", values.text(info.get("exit_status")) or "")
        yield _mini(fields, info, source) if mini else _full(fields, info, source)


# --- SWE-agent ------------------------------------------------------------------------------------------------------


def _full(fields: Mapping[str, Any], info: Mapping[str, Any], source: Source) -> Attempt:
    problems: list[Problem] = []
    agent = values.mapping(values.mapping(fields.get("replay_config")).get("agent"))
    model = values.text(values.mapping(agent.get("model")).get("name"))
    status = values.text(info.get("exit_status"))
    calls = tuple(_steps(fields, model or "unknown", source))
    stats = values.mapping(info.get("model_stats"))
    return _attempt(
        fields,
        info,
        source,
        model,
        problems,
        harness=_version("SWE-agent", info.get("swe_agent_version")),
        error=status if status is None or status.split(" ")[0] in _BROKEN else None,
        broken=status is None or status.split(" ")[0] in _BROKEN,
        input_tokens=values.tokens(stats, "tokens_sent", problems),
        output_tokens=values.tokens(stats, "tokens_received", problems),
        latency_s=None,
        calls=calls,
    )


def _steps(fields: Mapping[str, Any], model: str, source: Source) -> Iterator[LogCall]:
    """A call for each step: its ``query`` is the prompt. Older files have none: there the history is the prompt."""
    steps = [step for step in values.listed(fields.get("trajectory")) if isinstance(step, Mapping)]
    if not any(_query(step) for step in steps):
        yield from _history(fields.get("history"), model, source)
        return
    for index, step in enumerate(steps):
        prompt = _query(step)
        follower = _query(steps[index + 1]) if index + 1 < len(steps) else []
        repeated = follower[len(prompt)] if len(follower) > len(prompt) else None
        assistant = isinstance(repeated, Mapping) and repeated.get("role") == "assistant"
        yield _call(told(prompt, repeated if assistant else values.text(step.get("response"))), model, source)


def _query(step: Mapping[str, Any]) -> list[Any]:
    query = step.get("query")
    return query if isinstance(query, list) and query and query[0] else []


def _history(history: Any, model: str, source: Source) -> Iterator[LogCall]:
    thread = Thread()
    for message in values.listed(history):
        if isinstance(message, Mapping) and message.get("role") == "assistant" and not message.get("is_demo"):
            yield _call(thread.answered(message), model, source)
        else:
            thread.add(message)


def _call(conversation: Conversation, model: str, source: Source) -> LogCall:
    return LogCall(**conversation._asdict(), model=model, source=source)


# --- mini-swe-agent -------------------------------------------------------------------------------------------------


def _mini(fields: Mapping[str, Any], info: Mapping[str, Any], source: Source) -> Attempt:
    problems: list[Problem] = []
    config = values.mapping(info.get("config"))
    model = values.text(values.mapping(config.get("model")).get("model_name"))
    calls = tuple(_mini_calls(fields["messages"], model or "unknown", source, problems))
    status = values.text(info.get("exit_status"))
    broken = status is None or status.lower() not in _ENDED
    counted = [call.usage for call in calls if call.usage is not None]
    known = bool(calls) and len(counted) == len(calls)
    times = [call.started_at for call in calls if call.started_at is not None]
    return _attempt(
        fields,
        info,
        source,
        model,
        problems,
        harness=_version("mini-swe-agent", info.get("mini_version")),
        error=status,
        broken=broken,
        input_tokens=sum(usage.input_tokens for usage in counted) if known else None,
        cached_input_tokens=sum(usage.cache_read_tokens for usage in counted) if known else None,
        cache_write_tokens=sum(usage.cache_write_tokens for usage in counted) if known else None,
        output_tokens=sum(usage.output_tokens for usage in counted) if known else None,
        started_at=min(times, default=None),
        calls=calls,
    )


def _mini_calls(messages: Sequence[Any], model: str, source: Source, problems: list[Problem]) -> Iterator[LogCall]:
    """A call for each assistant message; what the provider answered stands in its ``extra``."""
    thread = Thread()
    for message in messages:
        if not isinstance(message, Mapping) or message.get("role") == "exit":
            continue
        spoken = {name: value for name, value in message.items() if name != "extra"}
        extra = values.mapping(message.get("extra"))
        if message.get("role") == "assistant":
            answer = values.mapping(extra.get("response"))
            noted: list[Problem] = []
            cost = values.number(extra.get("cost"), "cost", noted)
            yield LogCall(
                **thread.answered(spoken)._asdict(),
                model=model,
                call_id=values.text(answer.get("id")),
                started_at=values.seconds(extra.get("timestamp"), "timestamp", noted),
                usage=values.usage(answer.get("usage"), noted),
                cost_usd=cost or None,
                source=source,
                problems=tuple(noted),
            )
        else:
            thread.add(spoken)


# --- both -----------------------------------------------------------------------------------------------------------


def _attempt(
    fields: Mapping[str, Any],
    info: Mapping[str, Any],
    source: Source,
    model: str | None,
    problems: list[Problem],
    *,
    broken: bool,
    error: str | None,
    calls: tuple[LogCall, ...],
    **told_otherwise: Any,
) -> Attempt:
    stats = values.mapping(info.get("model_stats"))
    cost = values.number(stats.get("instance_cost"), "instance_cost", problems)
    resolved = values.first({**info, **fields}, _OUTCOME)
    submission = info.get("submission")
    if model is None:
        problems.append(Problem("bad_value", "the trajectory does not name its model"))
    path = PurePath(source.file)
    task = values.text(fields.get("instance_id")) or path.name.removesuffix(".json").removesuffix(".traj")
    return Attempt(
        task_id=task,
        model=model or "unknown",
        run=path.parent.parent.name if path.parent.name == task else path.parent.name,
        answer=submission if isinstance(submission, str) else None,
        success=resolved if isinstance(resolved, bool) else None,
        error=(error or "the trajectory was broken off") if broken else None,
        cost_usd=cost or None,
        calls=calls,
        source=source,
        problems=tuple(problems),
        **told_otherwise,
    )


def _version(harness: str, version: Any) -> str:
    return f"{harness} {version}" if isinstance(version, str) else harness


FORMATS = (SweAgent(),)
