"""A gateway put together out of its settings, and taken apart again in the right order.

What it knows: who needs whom. What it does not do: sockets (``server``), or any part's work.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from potstill.errors import PotstillError
from potstill.measure.prices.table import PriceTable
from potstill.record.live import LiveEpisodes
from potstill.record.redact import Redactor
from potstill.serve.admin import Admin
from potstill.serve.admin_key import is_loopback
from potstill.serve.app import App
from potstill.serve.closing import Closer
from potstill.serve.deciding import GatewayDecider
from potstill.serve.forward import Forwarder
from potstill.serve.key_rows import StoreRows
from potstill.serve.metrics import Metrics
from potstill.serve.own_secrets import OwnSecrets
from potstill.serve.plain import Plain
from potstill.serve.questions import Questions
from potstill.serve.recorder import LINGER_S, Recorder
from potstill.serve.routes import Routes
from potstill.serve.settings import Gateway, Mode
from potstill.serve.settling import Settler
from potstill.serve.tenants import OPEN_TENANT, TenantGate
from potstill.serve.upstreams import Upstreams
from potstill.trajectories.opening import open_store
from potstill.trajectories.store import Store
from potstill.types import Trajectory

if TYPE_CHECKING:
    from potstill.distill.context.library import DemonstrationLibrary
    from potstill.serve.otel import SpanExport

QUIET_S = 5.0
"""How long requests that were cut at the end of the drain time have to come to an end."""


@asynccontextmanager
async def opened(settings: Gateway, admin_key: str | None = None) -> AsyncIterator[App]:
    """The running parts as an ASGI application. On leaving: requests end or are cut, then what waits is recorded.

    Raises ``ConfigError``, ``StoreError``.
    """
    async with AsyncExitStack() as stack:
        metrics, limits, told = Metrics(), settings.limits, settings.recording
        store = await asyncio.to_thread(open_store, settings.db)
        stack.push_async_callback(asyncio.to_thread, store.close)
        prices = await asyncio.to_thread(_prices)
        upstreams = Upstreams(settings.upstreams, metrics)
        stack.push_async_callback(upstreams.aclose)
        spans = await asyncio.to_thread(_span_export, settings, metrics, prices)
        if spans is not None:
            stack.push_async_callback(spans.aclose)
        rules = Redactor(told.redact, builtin=told.builtin_redaction)
        redactor = OwnSecrets([admin_key, *upstreams.secrets(), *([] if spans is None else spans.secrets())], rules)
        recorder = Recorder(
            store,
            max_bytes=limits.max_queue_bytes,
            metrics=metrics,
            overflow=told.overflow,
            redact=redactor.exchange,
            linger_s=0.0 if told.strict else LINGER_S,
            recorded=None if spans is None else spans.exchange,
        )
        stack.push_async_callback(recorder.aclose)
        recorder.acknowledged = await asyncio.to_thread(store.last_seq)
        gate = TenantGate(StoreRows(store), settings.tenants, keys_required=needs_keys(settings))
        await gate.start()
        stack.push_async_callback(gate.aclose)
        episodes = LiveEpisodes(idle_s=limits.idle_episode_s)
        library = await asyncio.to_thread(_library, settings, store)
        folded = _ignored if library is None else library.add
        closer = Closer(store, limits.idle_episode_s, folded if spans is None else partial(_told, spans, folded))
        await closer.start()
        stack.push_async_callback(closer.aclose)
        decider = None
        if any(route.mode is not Mode.RECORD for route in settings.routes):
            decider = GatewayDecider(
                settings,
                Questions(upstreams, max_bytes=limits.max_answer_bytes),
                store,
                library,
                record=recorder.add,
                prices=prices,
            )
            await decider.start()
            stack.push_async_callback(decider.aclose)
        admin = Admin(
            settings=settings,
            store=store,
            gate=gate,
            admin_key=admin_key,
            stages=None if decider is None else decider.stages,
            gauges=partial(_gauges, metrics),
            redact=redactor.text,
        )
        stack.push_async_callback(admin.aclose)
        app = App(
            routes=Routes(settings),
            gate=gate,
            episodes=episodes,
            recorder=recorder,
            forwarder=Forwarder(
                upstreams,
                recorder,
                metrics,
                limits,
                Settler(gate, episodes, metrics, prices),
                strict=told.strict,
                decider=decider,
            ),
            plain=Plain(upstreams, limits),
            metrics=metrics,
            limits=limits,
            open_to_all=not needs_keys(settings),
            admin=admin,
        )
        stack.push_async_callback(_quiet, app)
        yield app


def needs_keys(settings: Gateway) -> bool:
    """Keys may be left out only where no other machine can ask."""
    return settings.keys_required or not is_loopback(settings.host)


async def _quiet(app: App) -> None:
    app.drain()
    with suppress(TimeoutError):
        async with asyncio.timeout(QUIET_S):
            await app.idle()


def _ignored(trajectory: Trajectory) -> None:
    """Nobody wants to know."""


def _span_export(settings: Gateway, metrics: Metrics, prices: PriceTable | None) -> SpanExport | None:
    if not settings.otel.endpoint:
        return None
    from potstill.serve.otel import SpanExport

    return SpanExport(settings, metrics, prices)


def _told(spans: SpanExport, folded: Callable[[Trajectory], object], trajectory: Trajectory) -> None:
    spans.episode(trajectory)
    folded(trajectory)


def _gauges(metrics: Metrics) -> Mapping[str, Any]:
    return {gauge.name.removeprefix("potstill_"): gauge.read() for gauge in metrics.gauges}


def _prices() -> PriceTable | None:
    """List prices for budgets; without them only tokens are counted."""
    try:
        return PriceTable.load()
    except PotstillError:
        return None


def _library(settings: Gateway, store: Store) -> DemonstrationLibrary | None:
    """What the tenants' teachers did well, where a route shows demonstrations."""
    if not any(route.context.k for route in settings.routes):
        return None
    from potstill.distill.context.config import ContextConfig
    from potstill.distill.context.library import DemonstrationLibrary

    library = DemonstrationLibrary(ContextConfig())
    for namespace in {OPEN_TENANT, *(tenant.name for tenant in settings.tenants)}:
        for trajectory in store.select(namespace=namespace, success=True):
            library.add(trajectory)
    return library
