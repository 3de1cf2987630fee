"""An attempt out of a conversation that was recorded as a whole: which messages were calls, and what they add up to.

What it knows: an agent's message is the answer to all messages before it that the agent could see. What it does not do:
know any format's names, or fill in what is unknown: a sum with an unknown part is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from potstill.logs.conversation import Conversation, Thread
from potstill.logs.formats import cells
from potstill.logs.records import Attempt, LogCall, Problem, Source
from potstill.types import Usage

UsageOf = Callable[[Mapping[str, Any]], Usage | None]
_PASS = 1 - 1e-6
"""Reward from which on tau-bench and tau2-bench count an episode as passed."""


class Told(msgspec.Struct, kw_only=True):
    """An episode as its format tells it; numbers and times are still as they were written."""

    task_id: str
    model: str
    messages: list[dict[str, Any]]
    run: str = ""
    episode_id: str | None = None
    sample: Any = None
    reward: Any = None
    error: str | None = None
    cost_usd: Any = None
    latency_s: Any = None
    started_at: Any = None
    harness: str | None = None
    user_model: str | None = None
    problems: tuple[Problem, ...] = ()


class Tokens(NamedTuple):
    """The fields of an ``Attempt`` that count tokens."""

    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None


def attempt(told: Told, source: Source, usage_of: UsageOf | None) -> Attempt:
    """The attempt, with one call for each message that the agent's model wrote.

    ``usage_of`` reads a message's usage; None where the format has none.
    """
    problems = list(told.problems)
    calls = _calls(told, source, usage_of, problems)
    reward = checked("reward", told.reward, cells.number, problems)
    cost = checked("cost", told.cost_usd, cells.amount, problems)
    started = checked("start", told.started_at, cells.unix_seconds, problems)
    if (cost is None and told.cost_usd is None) or (cost == 0 and calls):
        cost = known_sum(call.cost_usd for call in calls) if calls else None if told.messages else 0.0
    usages = [call.usage for call in calls]
    silent = not told.messages
    return Attempt(
        task_id=told.task_id,
        model=told.model,
        run=told.run,
        episode_id=told.episode_id or None,
        sample=checked("trial", told.sample, cells.count, problems),
        success=None if reward is None else reward >= _PASS,
        error=told.error,
        cost_usd=cost,
        **token_sums(usages, nothing_sent=silent)._asdict(),
        latency_s=checked("duration", told.latency_s, cells.amount, problems),
        started_at=started if started is not None else next((call.started_at for call in calls), None),
        harness=told.harness or None,
        user_model=told.user_model or None,
        calls=tuple(calls),
        source=source,
        problems=tuple(problems),
    )


def token_sums(usages: Sequence[Usage | None], *, nothing_sent: bool = False) -> Tokens:
    """The tokens of an attempt from those of its calls: unknown where a call's are, zero where nothing was sent."""
    known = [usage for usage in usages if usage is not None]
    if len(known) < len(usages) or not (usages or nothing_sent):
        return Tokens()
    cached = all(usage.cache_reported for usage in known)
    return Tokens(
        input_tokens=sum(usage.input_tokens for usage in known),
        cached_input_tokens=sum(usage.cache_read_tokens for usage in known) if cached else None,
        cache_write_tokens=sum(usage.cache_write_tokens for usage in known) if cached else None,
        output_tokens=sum(usage.output_tokens for usage in known),
    )


def known_sum(values: Iterable[float | None]) -> float | None:
    """The sum, or None if any part is unknown."""
    parts = list(values)
    return None if None in parts else math.fsum(part for part in parts if part is not None)


def checked(name: str, value: Any, read: Callable[[Any], Any], problems: list[Problem]) -> Any:
    """``value`` as ``read`` takes it; None for null, and with a problem noted for what it refuses."""
    if value is None:
        return None
    try:
        return read(value)
    except (ValueError, OverflowError):
        problems.append(Problem("bad_number", f"{name} is {cells.text(value)[:60]}"))
        return None


def _calls(told: Told, source: Source, usage_of: UsageOf | None, problems: list[Problem]) -> list[LogCall]:
    thread = Thread()
    calls: list[LogCall] = []
    hidden: set[Any] = set()
    before: Mapping[str, Any] = {}
    for message in told.messages:
        role = message.get("role")
        if role == "assistant" and (len(thread) or message.get("usage") is not None):
            conversation = thread.answered(message)
            calls.append(_call(told, message, conversation, before, source, usage_of, problems))
        elif not _hidden(role, message, hidden):
            thread.add(message)
        before = message
    return calls


def _hidden(role: Any, message: Mapping[str, Any], ids: set[Any]) -> bool:
    """True for the simulated user's calls of its own tools and what these answer: the agent sees neither."""
    if role == "user" and message.get("tool_calls"):
        ids.update(call.get("id") for call in message["tool_calls"] if isinstance(call, dict))
        return not message.get("content")
    return role == "tool" and (message.get("requestor") == "user" or message.get("id") in ids)


def _call(
    told: Told,
    message: Mapping[str, Any],
    conversation: Conversation,
    before: Mapping[str, Any],
    source: Source,
    usage_of: UsageOf | None,
    problems: list[Problem],
) -> LogCall:
    usage = usage_of(message) if usage_of is not None else None
    if usage is not None and (usage.input_tokens > cells.MOST_TOKENS or usage.output_tokens > cells.MOST_TOKENS):
        problems.append(Problem("bad_number", f"usage of a message is {cells.text(message['usage'])[:60]}"))
        usage = None
    elif usage is None and message.get("usage") and not any(problem.kind == "bad_usage" for problem in problems):
        problems.append(Problem("bad_usage", f"usage of a message is {cells.text(message['usage'])[:60]}"))
    asked_at = _time(before)
    return LogCall(
        model=told.model,
        run=told.run,
        episode_id=told.episode_id,
        task_id=told.task_id,
        started_at=asked_at if asked_at is not None else _time(message),
        latency_s=checked("latency", message.get("generation_time_seconds"), cells.amount, problems),
        usage=usage,
        cost_usd=_dollars(message, usage, problems),
        source=source,
        **conversation._asdict(),
    )


def _dollars(message: Mapping[str, Any], usage: Usage | None, problems: list[Problem]) -> float | None:
    """What a call cost. A zero beside tokens is what stands there for models without a known price: unknown."""
    cost: float | None = checked("cost", message.get("cost"), cells.amount, problems)
    return None if cost == 0 and usage is not None and usage.input_tokens else cost


def _time(message: Mapping[str, Any]) -> float | None:
    written = message.get("timestamp", message.get("ts"))
    if not isinstance(written, str):
        return None
    try:
        return cells.iso_seconds(written)
    except ValueError:
        return None
