"""Rows for LLaMA-Factory: conversations in its ShareGPT format, as JSONL that an entry of ``dataset_info.json`` names.

What it knows: the format (github.com/hiyouga/LLaMA-Factory, data/README.md, read 2026-11): ``conversations`` of
``from`` and ``value`` in which humans or observations and the model take turns strictly, ``system``, and ``tools`` as a
text of JSON. What it does not do: find conversations (``finetuning``), images, weights: every answer is learnt.
"""

from __future__ import annotations

from typing import Any

import msgspec

from potstill.trajectories.finetuning import Conversation, Unfit, whole_answers
from potstill.trajectories.trl import told_messages, told_tools


def rows(said: Conversation) -> list[dict[str, Any]]:
    """One row: the conversation. Raises ``Unfit`` for one that takes no turns or says what the format cannot."""
    whole_answers(said)
    messages = told_messages(said.messages)
    system = messages[0]["content"] if messages and messages[0]["role"] == "system" else ""
    turns: list[dict[str, str]] = []
    for message in messages[1:] if system else messages:
        turn = _turn(message)
        if turns and _asks(turn) and turns[-1]["from"] == turn["from"]:
            turns[-1]["value"] += f"\n\n{turn['value']}"
        else:
            turns.append(turn)
    while turns and _asks(turns[-1]):
        turns.pop()  # what nobody answered
    if not turns or any(_asks(turn) != (at % 2 == 0) for at, turn in enumerate(turns)):
        raise Unfit("the user and the model do not take turns, which this format demands")
    tools = told_tools(said.tools).get("tools")
    told = {"tools": msgspec.json.encode([tool["function"] for tool in tools]).decode()} if tools else {}
    return [{"conversations": turns, "system": system, **told}]


def _asks(turn: dict[str, str]) -> bool:
    return turn["from"] in ("human", "observation")


def _turn(message: dict[str, Any]) -> dict[str, str]:
    match message:
        case {"role": "assistant", "tool_calls": calls}:
            if message["content"].strip():
                raise Unfit("a text stands beside a call of a tool, which this format cannot say")
            functions = [{name: call["function"][name] for name in ("name", "arguments")} for call in calls]
            return {"from": "function_call", "value": msgspec.json.encode(functions).decode()}
        case {"role": "assistant"}:
            return {"from": "gpt", "value": message["content"]}
        case {"role": "tool"}:
            return {"from": "observation", "value": message["content"]}
        case {"role": "user"}:
            return {"from": "human", "value": message["content"]}
        case _:
            raise Unfit("a system message stands within the conversation, which this format cannot say")
