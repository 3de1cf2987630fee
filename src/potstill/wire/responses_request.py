"""Requests of the responses dialect to ``neutral.Prompt`` and back.

What it knows: every field of a request, and what becomes of fields that only one dialect has.
What it does not do: items (``responses_items``), answers.

Fields that stay in ``Prompt.extra``. Another dialect's encoder may drop those in ``HARMLESS`` (they steer storage,
caching, tiers, reports, or limits of built-in tools); every other one must raise ``Untranslatable``, above all those in
``HISTORY``: with them a part of the conversation lies at the provider, and no other upstream can know it.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from potstill.errors import BadRequest, Untranslatable
from potstill.wire.neutral import ChoiceMode, Format, OpaqueTool, Prompt, Text, Thought, Tool, ToolChoice, Turn
from potstill.wire.reading import Fields, dumps, load
from potstill.wire.responses_content import NAME
from potstill.wire.responses_items import decode_items, encode_turns, raw_reasoning

HISTORY = frozenset({"previous_response_id", "conversation", "prompt"})
HARMLESS = frozenset(
    {
        "access_programs",
        "background",
        "background_options",
        "client_metadata",
        "image",
        "include",
        "max_tool_calls",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "stream_options",
        "truncation",
        "verbosity",
    }
)
"""``include`` asks for details of what only this dialect has; ``truncation`` matters where the context overflows, which
another upstream says itself; ``verbosity`` is a hint to the model."""

FROM_CHAT = frozenset(
    {"prompt_cache_key", "prompt_cache_retention", "safety_identifier", "service_tier", "store", "verbosity"}
)
"""Fields of chat completions that mean the same here: carried over."""
DROPPED = {
    "openai-chat": frozenset({"stream_options", "prediction", "prompt_cache_options"}),
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
}
"""Fields of other dialects that may be left out here: they change speed, place or price, and no answer."""
_SILENT: dict[str, tuple[Any, ...]] = {"modalities": (["text"],), "repetition_penalty": (1,), "repeat_penalty": (1,)}
"""Values of other dialects' fields that say what holds without them; so do null, 0, false and what is empty."""

_LOGPROBS = "message.output_text.logprobs"
_KNOWN = frozenset(
    {
        "model",
        "instructions",
        "input",
        "tools",
        "parallel_tool_calls",
        "text",
        "reasoning",
        "max_output_tokens",
        "temperature",
        "top_p",
        "top_logprobs",
        "metadata",
        "user",
        "stream",
        "include",
        "tool_choice",
    }
)
_FUNCTION = frozenset({"type", "name", "description", "parameters", "strict"})

# --- decode -----------------------------------------------------------------------------------------------------------


def decode_request(body: bytes) -> Prompt:
    """Raises ``BadRequest``, naming the field."""
    fields = load(body, BadRequest, "The request's body")
    spelling: dict[str, str] = {}
    extra = fields.rest(_KNOWN)
    include = [value for value in fields.items("include") if value != _LOGPROBS]
    top_logprobs = fields.count("top_logprobs")
    choice = _decode_choice(fields, extra)
    if include:
        extra["include"] = include
    return Prompt(
        model=fields.need("model"),
        turns=_decode_turns(fields, spelling),
        tools=tuple(_decode_tool(Fields(tool, f"tools[{index}]")) for index, tool in enumerate(fields.items("tools"))),
        tool_choice=choice,
        parallel_tool_calls=fields.flag("parallel_tool_calls"),
        format=_decode_format(fields, extra),
        thought=_decode_thought(fields),
        max_tokens=fields.count("max_output_tokens"),
        temperature=fields.number("temperature"),
        top_p=fields.number("top_p"),
        logprobs=_LOGPROBS in fields.items("include") or bool(top_logprobs),
        top_logprobs=top_logprobs,
        stream=fields.flag("stream") or False,
        stream_usage=True,
        user=fields.text("user"),
        metadata=fields.map("metadata") or {},
        dialect=NAME,
        spelling=spelling,
        extra=extra,
    )


def _decode_turns(fields: Fields, spelling: dict[str, str]) -> tuple[Turn, ...]:
    """``instructions`` are the first system turn. ``spelling`` says where the first one came otherwise."""
    turns: list[Turn] = []
    value = fields.value.get("input")
    if isinstance(value, str):
        turns = [Turn(role="user", parts=(Text(text=value),))]
    elif value is None and not HISTORY & fields.value.keys():
        raise BadRequest("'input' is missing: it must be a text or a list of items.")
    elif value is not None and not isinstance(value, list):
        raise BadRequest("'input' must be a text or a list of items.")
    else:
        turns = decode_items(fields.items("input"), "input", spelling)
    instructions = fields.text("instructions")
    if instructions is not None:
        return (Turn(role="system", parts=(Text(text=instructions),)), *turns)
    if turns and turns[0].role == "system":
        spelling["instructions"] = "input"
    return tuple(turns)


