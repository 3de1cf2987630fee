"""What it costs to keep a bullet in the prompt, and what it would have to be worth.

A bullet's rent in an episode is its tokens times the calls that it was shown in, at what an input token of these calls
cost on the average: the uncached share at the input price, what was read from a cache and written to one at theirs,
from dated price tables. A bullet early in a stable page is cached more often than the average token, one at the tail
less: the sum over a page is right, the split within it is an approximation.

What it knows: rows of the ledger, tokens. What it does not do: count a bullet's tokens, read episodes. What is not
known is None, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from potstill.distill.playbook.credit.use import Charge
from potstill.measure.ledger import LedgerRow
from potstill.measure.statistics import Interval
from potstill.types import Struct


class Rent(Struct, frozen=True, kw_only=True):
    """Of one bullet, over the episodes that are counted."""

    tokens: int
    """Of its line as it is now."""
    calls: int = 0
    """Requests that held it."""
    unpriced_calls: int = 0
    """Those among them whose tokens or price are not known: they are left out of ``usd``."""
    usd: float | None = None
    """None: nothing of it could be priced."""
    episodes: int = 0
    """That were shown it."""

    @property
    def usd_per_episode(self) -> float | None:
        """Of an episode that is shown it; of the priced calls alone, where some are not."""
        priced = self.calls - self.unpriced_calls
        if self.usd is None or not self.episodes or not priced:
            return None
        return self.usd * (self.calls / priced) / self.episodes


def charge_of(rows: Iterable[LedgerRow]) -> Charge:
    """What a token costs that stands in each of these requests: their input's dollars over its tokens, added up.

    A request of 1,000 tokens, 250 at $0.10 a million and 750 from a cache at $0.01: $0.0325 a million on the average.
    Calls that are priced by CPU time have no price of a token.
    """
    prices = [_per_token(row) for row in rows]
    known = [price for price in prices if price is not None]
    return Charge(calls=len(prices), unpriced_calls=len(prices) - len(known), usd_per_token=math.fsum(known))


def _per_token(row: LedgerRow) -> float | None:
    parts = (row.uncached_usd, row.read_usd, row.write_usd)
    known = [part for part in parts if part is not None]
    if row.usage is None or not row.usage.input_tokens or len(known) < len(parts) or row.priced_as == "cpu":
        return None
    return sum(known) / row.usage.input_tokens


class Worth(Struct, frozen=True, kw_only=True):
    """A bullet's effect set against its rent.

    The dollars of whole episodes are compared elsewhere (``Counts.cost``): a bullet that saves steps or a teacher's
    help may pay for itself without one more success.
    """

    break_even_usd: float | None = None
    """The value of one success at which it earns its rent: rent of an episode / effect. None: it never does, or nothing
    is known."""
    break_even_interval: tuple[float | None, float | None] | None = None
    """At the ends of the effect's interval; None as an end: no value is enough."""
    value_usd: float | None = None
    """Effect x episodes x the value of a success, where one was given."""
    value_interval: Interval | None = None
    net_usd: float | None = None
    """Value less rent."""


def worth(rent: Rent, difference: float | None, interval: Interval, value_of_success: float | None = None) -> Worth:
    """``difference`` and ``interval``: of ``effect.Effect``; ``value_of_success``: dollars, only if the user gave one.

    A rent of $0.002 an episode and an effect of 0.1 break even at $0.02 a success:

    >>> worth(Rent(tokens=40, calls=100, usd=0.2, episodes=100), 0.1, (0.05, 0.2)).break_even_usd
    0.02
    """
    each = rent.usd_per_episode
    return Worth(
        break_even_usd=_break_even(each, difference),
        break_even_interval=None if each is None else (_break_even(each, interval[1]), _break_even(each, interval[0])),
        value_usd=_times(value_of_success, rent.episodes, difference),
        value_interval=None
        if value_of_success is None
        else (interval[0] * rent.episodes * value_of_success, interval[1] * rent.episodes * value_of_success),
        net_usd=_less(_times(value_of_success, rent.episodes, difference), each, rent.episodes),
    )


def _break_even(each: float | None, difference: float | None) -> float | None:
    return None if each is None or difference is None or difference <= 0.0 else each / difference


def _times(value: float | None, episodes: int, difference: float | None) -> float | None:
    return None if value is None or difference is None else value * episodes * difference


def _less(value: float | None, each: float | None, episodes: int) -> float | None:
    return None if value is None or each is None else value - each * episodes
