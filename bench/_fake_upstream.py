"""An upstream that answers chat completions as fast as a socket allows; run as a process by the gateways' benches.

It reads a request to its end, looks for ``"stream":true`` in it and answers a constant. ``--pace-ms`` spreads the
events of a stream over time. It prints its port.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import cast

EVENTS = 20
TEXT = "The next step is to look at the table and to take what lies on it, then to go on."


def answer() -> bytes:
    body = json.dumps(
        {
            "id": "chatcmpl-bench",
            "object": "chat.completion",
            "created": 1,
            "model": "fake",
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"},
            ],
            "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
        }
    ).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body


def events(usage: bool) -> list[bytes]:
    def one(delta: object, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        event = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1, "model": "fake"}
        return b"data: " + json.dumps({**event, "choices": [choice]}, separators=(",", ":")).encode() + b"\n\n"

    step = -(-len(TEXT) // EVENTS)
    pieces = [TEXT[at : at + step] for at in range(0, len(TEXT), step)]
    told = [one({"role": "assistant", "content": ""}), *(one({"content": piece}) for piece in pieces), one({}, "stop")]
    if usage:
        counts = '{"prompt_tokens":100,"completion_tokens":20,"total_tokens":120}'
        told.append(f'data: {{"id":"chatcmpl-bench","choices":[],"usage":{counts}}}\n\n'.encode())
    return [b"%x\r\n%b\r\n" % (len(event), event) for event in (*told, b"data: [DONE]\n\n")]


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
NOTHING = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
WHOLE = answer()
STREAMED = {usage: events(usage) for usage in (False, True)}


class Server(asyncio.Protocol):
    pace_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self.received = bytearray()
        self.needed = 0

    def data_received(self, data: bytes) -> None:
        self.received += data
        if not self.needed:
            head = self.received.find(b"\r\n\r\n")
            if head < 0:
                return
            at = self.received[:head].lower().find(b"content-length:")
            length = int(self.received[at + 15 : self.received.find(b"\r\n", at)]) if at >= 0 else 0
            self.needed = head + 4 + length
        if len(self.received) >= self.needed:
            request = bytes(self.received)
            self.received.clear()
            self.needed = 0
            self.answer(request)

    def answer(self, request: bytes) -> None:
        if request.startswith(b"GET"):
            self.transport.write(NOTHING)
            return
        if b'"stream":true' not in request and b'"stream": true' not in request:
            self.transport.write(WHOLE)
            return
        told = STREAMED[b'"include_usage":true' in request or b'"include_usage": true' in request]
        if self.pace_s:
            self.later(list(told))
        else:
            self.transport.write(HEAD + b"".join(told) + END)

    def later(self, told: list[bytes]) -> None:
        self.transport.write(HEAD)
        loop = asyncio.get_running_loop()
        for number, event in enumerate((*told, END)):
            loop.call_later(number * self.pace_s, self.write, event)

    def write(self, event: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(event)


async def main(pace_ms: float) -> None:
    Server.pace_s = pace_ms / 1000
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    parser = argparse.ArgumentParser()
    parser.add_argument("--pace-ms", type=float, default=0.0)
    uvloop.run(main(parser.parse_args().pace_ms))
