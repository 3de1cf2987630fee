"""A provider as far as official clients need one: chat completions and messages, streamed or not, failing or not."""

from __future__ import annotations

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler
from typing import Any

USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
ASKED = [{"role": "user", "content": "Say hi"}]


def chat(text: str) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return json.dumps(
        {"id": "c-1", "object": "chat.completion", "created": 1, "model": "m-1", "choices": [choice], "usage": USAGE}
    ).encode()


def chat_stream(text: str) -> bytes:
    head = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m-1"}
    events: list[dict[str, Any]] = [
        {**head, "choices": [{"index": 0, "delta": {"role": "assistant", "content": word}}]} for word in text.split("|")
    ]
    events.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    events.append({**head, "choices": [], "usage": USAGE})
    return b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events) + b"data: [DONE]\n\n"


def message(text: str) -> bytes:
    return json.dumps(
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude",
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 9, "output_tokens": 3},
        }
    ).encode()


def message_stream(text: str) -> bytes:
    start = {**json.loads(message("")), "content": [], "stop_reason": None}
    events: list[tuple[str, dict[str, Any]]] = [
        ("message_start", {"message": start}),
        ("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
        *(("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": w}}) for w in text.split("|")),
        ("content_block_stop", {"index": 0}),
        ("message_delta", {"delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 3}}),
        ("message_stop", {}),
    ]
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (kind.encode(), json.dumps({"type": kind, **fields}).encode())
        for kind, fields in events
    )


class Provider(BaseHTTPRequestHandler):
    """Answers in the dialect of the path; fails ``failures`` times first."""

    protocol_version = "HTTP/1.1"
    failures = 0
    compressed = False
    held: threading.Event | None = None
    """Where there is one, the second half of a stream waits for it."""
    seen: list[dict[str, str]]
    posted: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        kind = type(self)
        kind.seen.append({name.lower(): value for name, value in self.headers.items()})
        kind.posted.append((self.path, body))
        if kind.failures:
            kind.failures -= 1
            self._send(429, b'{"error":{"message":"slow down","type":"rate_limit_error"}}', "application/json")
            return
        asked = json.loads(body)
        streamed = asked.get("stream", False)
        if self.path.endswith("/chat/completions"):
            answer = chat_stream("Hi| there") if streamed else chat("Hi there")
        elif self.path.endswith("/messages"):
            answer = message_stream("Hi| there") if streamed else message("Hi there")
        else:
            answer = b"{}"
        self._send(200, answer, "text/event-stream" if streamed else "application/json")

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        if type(self).compressed and "gzip" in self.headers.get("accept-encoding", ""):
            body = gzip.compress(body)
            self.send_header("content-encoding", "gzip")
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.send_header("retry-after", "0")
        self.end_headers()
        if type(self).held is not None and "event-stream" in kind:
            self.wfile.write(body[: len(body) // 2])
            type(self).held.wait(30)
            body = body[len(body) // 2 :]
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Tests print nothing."""
