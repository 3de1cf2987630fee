"""Requests of the OpenAI chat completions dialect, from ``neutral.Prompt`` to an upstream's bytes.

What it knows: how chat completions say what other dialects say. What it does not do: read requests (``chat_request``).

A prompt of this dialect is written as its client wrote it, as far as ``spelling`` tells. From another dialect:

- The limit of tokens goes as ``max_completion_tokens`` (OpenAI's newer models refuse ``max_tokens``) or as the caller
  of ``encode_request`` says.
- Thinking goes as ``reasoning_content`` where it is plain text. What carries another provider's signature or ciphertext
  stays away: only that provider can use it.
- A tool's failure (``is_error``) is told in words, images that a tool gave follow in a user message behind the tools'
  messages: a tool message holds text only.
- Cache marks and what stands in ``HARMLESS`` are left out; anything else raises ``Untranslatable``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from potstill.errors import Untranslatable
from potstill.types import Role
from potstill.wire.chat_request import NAME
from potstill.wire.neutral import (
    ChoiceMode,
    Format,
    Image,
    Opaque,
    OpaqueTool,
    Part,
    Prompt,
    Refusal,
    Text,
    Thinking,
    Thought,
    Tool,
    ToolOutput,
    ToolUse,
    Turn,
)
from potstill.wire.reading import dumps

HARMLESS = {
    "anthropic": frozenset(
        {
            "anthropic_beta",
            "anthropic_version",
            "betas",
            "cache_control",
            "context_management",
            "inference_geo",
            "service_tier",
            "speed",
        }
    ),
    "openai-responses": frozenset(
        {
            "access_programs",
            "background",
            "background_options",
            "client_metadata",
            "image",
            "include",
            "max_tool_calls",
            "store",
            "stream_options",
            "truncation",
        }
    ),
}
"""Fields of another dialect's ``extra`` that change no answer here, or what happens to it later."""
CARRIED = {
    "anthropic": frozenset({"top_k"}),
    "openai-responses": frozenset(
        {
            "prompt_cache_key",
            "prompt_cache_options",
            "prompt_cache_retention",
            "safety_identifier",
            "service_tier",
            "verbosity",
        }
    ),
}
"""Fields that mean the same here. Only some servers know ``top_k``; the others say so themselves."""
_EFFORTS = ((4096, "low"), (16384, "medium"))
"""A budget of thinking below so many tokens is such an effort; above: ``high``."""


def encode_request(prompt: Prompt, *, max_tokens_field: str = "max_completion_tokens") -> bytes:
    """The body that asks an upstream. ``max_tokens_field``: where the prompt does not say which name it used.

    Raises ``Untranslatable`` for what chat completions cannot say.
    """
    own = prompt.dialect in ("", NAME)
    body: dict[str, Any] = {"model": prompt.model, "messages": _Messages(prompt, own).messages()}
    body |= {name: value for name, value in _tools(prompt, own).items() if value is not None}
    body |= {name: value for name, value in _parameters(prompt, own, max_tokens_field).items() if value is not None}
    extra = dict(prompt.extra) if own else _foreign_extra(prompt)
    if prompt.stream and "stream_options" in extra:
        body["stream_options"] = {**extra["stream_options"], **body.get("stream_options", {})}
    elif not prompt.stream:
        extra.pop("stream_options", None)
    return dumps({**extra, **body})


def _parameters(prompt: Prompt, own: bool, max_tokens_field: str) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "response_format": _format(prompt.format),
        "temperature": prompt.temperature,
        "top_p": prompt.top_p,
        "stop": list(prompt.stop) or None,
        "seed": prompt.seed,
        "n": prompt.n if prompt.n > 1 else None,
        "logprobs": prompt.logprobs or None,
        "top_logprobs": prompt.top_logprobs,
        "stream": prompt.stream or None,
        "stream_options": {"include_usage": True} if prompt.stream and prompt.stream_usage else None,
        "user": prompt.user,
        "metadata": prompt.metadata or None if own or prompt.dialect == "openai-responses" else None,
    }
    spelt = prompt.spelling.get("max_tokens", "max_tokens") if prompt.dialect == NAME else max_tokens_field
    for name in ("max_tokens", "max_completion_tokens") if spelt == "both" else (spelt,):
        fields[name] = prompt.max_tokens
    return fields | _thought(prompt, own)


