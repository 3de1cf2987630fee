"""A teacher that knows its part by heart, in three dialects, whole and streamed: two temperatures, then the answer.

Written against the providers' references and without potstill's own encoders, so that a mistake there shows. Which
line is next follows from the temperatures that stand in the request: a tool's result that got lost on the way is asked
for again. Every answer's usage is kept in ``billed``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from aiohttp import web

CITIES = ("Oslo", "Rome")
ANSWER = "Rome is warmer: 18 degrees, and Oslo has 7."
KNOWN = re.compile(r"(Oslo|Rome): (\d+)")
CACHED = 5
Turn = tuple[str, list[tuple[str, dict[str, Any]]]]
Event = tuple[str, dict[str, Any]]


def next_turn(asked: dict[str, Any]) -> Turn:
    """What to say and which tools to call."""
    text = json.dumps(asked, ensure_ascii=False)
    known = dict(KNOWN.findall(text))
    missing = [city for city in CITIES if city not in known]
    if "[[ ## " in text:
        return in_fields(text, missing), []
    names = [tool.get("name") or tool.get("function", {}).get("name") for tool in asked.get("tools", [])]
    if missing:
        wanted = missing if "at once" in text else missing[:1]
        return "", [("temperature", {"city": city}) for city in wanted]
    said = ANSWER.replace("18", known["Rome"]).replace("7", known["Oslo"])
    return ("", [("final_answer", {"answer": said})]) if "final_answer" in names else (said, [])


def in_fields(text: str, missing: list[str]) -> str:
    """As dspy wants it: fields under headings, in a text."""
    if "next_tool_name" not in text.rpartition("Respond with the corresponding output fields")[2]:
        fields = {"reasoning": "Both are known.", "answer": ANSWER}
    else:
        call = ("temperature", {"city": missing[0]}) if missing else ("finish", {})
        fields = {"next_thought": "I look.", "next_tool_name": call[0], "next_tool_args": json.dumps(call[1])}
    return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in {**fields, "completed": ""}.items())


def pieces(text: str, size: int = 7) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


class Teacher:
    def __init__(self) -> None:
        self.billed: list[tuple[int, int]] = []
        """Input and output tokens of each answer."""
        self._calls = 0

    def app(self) -> web.Application:
        app = web.Application(client_max_size=1 << 24)
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_post("/v1/responses", self.responses)
        app.router.add_post("/v1/messages", self.messages)
        return app

    def _usage(self, asked: dict[str, Any], turn: Turn) -> tuple[int, int]:
        said = len(json.dumps(turn)) // 4 + 1
        self.billed.append((len(json.dumps(asked)) // 4 + CACHED, said))
        return self.billed[-1]

    def _ids(self, turn: Turn, kind: str) -> list[str]:
        self._calls += len(turn[1])
        return [f"{kind}_{self._calls - len(turn[1]) + at:04d}" for at in range(len(turn[1]))]

    # --- chat completions ---------------------------------------------------------------------------------------------

    async def chat(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        turn = next_turn(asked)
        spent = self._usage(asked, turn)
        calls = [
            {"id": id, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
            for id, (name, arguments) in zip(self._ids(turn, "call"), turn[1], strict=True)
        ]
        usage = {
            "prompt_tokens": spent[0],
            "completion_tokens": spent[1],
            "total_tokens": sum(spent),
            "prompt_tokens_details": {"cached_tokens": CACHED},
        }
        head = {"id": f"chatcmpl-{len(self.billed)}", "created": 1, "model": asked["model"]}
        finish = "tool_calls" if calls else "stop"
        if asked.get("stream"):
            wanted = asked.get("stream_options", {}).get("include_usage")
            events = self._chat_events(head, turn[0], calls, finish, usage if wanted else None)
            return await _streamed(request, events, end="data: [DONE]\n\n")
        message = {"role": "assistant", "content": turn[0] or None, **({"tool_calls": calls} if calls else {})}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        return web.json_response({**head, "object": "chat.completion", "choices": [choice], "usage": usage})

    def _chat_events(
        self, head: dict[str, Any], text: str, calls: list[dict[str, Any]], finish: str, usage: dict[str, Any] | None
    ) -> Iterator[Event]:
        def delta(value: dict[str, Any], reason: str | None = None) -> Event:
            choice = {"index": 0, "delta": value, "logprobs": None, "finish_reason": reason}
            return "", {**head, "object": "chat.completion.chunk", "choices": [choice]}

        yield delta({"role": "assistant", "content": None if calls else ""})
        for piece in pieces(text):
            yield delta({"content": piece})
        for at, call in enumerate(calls):
            function = {**call["function"], "arguments": ""}
            yield delta({"tool_calls": [{"index": at, **call, "function": function}]})
            for piece in pieces(call["function"]["arguments"]):
                yield delta({"tool_calls": [{"index": at, "function": {"arguments": piece}}]})
        yield delta({}, finish)
        if usage is not None:
            yield "", {**head, "object": "chat.completion.chunk", "choices": [], "usage": usage}

    # --- responses ----------------------------------------------------------------------------------------------------

    async def responses(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        turn = next_turn(asked)
        spent = self._usage(asked, turn)
        number = len(self.billed)
        items: list[dict[str, Any]] = [
            {
                "type": "function_call",
                "id": f"fc_{id}",
                "call_id": id,
                "name": name,
                "arguments": json.dumps(arguments),
                "status": "completed",
            }
            for id, (name, arguments) in zip(self._ids(turn, "call"), turn[1], strict=True)
        ]
        if turn[0]:
            part = {"type": "output_text", "text": turn[0], "annotations": []}
            message = {"type": "message", "id": f"msg_{number}", "role": "assistant", "status": "completed"}
            items.append({**message, "content": [part]})
        response = {
            "id": f"resp_{number}",
            "object": "response",
            "created_at": 1,
            "status": "completed",
            "model": asked["model"],
            "output": items,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": asked.get("tools", []),
            "usage": {
                "input_tokens": spent[0],
                "input_tokens_details": {"cached_tokens": CACHED},
                "output_tokens": spent[1],
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": sum(spent),
            },
        }
        if not asked.get("stream"):
            return web.json_response(response)
        numbered = (
            (kind, {"type": kind, "sequence_number": at, **value})
            for at, (kind, value) in enumerate(self._response_events(response))
        )
        return await _streamed(request, numbered)

    def _response_events(self, response: dict[str, Any]) -> Iterator[Event]:
        begun = {**response, "status": "in_progress", "output": [], "usage": None}
        yield "response.created", {"response": begun}
        yield "response.in_progress", {"response": begun}
        for at, item in enumerate(response["output"]):
            place = {"item_id": item["id"], "output_index": at}
            empty = {"content": []} if item["type"] == "message" else {"arguments": ""}
            yield "response.output_item.added", {"output_index": at, "item": {**item, "status": "in_progress", **empty}}
            if item["type"] == "message":
                part, place = item["content"][0], {**place, "content_index": 0}
                yield "response.content_part.added", {**place, "part": {**part, "text": ""}}
                for piece in pieces(part["text"]):
                    yield "response.output_text.delta", {**place, "delta": piece, "logprobs": []}
                yield "response.output_text.done", {**place, "text": part["text"], "logprobs": []}
                yield "response.content_part.done", {**place, "part": part}
            else:
                for piece in pieces(item["arguments"]):
                    yield "response.function_call_arguments.delta", {**place, "delta": piece}
                done = {**place, "name": item["name"], "arguments": item["arguments"]}
                yield "response.function_call_arguments.done", done
            yield "response.output_item.done", {"output_index": at, "item": item}
        yield "response.completed", {"response": response}

    # --- messages -----------------------------------------------------------------------------------------------------

    async def messages(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        turn = next_turn(asked)
        spent = self._usage(asked, turn)
        blocks: list[dict[str, Any]] = [{"type": "text", "text": turn[0]}] if turn[0] else []
        blocks += [
            {"type": "tool_use", "id": id, "name": name, "input": arguments}
            for id, (name, arguments) in zip(self._ids(turn, "toolu"), turn[1], strict=True)
        ]
        usage = {"input_tokens": spent[0] - CACHED, "cache_read_input_tokens": CACHED, "cache_creation_input_tokens": 0}
        message = {
            "id": f"msg_{len(self.billed)}",
            "type": "message",
            "role": "assistant",
            "model": asked["model"],
            "content": blocks,
            "stop_reason": "tool_use" if turn[1] else "end_turn",
            "stop_sequence": None,
            "usage": {**usage, "output_tokens": spent[1]},
        }
        if not asked.get("stream"):
            return web.json_response(message)
        events = ((kind, {"type": kind, **value}) for kind, value in self._message_events(message))
        return await _streamed(request, events)

    def _message_events(self, message: dict[str, Any]) -> Iterator[Event]:
        begun = {**message, "content": [], "stop_reason": None, "usage": {**message["usage"], "output_tokens": 1}}
        yield "message_start", {"message": begun}
        for at, block in enumerate(message["content"]):
            empty: dict[str, Any] = {"text": ""} if block["type"] == "text" else {"input": {}}
            yield "content_block_start", {"index": at, "content_block": {**block, **empty}}
            kind, name = ("text_delta", "text") if block["type"] == "text" else ("input_json_delta", "partial_json")
            for piece in pieces(block["text"] if block["type"] == "text" else json.dumps(block["input"])):
                yield "content_block_delta", {"index": at, "delta": {"type": kind, name: piece}}
            yield "content_block_stop", {"index": at}
        ended = {"stop_reason": message["stop_reason"], "stop_sequence": None}
        spent = {"output_tokens": message["usage"]["output_tokens"]}
        yield "message_delta", {"delta": ended, "usage": spent}
        yield "message_stop", {}


async def _streamed(request: web.Request, events: Iterator[Event], end: str = "") -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for name, value in events:
        head = f"event: {name}\n" if name else ""
        await response.write(f"{head}data: {json.dumps(value)}\n\n".encode())
    await response.write(end.encode())
    return response
