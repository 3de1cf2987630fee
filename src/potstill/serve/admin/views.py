"""Exchanges and trajectories as JSON that people read: bodies decoded where they are JSON, cut where they are huge.

What it knows: which fields are shown. What it does not do: fetch anything, HTML (an answer's encoder escapes what a
page could trip over).
"""

from __future__ import annotations

from typing import Any

import msgspec

from potstill.errors import NOT_JSON
from potstill.serve.tenants.key_rows import moment
from potstill.trajectories.exchange import Recorded, Upstream
from potstill.types import Call, Step, Trajectory

MAX_BODY_BYTES = 256 * 1024
"""Of one body; a longer one is cut and shown as text."""


def light(recorded: Recorded) -> dict[str, Any]:
    """A row of the live tail."""
    exchange = recorded.exchange
    return {
        "seq": recorded.seq,
        "tenant": exchange.namespace,
        "episode": exchange.episode_id,
        "route": exchange.route,
        "dialect": exchange.dialect,
        "started_at": moment(exchange.started_at),
        "latency_s": exchange.latency_s,
        "first_byte_s": exchange.first_byte_s,
        "status": exchange.status,
        "streamed": exchange.streamed,
        "complete": exchange.complete,
        "answerer": exchange.answerer,
        "stage": exchange.stage,
        "reason": None if exchange.decision is None else exchange.decision.reason,
        "agreement": None if exchange.decision is None else exchange.decision.agreement,
        "key_id": exchange.key_id,
        "request_id": exchange.request_id,
        "notes": list(exchange.notes),
        "error": _plain(exchange.error),
    }


def whole(recorded: Recorded) -> dict[str, Any]:
    """An exchange with its bodies and calls."""
    exchange = recorded.exchange
    return {
        **light(recorded),
        "request": readable(exchange.request),
        "response": readable(exchange.response),
        "decision": _plain(exchange.decision),
        "demonstrations": _plain(exchange.demonstrations),
        "playbook": _plain(exchange.playbook),
        "metadata": _plain(exchange.metadata),
        "calls": [_upstream(call) for call in exchange.calls],
    }


def readable(body: bytes | None) -> dict[str, Any] | None:
    """``json`` where a body is JSON, else ``text``; ``bytes`` is its whole size. None: it was the client's."""
    if body is None:
        return None
    if len(body) > MAX_BODY_BYTES:
        text = body[:MAX_BODY_BYTES].decode(errors="replace")
        return {"bytes": len(body), "text": text, "cut": True}
    try:
        return {"bytes": len(body), "json": msgspec.json.decode(body)}
    except NOT_JSON:
        return {"bytes": len(body), "text": body.decode(errors="replace")}


def _upstream(call: Upstream) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(call, request=None, response=None))
    fields |= {"request": readable(call.request), "response": readable(call.response)}
    fields["started_at"] = moment(call.started_at)
    return fields


def trajectory(folded: Trajectory, *, prompts: bool) -> dict[str, Any]:
    """Step by step. Prompts repeat the history at each step, so they are counted unless they are asked for."""
    fields: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(folded, steps=()))
    fields["started_at"] = moment(folded.started_at)
    fields["steps"] = [_step(step, prompts) for step in folded.steps]
    return fields


def _step(step: Step, prompts: bool) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(step, calls=()))
    fields["calls"] = [_call(call, prompts) for call in step.calls]
    return fields


def _call(call: Call, prompts: bool) -> dict[str, Any]:
    bare = call if prompts else msgspec.structs.replace(call, prompt=(), tools=())
    fields: dict[str, Any] = msgspec.to_builtins(bare)
    return {**fields, "prompt_messages": len(call.prompt)}


def _plain(value: object) -> Any:
    return None if value is None else msgspec.to_builtins(value)
