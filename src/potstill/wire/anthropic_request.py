"""A request in Anthropic's messages dialect to a ``Prompt`` and back.

What it knows: where the dialect puts system texts and results of tools, which fields are required, and how a history
from another dialect is made one that Anthropic accepts. What it does not do: blocks (``anthropic_blocks``), the
options beside the messages (``anthropic_options``), answers.

Read: ``tool_result`` blocks of a user's message become ``tool`` turns, its other blocks ``user`` turns, in their order.
A body without ``max_tokens`` is read too (``/messages/count_tokens`` has none).

Written, and why:

- Neighbours of one role become one message; results of tools come first in it (Anthropic wants them there).
- System turns before all others go to ``system``. A later one stays where it is: as a ``system`` message where the
  prompt came in this dialect, else as a user's text between ``<system>`` tags, because many models refuse the role
  ``system`` in the middle and moving the text to the top would change what it refers to and break prompt caches. It
  never gains authority that way. A prompt of system turns alone is sent as the user's message.
- ``max_tokens`` is required: ``DEFAULT_MAX_TOKENS`` where another dialect said nothing.
- A temperature above 1, Anthropic's highest, ``n`` above 1, log-probabilities and JSON mode without a schema raise
  ``Untranslatable``. A temperature or ``top_p`` of 1 is everybody's default and left out: newer models refuse both.
- ``seed`` is left out: it is a best effort wherever it exists.
- The name of a user in a conversation of several is put before the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from potstill.errors import Untranslatable
from potstill.wire.anthropic_blocks import NAME, Malformed, blocks_of, fields_of, parts_of, plain
from potstill.wire.anthropic_options import (
    foreign_fields,
    read_choice,
    read_format,
    read_thought,
    read_tools,
    write_choice,
    write_format,
    write_thought,
    write_tools,
)
from potstill.wire.neutral import Part, Prompt, Text, ToolOutput, Turn
from potstill.wire.reading import Fields, dumps, load, said

DEFAULT_MAX_TOKENS = 32_000
"""The most that every model since Claude Opus 4.1 gives; a lower default would cut answers that nobody wanted cut."""

_KNOWN = {
    "model",
    "messages",
    "system",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "max_tokens",
    "temperature",
    "top_p",
    "stop_sequences",
    "stream",
    "metadata",
}

# --- reading ----------------------------------------------------------------------------------------------------------


def read_request(body: bytes) -> Prompt:
    """Raises ``Malformed``."""
    raw = load(body, Malformed)
    choice, parallel = read_choice(raw.inner("tool_choice"))
    output = raw.inner("output_config") or fields_of({}, "output_config")
    metadata = raw.inner("metadata") or fields_of({}, "metadata")
    user, format, effort = metadata.text("user_id"), output.inner("format"), output.text("effort")
    return Prompt(
        model=raw.need("model"),
        turns=_read_turns(raw),
        tools=read_tools(raw.items("tools")),
        tool_choice=choice,
        parallel_tool_calls=parallel,
        format=read_format(format),
        thought=read_thought(raw.map("thinking"), effort),
        max_tokens=raw.count("max_tokens"),
        temperature=raw.number("temperature"),
        top_p=raw.number("top_p"),
        stop=_stop(raw),
        stream=raw.flag("stream") or False,
        stream_usage=True,
        user=user,
        metadata={key: value for key, value in metadata.value.items() if key != "user_id"},
        dialect=NAME,
        extra={key: value for key, value in raw.value.items() if key not in _KNOWN}
        | ({"output_config": output.rest()} if output.rest() else {}),
    )


def _stop(raw: Fields) -> tuple[str, ...]:
    values = raw.items("stop_sequences")
    for index, value in enumerate(values):
        if not isinstance(value, str):
            raise Malformed(f"'stop_sequences.{index}' must be a text, not {said(value)}.")
    return tuple(values)


def _read_turns(raw: Fields) -> tuple[Turn, ...]:
    system = parts_of(raw.value.get("system"), "system")
    turns = [Turn(role="system", parts=system)] if system else []
    if raw.value.get("messages") is None:
        raise raw.missing("messages", "a list of messages")
    for index, message in enumerate(raw.items("messages")):
        turns.extend(_read_message(message, f"messages.{index}"))
    return tuple(turns)


def _read_message(value: Any, where: str) -> Iterable[Turn]:
    message = fields_of(value, where)
    role, content = message.need("role"), message.take("content")
    if content is None:
        raise message.missing("content", "a text or a list of blocks")
    parts = parts_of(content, message.path("content"))
    if role == "user":
        runs = [(tool, tuple(run)) for tool, run in groupby(parts, lambda part: isinstance(part, ToolOutput))]
        return [Turn(role="tool" if tool else "user", parts=run) for tool, run in runs or [(False, ())]]
    if role == "assistant":
        return [Turn(role="assistant", parts=parts)]
    if role == "system":
        return [Turn(role="system", parts=parts)]
    raise Malformed(f"'{where}.role' is '{role}'; allowed: user, assistant, system.")


# --- writing ----------------------------------------------------------------------------------------------------------


def write_request(prompt: Prompt) -> bytes:
    """The body that says ``prompt``. Raises ``Untranslatable``."""
    own = prompt.dialect == NAME
    _refuse(prompt, own)
    body: dict[str, Any] = {"model": prompt.model}
    body["max_tokens"] = DEFAULT_MAX_TOKENS if prompt.max_tokens is None else prompt.max_tokens
    body |= _context(prompt, own)
    for name, value in (("temperature", prompt.temperature), ("top_p", prompt.top_p)):
        if value is not None and (own or value != 1):
            body[name] = value
    if prompt.stop:
        body["stop_sequences"] = list(prompt.stop)
    if prompt.stream:
        body["stream"] = True
    metadata = prompt.metadata if own else {}
    if prompt.user is not None or metadata:
        body["metadata"] = ({} if prompt.user is None else {"user_id": prompt.user}) | metadata
    return dumps(body, Untranslatable, "The request")


def write_count(prompt: Prompt) -> bytes:
    """The body that asks ``/messages/count_tokens`` how long ``prompt`` is. Raises ``Untranslatable``."""
    body = {"model": prompt.model} | _context(prompt, prompt.dialect == NAME)
    return dumps(body, Untranslatable, "The request")


def _refuse(prompt: Prompt, own: bool) -> None:
    if prompt.n > 1:
        raise Untranslatable(f"n is {prompt.n}: Anthropic's dialect gives one answer to a request. Ask n times.")
    if prompt.logprobs:
        raise Untranslatable("logprobs: Anthropic's dialect has no log-probabilities. Leave the field out.")
    if not own and prompt.temperature is not None and not 0 <= prompt.temperature <= 1:
        raise Untranslatable(f"temperature is {prompt.temperature}; Anthropic's dialect takes 0 to 1.")


def _context(prompt: Prompt, own: bool) -> dict[str, Any]:
    """What counts as input, and the prompt's further fields."""
    system, messages = _messages(prompt.turns, own)
    context: dict[str, Any] = {"system": plain(system)} if system else {}
    context["messages"] = messages
    if prompt.tools:
        context["tools"] = write_tools(prompt.tools, own=own)
    choice = write_choice(prompt.tool_choice, prompt.parallel_tool_calls, tools=bool(prompt.tools))
    if choice is not None:
        context["tool_choice"] = choice
    thinking, effort = write_thought(prompt.thought, own=own) if prompt.thought else (None, None)
    if thinking is not None:
        context["thinking"] = thinking
    extra = dict(prompt.extra) if own else foreign_fields(prompt.extra, prompt.dialect)
    output = dict(extra.pop("output_config", {}))
    if effort is not None:
        output["effort"] = effort
    if prompt.format is not None:
        output["format"] = write_format(prompt.format)
    return context | ({"output_config": output} if output else {}) | extra


