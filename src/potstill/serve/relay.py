"""A server-sent stream on its way through: whole events as they come, without a usage that the client did not ask for.

What it knows: where an event ends, and how a chunk with the usage looks. What it does not do: sockets, or change
anything else: what goes in comes out byte for byte.
"""

from __future__ import annotations

import re

from potstill.serve.answers import is_usage_chunk

_NULL_USAGE = re.compile(rb',[ \t]*"usage"[ \t]*:[ \t]*null\b')
"""Unescaped quotes cannot stand within a JSON string, so this is always a member and never text."""


class WholeEvents:
    """Holds back the beginning of an event until the rest is there, so that a stream that breaks off can still end with
    an event that says so."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> bytes:
        if chunk.endswith(b"\n\n"):
            whole, self._rest = self._rest + chunk, b""
            return whole
        text = self._rest + chunk
        end = max(text.rfind(b"\n\n") + 2, text.rfind(b"\r\n\r\n") + 4)
        if end < 4 and not text.startswith(b"\n\n"):
            self._rest = text
            return b""
        self._rest = text[end:]
        return text[:end]

    def rest(self) -> bytes:
        """What never became a whole event."""
        return self._rest


class UsageFilter:
    """Takes out of a chat completion's stream what ``include_usage`` put in: the last chunk, and ``"usage":null``."""

    __slots__ = ()

    def apply(self, events: bytes) -> bytes:
        if b'"usage"' not in events:
            return events
        events = _NULL_USAGE.sub(b"", events)
        if b'"usage"' not in events:
            return events
        blank = b"\r\n\r\n" if b"\r\n\r\n" in events else b"\n\n"
        pieces = events.split(blank)
        return blank.join(piece for piece in pieces if b'"usage"' not in piece or not is_usage_chunk(piece))
