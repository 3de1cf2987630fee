"""Spans on their way to a collector (OTLP over HTTP), off every path that a client waits for, within a bound of bytes.

What it knows: the queue and its bound, the thread that makes and sends spans, OpenTelemetry's SDK and exporter, which
are imported nowhere else. What it does not do: what a span says (``spans``), retries and encoding (the exporter).

A collector that is slow or down costs spans, never an answer or a record: what does not fit is dropped and counted, and
so is what the collector does not take.
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from potstill.errors import ConfigError, MissingExtra, UnknownPrice
from potstill.serve.settings import Gateway, Otel, Upstream
from potstill.serve.telemetry.metrics import Metrics
from potstill.serve.telemetry.spans import Peer, Span, Teller
from potstill.trajectories.exchange import Exchange
from potstill.types import Trajectory, Usage

if TYPE_CHECKING:
    from potstill.measure.prices.table import PriceTable

LINGER_S = 1.0
"""How long a span waits for others to be sent with."""
STALL_S = 3.0
"""When the gateway stops: a collector that takes nothing for so long is not waited for any more."""
BATCH_SPANS = 256
BATCH_BYTES = 1 << 20
SPAN_BYTES = 2048
"""About what a span without content takes."""
REMEMBERED = 100_000
"""Episodes of which it is known that they were told already."""
PATH = "/v1/traces"
THREAD = "potstill-otel"
_SDK_LOGGER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
_log = logging.getLogger("potstill.gateway")

Send = Callable[[Sequence[Span]], bool]
"""Hands spans over; whether the collector took them. Blocks, for the settings' ``timeout_s`` at most."""


class _Item(NamedTuple):
    size: int
    spans: int
    make: Callable[[], list[Span]]


