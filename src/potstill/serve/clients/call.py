"""One HTTP request before it is known what it is: its head, the names that it gives, and short answers to it.

What it knows: headers, keys as official clients send them, ids of requests. What it does not do: bodies (``bodies``),
who may ask (``app``).
"""

from __future__ import annotations

import secrets
import time

from potstill.record import identity
from potstill.serve.clients.client import CONNECTION, Client, Connection, Message, Receive, Send
from potstill.serve.clients.problems import CHAT, JSON, Headers, body_of, headers_of
from potstill.wire.dialect import Problem

_READ = {
    name.encode(): name
    for name in (
        identity.EPISODE_HEADER,
        *identity.SESSION_HEADERS,
        *identity.TOLD_HEADERS,
        identity.TRACE_HEADER,
    )
}
"""The headers that placing looks at."""
_ID_BYTES = 12
_IDS_AT_A_TIME = 256

Scope = Message


class _RequestIds:
    """Ids that cannot be guessed, out of randomness that is fetched for many at a time: each fetch lets other threads
    run, and who lets go of the interpreter waits to have it back."""

    def __init__(self) -> None:
        self._left: list[str] = []

    def __call__(self) -> str:
        if not self._left:
            drawn = secrets.token_hex(_ID_BYTES * _IDS_AT_A_TIME)
            self._left = [f"req-{drawn[at : at + 2 * _ID_BYTES]}" for at in range(0, len(drawn), 2 * _ID_BYTES)]
        return self._left.pop()


_new_request_id = _RequestIds()


class Call:
    """One HTTP request before it is known what it is."""

    __slots__ = (
        "_named",
        "at",
        "connection",
        "dialect",
        "headers",
        "path",
        "query",
        "receive",
        "request_id",
        "send",
        "started",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.path: str = scope["path"]
        self.query: bytes = scope["query_string"]
        self.headers: Headers = scope["headers"]
        self.connection: Connection | None = scope.get(CONNECTION)
        self._named = dict(reversed(self.headers))
        self.receive = receive
        self.send = send
        self.at = time.time()
        self.started = time.perf_counter()
        self.request_id = _new_request_id()
        self.dialect = CHAT

    def header(self, wanted: bytes) -> str | None:
        """The first of that name, in lower case."""
        value = self._named.get(wanted)
        return None if value is None else value.decode("latin-1")

    def raw(self, wanted: bytes) -> bytes | None:
        """As it came."""
        return self._named.get(wanted)

    def names_of_episode(self) -> dict[str, str]:
        """The headers that may name an episode or say something of it."""
        named = self._named
        return {name: named[key].decode("latin-1") for key, name in _READ.items() if key in named}

    def key(self) -> str | None:
        """As the official clients send it."""
        bearer = self.header(b"authorization")
        if bearer is not None and bearer[:7].lower() == "bearer ":
            return bearer[7:].strip() or None
        return self.header(b"x-api-key")

    def ours(self) -> Headers:
        return [(b"x-potstill-request-id", self.request_id.encode())]

    async def reply(self, status: int, body: bytes, headers: Headers = JSON) -> None:
        await Client(self.send, self.ours()).whole(status, headers, body)

    async def refuse(self, problem: Problem) -> None:
        await self.reply(problem.status, body_of(problem, self.dialect), [*JSON, *headers_of(problem)])
