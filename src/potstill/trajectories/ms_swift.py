"""Rows for ms-swift's ``swift sft``: conversations in its standard format, as JSONL for ``--dataset FILE``.

What it knows: the format (swift.readthedocs.io/en/latest/Customization/Custom-dataset.html and .../Instruction/
Agent-support.html, read 2026-11): calls of tools are messages of their own, ``tool_call`` and ``tool_response``, tools
are a text of JSON, and ``loss`` says of each answer whether it is learnt. What it does not do: find conversations
(``finetuning``), images.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from potstill.trajectories.finetuning import Conversation
from potstill.trajectories.trl import told_messages, told_tools


def rows(said: Conversation) -> list[dict[str, Any]]:
    """One row: the conversation. Raises ``Unfit``."""
    messages = [
        part
        for at, message in enumerate(told_messages(said.messages))
        for part in _parts(message, learnt=at in said.learnt)
    ]
    tools = told_tools(said.tools).get("tools")
    return [{"messages": messages, **({"tools": msgspec.json.encode(tools).decode()} if tools else {})}]


def _parts(message: dict[str, Any], *, learnt: bool) -> Iterator[dict[str, Any]]:
    if message["role"] == "tool":
        yield {"role": "tool_response", "content": message["content"]}
    elif message["role"] != "assistant":
        yield {"role": message["role"], "content": message["content"]}
    else:
        calls = message.get("tool_calls", [])
        if message["content"] or not calls:
            yield {"role": "assistant", "content": message["content"], "loss": learnt}
        for call in calls:
            function = {name: call["function"][name] for name in ("name", "arguments")}
            yield {"role": "tool_call", "content": msgspec.json.encode(function).decode(), "loss": learnt}
