"""How long, how often and how much: time-outs, retries and sizes of one request, as data and pure functions.

What it does not do: wait, or talk to anything. Clocks and random numbers come in as arguments.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from potstill.types import Struct

RETRY_STATUSES = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
"""Answers after which the same request may succeed. 520-524 are Cloudflare's, 529 is Anthropic's "overloaded"."""


class Timeouts(Struct, frozen=True, kw_only=True):
    """Seconds, for one attempt. Time spent waiting for a free slot or before a retry does not count."""

    connect_s: float = 10.0
    idle_s: float = 120.0
    """Longest silence of the endpoint. Without streaming it is silent while the model thinks."""
    total_s: float = 180.0


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """Full jitter: before retry k wait a uniform time in [0, min(cap, base * 2^(k-1))] seconds.

    Source: M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
    """

    attempts: int = 5
    """Tries in all; 1 never retries."""
    base_s: float = 0.5
    cap_s: float = 20.0
    retry_after_cap_s: float = 60.0
    """An endpoint that asks for a longer pause is not waited for: the request fails at once and says so."""

    def delay_s(self, failures: int, retry_after_s: float | None, rng: random.Random) -> float:
        """Seconds to wait after the ``failures``-th failure; the endpoint's own wish is the least, jitter on top."""
        jitter = rng.uniform(0.0, min(self.cap_s, self.base_s * 2.0 ** (failures - 1)))
        return jitter if retry_after_s is None else retry_after_s + min(jitter, self.base_s)


def parse_retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that an answer's headers ask to wait, at Unix time ``now``; None where they ask nothing readable.

    Reads ``retry-after-ms`` (OpenAI), then ``Retry-After`` as seconds or as an HTTP date (RFC 9110, 10.2.3).
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000.0
    value = headers.get("Retry-After")
    if value is None:
        return None
    seconds = _number(value)
    if seconds is not None:
        return seconds
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else None
    except ValueError:
        return None
    return value if value is not None and 0.0 <= value < float("inf") else None
