"""An answer in Anthropic's messages dialect to an ``Answer`` and back: content, stop reason, usage.

What it knows: Anthropic's stop reasons and how it counts tokens (``input_tokens`` leaves cache reads and writes out).
What it does not do: blocks (``anthropic_blocks``), streams (``anthropic_stream``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from potstill.errors import BadResponse, Untranslatable
from potstill.types import FinishReason, Usage
from potstill.wire.anthropic_blocks import NAME, Malformed, blocks_of, parts_of
from potstill.wire.neutral import Answer, Choice, Part, ToolUse
from potstill.wire.reading import dumps, load
from potstill.wire.usage import normalise_usage

_FINISH = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "refusal": FinishReason.CONTENT_FILTER,
    "pause_turn": FinishReason.OTHER,
}
_STOP_REASON = {
    FinishReason.STOP: "end_turn",
    FinishReason.LENGTH: "max_tokens",
    FinishReason.TOOL_CALLS: "tool_use",
    FinishReason.CONTENT_FILTER: "refusal",
    FinishReason.OTHER: "end_turn",
}
KNOWN = {"id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"}


def read_answer(body: bytes) -> Answer:
    """Raises ``Malformed``."""
    raw = load(body, Malformed, "the answer")
    if raw.value.get("type") == "error" or ("error" in raw.value and "content" not in raw.value):
        error = raw.value.get("error")
        raise Malformed(f"the answer is an error: {error.get('message') if isinstance(error, dict) else error}")
    if raw.value.get("content") is None:
        raise raw.missing("content", "a list of blocks")
    parts = parts_of(raw.items("content"), "content")
    usage = raw.map("usage")
    finish, finer = finish_of(raw.text("stop_reason"))
    choice = Choice(parts=parts, finish=finish, finish_raw=finer, stop_sequence=raw.text("stop_sequence") or None)
    return Answer(
        id=raw.text("id") or "",
        model=raw.text("model") or "",
        choices=(choice,),
        usage=normalise_usage(usage),
        raw_usage=usage,
        dialect=NAME,
        extra=raw.rest(KNOWN),
    )


def write_answer(answer: Answer) -> bytes:
    """Raises ``Untranslatable`` for several choices or a part that only another dialect has."""
    if not answer.choices:
        raise BadResponse("the answer has no choices")
    if len(answer.choices) > 1:
        raise Untranslatable(f"the answer has {len(answer.choices)} choices; Anthropic's dialect gives one")
    choice, own = answer.choices[0], answer.dialect == NAME
    content = blocks_of(choice.parts, "the answer", own=own, answer=True)
    body: dict[str, Any] = {
        "id": answer.id,
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": content,
        "stop_reason": stop_reason(choice.finish, choice.finish_raw, choice.stop_sequence, calls=calls(choice.parts)),
        "stop_sequence": choice.stop_sequence,
        "usage": write_usage(answer.usage, answer.raw_usage if own else None),
    }
    return dumps(body | (answer.extra if own else {}), Untranslatable, "The answer")


def calls(parts: Iterable[Part]) -> bool:
    return any(isinstance(part, ToolUse) for part in parts)


def finish_of(reason: str | None) -> tuple[FinishReason, str | None]:
    """The neutral reason, and Anthropic's word where it is finer."""
    finish = _FINISH.get(reason or "end_turn", FinishReason.OTHER)
    return finish, None if reason is None or _STOP_REASON[finish] == reason else reason


def stop_reason(finish: FinishReason, raw: str | None, stop_sequence: str | None, *, calls: bool) -> str:
    """Clients run tools where, and only where, the reason is ``tool_use``: it says whether there are calls."""
    if raw in _FINISH:
        return str(raw)
    if finish is FinishReason.STOP and stop_sequence is not None:
        return "stop_sequence"
    if calls and finish in (FinishReason.STOP, FinishReason.OTHER):
        return "tool_use"
    if not calls and finish is FinishReason.TOOL_CALLS:
        return "end_turn"
    return _STOP_REASON[finish]


def write_usage(usage: Usage | None, raw: Mapping[str, Any] | None) -> dict[str, Any]:
    """Usage in Anthropic's shape: as it came, or from the counts, with those of the cache only where they are known."""
    if raw:
        return dict(raw)
    if usage is None:
        return {"input_tokens": 0, "output_tokens": 0}
    written: dict[str, Any] = {"input_tokens": usage.uncached_input_tokens}
    if usage.cache_reported or usage.cache_read_tokens or usage.cache_write_tokens:
        written["cache_creation_input_tokens"] = usage.cache_write_tokens
        written["cache_read_input_tokens"] = usage.cache_read_tokens
        written["cache_creation"] = {
            "ephemeral_5m_input_tokens": usage.cache_write_tokens - usage.cache_write_1h_tokens,
            "ephemeral_1h_input_tokens": usage.cache_write_1h_tokens,
        }
    written["output_tokens"] = usage.output_tokens
    if usage.reasoning_tokens:
        written["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return written
