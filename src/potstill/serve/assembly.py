"""A gateway put together out of its settings, and taken apart again in the right order.

What it knows: who needs whom. What it does not do: sockets (``server``), or any part's work.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from potstill.errors import PotstillError
from potstill.measure.prices.table import PriceTable
from potstill.record.live import LiveEpisodes
from potstill.record.redact import Redactor
from potstill.serve.admin.api import Admin
from potstill.serve.admin_key import is_loopback
from potstill.serve.app import App
from potstill.serve.clients.hosts import Hosts
from potstill.serve.counting import tell_decider, tell_gate, tell_meeting, tell_outcomes
from potstill.serve.deciding.decider import GatewayDecider
from potstill.serve.deciding.learning import Learning
from potstill.serve.deciding.verdicts import Verdicts, ending_of
from potstill.serve.forward import Forwarder
from potstill.serve.memory import give_back
from potstill.serve.preflight import warnings_of
from potstill.serve.recording.checking import Checkers, loaded
from potstill.serve.recording.client_keys import ClientKeys
from potstill.serve.recording.closing import Closer, close_open
from potstill.serve.recording.meeting import Meeting
from potstill.serve.recording.own_secrets import OwnSecrets
from potstill.serve.recording.recorder import LINGER_S, Recorder
from potstill.serve.recording.settling import Settler
from potstill.serve.routes import Routes
from potstill.serve.settings import Gateway, Mode
from potstill.serve.telemetry.metrics import Metrics
from potstill.serve.tenants.gate import TenantGate
from potstill.serve.tenants.key_rows import StoreRows
from potstill.serve.tenants.unpriced import unpriced
from potstill.serve.upstreams.endpoints import Upstreams
from potstill.serve.upstreams.plain import Plain
from potstill.serve.upstreams.questions import Questions
from potstill.trajectories.exchange import Exchange
from potstill.trajectories.opening import is_url, open_store, secrets_of
from potstill.trajectories.store import Store
from potstill.types import Trajectory

if TYPE_CHECKING:
    from potstill.distill.context.library import DemonstrationLibrary
    from potstill.serve.telemetry.export import SpanExport

_log = logging.getLogger("potstill.gateway")

QUIET_S = 5.0
"""How long requests that were cut at the end of the drain time have to come to an end."""


@asynccontextmanager
async def opened(settings: Gateway, admin_key: str | None = None, *, fold_at_end: bool = False) -> AsyncIterator[App]:
    """The running parts as an ASGI application. On leaving: requests end or are cut, then what waits is recorded;
    with ``fold_at_end`` open episodes of a file become trajectories then.

    Raises ``ConfigError``, ``StoreError``.
    """
    async with AsyncExitStack() as stack:
        metrics, limits, told = Metrics(), settings.limits, settings.recording
        store = await asyncio.to_thread(open_store, settings.db)
        stack.push_async_callback(asyncio.to_thread, store.close)
        prices = await asyncio.to_thread(_prices)
        keys = await asyncio.to_thread(StoreRows(store).all_keys)
        warnings = (*warnings_of(settings), *unpriced(settings, prices, keys))
        for warning in warnings:
            _log.warning("%s", warning)
        metrics.gauge("potstill_warnings", "What an operator was warned of at the start.", lambda: len(warnings))
        upstreams = Upstreams(settings.upstreams, metrics, lambda value: redactor.learn(value))
        stack.push_async_callback(upstreams.aclose)
        spans = await asyncio.to_thread(_span_export, settings, metrics, prices)
        if spans is not None:
            stack.push_async_callback(spans.aclose)
        rules = Redactor(told.redact, builtin=told.builtin_redaction)
        found = [admin_key, *upstreams.secrets(), *secrets_of(settings.db), *(() if spans is None else spans.secrets())]
        own = OwnSecrets(found, rules)
        redactor = ClientKeys(own)
        if fold_at_end and not is_url(settings.db):  # gateways that share a server go on with each other's episodes
            stack.push_async_callback(asyncio.to_thread, close_open, store, None if spans is None else spans.episode)
        recorder = Recorder(
            store,
            max_bytes=limits.max_queue_bytes,
            metrics=metrics,
            overflow=told.overflow,
            redact=redactor.exchanges,
            redact_huge=redactor.each,
            linger_s=0.0 if told.strict else LINGER_S,
            recorded=None if spans is None else spans.exchange,
        )
        stack.push_async_callback(recorder.aclose)
        recorder.acknowledged = await asyncio.to_thread(store.last_seq)
        gate = TenantGate(StoreRows(store), settings.tenants, keys_required=needs_keys(settings))
        await gate.start()
        stack.push_async_callback(gate.aclose)
        tell_gate(metrics, gate)
        meeting = Meeting(store, limits.idle_episode_s) if is_url(settings.db) else None
        if meeting is not None:
            stack.push_async_callback(meeting.aclose)
            tell_meeting(metrics, meeting)
        episodes = LiveEpisodes(idle_s=limits.idle_episode_s, shared=meeting)
        learning = await asyncio.to_thread(_learning, settings, store)
        library = None if learning is None else learning.library
        settler = Settler(gate, episodes, metrics, prices)
        decider, verdicts = None, None
        if any(route.mode is not Mode.RECORD for route in settings.routes):
            decider = GatewayDecider(
                settings,
                Questions(upstreams, max_bytes=limits.max_answer_bytes),
                store,
                library,
                books=store,
                record=partial(_shadowed, recorder, settler),
                prices=prices,
                failed=metrics.fail_open.add,
                may_spend=gate.may_spend,
                began=store.episode_stage,
            )
            tell_decider(metrics, decider)
            await decider.start()
            stack.push_async_callback(decider.aclose)
            look = partial(ending_of, store, decider.costs)
            verdicts = Verdicts(decider.stages, store, look, recorder.caught_up)
            stack.push_async_callback(verdicts.aclose)
        tell = _deaf if verdicts is None else verdicts.told
        checkers = Checkers(loaded(settings), store, _from_threads(tell), redactor.text)
        stack.push_async_callback(asyncio.to_thread, checkers.close)
        checkers.catch_up()
        tell_outcomes(metrics, verdicts, checkers)
        folded = _Folded(library, checkers, _from_threads(tell))
        closer = Closer(
            store,
            limits.idle_episode_s,
            folded if spans is None else partial(_told, spans, folded),
            _looked(learning, meeting),
        )
        await closer.start()
        stack.push_async_callback(closer.aclose)
        admin = Admin(
            settings=settings,
            store=store,
            gate=gate,
            admin_key=admin_key,
            stages=None if decider is None else decider.stages,
            gauges=partial(_gauges, metrics, warnings),
            redact=redactor.text,
            tell=partial(_ended, closer, tell),
            policies=dict if decider is None else lambda: decider.reloading.loaded,
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
                settler,
                strict=told.strict,
                decider=decider,
            ),
            upstreams=upstreams,
            plain=Plain(upstreams, limits, settler),
            metrics=metrics,
            limits=limits,
            hosts=None if needs_keys(settings) else Hosts(settings.host, settings.allowed_hosts),
            metrics_public=is_loopback(settings.host) if settings.metrics_public is None else settings.metrics_public,
            admin=admin,
        )
        stack.push_async_callback(_quiet, app)
        yield app


class _Folded:
    """What follows when an episode became a trajectory; called in the closer's thread."""

    def __init__(
        self, library: DemonstrationLibrary | None, checkers: Checkers, tell: Callable[[str, str], None]
    ) -> None:
        self._library, self._checkers, self._tell = library, checkers, tell

    def __call__(self, trajectory: Trajectory) -> None:
        if self._library is not None:
            self._library.add(trajectory)
        if trajectory.outcome is not None:  # perhaps of somebody who wrote it into the store without asking us
            self._tell(trajectory.namespace, str(trajectory.metadata.get("episode_id", "")))
        self._checkers.folded(trajectory)


