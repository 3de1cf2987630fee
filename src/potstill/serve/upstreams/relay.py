"""A server-sent stream on its way through: whole events as they come, without a usage that the client did not ask for.

What it knows: where an event ends, and how a chunk with the usage looks. What it does not do: sockets, or change
anything else: what goes in comes out byte for byte.
"""

from __future__ import annotations

import re

from potstill.serve.upstreams.answers import events_of, is_said, is_usage_chunk

_NULL_USAGE = re.compile(rb',[ \t]*"usage"[ \t]*:[ \t]*null\b')
"""Unescaped quotes cannot stand within a JSON string, so this is always a member and never text."""


class WholeEvents:
    """Holds back the beginning of an event until the rest is there, so that a stream that breaks off can still end with
    an event that says so. Each byte is looked at once, however long an event is."""

    __slots__ = ("_held", "_last")

    def __init__(self) -> None:
        self._held: list[bytes] = []
        self._last = b""
        """The end of what is held: a blank line may be cut in two."""

    def feed(self, chunk: bytes) -> bytes:
        if not self._held and chunk.endswith(b"\n\n"):
            return chunk
        end = _blank_line(self._last + chunk) - len(self._last)
        if end <= 0:
            self._hold(chunk)
            return b""
        whole = b"".join((*self._held, chunk[:end]))
        self._held, self._last = [], b""
        self._hold(chunk[end:])
        return whole

    def rest(self) -> bytes:
        """What never became a whole event."""
        return b"".join(self._held)

    def _hold(self, chunk: bytes) -> None:
        if chunk:
            self._held.append(chunk)
            self._last = (self._last + chunk)[-2:]


def _blank_line(text: bytes) -> int:
    """Where the last blank line ends, lines ending as the event stream format allows; 0: there is none."""
    mixed = text.rfind(b"\n\r", 0, len(text) - 1)  # at the very end it may be half of a CRLF
    after = mixed + 3 if text[mixed + 2 : mixed + 3] == b"\n" else mixed + 2
    ends = (text.rfind(b"\n\n") + 2, text.rfind(b"\r\r") + 2, after if mixed >= 0 else 0)
    return max(end if end > 1 else 0 for end in ends)


def completed(rest: bytes) -> bytes:
    """What was left when a stream ended: with its blank line, if nothing but that is missing; else nothing."""
    said = events_of(rest) if rest else []
    if not said or not is_said(said[-1]):
        return b""
    last = b"\r" if b"\n" not in rest and b"\r" in rest else b"\n"
    return rest + (last if rest.endswith((b"\n", b"\r")) else last * 2)


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
