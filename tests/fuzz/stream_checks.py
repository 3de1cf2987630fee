"""Strict readers of a gateway's streams: what each dialect's documentation promises to a client, and nothing of ours.

Each gives how the stream ended: ``end`` (the dialect's own) or ``error`` (its error event). Whatever else is an
``AssertionError``. ``sane``: what the upstream said was undamaged, so arguments of tools must be JSON; else a model
may have written anything, and a client must be told just that.
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from pair_samples import ANTHROPIC, CHAT, RESPONSES

Ending = Literal["end", "error"]
_LINE = re.compile(r"(event|data): .*|:.*", re.DOTALL)


def frames(body: bytes) -> list[tuple[str, str]]:
    """Name and data of each event; the bytes must be as an encoder writes them."""
    assert body.endswith(b"\n\n"), body[-200:]
    found = []
    for block in body.decode().removesuffix("\n\n").split("\n\n"):
        lines = block.split("\n")
        assert all(_LINE.fullmatch(line) for line in lines), block[:300]
        names = [line[7:] for line in lines if line.startswith("event: ")]
        data = [line[6:] for line in lines if line.startswith("data: ")]
        if data:
            found.append((names[-1] if names else "", "\n".join(data)))
        else:
            assert not names, block
    return found


def lenient_frames(body: bytes) -> list[tuple[str, str]]:
    """As a client of the event stream format reads any bytes (line ends of all kinds, a byte order mark)."""
    text = body.decode(errors="replace").removeprefix("\ufeff")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    found, name, data = [], "", []
    for line in text.split("\n"):
        field, _, value = line.partition(":")
        if line == "":
            if data:
                found.append((name, "\n".join(data)))
            name, data = "", []
        elif field == "data":
            data.append(value.removeprefix(" "))
        elif field == "event":
            name = value.removeprefix(" ")
    assert not data, f"half an event at the end: {data}"
    return found


# --- chat completions -------------------------------------------------------------------------------------------------

FINISHES = {None, "stop", "length", "tool_calls", "content_filter", "function_call"}


def chat(body: bytes, *, sane: bool = True) -> Ending:
    told = frames(body)
    assert told
    assert all(name == "" for name, _ in told)
    ids, finished, calls = set(), set(), {}
    for number, (_, data) in enumerate(told):
        last = number == len(told) - 1
        if data == "[DONE]":
            assert last, "something after [DONE]"
            return "end"
        event = json.loads(data)
        if "error" in event:
            assert last, "something after an error"
            assert isinstance(event["error"]["message"], str)
            return "error"
        assert event["object"] == "chat.completion.chunk"
        assert isinstance(event["created"], int)
        ids.add((event["id"], event["model"]))
        for choice in event["choices"]:
            _chat_choice(choice, finished, calls, sane)
    assert len(ids) == 1, ids
    raise AssertionError("a stream without an end")


def _chat_choice(choice: dict[str, Any], finished: set[int], calls: dict[tuple[int, int], str], sane: bool) -> None:
    assert choice["index"] not in finished, "a choice goes on after its finish"
    assert choice["finish_reason"] in FINISHES
    delta = choice["delta"]
    assert isinstance(delta.get("content"), str | None)
    assert isinstance(delta.get("refusal"), str | None)
    for call in delta.get("tool_calls") or ():
        place = (choice["index"], call["index"])
        if place not in calls:
            assert call["id"]
            assert call["type"] == "function"
            assert call["function"]["name"]
        calls[place] = calls.get(place, "") + (call["function"].get("arguments") or "")
    if choice["finish_reason"] is not None:
        finished.add(choice["index"])
        for (index, _), arguments in calls.items():
            if sane and index == choice["index"] and choice["finish_reason"] == "tool_calls":
                assert isinstance(json.loads(arguments), dict), arguments


# --- messages ---------------------------------------------------------------------------------------------------------

DELTAS = {
    "text_delta": ("text", {"text"}),
    "input_json_delta": ("partial_json", {"tool_use", "server_tool_use"}),
    "thinking_delta": ("thinking", {"thinking"}),
    "signature_delta": ("signature", {"thinking"}),
    "citations_delta": ("citation", {"text"}),
}


class _Messages:
    def __init__(self, sane: bool) -> None:
        self.sane = sane
        self.begun = self.stopped = False
        self.open: str | None = None
        self.blocks = 0
        self.arguments = ""

    def take(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        if kind == "ping":
            return
        assert self.begun or kind == "message_start", f"{kind} before message_start"
        getattr(self, kind)(event)

    def message_start(self, event: dict[str, Any]) -> None:
        assert not self.begun
        self.begun = True
        message = event["message"]
        assert message["role"] == "assistant"
        assert message["content"] == []
        assert message["type"] == "message"
        assert isinstance(message["id"], str)
        assert isinstance(message["usage"]["input_tokens"], int)
        assert isinstance(message["usage"]["output_tokens"], int)

    def content_block_start(self, event: dict[str, Any]) -> None:
        assert self.open is None
        assert not self.stopped
        assert event["index"] == self.blocks
        self.open, self.arguments = event["content_block"]["type"], ""
        if self.open == "tool_use":
            assert event["content_block"]["id"]
            assert event["content_block"]["name"]

    def content_block_delta(self, event: dict[str, Any]) -> None:
        assert self.open is not None
        assert event["index"] == self.blocks
        member, blocks = DELTAS[event["delta"]["type"]]
        assert self.open in blocks, (self.open, event)
        if member == "partial_json":
            self.arguments += event["delta"][member]

    def content_block_stop(self, event: dict[str, Any]) -> None:
        assert self.open is not None
        assert event["index"] == self.blocks
        if self.sane and self.open == "tool_use" and self.arguments:
            assert isinstance(json.loads(self.arguments), dict)
        self.open, self.blocks = None, self.blocks + 1

    def message_delta(self, event: dict[str, Any]) -> None:
        assert self.open is None
        assert isinstance(event["delta"]["stop_reason"], str | None)
        assert isinstance(event["usage"]["output_tokens"], int)
        self.stopped = True

    def message_stop(self, event: dict[str, Any]) -> None:
        assert self.stopped


def messages(body: bytes, *, sane: bool = True) -> Ending:
    told, state = frames(body), _Messages(sane)
    for number, (name, data) in enumerate(told):
        event, last = json.loads(data), number == len(told) - 1
        assert event["type"] == name
        if name == "error":
            assert last, "something after an error"
            assert isinstance(event["error"]["message"], str)
            assert isinstance(event["error"]["type"], str)
            return "error"
        state.take(event)
        if name == "message_stop":
            assert last, "something after message_stop"
            return "end"
    raise AssertionError("a stream without an end")


# --- responses --------------------------------------------------------------------------------------------------------

ENDS = {"response.completed": "completed", "response.incomplete": "incomplete", "response.failed": "failed"}


def responses(body: bytes, *, sane: bool = True) -> Ending:
    told = frames(body)
    items: dict[int, str] = {}
    done: dict[int, dict[str, Any]] = {}
    texts: dict[tuple[int, int], str] = {}
    begun = False
    for number, (name, data) in enumerate(told):
        event, last = json.loads(data), number == len(told) - 1
        assert event["type"] == name
        if name == "error":
            assert last, "something after an error"
            assert isinstance(event["message"], str)
            return "error"
        assert event["sequence_number"] == number, (event["sequence_number"], number)
        assert begun or name == "response.created", f"{name} before response.created"
        begun = True
        index = event.get("output_index")
        if name == "response.output_item.added":
            assert index == len(items)
            items[index] = event["item"]["id"]
        elif name == "response.output_item.done":
            assert items[index] == event["item"]["id"]
            assert index not in done
            done[index] = event["item"]
        elif index is not None:
            assert index in items
            assert index not in done, f"{name} after its item was done"
            assert event["item_id"] == items[index]
        if name == "response.output_text.delta":
            place = (index, event["content_index"])
            texts[place] = texts.get(place, "") + event["delta"]
        elif name == "response.output_text.done":
            assert texts.get((index, event["content_index"]), "") == event["text"]
        elif sane and name == "response.function_call_arguments.done":
            assert isinstance(json.loads(event["arguments"]), dict)
        if name in ENDS:
            assert last, f"something after {name}"
            assert event["response"]["status"] == ENDS[name]
            if name == "response.failed":
                assert event["response"]["error"]["message"]
                return "error"
            assert set(done) == set(items), "an item that was never done"
            assert [one["id"] for one in event["response"]["output"]] == list(items.values())
            return "end"
    raise AssertionError("a stream without an end")


STRICT = {CHAT: chat, ANTHROPIC: messages, RESPONSES: responses}


# --- any bytes of a dialect -------------------------------------------------------------------------------------------


def ending(body: bytes, dialect: str) -> Ending:
    """How a stream ended that the gateway only passed on: whole events, and the dialect's last word among them."""
    told = lenient_frames(body)
    assert told
    if any(_ends(name, data, dialect) for name, data in told):
        return "end"
    assert _fails(told[-1][1]), told[-2:]
    return "error"


def _ends(name: str, data: str, dialect: str) -> bool:
    if dialect == CHAT and data.strip() == "[DONE]":
        return True
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        return False
    if not isinstance(event, dict):
        return False
    if dialect == CHAT:
        choices = event.get("choices")
        rows = choices if isinstance(choices, list) else []
        return any(isinstance(one, dict) and isinstance(one.get("finish_reason"), str) for one in rows)
    kind = event.get("type")
    return kind == "message_stop" if dialect == ANTHROPIC else isinstance(kind, str) and kind in ENDS


def _fails(data: str) -> bool:
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        return False
    return isinstance(event, dict) and ("error" in event or event.get("type") == "error")
