"""What follows from a finished exchange: what it cost its tenant, what is counted, what its episode is known by.

What it knows: tokens and list prices of calls. What it does not do: the record itself (``recorder``), or wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from potstill.errors import UnknownPrice
from potstill.measure.ledger import price_usage
from potstill.serve.seams import Admission, Episodes, Gate
from potstill.serve.telemetry.metrics import Metrics
from potstill.serve.tenants.guesses import Guesses, Whose
from potstill.serve.work import Work
from potstill.trajectories.exchange import Exchange, Upstream
from potstill.types import Usage
from potstill.wire.usage import normalise_usage

if TYPE_CHECKING:
    from potstill.measure.prices.table import PriceTable


OURS = ("ClientLeft", "Shutdown")
"""Why answers were cut that no upstream is to blame for; counted where it happens."""


_SOME = Usage(input_tokens=1000, output_tokens=1000)
"""To see whether a model's tokens cost anything."""


class Bill(NamedTuple):
    """What calls cost. ``unknown``: and more, of which nothing says how much; ``guessed``: a part is a guess."""

    usd: float
    tokens: int
    unknown: bool = False
    guessed: bool = False


class Settler:
    """Called once for each exchange, on the event loop."""

    def __init__(
        self,
        gate: Gate,
        episodes: Episodes,
        metrics: Metrics,
        prices: PriceTable | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._gate = gate
        self._episodes = episodes
        self._metrics = metrics
        self._prices = prices
        self._clock = clock
        self._guesses = Guesses()

    def __call__(self, work: Work, exchange: Exchange) -> None:
        self._charge(work.admission, exchange.calls, work.target.label, exchange.started_at)
        self._count(work, exchange)
        if exchange.status == 200 and exchange.response:
            self._episodes.answered(
                exchange.namespace,
                work.placement,
                exchange.dialect,
                exchange.response,
                streamed=exchange.streamed,
                now=self._clock(),
            )

    def beside(self, exchange: Exchange) -> None:
        """Charge what shadow work cost to the tenant and key whose request it was asked beside."""
        if exchange.calls:
            whose = Admission(tenant=exchange.namespace, key_id=exchange.key_id)
            self._charge(whose, exchange.calls, exchange.route, exchange.started_at)

    def passed(self, admission: Admission, label: str, call: Upstream | None, at: float) -> None:
        """Charge what was passed through and is not recorded. ``call`` None: it costs nothing."""
        self._charge(admission, () if call is None else (call,), label, at)

    def _charge(self, admission: Admission, calls: tuple[Upstream, ...], label: str, at: float) -> None:
        bill = self.bill(calls, label, admission.tenant)
        self._gate.settle(
            admission, usd=bill.usd, tokens=bill.tokens, at=at, unknown=bill.unknown, guessed=bill.guessed
        )

    def bill(self, calls: tuple[Upstream, ...], label: str, tenant: str) -> Bill:
        """All tokens, and dollars by list prices; what has no price or told no usage as it was guessed."""
        dollars, tokens, unknown, guessed = 0.0, 0, False, False
        usages = [normalise_usage(call.raw_usage) for call in calls]
        for call, usage in zip(calls, usages, strict=True):
            if usage is None:
                continue
            size = usage.input_tokens + usage.output_tokens
            self._count_tokens(usage, label)
            cost = self._usd(call, usage)
            self._metrics.cost.add(label, "shadow" if call.shadow else call.answerer.value, by=cost or 0.0)
            guessed = guessed or cost is None
            charged = self._guesses.without_price((tenant, label), size) if cost is None else cost
            self._guesses.seen((tenant, label), _name(call), charged, size, priced=bool(cost))
            dollars, tokens = dollars + charged, tokens + size
        for call, usage in zip(calls, usages, strict=True):  # after those that tell what such calls cost
            if usage is None and _billed(call):
                self._metrics.unknown_usage.add(label)
                guess = self._without_usage(call, (tenant, label))
                unknown, guessed = unknown or guess is None, True
                dollars, tokens = dollars + (guess or (0.0, 0))[0], tokens + (guess or (0.0, 0))[1]
        return Bill(dollars, tokens, unknown, guessed)

    def _without_usage(self, call: Upstream, whose: Whose) -> tuple[float, int] | None:
        guess = self._guesses.without_usage(whose, _name(call))
        if self._usd(call, _SOME) == 0.0:
            return 0.0, 0 if guess is None else guess[1]
        return guess

    def _usd(self, call: Upstream, usage: Usage) -> float | None:
        """None: it has no price."""
        if self._prices is None:
            return None
        try:
            return price_usage(usage, _name(call), self._prices).total_usd
        except UnknownPrice:
            return None

    def _count_tokens(self, usage: Usage, label: str) -> None:
        counts = self._metrics.tokens
        counts.add(label, "input", by=usage.uncached_input_tokens)
        counts.add(label, "cache_read", by=usage.cache_read_tokens)
        counts.add(label, "cache_write", by=usage.cache_write_tokens)
        counts.add(label, "output", by=usage.output_tokens)

    def _count(self, work: Work, exchange: Exchange) -> None:
        metrics, label = self._metrics, work.target.label
        answerer = exchange.answerer.value
        metrics.requests.add(label, exchange.dialect, str(exchange.status), answerer)
        metrics.latency.observe(exchange.latency_s, label)
        if exchange.first_byte_s is not None:
            metrics.first_byte.observe(exchange.first_byte_s, label)
            metrics.added.observe(max(0.0, exchange.first_byte_s - work.waited_s), label)
        if (
            not exchange.complete
            and exchange.error is not None
            and exchange.error.kind not in ("ClientLeft", "Shutdown")
        ):
            metrics.cut.add(label, "upstream")


def _name(call: Upstream) -> str:
    """By which its price is found."""
    return call.price_as or call.model


def _billed(call: Upstream) -> bool:
    """Whether a call that told no usage may have been billed: providers bill no refusals."""
    return call.may_be_billed if call.status == 0 else call.status < 300
