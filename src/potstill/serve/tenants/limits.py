"""The arithmetic of limits: a token bucket, what an account has spent today, what a request may be expected to cost.

What it knows: numbers, and the time as a number. What it does not do: keep a clock, know keys or tenants, or touch the
store (``gate`` does).

Dollars are whole micro-dollars, as the store keeps them, so that sums are exact whatever their order; what is left
below one is carried to the next request (``Carry``).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

DAY_S = 86400
MICROS = 1_000_000


def day_of(at: float) -> int:
    """Days since 1970-01-01 in UTC."""
    return int(at // DAY_S)


def until_tomorrow_s(at: float) -> float:
    """Seconds to the end of the UTC day."""
    return (day_of(at) + 1) * DAY_S - at


class Amount(NamedTuple):
    """What was spent: dollars in micro-dollars, tokens, requests."""

    micros: int = 0
    tokens: int = 0
    requests: int = 0

    def plus(self, other: Amount) -> Amount:
        return Amount(self[0] + other[0], self[1] + other[1], self[2] + other[2])

    def minus(self, other: Amount) -> Amount:
        return Amount(self[0] - other[0], self[1] - other[1], self[2] - other[2])


NOTHING = Amount()


class Bucket:
    """``per_minute`` requests a minute, and at most as many at once.

    In any ``t`` seconds no more than ``per_minute * (1 + t / 60)`` are taken. A clock that goes back stands still.
    """

    __slots__ = ("_at", "_level", "per_minute")

    def __init__(self, per_minute: int, at: float) -> None:
        self.per_minute = per_minute
        self._level = float(per_minute)
        self._at = at

    def wait_s(self, at: float) -> float:
        """0: a request may proceed now; else after so many seconds."""
        self._refill(at)
        return 0.0 if self._level >= 1.0 else (1.0 - self._level) * 60.0 / self.per_minute

    def take(self) -> None:
        self._level -= 1.0

    def drain(self, requests: int) -> None:
        """Requests that other processes let through. Never deeper than a minute's debt."""
        self._level = max(self._level - requests, -float(self.per_minute))

    def _refill(self, at: float) -> None:
        if at > self._at:
            self._level = min(float(self.per_minute), self._level + (at - self._at) * self.per_minute / 60.0)
            self._at = at


class Carry:
    """Turns dollars into whole micro-dollars, exactly over many requests: what is left over is carried on.

    A thousand requests at a tenth of a micro-dollar are a hundred micro-dollars, and not nothing.
    """

    __slots__ = ("_picos",)

    def __init__(self) -> None:
        self._picos = 0

    def micros(self, usd: float) -> int:
        whole, self._picos = divmod(self._picos + round(usd * 1e12), 1_000_000)
        return whole


class Meter:
    """What one account (a key, or a whole tenant) spent on one UTC day, as far as this process knows.

    ``known`` came from the store and holds what every process flushed. ``fresh`` was settled here and is not in the
    store; ``flushing`` is on its way there. ``held_*`` is reserved by requests that are under way here.
    """

    __slots__ = (
        "day", "flushing", "fresh_micros", "fresh_requests", "fresh_tokens", "held_micros", "held_tokens", "known",
        "loaded", "spent_micros", "spent_tokens",
    )  # fmt: skip

    def __init__(self, day: int) -> None:
        self.held_micros = self.held_tokens = 0
        self.loaded = False
        """Whether the store has told what is known of this account."""
        self._begin(day)

    def _begin(self, day: int) -> None:
        self.day = day
        self.known = self.flushing = NOTHING
        self.fresh_micros = self.fresh_tokens = self.fresh_requests = 0
        self.spent_micros = self.spent_tokens = 0
        """Known, flushing and fresh together."""

    @property
    def fresh(self) -> Amount:
        return Amount(self.fresh_micros, self.fresh_tokens, self.fresh_requests)

    @property
    def spent(self) -> Amount:
        return self.known.plus(self.flushing).plus(self.fresh)

    @property
    def idle(self) -> bool:
        """Nothing is under way and nothing waits to be written."""
        return not (self.held_micros or self.held_tokens) and self.fresh == self.flushing == NOTHING

    def enter(self, day: int) -> None:
        """A new day has begun: nothing is spent yet. An earlier day changes nothing. What is held stays held."""
        if day > self.day:
            self._begin(day)

    def hold(self, micros: int, tokens: int) -> None:
        self.held_micros += micros
        self.held_tokens += tokens

    def add(self, micros: int, tokens: int, requests: int) -> None:
        self.fresh_micros += micros
        self.fresh_tokens += tokens
        self.fresh_requests += requests
        self.spent_micros += micros
        self.spent_tokens += tokens

    def flush_begins(self) -> None:
        self.flushing = self.flushing.plus(self.fresh)
        self.fresh_micros = self.fresh_tokens = self.fresh_requests = 0

    def flush_ends(self, day: int, total: Amount | None, failed: Amount = NOTHING) -> int:
        """The store has what was flushed but for ``failed``; ``total`` is what it holds now, None if it did not tell.

        Returns how many requests other processes let through since the store told last.
        """
        if day != self.day:
            return 0
        landed = self.flushing.minus(failed)
        others = 0
        if total is not None:
            others = total.requests - self.known.requests - landed.requests if self.loaded else 0
            self.loaded = True
        self.known = self.known.plus(landed) if total is None else total
        self.flushing = NOTHING
        self.fresh_micros, self.fresh_tokens, self.fresh_requests = self.fresh.plus(failed)
        self.spent_micros, self.spent_tokens, _ = self.spent
        return max(0, others)


class Means:
    """What a request may be expected to cost: a moving mean of what those before it cost, for each name.

    Bounded: names that were not seen for long are forgotten, since clients may choose names.
    """

    WEIGHT = 0.1
    """Of the newest value."""
    NAMES = 4096

    def __init__(self) -> None:
        self._means: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def get(self, name: tuple[str, str]) -> tuple[float, float] | None:
        """Dollars and tokens; None: nothing is known yet."""
        return self._means.get(name)

    def see(self, name: tuple[str, str], usd: float, tokens: int) -> None:
        old_usd, old_tokens = self._means.get(name, (usd, float(tokens)))
        weight = self.WEIGHT
        self._means[name] = (old_usd + weight * (usd - old_usd), old_tokens + weight * (tokens - old_tokens))
        self._means.move_to_end(name)
        if len(self._means) > self.NAMES:
            self._means.popitem(last=False)
