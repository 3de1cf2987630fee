"""A gateway put together out of its settings, and taken apart again in the right order.

What it knows: who needs whom. What it does not do: sockets (``server``), or any part's work.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from potstill.errors import PotstillError
from potstill.measure.prices.table import PriceTable
from potstill.record.live import LiveEpisodes
from potstill.serve.app import App
from potstill.serve.forward import Forwarder
from potstill.serve.gates import AdminGate, OpenGate
from potstill.serve.metrics import Metrics
from potstill.serve.parts import Gate
from potstill.serve.plain import Plain
from potstill.serve.recorder import Recorder
from potstill.serve.routes import Routes
from potstill.serve.settings import Gateway
from potstill.serve.settling import Settler
from potstill.serve.upstreams import Upstreams
from potstill.trajectories.store import Store


@asynccontextmanager
async def opened(settings: Gateway, admin_key: str | None = None) -> AsyncIterator[App]:
    """The running parts as an ASGI application. On leaving: requests end or are cut, then what waits is recorded.

    Raises ``ConfigError``, ``StoreError``.
    """
    metrics = Metrics()
    store = await asyncio.to_thread(Store.open, settings.db)
    try:
        upstreams = Upstreams(settings.upstreams, metrics)
        recorder = Recorder(
            store,
            max_bytes=settings.limits.max_queue_bytes,
            metrics=metrics,
            overflow=settings.recording.overflow,
            linger_s=0.0 if settings.recording.strict else 0.02,
        )
        recorder.acknowledged = await asyncio.to_thread(store.last_seq)
        gate: Gate = OpenGate() if admin_key is None else AdminGate(admin_key)
        episodes = LiveEpisodes(idle_s=settings.limits.idle_episode_s)
        settler = Settler(gate, episodes, metrics, await asyncio.to_thread(_prices))
        forwarder = Forwarder(upstreams, recorder, metrics, settings.limits, settler, strict=settings.recording.strict)
        app = App(
            routes=Routes(settings),
            gate=gate,
            episodes=episodes,
            recorder=recorder,
            forwarder=forwarder,
            plain=Plain(upstreams, settings.limits),
            metrics=metrics,
            limits=settings.limits,
            open_to_all=admin_key is None,
        )
        try:
            yield app
        finally:
            app.draining = True
            with suppress(TimeoutError):
                async with asyncio.timeout(5):
                    await app.idle()
            await upstreams.aclose()
            await recorder.aclose()
    finally:
        await asyncio.to_thread(store.close)


def _prices() -> PriceTable | None:
    """List prices for budgets; without them only tokens are counted."""
    try:
        return PriceTable.load()
    except PotstillError:
        return None
