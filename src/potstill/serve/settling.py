"""What follows from a finished exchange: what it cost its tenant, what is counted, what its episode is known by.

What it knows: tokens and list prices of calls. What it does not do: the record itself (``recorder``), or wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from potstill.errors import UnknownPrice
from potstill.measure.ledger import price_usage
from potstill.serve.metrics import Metrics
from potstill.serve.parts import Admission, Episodes, Gate
from potstill.serve.work import Work
from potstill.trajectories.exchange import Exchange, Upstream
from potstill.types import Usage
from potstill.wire.usage import normalise_usage

if TYPE_CHECKING:
    from potstill.measure.prices.table import PriceTable


OURS = ("ClientLeft", "Shutdown")
"""Why answers were cut that no upstream is to blame for; counted where it happens."""


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

    def __call__(self, work: Work, exchange: Exchange) -> None:
        tokens, usd = self.bill(exchange.calls, work.target.label)
        self._gate.settle(work.admission, usd=usd, tokens=tokens, at=exchange.started_at)
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
            tokens, usd = self.bill(exchange.calls, exchange.route)
            whose = Admission(tenant=exchange.namespace, key_id=exchange.key_id)
            self._gate.settle(whose, usd=usd, tokens=tokens, at=exchange.started_at)

    def bill(self, calls: tuple[Upstream, ...], label: str) -> tuple[int, float | None]:
        """All tokens, and dollars by list prices; dollars None where any call's are not known."""
        tokens, dollars, known = 0, 0.0, True
        for call in calls:
            usage = normalise_usage(call.raw_usage)
            if usage is None:
                if call.status == 200:
                    self._metrics.unknown_usage.add(label)
                    known = False
                continue
            self._count_tokens(usage, label)
            tokens += usage.input_tokens + usage.output_tokens
            cost = self._usd(call, usage)
            known = known and cost is not None
            self._metrics.cost.add(label, "shadow" if call.shadow else call.answerer.value, by=cost or 0.0)
            dollars += cost or 0.0
        return tokens, dollars if known else None

    def _usd(self, call: Upstream, usage: Usage) -> float | None:
        if self._prices is None:
            return None
        try:
            return price_usage(usage, call.price_as or call.model, self._prices).total_usd
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
