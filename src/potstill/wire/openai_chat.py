"""The OpenAI chat completions dialect, seen from the client: a request to bytes, bytes to replies.

What it knows: field names, how near-compatible servers deviate, which errors mean an overflowing context.
What it does not do: sockets, retries, keys (``models.http``), prices. Streaming is another file.

Tolerant of unknown fields and of the usual deviations (content as parts, arguments as an object, ids left out); strict
about what an answer stands on: JSON, an object, a list of choices, a message in each.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from potstill.errors import NOT_JSON, BadResponse
from potstill.types import Blob, FinishReason, Message, Reply, Request, Struct, TokenLogprob, ToolCall, ToolSpec, Usage
from potstill.wire.usage import normalise_usage

EXCERPT_CHARS = 160


# --- request --------------------------------------------------------------------------------------------------------


class Dialect(Struct, frozen=True, kw_only=True):
    """Where a server deviates from plain chat completions."""

    max_tokens_field: str = "max_tokens"
    """OpenAI's own newer models take ``max_completion_tokens`` only."""
    seed_field: str | None = "seed"
    """None: the server takes no seed and refuses unknown fields."""
    logprobs: bool = True
    """False: log-probabilities are never asked for (the server ignores or refuses the fields)."""
    cache_breakpoints: bool = False
    """Mark the end of the static part and of the history with ``cache_control`` (where caching must be asked for)."""
    omit: frozenset[str] = frozenset()
    """Fields that the model refuses, such as ``temperature`` for some reasoning models."""
    extra: dict[str, Any] = msgspec.field(default_factory=dict)
    """Further fields of the body, sent as they are; they win over ours."""


def encode_request(
    request: Request,
    model: str,
    n: int = 1,
    *,
    dialect: Dialect | None = None,
    seed_offset: int = 0,
    read_blob: Callable[[Blob], bytes] | None = None,
) -> bytes:
    """The JSON body that asks ``model`` for ``n`` samples.

    ``seed_offset`` is added to the seed where samples are asked for apart (the same seed would repeat the sample).
    Images need ``read_blob``; without it a message with images raises ``KeyError``. ``admissible`` and ``handle`` have
    no place in this dialect and are never sent.

    >>> encode_request(Request(messages=(Message(role="user", content="hi"),)), "m")
    b'{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":256,"temperature":0.0}'
    """
    dialect = dialect or Dialect()
    body: dict[str, Any] = {
        "model": model,
        "messages": _messages(request, dialect, read_blob),
        dialect.max_tokens_field: request.max_tokens,
        "temperature": request.temperature,
    }
    if n > 1:
        body["n"] = n
    if request.stop:
        body["stop"] = list(request.stop)
    if request.seed is not None and dialect.seed_field:
        body[dialect.seed_field] = request.seed + seed_offset
    if request.top_logprobs and dialect.logprobs:
        body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    if request.tools:
        body["tools"] = [{"type": "function", "function": _tool(tool)} for tool in request.tools]
    body = {field: value for field, value in body.items() if field not in dialect.omit}
    return msgspec.json.encode(body | dialect.extra)


def _tool(tool: ToolSpec) -> dict[str, Any]:
    parameters = tool.parameters or {"type": "object", "properties": {}}
    return {"name": tool.name, "description": tool.description, "parameters": parameters}


def _messages(request: Request, dialect: Dialect, read_blob: Callable[[Blob], bytes] | None) -> list[dict[str, Any]]:
    messages = [_message(message, read_blob) for message in request.messages]
    if dialect.cache_breakpoints:
        # Everything but the last message is a prefix of the next step's prompt.
        for index in {request.static_messages - 1, len(messages) - 2}:
            if 0 <= index < len(messages):
                _mark(messages[index])
    return messages


