"""An upstream on a socket that behaves as it is told: raw bytes, so that every misbehaviour is possible.

``Upstream(answer)`` calls ``answer(request)`` for each request in a thread of the connection; ``answer`` gives bytes,
or an iterable of bytes and of numbers (seconds to wait, or ``RESET`` to break the connection off).
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

RESET = -1.0
CLOSE = -2.0


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    number: int
    gone: threading.Event = field(default_factory=threading.Event)
    """Set when the gateway closed the connection before the answer was out."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Answer = bytes | Iterable[bytes | float]


class Upstream:
    def __init__(self, answer: Callable[[Request], Answer]) -> None:
        self.requests: list[Request] = []
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def __enter__(self) -> Upstream:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        file = connection.makefile("rb")
        with connection:
            while (request := self._read(file)) is not None:
                self.requests.append(request)
                answer = self._answer(request)
                for piece in [answer] if isinstance(answer, bytes) else answer:
                    if not self._write(connection, piece, request):
                        return

    def _read(self, file: Any) -> Request | None:
        try:
            line = file.readline().decode()
            if not line:
                return None
            method, path, _ = line.split(" ", 2)
            headers = {}
            while (text := file.readline().decode().strip()) != "":
                name, _, value = text.partition(":")
                headers[name.lower()] = value.strip()
            body = file.read(int(headers.get("content-length", "0")))
        except OSError:
            return None
        return Request(method, path, headers, body, len(self.requests))

    def _write(self, connection: socket.socket, piece: bytes | float, request: Request) -> bool:
        if isinstance(piece, bytes):
            try:
                connection.sendall(piece)
            except OSError:
                request.gone.set()
                return False
            return True
        if piece == RESET:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if piece == CLOSE:
            return False
        return self._wait(connection, piece, request)

    def _wait(self, connection: socket.socket, seconds: float, request: Request) -> bool:
        """Sleep, but notice that the other side has left."""
        until = time.monotonic() + seconds
        connection.settimeout(0.01)
        while time.monotonic() < until:
            try:
                if connection.recv(1, socket.MSG_PEEK) == b"":
                    request.gone.set()
                    return False
            except TimeoutError:
                continue
            except OSError:
                request.gone.set()
                return False
        connection.settimeout(None)
        return True


def reply(body: bytes | dict[str, Any], status: int = 200, kind: str = "application/json", headers: str = "") -> bytes:
    """A whole HTTP answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(data)}\r\n{headers}\r\n"
    return head.encode() + data


STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def chat_answer(text: str = "hello", model: str = "big-1", **more: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14},
        **more,
    }


def chat_event(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    event = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "big-1",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        **more,
    }
    return b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"


USAGE_EVENT = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"big-1","choices":[],'
    b'"usage":{"prompt_tokens":11,"completion_tokens":3,"total_tokens":14}}\n\n'
)
DONE = b"data: [DONE]\n\n"


def chat_stream(*texts: str) -> list[bytes]:
    """The events of a stream, without usage."""
    parts = [chat_event({"role": "assistant", "content": ""})]
    parts += [chat_event({"content": text}) for text in texts]
    return [*parts, chat_event({}, "stop"), DONE]
