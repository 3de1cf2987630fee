"""How messages become the text that a local model reads.

Two templates: ``chat``, the model file's own (rendered by llama.cpp), and ``plain``, a transcript for base models:
what the world says stands as it is, what the agent did stands behind ``>``. Both only grow: the rendering of the first
k messages begins the rendering of more, so a prefix cache never has to evaluate old text again.

Knows text only. Does not tokenise and does not talk to a model. ``neutralise`` keeps stored text from forging roles.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from potstill.types import Message, Purpose, ToolSpec

Template = Literal["chat", "plain"]

CUE = ">"
"""Begins the line that the model continues. Without a space: tokenizers join the space to the next word."""

Control = re.Pattern[str] | None
"""Finds the control tokens of a model in a text; made by ``control_pattern``. None: nothing is control."""


def control_pattern(tokens: Iterable[str]) -> Control:
    """A pattern that finds these control tokens, the longest first."""
    longest_first = sorted({token for token in tokens if len(token) > 1}, key=lambda token: (-len(token), token))
    return re.compile("|".join(re.escape(token) for token in longest_first)) if longest_first else None


def neutralise(text: str, control: Control) -> str:
    """Break up what the tokenizer would take for a control token, such as ``<|im_end|>``, by one space.

    Observations and actions come from outside; without this a game could open a system message.
    """
    if control is None:
        return text
    return control.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)


def plain(messages: Sequence[Message], control: Control = None, *, cue: bool = True) -> str:
    """The transcript of the messages, with the cue for an answer at its end.

    >>> plain([Message(role="user", content="You see a door.")])
    'You see a door.\\n>'
    """
    return "".join(_line(message, control) for message in messages) + (CUE if cue else "")


def _line(message: Message, control: Control) -> str:
    text = neutralise(message.content, control)
    if message.role != "assistant":
        return text + "\n"
    calls = [json.dumps(_call(call.name, call.arguments)) for call in message.tool_calls]
    return "".join(f"{CUE} {part}\n" for part in ([text] if text or not calls else []) + calls)


def plain_stops(purpose: Purpose) -> tuple[str, ...]:
    """What ends an answer in the transcript where the request does not say: the line, or for thoughts a blank line."""
    return ("\n",) if purpose is Purpose.ACT else ("\n\n", f"\n{CUE}")


def chat_messages(messages: Sequence[Message], control: Control = None) -> list[dict[str, str]]:
    """The messages as every chat template takes them: text only, tool calls and results written out."""
    rendered = []
    for message in messages:
        text = neutralise(message.content, control)
        calls = "\n".join(json.dumps(_call(call.name, call.arguments)) for call in message.tool_calls)
        text = "\n".join(part for part in (text, calls) if part)
        role = "user" if message.role == "tool" else message.role
        rendered.append({"role": role, "content": f"Result: {text}" if message.role == "tool" else text})
    return rendered


def with_tools(messages: Sequence[Message], tools: Sequence[ToolSpec]) -> tuple[Message, ...]:
    """The messages with the tools described in the system text, for models whose template knows no tools."""
    listing = "\n".join(
        json.dumps({"name": tool.name, "description": tool.description, "parameters": tool.parameters})
        for tool in tools
    )
    text = (
        f"You can call these tools:\n{listing}\n"
        'To call one, answer only with JSON: {"name": "the tool", "arguments": {...}}. Else answer in words.'
    )
    if messages and messages[0].role == "system":
        first = Message(role="system", content=f"{messages[0].content}\n\n{text}")
        return (first, *messages[1:])
    return (Message(role="system", content=text), *messages)


def _call(name: str, arguments: str) -> dict[str, Any]:
    try:
        parsed = json.loads(arguments)
    except ValueError:
        parsed = arguments
    return {"name": name, "arguments": parsed}
