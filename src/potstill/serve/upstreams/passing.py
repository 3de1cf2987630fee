"""An upstream that speaks the client's dialect: bytes there, bytes back.

What it knows: which bytes differ on the way (the model's name; the request for a stream's usage, and that usage), and
when an answer is none. What it does not do: sockets, or another dialect (``translate``).
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from potstill.errors import NOT_JSON, BadResponse
from potstill.serve.clients.problems import CHAT, event_of
from potstill.serve.clients.request_fields import Outline, asks_for_usage, with_fields, with_usage_asked
from potstill.serve.upstreams.answers import usage_of
from potstill.serve.upstreams.relay import UsageFilter, WholeEvents, completed
from potstill.serve.upstreams.told import Told
from potstill.wire.dialect import Problem

CUT_OFF = Problem(status=502, kind="upstream", message="The upstream ended its stream too early.", code="cut_off")


class Adapter(Protocol):
    """What stands between one client's request and one upstream's answer to it."""

    request: bytes
    """What the upstream is sent."""
    foreign: bool
    """The upstream's bytes are not the client's: they are recorded apart."""
    usage_told: bytes
    """The events with the usage that the client did not ask for and does not get."""
    usage: dict[str, Any] | None
    """What the whole answer said that it used, where that is known already."""
    put_in: frozenset[str]
    """Fields that the gateway put in or named: an upstream that refuses one gets the request again without."""

    def whole(self, body: bytes, *, streamed: bool) -> bytes:
        """A whole answer, for the client; ``streamed``: it came as events, unasked. Raises ``BadResponse``."""

    def feed(self, chunk: bytes) -> bytes:
        """More of a stream, for the client."""

    def rest(self) -> bytes:
        """What came and is not fed on yet, as it came; empty where that is not the client's."""

    def ended(self, told: Told) -> bool:
        """Whether the stream has said that it is complete: what breaks afterwards breaks nothing."""

    def close(self, told: Told) -> tuple[bytes, Problem | None]:
        """The upstream's stream is at its end: the last bytes, and what was wrong with it."""

    def broken(self, problem: Problem) -> bytes:
        """The stream ends with this."""


class Passing:
    foreign = False
    usage_told = b""
    usage: dict[str, Any] | None = None

    def __init__(self, body: bytes, outline: Outline, dialect: str, model: str, *, ask_usage: bool) -> None:
        self._dialect = dialect
        self._events = WholeEvents()
        self.usage_asked = bool(ask_usage and dialect == CHAT and outline.stream and not asks_for_usage(outline))
        self.put_in = frozenset({"stream_options"} if self.usage_asked else ())
        self._filter = UsageFilter() if self.usage_asked else None
        if model != outline.model:
            body = with_fields(body, {"model": msgspec.json.encode(model)})
        self.request = with_usage_asked(body, outline) if self.usage_asked else body

    def whole(self, body: bytes, *, streamed: bool) -> bytes:
        try:
            self.usage = usage_of(body)
        except NOT_JSON as error:
            raise BadResponse(f"The upstream's answer is not JSON of its dialect: {error}.") from None
        return body

    def feed(self, chunk: bytes) -> bytes:
        events = self._events.feed(chunk)
        if self._filter is None:
            return events
        out = self._filter.apply(events)
        if len(out) != len(events):
            self.usage_told = events
        return out

    def rest(self) -> bytes:
        return self._events.rest()

    def ended(self, told: Told) -> bool:
        return told.ended

    def close(self, told: Told) -> tuple[bytes, Problem | None]:
        if told.ended:
            rest = completed(self._events.rest())
            return (rest if self._filter is None else self._filter.apply(rest)), None
        if told.error:
            return completed(self._events.rest()), CUT_OFF
        return self.broken(CUT_OFF), CUT_OFF

    def broken(self, problem: Problem) -> bytes:
        return event_of(problem, self._dialect)