class SpanExport:
    """``exchange`` and ``episode`` take what was recorded, from any thread, and return at once. ``aclose`` flushes.

    ``out``: how spans leave, and what ends that; by default OpenTelemetry's own exporter. Raises ``MissingExtra`` where
    that is not installed, ``ConfigError`` where a header's variable is not set.
    """

    def __init__(
        self,
        settings: Gateway,
        metrics: Metrics,
        prices: PriceTable | None,
        *,
        out: tuple[Send, Callable[[], None]] | None = None,
        linger_s: float = LINGER_S,
    ) -> None:
        told = settings.otel
        self._headers = headers_of(told)
        self._send, self._stop = out or _official(told, self._headers)
        peers = {upstream.name: peer_of(upstream) for upstream in settings.upstreams}
        self._teller = Teller(_cost_by(prices), peers, content=told.content)
        self._content = told.content
        self._most, self._linger_s = told.max_queue_bytes, linger_s
        self._flush_s = min(told.timeout_s, settings.limits.drain_s)
        self._lock = threading.Lock()
        self._bytes = 0
        self._told: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._counts = metrics.otel_spans
        for result in ("sent", "failed", "dropped"):
            self._counts.add(result, by=0)
        metrics.gauge("potstill_otel_queue_bytes", "Bytes that wait to become spans.", lambda: self._bytes)
        self._closed = self._failing = False
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=THREAD, daemon=True)
        self._thread.start()

    def secrets(self) -> list[str]:
        """What must never be kept or told: the headers' values, and the keys within them."""
        return [part for value in self._headers.values() for part in {value, value.rpartition(" ")[2]}]

    def exchange(self, exchange: Exchange) -> None:
        """Tell the calls of an exchange, as the store has it."""
        bodies = [exchange.request, exchange.response]
        bodies += [body for call in exchange.calls for body in (call.request, call.response) if body is not None]
        size = sum(map(len, bodies)) + SPAN_BYTES
        self._offer(_Item(size, max(1, len(exchange.calls)), lambda: self._teller.calls(exchange)))

    def episode(self, trajectory: Trajectory) -> None:
        """Tell an episode that is over."""
        key = trajectory.namespace, trajectory.id
        with self._lock:
            again = key in self._told
            self._told[key] = None
            if len(self._told) > REMEMBERED:
                self._told.popitem(last=False)
        span = self._teller.episode(trajectory, again=again)
        if span is not None:
            self._offer(_Item(SPAN_BYTES, 1, lambda: [span]))

    async def aclose(self) -> None:
        """Send what waits, for as long as a shutdown may take; the rest is dropped and counted."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._queue.put(None)
        until, taken = time.monotonic() + self._flush_s, -1.0
        while self._thread.is_alive() and time.monotonic() < until and taken != self._taken():
            taken = self._taken()
            self._thread.join(min(STALL_S, until - time.monotonic()))
        if self._thread.is_alive():
            self._closed = True
            self._stop()
            self._thread.join(1.0)
        else:
            self._stop()

    def _taken(self) -> float:
        return self._counts.values[("sent",)]

    def _offer(self, item: _Item) -> None:
        with self._lock:
            fits = not self._closed and (self._bytes == 0 or self._bytes + item.size <= self._most)
            if fits:
                self._bytes += item.size
            else:
                self._counts.add("dropped", by=item.spans)
        if fits:
            self._queue.put(item)

    # --- in the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        more = True
        while more:
            items, more = self._gathered()
            if items:
                self._tell(items)
                with self._lock:
                    self._bytes -= sum(item.size for item in items)

    def _gathered(self) -> tuple[list[_Item], bool]:
        """What comes within a moment, up to a batch; and whether more may come."""
        items: list[_Item] = []
        weight, until = 0, float("inf")
        while len(items) < BATCH_SPANS and weight < BATCH_BYTES:
            try:
                wait_s = until - time.monotonic()
                item = self._queue.get(timeout=None if wait_s == float("inf") else max(0.0, wait_s))
            except queue.Empty:
                break
            if item is None:
                return items, False
            if not items:
                until = time.monotonic() + self._linger_s
            items.append(item)
            weight += item.size if self._content else SPAN_BYTES * item.spans
        return items, True

    def _tell(self, items: Sequence[_Item]) -> None:
        if self._closed:
            self._count("dropped", sum(item.spans for item in items))
            return
        spans = [span for item in items for span in self._made(item)]
        if not spans:
            return
        try:
            taken = self._send(spans)
        except Exception as error:
            _log.error("spans were not sent: %s", type(error).__name__)
            taken = False
        self._count("sent" if taken else "failed", len(spans))
        if taken is self._failing:
            self._failing = not taken
            _log.warning("the collector takes spans again" if taken else "the collector does not take spans")

    def _made(self, item: _Item) -> list[Span]:
        try:
            return item.make()
        except Exception as error:  # a span less, and never an end of this thread
            _log.error("a span could not be made: %s", type(error).__name__)
            self._count("failed", item.spans)
            return []

    def _count(self, result: str, spans: int) -> None:
        with self._lock:
            self._counts.add(result, by=spans)


# --- settings ---------------------------------------------------------------------------------------------------------


def headers_of(told: Otel) -> dict[str, str]:
    """The headers that the environment holds. Raises ``ConfigError`` for a variable that is not set."""
    headers = {}
    for name, variable in told.headers_env.items():
        value = os.environ.get(variable, "").strip()
        if not value:
            raise ConfigError(
                f"The collector's header '{name}' is taken from {variable}, which is not set. "
                f"Type: export {variable}=VALUE"
            )
        headers[name.lower()] = value
    return headers


def endpoint_of(told: Otel) -> str:
    """The address of traces under a collector's base address.

    >>> endpoint_of(Otel(endpoint="http://localhost:4318"))
    'http://localhost:4318/v1/traces'
    """
    base = told.endpoint.rstrip("/")
    return base if base.endswith(PATH) else base + PATH


_HOSTS = {
    "api.openai.com": "openai",
    "api.anthropic.com": "anthropic",
    "api.mistral.ai": "mistral_ai",
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
    "api.x.ai": "x_ai",
    "api.perplexity.ai": "perplexity",
    "api.moonshot.ai": "moonshot_ai",
    "api.cohere.ai": "cohere",
    "api.cohere.com": "cohere",
    "generativelanguage.googleapis.com": "gcp.gemini",
}


def peer_of(upstream: Upstream) -> Peer:
    """The conventions name well-known hosts; any other goes by the dialect that it speaks."""
    parts = urlsplit(upstream.base_url)
    host = parts.hostname or ""
    provider = "azure.ai.openai" if host.endswith(".openai.azure.com") else _HOSTS.get(host)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return Peer(provider or ("anthropic" if upstream.dialect == "anthropic" else "openai"), host, port)


def _cost_by(prices: PriceTable | None) -> Callable[[Usage, str], float | None]:
    from potstill.measure.ledger import price_usage

    def cost(usage: Usage, name: str) -> float | None:
        try:
            return None if prices is None else price_usage(usage, name, prices).total_usd
        except UnknownPrice:
            return None

    return cost


# --- OpenTelemetry's own exporter -------------------------------------------------------------------------------------


def needs_exporter() -> None:
    """Raises ``MissingExtra`` where OpenTelemetry's exporter is not installed."""
    try:
        import opentelemetry.sdk.trace.export  # noqa: F401
        from opentelemetry.exporter.otlp.proto.http import Compression, trace_exporter  # noqa: F401
    except ImportError:
        raise MissingExtra("The export of spans", "otel") from None


