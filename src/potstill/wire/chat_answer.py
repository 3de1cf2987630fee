"""Whole answers of the OpenAI chat completions dialect: bytes to ``neutral.Answer`` and back.

What it knows: the message, why it ended, log-probabilities and usage in OpenAI's shape. What it does not do: streams
(``chat_stream``), how near-compatible servers deviate (``openai_chat`` reads them), errors (``chat_problem``).

Read: reasoning first, then content, refusal, calls, and as ``Opaque`` of the kind ``message`` what else there may be
(citations, audio). A call without an id gets one that is made from the answer, so that it is unique in an episode.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from potstill.errors import BadResponse, Untranslatable
from potstill.types import FinishReason, TokenLogprob, Usage
from potstill.wire.chat_request import HINTS, NAME
from potstill.wire.neutral import Answer, Choice, Opaque, Part, Prompt, Refusal, Text, Thinking, ToolUse
from potstill.wire.openai_chat import (
    FINISH,
    LogprobBody,
    Logprobs,
    Response,
    ResponseChoice,
    ResponseMessage,
    content_of,
    parse,
    raw_arguments,
    token_logprob,
    tool_call,
)
from potstill.wire.reading import EMPTY, dumps
from potstill.wire.usage import normalise_usage

OPAQUE_FIELDS = ("annotations", "audio", "images", "reasoning_details")
"""Fields of an answer's message that no part stands for."""
_CANONICAL = {reason.value for reason in FinishReason}

# --- reading ----------------------------------------------------------------------------------------------------------


def decode_answer(body: bytes) -> Answer:
    """Raises ``BadResponse`` with an excerpt of what is no chat completion."""
    response = parse(body)
    try:
        return _answer(response, response.id or answer_id(body))
    except RecursionError:
        raise BadResponse("the endpoint's answer is nested too deeply") from None


def _answer(response: Response, identity: str) -> Answer:
    return Answer(
        id=identity,
        model=response.model or "",
        choices=tuple(_choice(choice, index, identity) for index, choice in enumerate(response.choices)),
        created=created_at(response.created),
        usage=normalise_usage(response.usage),
        raw_usage=response.usage,
        dialect=NAME,
        extra=extra_of(response),
    )


def extra_of(response: Response) -> dict[str, Any]:
    """Fields that stay within the dialect."""
    fields = {"service_tier": response.service_tier, "system_fingerprint": response.system_fingerprint}
    return {name: value for name, value in fields.items() if isinstance(value, str)}


def created_at(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value < 1e15 else None


def answer_id(body: bytes) -> str:
    """For an answer that came without one."""
    return "chatcmpl-" + _digest(body)


def call_id(of_answer: str, choice: int, number: int) -> str:
    """For a call that came without one: the same for the same answer, another one in every other."""
    return "call_" + _digest(f"{of_answer}/{choice}/{number}".encode())


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=12).hexdigest()


def _choice(choice: ResponseChoice, index: int, of_answer: str) -> Choice:
    parts = tuple(_parts(choice.message, index, of_answer))
    finish, raw = finish_of(choice.finish_reason or "stop", any(is_call(part) for part in parts))
    return Choice(
        parts=parts,
        finish=finish,
        finish_raw=raw,
        stop_sequence=choice.stop_reason if isinstance(choice.stop_reason, str) else None,
        logprobs=tokens_of(choice.logprobs),
    )


def _parts(message: ResponseMessage, choice: int, of_answer: str) -> Iterable[Part]:
    text, thought = content_of(message.content)
    thought = message.reasoning_content or message.reasoning or thought
    if thought:
        yield Thinking(text=thought)
    if text:
        yield Text(text=text)
    if message.refusal:
        yield Refusal(text=message.refusal)
    for number, call in enumerate(message.tool_calls or ()):
        fallback = call_id(of_answer, choice, number)
        if call.function is None and call.custom is not None:
            yield custom_call(call.id or fallback, call.custom)
            continue
        use = tool_call(call, fallback)
        yield ToolUse(id=use.id, name=use.name, arguments=use.arguments)
        if call.extra_content:
            yield call_extra(use.id, call.extra_content)
    if message.function_call is not None and not message.tool_calls:
        legacy = message.function_call
        yield ToolUse(id=call_id(of_answer, choice, 0), name=legacy.name, arguments=raw_arguments(legacy))
    for name in OPAQUE_FIELDS:
        value = getattr(message, name)
        if value not in EMPTY:
            yield opaque_field(name, value)


def custom_call(identity: str, custom: dict[str, Any]) -> Opaque:
    return Opaque(dialect=NAME, kind="tool_call", value={"id": identity, "type": "custom", "custom": custom})


def call_extra(identity: str, extra_content: dict[str, Any]) -> Opaque:
    value = {"id": identity, "extra": {"extra_content": extra_content}}
    return Opaque(dialect=NAME, kind="tool_call_extra", value=value, hint=True)


def opaque_field(name: str, value: Any) -> Opaque:
    return Opaque(dialect=NAME, kind="message", value={name: value}, hint=name in HINTS)


def is_call(part: Part) -> bool:
    return isinstance(part, ToolUse) or (isinstance(part, Opaque) and part.kind == "tool_call")


def finish_of(word: str, calls: bool) -> tuple[FinishReason, str | None]:
    """Why an answer ended, and the server's own word where that says something else. Calls end an answer even where
    the server says ``stop`` (OpenAI does so for a tool that was forced)."""
    reason = FINISH.get(word, FinishReason.OTHER)
    if calls and reason is FinishReason.STOP:
        reason = FinishReason.TOOL_CALLS
    return reason, None if word == reason.value else word