def _message(message: Message, read_blob: Callable[[Blob], bytes] | None) -> dict[str, Any]:
    encoded: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.images:
        if read_blob is None:
            raise KeyError(message.images[0].digest)
        text = [{"type": "text", "text": message.content}] if message.content else []
        encoded["content"] = [*text, *(_image(blob, read_blob(blob)) for blob in message.images)]
    if message.tool_calls:
        encoded["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
        encoded["content"] = encoded["content"] or None
    if message.tool_call_id is not None:
        encoded["tool_call_id"] = message.tool_call_id
    return encoded


def _image(blob: Blob, data: bytes) -> dict[str, Any]:
    url = f"data:{blob.media_type};base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def _mark(message: dict[str, Any]) -> None:
    """Put a cache breakpoint on the message's last part; a message without content cannot carry one."""
    if isinstance(message["content"], str) and message["content"]:
        message["content"] = [{"type": "text", "text": message["content"]}]
    if isinstance(message["content"], list):
        message["content"][-1]["cache_control"] = {"type": "ephemeral"}


# --- response -------------------------------------------------------------------------------------------------------


class FunctionBody(Struct, frozen=True, kw_only=True):
    name: str
    arguments: str | dict[str, Any] | None = None


class CallBody(Struct, frozen=True, kw_only=True):
    function: FunctionBody | None = None
    """None: a call of another type (a custom tool, whose input is no JSON)."""
    id: str | None = None
    type: str | None = None
    custom: dict[str, Any] | None = None
    extra_content: dict[str, Any] | None = None
    """Gemini's compatible endpoint: signatures of thoughts, which must come back with the call."""


class TopBody(Struct, frozen=True, kw_only=True):
    token: str
    logprob: float


class LogprobBody(Struct, frozen=True, kw_only=True):
    token: str
    logprob: float
    top_logprobs: list[TopBody] | None = None


class Logprobs(Struct, frozen=True, kw_only=True):
    content: list[LogprobBody] | None = None
    refusal: list[LogprobBody] | None = None


class ResponseMessage(Struct, frozen=True, kw_only=True):
    content: str | list[Any] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[CallBody] | None = None
    function_call: FunctionBody | None = None
    annotations: Any = None
    audio: Any = None
    images: Any = None
    reasoning_details: Any = None


class ResponseChoice(Struct, frozen=True, kw_only=True):
    message: ResponseMessage
    finish_reason: str | None = None
    logprobs: Logprobs | None = None
    index: int | None = None
    stop_reason: Any = None
    """vLLM: the stop string (or token) that ended the answer."""


class Response(Struct, frozen=True, kw_only=True):
    choices: list[ResponseChoice]
    usage: dict[str, Any] | None = None
    id: str | None = None
    model: str | None = None
    created: Any = None
    service_tier: Any = None
    system_fingerprint: Any = None


class Decoded(Struct, frozen=True, kw_only=True):
    """One answer of an endpoint."""

    replies: tuple[Reply, ...]
    usage: Usage | None = None
    raw_usage: dict[str, Any] | None = None
    request_id: str | None = None
    model: str | None = None
    """The model that the endpoint says answered; it may differ from the one asked for."""


FINISH = {
    "stop": FinishReason.STOP,
    "eos": FinishReason.STOP,
    "end_turn": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}
_DECODER = msgspec.json.Decoder(Response)


def parse(body: bytes) -> Response:
    """An answer's body as it is, its choices in the order of their index.

    Raises ``BadResponse`` with a short excerpt for HTML, text, JSON of another shape, or an answer without choices.
    """
    try:
        response = _DECODER.decode(body)
    except NOT_JSON as error:
        raise BadResponse(_why_not(body, error)) from None
    if not response.choices:
        raise BadResponse(f"the endpoint answered without choices: {excerpt(body)}")
    if any(choice.finish_reason == "error" for choice in response.choices):
        raise BadResponse(f"the endpoint broke off its answer: {excerpt(body)}")
    return msgspec.structs.replace(response, choices=sorted(response.choices, key=lambda choice: choice.index or 0))


def decode_response(body: bytes) -> Decoded:
    """The replies in an answer's body, in the order of their index. Raises ``BadResponse`` as ``parse`` does."""
    response = parse(body)
    return Decoded(
        replies=tuple(_reply(choice) for choice in response.choices),
        usage=normalise_usage(response.usage),
        raw_usage=response.usage,
        request_id=response.id,
        model=response.model,
    )


def _why_not(body: bytes, error: Exception) -> str:
    if body.lstrip()[:1] == b"{" and b'"error"' in body[:200]:
        return f"the endpoint answered with an error: {decode_error(body).message}"
    return f"the endpoint did not answer with a chat completion ({error}): {excerpt(body)}"


def _reply(choice: ResponseChoice) -> Reply:
    message = choice.message
    text, thought = content_of(message.content)
    finish = FINISH.get(choice.finish_reason or "stop", FinishReason.OTHER)
    if not text and message.refusal:
        text, finish = message.refusal, FinishReason.CONTENT_FILTER
    tokens = _answer_tokens(choice.logprobs, text)
    return Reply(
        text=text,
        tool_calls=tuple(tool_call(call, f"call_{index}") for index, call in enumerate(message.tool_calls or ())),
        reasoning=message.reasoning_content or message.reasoning or thought,
        finish_reason=finish,
        logprob=sum(token.logprob for token in tokens) if tokens else None,
        token_logprobs=tokens,
    )


def content_of(content: str | list[Any] | None) -> tuple[str, str]:
    """(text, reasoning) of content that is a text, nothing, or a list of typed parts."""
    if not isinstance(content, list):
        return content or "", ""
    texts: list[str] = []
    thoughts: list[str] = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict) and isinstance(part.get("text"), str):
            (thoughts if part.get("type") == "thinking" else texts).append(part["text"])
        elif isinstance(part, dict) and isinstance(part.get("thinking"), str | list):
            thoughts.append(content_of(part["thinking"])[0])
    return "".join(texts), "".join(thoughts)


