"""What a stream says of itself: that it is complete, that it failed, what it used.

What it knows: two ways to learn that, out of all of its bytes or event by event. What it does not do: the dialects'
words for it (``answers``), or keep anything (``answer_bytes``).
"""

from __future__ import annotations

from typing import Any, Protocol

from potstill.serve.clients.problems import ANTHROPIC, CHAT
from potstill.serve.upstreams.answers import (
    ENDS,
    event_in,
    events_of,
    is_error,
    reasons_of,
    stream_ended,
    stream_told_error,
    usage_of_stream,
)
from potstill.serve.upstreams.relay import WholeEvents


class Told(Protocol):
    @property
    def ended(self) -> bool:
        """Whether it says that it is complete."""

    @property
    def error(self) -> bool:
        """Whether the last event is an error of the upstream's own."""


class Read:
    """Out of the whole stream, looked at from its end: the cheap way, where all of it is there."""

    __slots__ = ("_body", "_dialect")

    def __init__(self, body: bytes, dialect: str) -> None:
        self._body = body
        self._dialect = dialect

    @property
    def ended(self) -> bool:
        return stream_ended(self._body, self._dialect)

    @property
    def error(self) -> bool:
        return stream_told_error(self._body)


class Heard:
    """Event by event, for streams of which only the ends are kept. The same as ``Read`` says of all bytes."""

    __slots__ = ("_dialect", "_done", "_events", "_reasons", "error", "usage")

    def __init__(self, dialect: str) -> None:
        self._dialect = dialect
        self._events = WholeEvents()
        self._done = False
        self._reasons: dict[int, bool] = {}
        self.error = False
        self.usage: dict[str, Any] | None = None

    @property
    def ended(self) -> bool:
        return self._done or (bool(self._reasons) and all(self._reasons.values()))

    def hear(self, chunk: bytes) -> None:
        """More of the stream, cut anywhere."""
        if chunk and (events := self._events.feed(chunk)):
            self._look_at(events)

    def close(self) -> None:
        """Nothing more comes: what has no blank line behind it counts too."""
        if rest := self._events.rest():
            self._events = WholeEvents()
            self._look_at(rest)

    def _look_at(self, events: bytes) -> None:
        said = events_of(events)
        if said:
            self.error = is_error(said[-1])
        if self._dialect == CHAT:
            self._done = self._done or any(data.strip() == b"[DONE]" for data in said)
            for choice, finished in reasons_of(said).items():
                self._reasons[choice] = self._reasons.get(choice, False) or finished
        else:
            self._done = self._done or any(event_in(data).type in ENDS[self._dialect] for data in said)
        if (used := usage_of_stream(events, self._dialect)) is not None:
            told = {name: count for name, count in used.items() if count is not None}
            self.usage = {**(self.usage or {}), **told} if self._dialect == ANTHROPIC else used
