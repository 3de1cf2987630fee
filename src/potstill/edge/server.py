"""A policy behind HTTP, with the standard library: ``POST /act`` with a question, ``GET /health``.

Bound to 127.0.0.1 only, one thread a connection. Knows HTTP. What a question is, ``act`` knows.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .act import answered
from .policy import Policy

ADDRESS = "127.0.0.1"
MOST_BYTES = 4_000_000
"""Of a question."""
PATIENCE_S = 10.0
"""How long a client may take for its next bytes."""


def server(policy: Policy, port: int) -> ThreadingHTTPServer:
    """Ready to ``serve_forever``; port 0 takes a free one (``server_address[1]``). Raises ``OSError`` if it cannot."""

    class Handler(_Handler):
        asked = policy

    return ThreadingHTTPServer((ADDRESS, port), Handler)


class _Handler(BaseHTTPRequestHandler):
    asked: Policy
    timeout = PATIENCE_S
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if self.path != "/act":
            self._refuse(HTTPStatus.NOT_FOUND, f"There is no {self.path[:100]}. POST /act or GET /health.")
        elif not length.isascii() or not length.isdigit() or len(length) > 18:
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "The request has no Content-Length.")
        elif int(length) > MOST_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{length} bytes; allowed: up to {MOST_BYTES}.")
        else:
            found = answered(self.asked, self.rfile.read(int(length)))
            self._send(HTTPStatus.BAD_REQUEST if "error" in found else HTTPStatus.OK, found)

    def do_GET(self) -> None:
        if self.path == "/health":
            self._send(HTTPStatus.OK, {"kind": self.asked.kind, "parameters": self.asked.parameters})
        else:
            self._refuse(HTTPStatus.NOT_FOUND, f"There is no {self.path[:100]}. POST /act or GET /health.")

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: questions may hold what nobody should read in a log."""

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        """The body was not read, so the connection cannot be used again."""
        self.close_connection = True
        self._send(status, {"error": why})

    def _send(self, status: HTTPStatus, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
