"""The messages of a span: prompt, answer, and definitions of tools, under the names of four conventions.

What it knows: OpenTelemetry's ``gen_ai.input.messages`` and the span events before them, OpenLLMetry's numbered
``gen_ai.prompt.N``, OpenInference's ``llm.input_messages.N.message`` and the Vercel AI SDK's ``ai.prompt.messages``.
What it does not do: spans, tokens, ids (``otel.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from potstill.logs.conversation import Conversation, told
from potstill.logs.formats.values import mapping, structured

Attributes = Mapping[str, Any]
Events = Iterable[tuple[str, Attributes]]
_INFERENCE = "gen_ai.client.inference.operation.details"
_ROLES = {f"gen_ai.{role}.message": role for role in ("system", "user", "assistant", "tool")}


def conversation(attributes: Attributes, events: Events) -> Conversation:
    """What a span's call was told and answered."""
    prompt, answer = [], []
    for name, said in events:
        if name == _INFERENCE or name.startswith("gen_ai.content."):
            attributes = {**attributes, **said}
        elif name in _ROLES:
            prompt.append(_event(said, _ROLES[name]))
        elif name == "gen_ai.choice":
            answer.append(_event({**said, **mapping(said.get("message"))}, "assistant"))
    return told(
        _prompt(attributes) or prompt or _value(attributes, "gen_ai.prompt", "input.value"),
        _answer(attributes) or answer[:1] or _value(attributes, "gen_ai.completion", "output.value"),
        system=structured(attributes.get("gen_ai.system_instructions")),
        tools=_tools(attributes),
    )


def _prompt(attributes: Attributes) -> Any:
    for name in ("gen_ai.input.messages", "ai.prompt.messages"):
        if name in attributes:
            return structured(attributes[name])
    return _openinference(attributes, "llm.input_messages") or _numbered(attributes, "gen_ai.prompt")


def _answer(attributes: Attributes) -> Any:
    if "gen_ai.output.messages" in attributes:
        messages = structured(attributes["gen_ai.output.messages"])
        return messages[:1] if isinstance(messages, list) else messages
    if "ai.response.text" in attributes:
        return attributes["ai.response.text"]
    told_messages = _openinference(attributes, "llm.output_messages") or _numbered(attributes, "gen_ai.completion")
    return told_messages[:1]


def _tools(attributes: Attributes) -> Any:
    if "gen_ai.tool.definitions" in attributes:
        return structured(attributes["gen_ai.tool.definitions"])
    tools = [tool.get("tool.json_schema") for tool in _items(attributes, "llm.tools")]
    return tools or [dict(tool) for tool in _items(attributes, "llm.request.functions")]


def _value(attributes: Attributes, *names: str) -> Any:
    """A prompt or answer in one attribute: messages as JSON, or a text."""
    value = next((attributes[name] for name in names if name in attributes), None)
    inner = structured(value)
    if isinstance(inner, Mapping) and isinstance(inner.get("messages"), list):
        return inner["messages"]
    return inner if isinstance(inner, list) else value


def _event(said: Attributes, role: str) -> dict[str, Any]:
    return {**said, "role": role, "tool_calls": structured(said.get("tool_calls")), "tool_call_id": said.get("id")}


def _numbered(attributes: Attributes, prefix: str) -> list[dict[str, Any]]:
    """OpenLLMetry's messages."""
    messages = []
    for item in _items(attributes, prefix):
        calls = [dict(call) for call in _items(item, "tool_calls")]
        messages.append({**item, "content": structured(item.get("content")), "tool_calls": calls})
    return messages


def _openinference(attributes: Attributes, prefix: str) -> list[dict[str, Any]]:
    messages = []
    for item in _items(attributes, prefix):
        message = _under(item, "message")
        parts = [_part(_under(part, "message_content")) for part in _items(message, "contents")]
        calls = [_call(_under(call, "tool_call")) for call in _items(message, "tool_calls")]
        content = message.get("content")
        messages.append({**message, "content": parts if content is None and parts else content, "tool_calls": calls})
    return messages


def _part(part: Attributes) -> dict[str, Any]:
    url = part.get("image.image.url")
    return {"type": "image", "url": url} if url is not None else {"type": "text", "text": part.get("text", "")}


def _call(call: Attributes) -> dict[str, Any]:
    function = {"name": call.get("function.name"), "arguments": call.get("function.arguments")}
    return {"id": call.get("id"), "function": function}


def _items(attributes: Attributes, prefix: str) -> list[dict[str, Any]]:
    """The elements of an array that was written as ``prefix.N.name``, in the order of N."""
    found: dict[int, dict[str, Any]] = {}
    start = prefix + "."
    for key, value in attributes.items():
        if key.startswith(start):
            index, _, name = key[len(start) :].partition(".")
            if index.isdecimal() and name:
                found.setdefault(int(index), {})[name] = value
    return [found[index] for index in sorted(found)]


def _under(attributes: Attributes, prefix: str) -> dict[str, Any]:
    """The attributes below a name, without it."""
    start = prefix + "."
    return {key[len(start) :]: value for key, value in attributes.items() if key.startswith(start)}
