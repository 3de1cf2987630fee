"""Conversational JSONL for TRL's trainers: whole conversations, or one of the model's messages a row.

What it knows: TRL's dataset formats (huggingface.co/docs/trl/dataset_formats, read 2026-11): ``messages`` for language
modelling, ``prompt`` and ``completion``, both with ``tools``; arguments of calls are objects there and no text. What it
does not do: find the conversations (``finetuning``), chat templates, images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any, BinaryIO

import msgspec

from potstill.errors import NOT_JSON
from potstill.trajectories.finetuning import EVERYBODY, Conversation, Unfit, blobs, whole_answers, write_rows
from potstill.trajectories.openai_chat import tool_told
from potstill.types import Answerer, Message, ToolSpec, Trajectory


def write_trl(
    trajectories: Iterable[Trajectory],
    target: BinaryIO,
    *,
    by_step: bool = False,
    all_outcomes: bool = False,
    answerers: Collection[Answerer] = EVERYBODY,
    reasoning: bool = False,
    left_out: Counter[str] | None = None,
) -> int:
    """A row for each conversation, or with ``by_step`` for each message that is to be learnt; how many were written.

    A whole conversation has no weights: one in which somebody else than ``answerers`` answered is left out.
    ``reasoning``: what was thought stands before what was done.
    """
    return write_rows(
        trajectories,
        target,
        _steps if by_step else _whole,
        all_outcomes=all_outcomes,
        answerers=answerers,
        reasoning=reasoning,
        left_out=left_out,
    )


def told_tools(tools: Iterable[ToolSpec]) -> dict[str, Any]:
    """The column for tools, where there are any."""
    told = [tool_told(tool) for tool in tools]
    return {"tools": told} if told else {}


def told_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as TRL takes them. Raises ``Unfit`` for images, and for arguments that are no JSON object."""
    if next(blobs(messages), None) is not None:
        raise Unfit("it holds images, which this format cannot say")
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    return [_message(message, names) for message in messages]


def _whole(said: Conversation) -> list[dict[str, Any]]:
    whole_answers(said)
    return [{"messages": told_messages(said.messages), **told_tools(said.tools)}]


def _steps(said: Conversation) -> list[dict[str, Any]]:
    messages, tools = told_messages(said.messages), told_tools(said.tools)
    return [{"prompt": messages[:at], "completion": [messages[at]], **tools} for at in sorted(said.learnt)]


def _message(message: Message, names: dict[str, str]) -> dict[str, Any]:
    told: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_call_id is not None:
        told |= {"tool_call_id": message.tool_call_id, "name": names.get(message.tool_call_id, "")}
    if message.tool_calls:
        told["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _object(call.arguments)}}
            for call in message.tool_calls
        ]
    return told


def _object(arguments: str) -> Any:
    """Raises ``Unfit`` for arguments that are no JSON object: nobody wants to learn to write those."""
    try:
        return msgspec.json.decode(arguments, type=dict[str, Any])
    except NOT_JSON:
        raise Unfit("a tool was called with arguments that are no JSON object") from None