def _messages(turns: Sequence[Turn], own: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(blocks of ``system``, messages)."""
    leading = next((index for index, turn in enumerate(turns) if turn.role != "system"), len(turns))
    system = [block for index, turn in enumerate(turns[:leading]) for block in _blocks(turn, index, own)]
    merged: list[tuple[str, list[dict[str, Any]]]] = []
    for index, turn in enumerate(turns[leading:], start=leading):
        role, blocks = _role(turn, own), _blocks(_as_user(turn) if not own else turn, index, own)
        if blocks and merged and merged[-1][0] == role:
            merged[-1][1].extend(blocks)
        elif blocks:
            merged.append((role, blocks))
    if not merged and system:
        merged, system = [("user", system)], []
    messages = [
        {"role": role, "content": plain(blocks if own or role != "user" else _results_first(blocks))}
        for role, blocks in merged
    ]
    return system, messages


def _role(turn: Turn, own: bool) -> str:
    if turn.role == "tool" or (turn.role == "system" and not own):
        return "user"
    return turn.role


def _as_user(turn: Turn) -> Turn:
    """A turn of another dialect's that Anthropic has no role or field for, as a user's; others unchanged."""
    parts: tuple[Part, ...]
    if turn.role == "system":
        parts = tuple(
            Text(text=f"<system>\n{part.text}\n</system>", cache=part.cache) if isinstance(part, Text) else part
            for part in turn.parts
        )
    elif turn.role == "user" and turn.name and turn.parts and isinstance(turn.parts[0], Text):
        first = turn.parts[0]
        parts = (Text(text=f"{turn.name}: {first.text}", cache=first.cache), *turn.parts[1:])
    else:
        return turn
    return Turn(role=turn.role, parts=parts)


def _blocks(turn: Turn, index: int, own: bool) -> list[dict[str, Any]]:
    return blocks_of(turn.parts, f"turn {index} ({turn.role})", own=own)


def _results_first(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(blocks, key=lambda block: block["type"] != "tool_result")