def _decode_tool(tool: Fields) -> Tool | OpaqueTool:
    """A function with fields beyond the common ones (deferred loading, callers) is more than other dialects can say."""
    if tool.need("type") != "function" or tool.rest(_FUNCTION):
        return OpaqueTool(dialect=NAME, value=tool.value)
    return Tool(
        name=tool.need("name"),
        description=tool.text("description"),
        parameters=tool.map("parameters"),
        strict=tool.flag("strict"),
    )


def _decode_choice(fields: Fields, extra: dict[str, Any]) -> ToolChoice | None:
    value = fields.value.get("tool_choice")
    if value is None:
        return None
    if isinstance(value, str):
        if value not in ("auto", "none", "required"):
            raise BadRequest(f"'tool_choice' is '{value}'; allowed: auto, none, required, or an object.")
        return ToolChoice(mode=ChoiceMode(value))
    choice = Fields(value, "tool_choice")
    if choice.need("type") == "function" and not choice.rest(frozenset({"type", "name"})):
        return ToolChoice(mode=ChoiceMode.TOOL, name=choice.need("name"))
    extra["tool_choice"] = value
    return None


def _decode_format(fields: Fields, extra: dict[str, Any]) -> Format | None:
    text = fields.inner("text")
    if text is None:
        return None
    if text.text("verbosity") is not None:
        extra["verbosity"] = text.text("verbosity")
    if text.rest(frozenset({"format", "verbosity"})):
        extra["text"] = text.rest(frozenset({"format", "verbosity"}))
    form = text.inner("format")
    kind = form.need("type") if form is not None else "text"
    if form is None or kind == "text":
        return None
    if kind == "json_object":
        return Format(kind="json_object")
    if kind == "json_schema":
        return Format(
            kind="json_schema",
            name=form.text("name"),
            description=form.text("description"),
            schema=form.map("schema"),
            strict=form.flag("strict"),
        )
    raise BadRequest(f"'text.format.type' is '{kind}'; allowed: text, json_object, json_schema.")


def _decode_thought(fields: Fields) -> Thought | None:
    reasoning = fields.inner("reasoning")
    if reasoning is None:
        return None
    return Thought(
        effort=reasoning.text("effort"),
        summary=reasoning.text("summary"),
        extra=reasoning.rest(frozenset({"effort", "summary"})),
    )


# --- encode -----------------------------------------------------------------------------------------------------------


def encode_request(prompt: Prompt, reasoning: Literal["summary", "content"] = "summary") -> bytes:
    """Raises ``Untranslatable`` for ``n`` above 1, stop texts, and what only another dialect can say.

    A request from another dialect says ``store: false`` (here the default is true) and tools that are not strict
    (here the default is strict). ``reasoning``: where the upstream reads earlier reasoning (``raw_reasoning`` says who
    differs). ``seed`` is a wish for repetition that no provider guarantees: left out.
    """
    _refuse(prompt)
    own = prompt.dialect == NAME
    body: dict[str, Any] = {"model": prompt.model} | _encode_turns(prompt, own)
    if reasoning == "content":
        body["input"] = raw_reasoning(body["input"])
    body |= settings_of(prompt)
    include = list(prompt.extra.get("include", [])) if own else []
    if prompt.logprobs:
        include.append(_LOGPROBS)
    if include:
        body["include"] = include
    if prompt.stream:
        body["stream"] = True
    return dumps(body, BadRequest, "The request")


def _encode_turns(prompt: Prompt, own: bool) -> dict[str, Any]:
    turns, system = prompt.turns, prompt.spelling.get("system", "system") if own else "system"
    head: dict[str, Any] = {}
    first = turns[0] if turns else None
    if first is not None and first.role == "system" and not (own and prompt.spelling.get("instructions") == "input"):
        texts = [part.text for part in first.parts if isinstance(part, Text)]
        if texts and len(texts) == len(first.parts):
            head, turns = {"instructions": "\n\n".join(texts)}, turns[1:]
    return head | {"input": encode_turns(turns, dialect=prompt.dialect, system=system)}