def _official(told: Otel, headers: dict[str, str]) -> tuple[Send, Callable[[], None]]:
    needs_exporter()
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import SpanExportResult

    exporter = OTLPSpanExporter(
        endpoint=endpoint_of(told), headers=headers or None, timeout=told.timeout_s, compression=Compression.Gzip
    )
    # Its messages quote the collector's answers, which may repeat a key; this module tells what became of the spans.
    logging.getLogger(_SDK_LOGGER).addFilter(lambda record: record.threadName != THREAD)
    made = _maker(told)

    def send(spans: Sequence[Span]) -> bool:
        return exporter.export([made(span) for span in spans]) is SpanExportResult.SUCCESS

    return send, exporter.shutdown


def _maker(told: Otel) -> Callable[[Span], Any]:
    """How a span of ours becomes one of the SDK's."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

    from potstill import __version__

    name = told.service_name or os.environ.get("OTEL_SERVICE_NAME") or "potstill"
    resource = Resource.create({"service.name": name, "service.version": __version__})
    scope, sampled = InstrumentationScope("potstill.gateway", __version__), TraceFlags(TraceFlags.SAMPLED)

    def context(place: tuple[int, int], *, remote: bool = False) -> SpanContext:
        return SpanContext(place[0], place[1], is_remote=remote, trace_flags=sampled)

    def made(span: Span) -> ReadableSpan:
        status = Status(StatusCode.UNSET)
        if span.error is not None:
            status = Status(StatusCode.ERROR, valid(span.error.message) or None)
        return ReadableSpan(
            name=valid(span.name),
            context=context(span.place),
            parent=None if span.parent is None else context(span.parent, remote=True),
            resource=resource,
            attributes={key: valid(value) for key, value in span.attributes.items()},
            links=[Link(context(place, remote=True)) for place in span.links],
            kind=SpanKind.CLIENT if span.is_call else SpanKind.INTERNAL,
            status=status,
            start_time=int(span.start_s * 1e9),
            end_time=int(span.end_s * 1e9),
            instrumentation_scope=scope,
        )

    return made


def valid(value: Any) -> Any:
    """Texts that UTF-8 can hold: half of a surrogate pair would cost the whole batch."""
    if isinstance(value, list):
        return [valid(one) for one in value]
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