def tool_call(call: CallBody, fallback_id: str) -> ToolCall:
    """The call of a function; ``fallback_id`` where the server gave none. ``BadResponse`` for another type of call."""
    if call.function is None:
        raise BadResponse(f"the endpoint called a tool of type {call.type!r}, which is not a function")
    return ToolCall(id=call.id or fallback_id, name=call.function.name, arguments=raw_arguments(call.function))


def raw_arguments(function: FunctionBody) -> str:
    """Arguments as JSON text, also where a server sends the object itself."""
    arguments = function.arguments
    if not isinstance(arguments, str):
        arguments = msgspec.json.encode(arguments or {}).decode()
    return arguments or "{}"


def _answer_tokens(logprobs: Logprobs | None, text: str) -> tuple[TokenLogprob, ...]:
    """The tokens that make up the text. What follows it (end of generation, a stop string) is left out: its
    log-probability says when the model stops, not what it chose, and can turn a ranking of actions round."""
    tokens = [token_logprob(entry) for entry in (logprobs.content if logprobs else None) or ()]
    joined = ""
    for count, token in enumerate(tokens, start=1):
        joined += token.token
        if text.strip() and joined.strip().startswith(text.strip()):
            return tuple(tokens[:count])
    while tokens and not tokens[-1].token:
        tokens.pop()
    return tuple(tokens)


def token_logprob(entry: LogprobBody) -> TokenLogprob:
    top: Sequence[TopBody] = entry.top_logprobs or ()
    return TokenLogprob(
        token=entry.token, logprob=entry.logprob, top=tuple((other.token, other.logprob) for other in top)
    )


# --- errors ---------------------------------------------------------------------------------------------------------

_OVERFLOW_CODES = {"context_length_exceeded", "exceed_context_size_error", "string_above_max_length"}
_OVERFLOW_TEXT = re.compile(
    r"maximum context length|context (length|window|size).{0,40}exceed|exceed.{0,60}context (length|window|size)"
    r"|prompt is too long|input token count.{0,40}exceeds|too many (input )?tokens",
    re.IGNORECASE,
)


class ErrorBody(Struct, frozen=True, kw_only=True):
    """What an endpoint said went wrong."""

    message: str
    code: str = ""
    kind: str = ""
    param: str = ""
    """The field at fault, where it is told."""

    @property
    def is_overflow(self) -> bool:
        """The prompt (with the room for the answer) is longer than the model takes."""
        return bool({self.code, self.kind} & _OVERFLOW_CODES or _OVERFLOW_TEXT.search(self.message))

    @property
    def is_quota(self) -> bool:
        """Money or quota is used up: waiting does not help."""
        return "insufficient_quota" in (self.code, self.kind)


def decode_error(body: bytes, max_chars: int = EXCERPT_CHARS) -> ErrorBody:
    """The error in a body that is not an answer; any body gives something readable of at most ``max_chars``."""
    try:
        value = msgspec.json.decode(body)
    except NOT_JSON:
        return ErrorBody(message=excerpt(body))
    if isinstance(value, list) and value:  # Gemini wraps its errors in a list.
        value = value[0]
    if not isinstance(value, dict):
        return ErrorBody(message=excerpt(body))
    error = value.get("error", value)
    if isinstance(error, str):
        return ErrorBody(message=_short(error, max_chars))
    if not isinstance(error, dict):
        return ErrorBody(message=excerpt(body))
    message = error.get("message") or error.get("detail") or value.get("detail")
    return ErrorBody(
        message=_short(message, max_chars) if isinstance(message, str) else excerpt(body),
        code=str(error.get("code") or ""),
        kind=str(error.get("type") or error.get("status") or ""),
        param=error["param"] if isinstance(error.get("param"), str) else "",
    )


def excerpt(body: bytes) -> str:
    """The first characters of a body on one line, quoted, for an error message."""
    if not body.strip():
        return "(empty)"
    text = body[: EXCERPT_CHARS * 4].decode(errors="replace")
    return "'" + _short(text) + "'"


def _short(text: str, max_chars: int = EXCERPT_CHARS) -> str:
    line = " ".join("".join(char if char.isprintable() else " " for char in text[: max_chars * 8]).split())
    return line if len(line) <= max_chars else line[: max_chars - 1] + "…"
