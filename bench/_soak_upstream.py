"""The upstreams of the soak: all three dialects in one server, well and badly, as a mark in the request says.

Answers differ by a counter, so that nothing can be kept once for all. Marks: ``@@429``, ``@@500``, ``@@json``,
``@@reset``, ``@@half``, ``@@slow`` (a stream that pauses). Run within the bench's own event loop.
"""

from __future__ import annotations

import asyncio
import json
from itertools import count
from typing import Any, cast

WORDS = (
    "look",
    "take",
    "open",
    "go",
    "read",
    "put",
    "the",
    "lamp",
    "table",
    "north",
    "kitchen",
    "drawer",
    "und",
    "Zürich",
)
USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
TOKENS = {"input_tokens": 100, "output_tokens": 20}
SLOW_S = 0.4
_number = count()


def _text() -> str:
    number = next(_number)
    return " ".join(WORDS[(number * 7 + place * place) % len(WORDS)] for place in range(30)) + f" {number}"


def _frame(data: Any, event: str = "") -> bytes:
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return (f"event: {event}\n" if event else "").encode() + f"data: {text}\n\n".encode()


# --- the dialects -----------------------------------------------------------------------------------------------------


def chat(text: str, stream: bool) -> bytes | list[bytes]:
    head = {"id": f"chatcmpl-{next(_number)}", "created": 1, "model": "fake"}
    if not stream:
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return json.dumps({**head, "object": "chat.completion", "choices": [choice], "usage": USAGE}).encode()

    def one(delta: dict[str, str], finish: str | None = None) -> bytes:
        choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
        return _frame({**head, "object": "chat.completion.chunk", "choices": choices})

    pieces = [one({"role": "assistant", "content": ""}), *(one({"content": word + " "}) for word in text.split())]
    usage = _frame({**head, "object": "chat.completion.chunk", "choices": [], "usage": USAGE})
    return [*pieces, one({}, "stop"), usage, _frame("[DONE]")]


def messages(text: str, stream: bool) -> bytes | list[bytes]:
    message = {"id": f"msg_{next(_number)}", "type": "message", "role": "assistant", "model": "fake"}
    end = {"stop_reason": "end_turn", "stop_sequence": None}
    if not stream:
        content = [{"type": "text", "text": text}]
        return json.dumps({**message, "content": content, **end, "usage": TOKENS}).encode()
    begun = {**message, "content": [], "stop_reason": None, "stop_sequence": None, "usage": TOKENS}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    ]
    for word in text.split():
        events.append({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word + " "}})
    events.append({"type": "content_block_stop", "index": 0})
    events += [{"type": "message_delta", "delta": end, "usage": TOKENS}, {"type": "message_stop"}]
    return [_frame(event, event["type"]) for event in events]


def responses(text: str, stream: bool) -> bytes | list[bytes]:
    number = next(_number)
    part = {"type": "output_text", "text": text, "annotations": []}
    item = {"id": f"msg_{number}", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    usage = {**TOKENS, "total_tokens": 120}
    whole = {"id": f"resp_{number}", "object": "response", "created_at": 1, "model": "fake", "error": None}
    done = {**whole, "status": "completed", "output": [item], "usage": usage}
    if not stream:
        return json.dumps(done).encode()
    at = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    begun = {**whole, "status": "in_progress", "output": [], "usage": None}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": []}},
        {"type": "response.content_part.added", **at, "part": {**part, "text": ""}},
    ]
    events += [{"type": "response.output_text.delta", **at, "delta": word + " "} for word in text.split()]
    events.append({"type": "response.output_text.done", **at, "text": text})
    events.append({"type": "response.content_part.done", **at, "part": part})
    events.append({"type": "response.output_item.done", "output_index": 0, "item": item})
    events.append({"type": "response.completed", "response": done})
    return [_frame({**event, "sequence_number": at}, event["type"]) for at, event in enumerate(events)]


ANSWERS = {"/chat/completions": chat, "/messages": messages, "/responses": responses}


# --- the server -------------------------------------------------------------------------------------------------------


class Server(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self.received = bytearray()
        self.task: asyncio.Task[None] | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self.task is not None:
            self.task.cancel()

    def data_received(self, data: bytes) -> None:
        self.received += data
        head = self.received.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self.received[:head].lower().find(b"content-length:")
        needed = head + 4 + int(self.received[at + 15 : self.received.find(b"\r\n", at)])
        if len(self.received) >= needed:
            request = bytes(self.received[:needed])
            del self.received[:needed]
            self.answer(request, request[: request.find(b" HTTP/")].decode())

    def answer(self, request: bytes, line: str) -> None:
        if b"@@reset" in request:
            return self.transport.abort()
        if b"@@429" in request or b"@@500" in request:
            status = 429 if b"@@429" in request else 500
            return self.whole(b'{"error":{"message":"so it is","type":"x"}}', status)
        if b"@@json" in request:
            return self.whole(b'{"id": "half')
        answer = next(make for path, make in ANSWERS.items() if line.endswith(path))
        told = answer(_text(), b'"stream":true' in request or b'"stream": true' in request)
        if isinstance(told, bytes):
            return self.whole(told)
        half, slow = b"@@half" in request, b"@@slow" in request
        self.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        if half or slow:
            self.task = asyncio.ensure_future(self.slowly(told, half))
        else:
            self.transport.write(b"".join(map(_chunk, told)) + b"0\r\n\r\n")

    async def slowly(self, told: list[bytes], half: bool) -> None:
        middle = len(told) // 2
        self.transport.write(b"".join(map(_chunk, told[:middle])))
        await asyncio.sleep(0.02 if half else SLOW_S)
        if half:
            return self.transport.abort()
        self.transport.write(b"".join(map(_chunk, told[middle:])) + b"0\r\n\r\n")

    def whole(self, body: bytes, status: int = 200) -> None:
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + body)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def serve() -> tuple[asyncio.Server, int]:
    """The server and its port."""
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0, backlog=1024)
    return server, server.sockets[0].getsockname()[1]