def settings_of(prompt: Prompt) -> dict[str, Any]:
    """Everything but model, conversation, ``include`` and ``stream``; an answer repeats these fields."""
    own = prompt.dialect == NAME
    body: dict[str, Any] = {
        "tools": [_encode_tool(tool, own) for tool in prompt.tools] or None,
        "tool_choice": _encode_choice(prompt.tool_choice) if prompt.tool_choice else None,
        "parallel_tool_calls": prompt.parallel_tool_calls,
        "text": _encode_text(prompt),
        "reasoning": _encode_thought(prompt.thought, own) if prompt.thought else None,
        "max_output_tokens": prompt.max_tokens,
        "temperature": prompt.temperature,
        "top_p": prompt.top_p,
        "top_logprobs": prompt.top_logprobs,
        "metadata": _encode_metadata(prompt.metadata, own),
        "user": prompt.user,
        "store": None if own else False,
    }
    return {key: value for key, value in body.items() if value is not None} | _encode_extra(prompt, own)


def _encode_extra(prompt: Prompt, own: bool) -> dict[str, Any]:
    """Fields that go as they came. Verbosity stands in ``text``, ``include`` is written with its neighbours."""
    if own:
        return {key: value for key, value in prompt.extra.items() if key not in ("include", "verbosity", "text")}
    carried = FROM_CHAT if prompt.dialect == "openai-chat" else frozenset()
    return {key: value for key, value in prompt.extra.items() if key in carried and key != "verbosity"}


def _encode_tool(tool: Tool | OpaqueTool, own: bool) -> dict[str, Any]:
    if isinstance(tool, OpaqueTool):
        if tool.dialect == NAME:
            return tool.value
        raise Untranslatable(
            f"'tools' holds one of type '{tool.value.get('type')}', which only the dialect '{tool.dialect}' knows; "
            f"'{NAME}' cannot say it. Leave it out, or use a model behind '{tool.dialect}'."
        )
    strict = tool.strict if own or tool.strict is not None else False
    encoded = {"type": "function", "name": tool.name, "description": tool.description, "parameters": tool.parameters}
    if not own and tool.parameters is None:
        encoded["parameters"] = {"type": "object", "properties": {}}
    return {key: value for key, value in (encoded | {"strict": strict}).items() if value is not None}


def _encode_choice(choice: ToolChoice) -> str | dict[str, Any]:
    return {"type": "function", "name": choice.name} if choice.mode is ChoiceMode.TOOL else choice.mode.value


def _encode_text(prompt: Prompt) -> dict[str, Any] | None:
    text: dict[str, Any] = {}
    if prompt.dialect == NAME:
        text |= prompt.extra.get("text", {})
    if prompt.dialect in (NAME, "openai-chat") and prompt.extra.get("verbosity") is not None:
        text["verbosity"] = prompt.extra["verbosity"]
    if prompt.format is not None:
        form = msgspec.to_builtins(prompt.format)
        form["type"] = form.pop("kind")
        if form["type"] == "json_schema":
            form.setdefault("name", "answer")
        text["format"] = form
    return text or None


def _encode_thought(thought: Thought, own: bool) -> dict[str, Any] | None:
    """Effort where it is said, else the level that a budget of tokens is worth."""
    effort, budget = thought.effort, thought.budget_tokens
    if effort is None and budget is not None:
        effort = "low" if budget <= 4096 else "medium" if budget <= 16384 else "high"
    named = {"effort": effort, "summary": thought.summary}
    reasoning = {key: value for key, value in named.items() if value is not None}
    return (reasoning | (thought.extra if own else {})) or None


def _encode_metadata(metadata: dict[str, Any], own: bool) -> dict[str, Any] | None:
    """Texts under short keys, as this dialect wants them; other values are no concern of the model's."""
    if own:
        return metadata or None
    return {key: value for key, value in metadata.items() if isinstance(value, str) and len(value) <= 512} or None


def _refuse(prompt: Prompt) -> None:
    if prompt.n > 1:
        raise Untranslatable(f"'n' is {prompt.n}: the dialect '{NAME}' gives one answer. Ask {prompt.n} times.")
    if prompt.stop:
        raise Untranslatable(
            f"'stop' is set: the dialect '{NAME}' knows no stop texts. Leave it out, or use another model."
        )
    if prompt.dialect == NAME:
        return
    allowed = DROPPED.get(prompt.dialect, frozenset()) | (FROM_CHAT if prompt.dialect == "openai-chat" else frozenset())
    for key, value in prompt.extra.items():
        if key not in allowed and value and value not in _SILENT.get(key, ()):
            raise Untranslatable(
                f"'{key}' is a field that the dialect '{NAME}' cannot say. Leave it out, or use a model behind "
                f"'{prompt.dialect}'."
            )