def _thought(prompt: Prompt, own: bool) -> dict[str, Any]:
    thought = prompt.thought
    if thought is None:
        return {}
    if own and prompt.spelling.get("thought") == "reasoning":
        return {"reasoning": _present(effort=thought.effort, max_tokens=thought.budget_tokens) | thought.extra}
    return {"reasoning_effort": _effort(thought)}


def _effort(thought: Thought) -> str | None:
    if thought.effort is not None:
        return "xhigh" if thought.effort == "max" else thought.effort
    if thought.budget_tokens is None:
        return None
    return next((effort for below, effort in _EFFORTS if thought.budget_tokens < below), "high")


def _format(wanted: Format | None) -> dict[str, Any] | None:
    if wanted is None:
        return None
    if wanted.kind == "json_object":
        return {"type": "json_object"} | _present(schema=wanted.schema)
    schema = _present(
        name=wanted.name or "response", description=wanted.description, schema=wanted.schema, strict=wanted.strict
    )
    return {"type": "json_schema", "json_schema": schema}


def _foreign_extra(prompt: Prompt) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in prompt.extra.items():
        if name in CARRIED.get(prompt.dialect, ()):
            kept[name] = value
        elif value and name not in HARMLESS.get(prompt.dialect, ()):
            raise _cannot(f"the field '{name}'", prompt.dialect)
    return kept


# --- tools ------------------------------------------------------------------------------------------------------------


def _tools(prompt: Prompt, own: bool) -> dict[str, Any]:
    if not prompt.tools and not own:
        return {}
    choice = prompt.tool_choice
    fields: dict[str, Any] = {
        "tools": [_tool(tool, own) for tool in prompt.tools] or None,
        "parallel_tool_calls": prompt.parallel_tool_calls,
    }
    if choice is not None:
        named = {"type": "function", "function": {"name": choice.name}}
        fields["tool_choice"] = named if choice.mode is ChoiceMode.TOOL else choice.mode.value
    return fields


def _tool(tool: Tool | OpaqueTool, own: bool) -> dict[str, Any]:
    if isinstance(tool, OpaqueTool):
        if tool.dialect != NAME:
            raise _cannot(f"the tool {tool.value.get('type') or tool.value.get('name')!r}", tool.dialect)
        return tool.value
    function = {"name": tool.name} | _present(
        description=tool.description, parameters=tool.parameters, strict=tool.strict
    )
    if not own:
        return {"type": "function", "function": function}
    more = dict(tool.extra)
    function |= more.pop("function", {})
    return {"type": "function", "function": function} | _present(cache_control=tool.cache) | more


# --- messages ---------------------------------------------------------------------------------------------------------