def _shadowed(recorder: Recorder, settler: Settler, exchange: Exchange) -> None:
    recorder.add(exchange)
    settler.beside(exchange)


def _ended(closer: Closer, tell: Callable[[str, str], None], namespace: str, episode_id: str) -> None:
    tell(namespace, episode_id)
    closer.outcome_told()


def _deaf(namespace: str, episode_id: str) -> None:
    """Without a student nobody counts outcomes."""


def _from_threads(tell: Callable[[str, str], None]) -> Callable[[str, str], None]:
    """``tell`` for callers that are not on the event loop."""
    loop = asyncio.get_running_loop()

    def told(namespace: str, episode_id: str) -> None:
        with suppress(RuntimeError):  # the loop is closed: the outcome is kept all the same
            loop.call_soon_threadsafe(tell, namespace, episode_id)

    return told


def needs_keys(settings: Gateway) -> bool:
    """Keys may be left out only where no other machine can ask."""
    return settings.keys_required or not is_loopback(settings.host)


async def _quiet(app: App) -> None:
    app.drain()
    with suppress(TimeoutError):
        async with asyncio.timeout(QUIET_S):
            await app.idle()


def _span_export(settings: Gateway, metrics: Metrics, prices: PriceTable | None) -> SpanExport | None:
    if not settings.otel.endpoint:
        return None
    from potstill.serve.telemetry.export import SpanExport

    return SpanExport(settings, metrics, prices)


def _told(spans: SpanExport, folded: Callable[[Trajectory], None], trajectory: Trajectory) -> None:
    spans.episode(trajectory)
    folded(trajectory)


def _gauges(metrics: Metrics, warnings: Sequence[str]) -> Mapping[str, Any]:
    """For the status page."""
    read = {gauge.name.removeprefix("potstill_"): gauge.read() for gauge in metrics.gauges}
    return {**read, "warnings": list(warnings)}


def _prices() -> PriceTable | None:
    """List prices for budgets; without them only tokens are counted."""
    try:
        return PriceTable.load()
    except PotstillError:
        return None


def _looked(learning: Learning | None, meeting: Meeting | None) -> Callable[[], None]:
    """What is done every now and then; in the closer's thread."""

    def looked() -> None:
        if learning is not None:
            learning.catch_up()
        if meeting is not None:
            meeting.tidy()
        give_back()

    return looked


def _learning(settings: Gateway, store: Store) -> Learning | None:
    """What the tenants' teachers did well, where a route shows demonstrations."""
    if not any(route.context.k for route in settings.routes):
        return None
    from potstill.distill.context.config import ContextConfig
    from potstill.distill.context.library import DemonstrationLibrary

    learning = Learning(store, DemonstrationLibrary(ContextConfig()))
    learning.catch_up()
    return learning
