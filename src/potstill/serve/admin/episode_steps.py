"""An episode step by step as JSON for people: who answered, votes, demonstrations, dollars, cache, time.

What it knows: which fields are shown, how much of a long text. What it does not do: fetch (``figures_api``), HTML, or
send prompts that nobody asked for: each repeats the history.
"""

from __future__ import annotations

from typing import Any

import msgspec

from potstill.measure.prices.table import PriceTable
from potstill.serve.figures.episode import call_usd, shadow_steps, side_of
from potstill.serve.tenants.key_rows import moment
from potstill.types import Call, Decision, Step, Trajectory

MAX_CHARACTERS = 20_000
"""Of one text; a longer one is cut, with a note of its length."""


def head(trajectory: Trajectory) -> dict[str, Any]:
    """The episode without its steps."""
    told: dict[str, Any] = cut(
        {
            "goal": trajectory.goal or trajectory.task.goal,
            "plan": trajectory.plan,
            "task": trajectory.task.id,
            "kind": trajectory.kind,
            "teacher": trajectory.teacher,
            "student": trajectory.student,
            "started_at": moment(trajectory.started_at),
            "duration_s": trajectory.duration_s,
            "outcome": _built(trajectory.outcome),
            "error": _built(trajectory.error),
            "metadata": _built(trajectory.metadata),
            "steps": len(trajectory.steps),
        }
    )
    return told


def step(trajectory: Trajectory, one: Step, table: PriceTable | None, *, prompts: bool = False) -> dict[str, Any]:
    """One step with its calls."""
    shadow = shadow_steps(trajectory)
    calls = [_call(call, side_of(call, one, shadow), table, prompts) for call in one.calls]
    dollars = [call["usd"] for call in calls]
    fields = _built(msgspec.structs.replace(one, calls=()))
    told: dict[str, Any] = cut(
        {
            **fields,
            "decision": None if one.decision is None else _decision(one.decision),
            "index": one.index,
            "calls": calls,
            "usd": None if None in dollars else sum(dollars),
            "records": [
                record
                for record in trajectory.metadata.get("shadow") or ()
                if isinstance(record, dict) and record.get("step") == one.index
            ],
        }
    )
    return told


def _decision(decision: Decision) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(decision)
    told["votes"] = [
        {"key": vote.key, "text": vote.text, "tool_calls": _voted_calls(vote.key)} for vote in decision.votes
    ]
    return told


def _voted_calls(key: str | None) -> list[dict[str, str]]:
    """The tool calls that a canonical form stands for: JSON pairs of name and arguments. [] for others."""
    if key is None or not key.startswith("[[") or len(key) > MAX_CHARACTERS:
        return []
    try:
        pairs = msgspec.json.decode(key.encode(errors="replace"), type=list[tuple[str, str]])
    except msgspec.DecodeError:
        return []
    return [{"name": name, "arguments": arguments} for name, arguments in pairs]


def _call(call: Call, side: str, table: PriceTable | None, prompts: bool) -> dict[str, Any]:
    told: dict[str, Any] = {
        "side": side,
        "model": call.model,
        "purpose": call.purpose,
        "usd": call_usd(call, table),
        "usage": _built(call.usage),
        "latency_s": call.latency_s,
        "started_at": moment(call.started_at) if call.started_at else None,
        "replies": [{"text": reply.text, "tool_calls": _built(reply.tool_calls)} for reply in call.replies],
        "error": _built(call.error),
        "prompt_messages": len(call.prompt),
    }
    if prompts:
        told |= {"prompt": _built(call.prompt), "tools": [tool.name for tool in call.tools]}
    return told


def cut(value: Any) -> Any:
    """The same with long texts shortened; keys as they are."""
    if isinstance(value, str):
        if len(value) <= MAX_CHARACTERS:
            return value
        return f"{value[:MAX_CHARACTERS]}\n[cut: {len(value)} characters in all]"
    if isinstance(value, dict):
        return {key: cut(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [cut(inner) for inner in value]
    return value


def _built(value: object) -> Any:
    return None if value is None else msgspec.to_builtins(value)