def tokens_of(logprobs: Logprobs | None) -> tuple[TokenLogprob, ...]:
    if logprobs is None:
        return ()
    entries: Sequence[LogprobBody] = [*(logprobs.content or ()), *(logprobs.refusal or ())]
    return tuple(token_logprob(entry) for entry in entries)


# --- writing ----------------------------------------------------------------------------------------------------------


def encode_answer(answer: Answer, prompt: Prompt) -> bytes:
    """As the client that sent ``prompt`` expects it. Raises ``Untranslatable`` for a part that only another dialect
    knows. Log-probabilities are written only where the client asked for them."""
    own = answer.dialect == NAME
    body: dict[str, Any] = dict(answer.extra) if own else {}
    body |= {
        "id": answer.id,
        "object": "chat.completion",
        "created": int(answer.created or 0),
        "model": answer.model,
        "choices": [_encode_choice(choice, index, prompt) for index, choice in enumerate(answer.choices)],
    }
    usage = usage_of(answer.usage, answer.raw_usage if own else None)
    if usage is not None:
        body["usage"] = usage
    return dumps(body)


def _encode_choice(choice: Choice, index: int, prompt: Prompt) -> dict[str, Any]:
    refused = not any(isinstance(part, Text) for part in choice.parts)
    refused = refused and any(isinstance(part, Refusal) for part in choice.parts)
    return {
        "index": index,
        "message": _message(choice, prompt),
        "logprobs": logprobs_of(choice.logprobs, prompt, refusal=refused),
        "finish_reason": finish_word(choice.finish, choice.finish_raw, prompt),
    }


def _message(choice: Choice, prompt: Prompt) -> dict[str, Any]:
    texts = [part.text for part in choice.parts if isinstance(part, Text)]
    refusals = [part.text for part in choice.parts if isinstance(part, Refusal)]
    thoughts = [part.text for part in choice.parts if isinstance(part, Thinking)]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(texts) if texts else None,
        "refusal": "".join(refusals) if refusals else None,
    }
    if any(thoughts):
        message[thinking_field(prompt)] = "".join(thoughts)
    calls = [call for part in choice.parts if (call := encode_call(part)) is not None]
    if calls and legacy_calls(prompt):
        message["function_call"] = calls[0].get("function")
    if calls and not (legacy_calls(prompt) and len(calls) == 1):
        message["tool_calls"] = calls
    if message["content"] is None and not calls and not refusals:
        message["content"] = ""
    for part in choice.parts:
        if isinstance(part, Opaque):
            _restore(part, message)
    return message


def _restore(part: Opaque, message: dict[str, Any]) -> None:
    if refuse_foreign(part.dialect, part.kind, part.hint):
        return
    if part.kind == "message":
        message.update(part.value)
    elif part.kind == "tool_call_extra":
        for call in message.get("tool_calls", ()):
            if call["id"] == part.value.get("id"):
                call.update(part.value.get("extra", {}))


def refuse_foreign(dialect: str, kind: str, hint: bool) -> bool:
    """True for another dialect's part that may be left out; ``Untranslatable`` for one that may not."""
    if dialect != NAME and not hint:
        raise Untranslatable(f"the answer holds a part of type {kind!r}, which only the dialect {dialect} can say")
    return dialect != NAME


def encode_call(part: Part) -> dict[str, Any] | None:
    if isinstance(part, ToolUse):
        return {"id": part.id, "type": "function", "function": {"name": part.name, "arguments": part.arguments}}
    if isinstance(part, Opaque) and part.dialect == NAME and part.kind == "tool_call":
        return part.value
    return None


def legacy_calls(prompt: Prompt) -> bool:
    """The client speaks of functions, not of tools."""
    return prompt.dialect == NAME and prompt.spelling.get("tools") == "functions"


def thinking_field(prompt: Prompt) -> str:
    return prompt.spelling.get("thinking", "reasoning_content") if prompt.dialect == NAME else "reasoning_content"


def finish_word(reason: FinishReason, raw: str | None, prompt: Prompt) -> str:
    """One of the words that OpenAI's clients know."""
    if raw in _CANONICAL and raw != FinishReason.OTHER.value:
        return raw
    if reason is FinishReason.TOOL_CALLS and legacy_calls(prompt):
        return "function_call"
    return "stop" if reason is FinishReason.OTHER else reason.value


def usage_of(usage: Usage | None, raw: dict[str, Any] | None) -> dict[str, Any] | None:
    """``raw`` where this dialect wrote it, else the counts in OpenAI's shape: the prompt's include its cached parts."""
    if raw:
        return raw
    if usage is None:
        return None
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def logprobs_of(tokens: Sequence[TokenLogprob], prompt: Prompt, *, refusal: bool) -> dict[str, Any] | None:
    if not tokens or not prompt.logprobs:
        return None
    entries = [
        _entry(token.token, token.logprob)
        | {"top_logprobs": [_entry(*other) for other in token.top[: prompt.top_logprobs or 0]]}
        for token in tokens
    ]
    return {"content": None, "refusal": entries} if refusal else {"content": entries, "refusal": None}


def _entry(token: str, logprob: float) -> dict[str, Any]:
    """``bytes`` is null where the token is a part of a character: its bytes are not known any more."""
    return {"token": token, "logprob": logprob, "bytes": None if "�" in token else list(token.encode())}