class _Messages:
    """Writes a prompt's turns as messages."""

    def __init__(self, prompt: Prompt, own: bool) -> None:
        self._prompt = prompt
        self._own = own
        self._system = prompt.spelling.get("system", "system") if own else "system"
        self._thinking = prompt.spelling.get("thinking", "reasoning_content") if own else "reasoning_content"
        self._images: list[dict[str, Any]] = []
        """Given by tools, waiting for the end of the tools' messages."""

    def messages(self) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []
        for turn in self._prompt.turns:
            for message in self._turn(turn):
                if message["role"] != "tool":
                    messages.extend(self._shown())
                messages.append(message)
        return [*messages, *self._shown()]

    def _shown(self) -> Iterable[dict[str, Any]]:
        images, self._images = self._images, []
        if images:
            yield {"role": "user", "content": images}

    def _turn(self, turn: Turn) -> Iterable[dict[str, Any]]:
        """Usually one message; each tool's output is one of its own."""
        waiting: list[Part] = []
        for part in turn.parts:
            if isinstance(part, ToolOutput):
                yield self._output(part, turn)
            elif isinstance(part, Opaque) and part.kind == "tool_message" and part.dialect == NAME:
                yield part.value
            elif turn.role != "tool":
                waiting.append(part)
            elif not (isinstance(part, Opaque) and (part.hint or part.dialect == NAME)):
                raise Untranslatable(f"a tool's message cannot hold a part of type {type(part).__name__} in {NAME}")
        if waiting or not turn.parts:
            yield self._message(turn.role, tuple(waiting), turn.name)

    def _message(self, role: Role, parts: tuple[Part, ...], name: str | None) -> dict[str, Any]:
        message: dict[str, Any] = {"role": self._system if role == "system" else role} | _present(name=name)
        calls = [call for call in (self._call(part) for part in parts) if call is not None]
        message["content"] = self._content(parts, message) or (None if calls or "refusal" in message else "")
        thought = "".join(part.text for part in parts if isinstance(part, Thinking) and self._shows(part))
        if thought:
            message[self._thinking] = thought
        if calls:
            message["tool_calls"] = calls
        for part in parts:
            if isinstance(part, Opaque):
                self._restore(part, message)
        return message

    def _content(self, parts: tuple[Part, ...], message: dict[str, Any]) -> str | list[dict[str, Any]]:
        said = [part for part in parts if isinstance(part, Text | Image | Refusal) or self._is_content(part)]
        if said and isinstance(said[-1], Refusal) and not any(isinstance(part, Refusal) for part in said[:-1]):
            message["refusal"] = said.pop().text  # type: ignore[union-attr]
        if len(said) == 1 and isinstance(said[0], Text) and not (self._own and said[0].cache is not None):
            return said[0].text
        return [self._part(part) for part in said]

    def _is_content(self, part: Part) -> bool:
        return (
            isinstance(part, Opaque)
            and part.dialect == NAME
            and part.kind not in ("message", "tool_call", "tool_call_extra")
        )

    def _part(self, part: Part) -> dict[str, Any]:
        match part:
            case Text():
                encoded: dict[str, Any] = {"type": "text", "text": part.text}
            case Image():
                encoded = {"type": "image_url", "image_url": _image(part)}
            case Refusal():
                return {"type": "refusal", "refusal": part.text}
            case Opaque():
                return part.value
            case _:
                raise Untranslatable(f"a part of type {type(part).__name__} has no place in a message of {NAME}")
        return encoded | (self._cache(part.cache) if self._own and part.cache is not None else {})

    def _cache(self, cache: dict[str, Any]) -> dict[str, Any]:
        if self._prompt.spelling.get("cache") != "prompt_cache_breakpoint":
            return {"cache_control": cache}
        return {"prompt_cache_breakpoint": {"mode": "explicit"} | ({"ttl": "12h"} if cache.get("ttl") == "1h" else {})}

    def _shows(self, part: Thinking) -> bool:
        return self._own or not (part.signature or part.redacted)

    def _call(self, part: Part) -> dict[str, Any] | None:
        if isinstance(part, ToolUse):
            function = {"name": part.name, "arguments": part.arguments}
            return {"id": part.id, "type": "function", "function": function}
        if isinstance(part, Opaque) and part.dialect == NAME and part.kind == "tool_call":
            return part.value
        return None

    def _restore(self, part: Opaque, message: dict[str, Any]) -> None:
        """Puts back what this dialect alone knows; raises for what only another does."""
        if part.dialect != NAME:
            if not part.hint:
                raise _cannot(f"a part of type {part.kind!r}", part.dialect)
        elif part.kind == "message":
            message.update(part.value)
        elif part.kind == "tool_call_extra":
            for call in message.get("tool_calls", ()):
                if call.get("id") == part.value.get("id"):
                    call.update(part.value.get("extra", {}))

    def _output(self, part: ToolOutput, turn: Turn) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "tool", "tool_call_id": part.call_id} | _present(name=turn.name)
        said = [one for one in part.parts if isinstance(one, Text) or self._own]
        if not self._own:
            self._keep_images(part)
        if len(said) == 1 and isinstance(said[0], Text) and not (self._own and said[0].cache is not None):
            message["content"] = said[0].text
        else:
            message["content"] = [self._part(one) for one in said] or ""
        if part.is_error:
            message["content"] = _told(message["content"])
        for one in turn.parts:
            if isinstance(one, Opaque):
                self._restore(one, message)
        return message

    def _keep_images(self, part: ToolOutput) -> None:
        images = [self._part(one) for one in part.parts if isinstance(one, Image)]
        if images:
            self._images += [{"type": "text", "text": f"Images that the tool call {part.call_id} gave:"}, *images]


def _told(content: str | list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """A tool's output that says that it is an error."""
    if isinstance(content, list):
        return [{"type": "text", "text": "Error:"}, *content]
    return content if "error" in content[:40].lower() else f"Error: {content}".strip()


def _image(image: Image) -> dict[str, Any]:
    url = image.url if image.data is None else f"data:{image.media_type or 'image/png'};base64,{image.data}"
    if url is None:
        raise Untranslatable(f"an image without a url or data cannot be said in {NAME}")
    return {"url": url} | _present(detail=image.detail)


def _present(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _cannot(what: str, dialect: str) -> Untranslatable:
    return Untranslatable(
        f"{what} can be said in the dialect {dialect}, not in {NAME}: leave it out, or choose a model whose upstream "
        f"speaks {dialect}"
    )
