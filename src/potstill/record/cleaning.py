"""Takes secrets out of exchanges many at a time: one look at what is new in all of them, and mostly that is all.

What it knows: what an agent's request repeats of the one before, and how exchanges are looked at together. What it does
not do: say what may be a secret, or take one out (functions that are handed in).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import msgspec

from potstill.record.sse_text import interleaved, is_stream, streamed_text
from potstill.trajectories.delta import common_prefix, common_suffix
from potstill.trajectories.exchange import Exchange

EDGE = 512
"""Bytes around what is new that are looked at again, so that no match hides at its edges."""
MAX_BYTES = 8 * 1024 * 1024
"""Of requests that are remembered as clean; any other is looked at from its beginning to its end."""
_OVERHEAD_BYTES = 400
_BETWEEN = b"\x00"
"""Stands in no secret and in no JSON."""

Key = tuple[str, str]

_encode = msgspec.json.encode


class CleanRequests:
    """The last clean request of the episodes that were met lately, bounded in bytes.

    Safe to use from several threads. Nobody says when an episode is over: the bound is what a day's traffic fills.
    """

    def __init__(self, max_bytes: int = MAX_BYTES, edge: int = EDGE) -> None:
        self._most, self._edge = max_bytes, edge
        self.bytes = 0
        self._held: OrderedDict[Key, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def news(self, key: Key, data: bytes) -> bytes:
        """What the request before did not hold, with so much around it that no match hides at the edges."""
        before = self._held.get(key)
        if before is None:
            return data
        head = common_prefix(before, data)
        tail = common_suffix(before, data, min(len(before), len(data)) - head)
        return data[max(0, head - self._edge) : len(data) - max(0, tail - self._edge)]

    def keep(self, key: Key, data: bytes) -> None:
        with self._lock:
            before = self._held.pop(key, None)
            if before is not None:
                self.bytes -= len(before) + _OVERHEAD_BYTES
            if data:
                self._held[key] = data
                self.bytes += len(data) + _OVERHEAD_BYTES
            while self.bytes > self._most:
                self.bytes -= len(self._held.popitem(last=False)[1]) + _OVERHEAD_BYTES


class Cleaner:
    """Used by one thread. ``may_hold``: False where no rule can match in these bytes. ``clean``: an exchange without
    secrets, in whatever field; called only for those that may hold one."""

    def __init__(
        self, may_hold: Callable[[bytes], bool], clean: Callable[[Exchange], Exchange], *, edge: int = EDGE
    ) -> None:
        self._may_hold, self._clean = may_hold, clean
        self._seen = CleanRequests(edge=edge)

    def __call__(self, exchanges: Sequence[Exchange]) -> list[Exchange]:
        """The same exchanges, in order, without secrets: the same objects where there are none."""
        news = [self._news(exchange) for exchange in exchanges]
        if not self._may_hold(_BETWEEN.join(part for part in news if part is not None)) and None not in news:
            return list(exchanges)
        found: list[Exchange] = []
        unclean: set[Key] = set()
        for exchange, part in zip(exchanges, news, strict=True):
            key = exchange.namespace, exchange.episode_id
            if len(news) == 1 or key in unclean or part is None or self._may_hold(part):
                clean = self._clean(exchange)
                (unclean.discard if clean.request == exchange.request else unclean.add)(key)
                exchange = clean
            found.append(exchange)
        for key in unclean:  # what the next request repeats of this one is not known to be clean
            self._seen.keep(key, b"")
        return found

    def _news(self, exchange: Exchange) -> bytes | None:
        """All bytes of an exchange that were not looked at with the one before; None: they must be parsed to tell."""
        key, request, response = (exchange.namespace, exchange.episode_id), exchange.request, exchange.response
        parts = [self._seen.news(key, request), response]
        self._seen.keep(key, request)
        try:
            parts.append(_fields(exchange))
        except (msgspec.MsgspecError, UnicodeError, ValueError, TypeError, OverflowError, RecursionError):
            return None
        for call in exchange.calls:
            if call.request is not None:
                parts.append(call.request)
            if call.response is not None:
                parts.append(call.response)
        streams = [part for part in parts if is_stream(part)]
        if is_stream(request) or any(interleaved(stream) for stream in streams):
            return None
        return _BETWEEN.join((*parts, *map(streamed_text, streams)))


def _fields(exchange: Exchange) -> bytes:
    """What clients, upstreams and students said in other places than in bodies."""
    calls = [(call.model, call.error) for call in exchange.calls]
    names = (exchange.episode_id, exchange.route, calls)
    if not (exchange.decision or exchange.error or exchange.notes or exchange.metadata):
        return _encode(names)
    return _encode((names, exchange.decision, exchange.error, exchange.notes, exchange.metadata))
