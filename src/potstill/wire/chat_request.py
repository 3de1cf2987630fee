"""Requests of the OpenAI chat completions dialect, from a client's bytes to ``neutral.Prompt``.

What it knows: the fields of OpenAI's API reference (read in 2026-11), those that vLLM, DeepSeek, OpenRouter, llama.cpp
and Gemini's compatible endpoint add, and the deprecated ``functions``.
What it does not do: write requests (``chat_prompt``).

What is kept how:

- ``spelling["max_tokens"]``: ``max_completion_tokens`` (or ``both``) where the client wrote that; else ``max_tokens``.
- ``spelling["system"]``: ``developer`` where any message has that role.
- ``spelling["thinking"]``: ``reasoning`` where messages have their thoughts under that name, not ``reasoning_content``.
- ``spelling["thought"]``: ``reasoning`` where effort came as OpenRouter's ``reasoning`` object.
- ``spelling["cache"]``: ``prompt_cache_breakpoint`` where parts bear OpenAI's marks, not Anthropic's ``cache_control``.
- ``spelling["tools"]``: ``functions`` where the client wrote the deprecated fields: they are read as tools, one call at
  a time, and the answer goes back as ``function_call``.
- Unknown fields of the body stand in ``extra``; of a message, in ``Opaque`` parts of the kind ``message``; of a tool
  call, in an ``Opaque`` part of the kind ``tool_call_extra`` behind it; of a tool, in its ``extra`` (those of its
  function under ``function``).
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from potstill.errors import BadRequest
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
    ToolChoice,
    ToolOutput,
    ToolUse,
    Turn,
)
from potstill.wire.reading import EMPTY, Fields, dumps, load

NAME = "openai-chat"
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
HINTS = frozenset(
    [
        "annotations",
        "cache_control",
        "created_at",
        "id",
        "parsed",
        "provider_specific_fields",
        "reasoning",
        "reasoning_details",
        "thinking_blocks",
        "timestamp",
        "weight",
    ]
)
"""Fields of a message that another dialect may leave out."""
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,(.*)", re.DOTALL)


def decode_request(body: bytes) -> Prompt:
    """Raises ``BadRequest`` naming the field at fault."""
    fields = load(body)
    spelling: dict[str, str] = {}
    extra: dict[str, Any] = {}
    model = fields.need("model")
    turns = _turns(fields, spelling)
    tools, parallel = _tools(fields, spelling), fields.flag("parallel_tool_calls")
    tool_choice = _tool_choice(fields, extra)
    stream_usage = _stream_usage(fields, extra)
    prompt = Prompt(
        model=model,
        turns=turns,
        tools=tools,
        tool_choice=tool_choice,
        parallel_tool_calls=False if parallel is None and "tools" in spelling else parallel,
        format=_format(fields, extra),
        thought=_thought(fields, spelling),
        max_tokens=_max_tokens(fields, spelling),
        temperature=fields.number("temperature"),
        top_p=fields.number("top_p"),
        stop=_stop(fields),
        seed=fields.integer("seed"),
        n=_n(fields),
        logprobs=fields.flag("logprobs") or False,
        top_logprobs=fields.integer("top_logprobs"),
        stream=fields.flag("stream") or False,
        stream_usage=stream_usage,
        user=fields.text("user"),
        metadata=fields.map("metadata") or {},
        dialect=NAME,
    )
    return msgspec.structs.replace(prompt, spelling=spelling, extra={**fields.rest(), **extra})


# --- parameters -------------------------------------------------------------------------------------------------------


def _max_tokens(fields: Fields, spelling: dict[str, str]) -> int | None:
    old, new = fields.integer("max_tokens"), fields.integer("max_completion_tokens")
    if new is None:
        return old
    spelling["max_tokens"] = "max_completion_tokens" if old is None else "both"
    return new


def _n(fields: Fields) -> int:
    n = fields.integer("n")
    if n is not None and n < 1:
        raise BadRequest(f"'n' must be at least 1, not {n}.")
    return n or 1


def _stop(fields: Fields) -> tuple[str, ...]:
    stop = fields.take("stop")
    if stop is None:
        return ()
    if isinstance(stop, str):
        return (stop,)
    if not isinstance(stop, list) or not all(isinstance(one, str) for one in stop):
        raise fields.wrong("stop", "a text or a list of texts", stop)
    return tuple(stop)


def _stream_usage(fields: Fields, extra: dict[str, Any]) -> bool:
    options = Fields(fields.map("stream_options") or {}, "stream_options")
    usage = options.flag("include_usage") or False
    if options.rest():
        extra["stream_options"] = options.rest()
    return usage


def _format(fields: Fields, extra: dict[str, Any]) -> Format | None:
    given = fields.map("response_format")
    if given is None or given == {"type": "text"}:
        return None
    outer = Fields(given, "response_format")
    kind = outer.need("type")
    if kind == "json_object":
        found = Format(kind="json_object", schema=outer.map("schema"))
        if not outer.rest():
            return found
    elif kind == "json_schema":
        inner = Fields(outer.map("json_schema") or {}, "response_format.json_schema")
        found = Format(
            kind="json_schema",
            name=inner.text("name"),
            description=inner.text("description"),
            schema=inner.map("schema"),
            strict=inner.flag("strict"),
        )
        if not outer.rest() and not inner.rest():
            return found
    extra["response_format"] = given
    return None


def _thought(fields: Fields, spelling: dict[str, str]) -> Thought | None:
    effort = fields.text("reasoning_effort")
    if effort is not None:
        return Thought(effort=effort)
    given = fields.map("reasoning")
    if not given:
        return None
    spelling["thought"] = "reasoning"
    inner = Fields(given, "reasoning")
    effort, budget = inner.text("effort"), inner.integer("max_tokens")
    return Thought(effort=effort, budget_tokens=budget, extra=inner.rest())


# --- tools ------------------------------------------------------------------------------------------------------------


def _tools(fields: Fields, spelling: dict[str, str]) -> tuple[Tool | OpaqueTool, ...]:
    tools = [_tool(one, f"tools[{index}]") for index, one in enumerate(fields.items("tools"))]
    functions = fields.items("functions")
    if functions:
        spelling["tools"] = "functions"
        for index, one in enumerate(functions):
            tools.append(_tool({"type": "function", "function": one}, f"functions[{index}]"))
    return tuple(tools)


def _tool(value: Any, where: str) -> Tool | OpaqueTool:
    outer = Fields(value, where)
    if (outer.text("type") or "function") != "function":
        return OpaqueTool(dialect=NAME, value=value)
    cache = outer.map("cache_control")
    inner = outer.need_inner("function")
    return Tool(
        name=inner.need("name"),
        description=inner.text("description"),
        parameters=inner.map("parameters"),
        strict=inner.flag("strict"),
        cache=cache,
        extra=outer.rest() | ({"function": inner.rest()} if inner.rest() else {}),
    )


def _tool_choice(fields: Fields, extra: dict[str, Any]) -> ToolChoice | None:
    given = fields.take("tool_choice")
    legacy = fields.take("function_call")
    if given is None and legacy is not None:
        given = {"type": "function", "function": legacy} if isinstance(legacy, dict) else legacy
    match given:
        case None:
            return None
        case "auto" | "none" | "required":
            return ToolChoice(mode=ChoiceMode(given))
        case {"type": "function", "function": {"name": str(name)}}:
            return ToolChoice(mode=ChoiceMode.TOOL, name=name)
        case str() | dict():
            extra["tool_choice"] = given
            return None
    raise fields.wrong("tool_choice", "a text or an object", given)


# --- messages ---------------------------------------------------------------------------------------------------------


def _turns(fields: Fields, spelling: dict[str, str]) -> tuple[Turn, ...]:
    messages = fields.items("messages")
    if not messages:
        raise fields.missing("messages", "a list of at least one message")
    reader = _Messages(spelling)
    return tuple(reader.turn(value, index) for index, value in enumerate(messages))


class _Messages:
    """Reads the messages in order: a deprecated ``function`` message answers the latest call of its name."""

    def __init__(self, spelling: dict[str, str]) -> None:
        self._spelling = spelling
        self._calls: dict[str, str] = {}

    def turn(self, value: Any, index: int) -> Turn:
        fields = Fields(value, f"messages[{index}]")
        role = fields.need("role")
        name = fields.text("name")
        match role:
            case "system" | "developer" | "user":
                if role == "developer":
                    self._spelling["system"] = "developer"
                parts = [*self._content(fields), *_others(fields)]
                return Turn(role="user" if role == "user" else "system", parts=tuple(parts), name=name)
            case "assistant":
                return Turn(role="assistant", parts=tuple(self._assistant(fields, index)), name=name)
            case "tool":
                return Turn(role="tool", parts=self._output(fields, fields.need("tool_call_id"), value), name=name)
            case "function":
                if name is None:
                    raise BadRequest(f"'{fields.path('name')}' is missing: a function message names its function.")
                return Turn(role="tool", parts=self._output(fields, self._calls.get(name, f"call_{name}"), value))
        raise fields.wrong("role", "one of " + ", ".join(_ROLES), role)

    def _assistant(self, fields: Fields, index: int) -> list[Part]:
        parts: list[Part] = []
        thought = self._thinking(fields)
        if thought:
            parts.append(Thinking(text=thought))
        parts.extend(self._content(fields))
        refusal = fields.text("refusal")
        if refusal:
            parts.append(Refusal(text=refusal))
        for number, call in enumerate(fields.items("tool_calls")):
            parts.extend(_call(call, f"{fields.where}.tool_calls[{number}]"))
        legacy = fields.map("function_call")
        if legacy is not None:
            inner = Fields(legacy, fields.path("function_call"))
            use = ToolUse(id=f"call_{index}", name=inner.need("name"), arguments=_arguments(inner))
            self._calls[use.name] = use.id
            parts.append(use)
        return [*parts, *_others(fields)]

    def _thinking(self, fields: Fields) -> str | None:
        content = fields.text("reasoning_content")
        other = fields.value.get("reasoning")
        if isinstance(other, str) and (not content or other in ("", content)):
            fields.take("reasoning")
            if not content and other:
                self._spelling["thinking"] = "reasoning"
                return other
        return content

    def _content(self, fields: Fields) -> list[Part]:
        content = fields.take("content")
        if content is None:
            return []
        if isinstance(content, str):
            return [Text(text=content)] if content else []
        if not isinstance(content, list):
            raise fields.wrong("content", "a text or a list of parts", content)
        parts = [self._part(one, f"{fields.path('content')}[{index}]") for index, one in enumerate(content)]
        return [part for part in parts if part not in (Text(text=""), Refusal(text=""))]

    def _part(self, value: Any, where: str) -> Part:
        if isinstance(value, str):
            return Text(text=value)
        fields = Fields(value, where)
        kind = fields.need("type")
        if kind == "text":
            part: Part = Text(text=fields.need("text"), cache=self._cache(fields))
        elif kind == "refusal":
            part = Refusal(text=fields.need("refusal"))
        elif kind == "image_url":
            part = self._image(fields, value)
        else:
            return Opaque(dialect=NAME, kind=kind, value=value, hint=kind == "thinking")
        said_more = any(left not in EMPTY for left in fields.rest().values())
        return Opaque(dialect=NAME, kind=kind, value=value) if said_more else part

    def _image(self, fields: Fields, whole: dict[str, Any]) -> Part:
        given = fields.take("image_url")
        cache = self._cache(fields)
        inner = Fields({"url": given} if isinstance(given, str) else given, fields.path("image_url"))
        url, detail = inner.need("url"), inner.text("detail")
        if inner.rest():
            return Opaque(dialect=NAME, kind="image_url", value=whole)
        data = _DATA_URL.fullmatch(url)
        if data:
            return Image(data=data[2], media_type=data[1], detail=detail, cache=cache)
        return Image(url=url, detail=detail, cache=cache)

    def _output(self, fields: Fields, call_id: str, message: dict[str, Any]) -> tuple[Part, ...]:
        parts = self._content(fields)
        plain = tuple(part for part in parts if isinstance(part, Text | Image))
        if len(plain) != len(parts):
            return (Opaque(dialect=NAME, kind="tool_message", value=message),)
        return (ToolOutput(call_id=call_id, parts=plain), *_others(fields))

    def _cache(self, fields: Fields) -> dict[str, Any] | None:
        """A mark in the words of ``neutral.Text.cache``: OpenAI's longer time to live becomes the longer one there."""
        mark = fields.map("prompt_cache_breakpoint")
        if mark is None:
            return fields.map("cache_control")
        self._spelling["cache"] = "prompt_cache_breakpoint"
        return {"type": "ephemeral"} | ({"ttl": "1h"} if mark.get("ttl") == "12h" else {})


def _call(value: Any, where: str) -> list[Part]:
    fields = Fields(value, where)
    if (fields.text("type") or "function") != "function":
        return [Opaque(dialect=NAME, kind="tool_call", value=value)]
    fields.take("index")
    inner = fields.need_inner("function")
    use = ToolUse(id=fields.need("id"), name=inner.need("name"), arguments=_arguments(inner))
    if not fields.rest():
        return [use]
    more = {"id": use.id, "extra": fields.rest()}
    return [use, Opaque(dialect=NAME, kind="tool_call_extra", value=more, hint=True)]


def _arguments(fields: Fields) -> str:
    """Raw JSON text; some clients send the object itself."""
    value = fields.take("arguments")
    if isinstance(value, dict | list):
        return dumps(value).decode()
    if value is not None and not isinstance(value, str):
        raise fields.wrong("arguments", "a text that holds JSON", value)
    return value or "{}"


def _others(fields: Fields) -> list[Part]:
    """Fields of a message that no part stands for."""
    return [
        Opaque(dialect=NAME, kind="message", value={key: value}, hint=key in HINTS)
        for key, value in fields.rest().items()
        if value not in EMPTY
    ]
