"""A running gateway before a scripted upstream of each dialect, and all that must hold however bad the upstream is.

``ask`` sends one request and reads every byte of its answer; ``settled`` compares what clients saw with what was
recorded, and looks for tasks and files that were left behind and for anything that was logged as an error.
"""

from __future__ import annotations

import asyncio
import gc
import http.client
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from pair_samples import ANTHROPIC, CHAT, NAMES, RESPONSES
from upstream_double import Request, Upstream

from potstill.serve.server import GatewayServer
from potstill.serve.settings import Gateway, Limits, Model, Route
from potstill.serve.settings import Upstream as Told
from potstill.trajectories.exchange import Exchange

PATHS = {CHAT: "/v1/chat/completions", RESPONSES: "/v1/responses", ANTHROPIC: "/v1/messages"}
IDLE_S = 2.5
"""Longer than a busy machine may pause: a stream that its upstream sent whole must not end in a time-out."""
Pieces = bytes | Iterable[bytes | float]


def question(client: str, upstream: str, *, stream: bool = True) -> dict[str, Any]:
    """A small request of the client's dialect that is routed to an upstream of another or the same one."""
    asked: dict[str, Any] = {"model": f"to-{upstream}", "stream": stream}
    if client == RESPONSES:
        return {**asked, "input": "hi"}
    asked["messages"] = [{"role": "user", "content": "hi"}]
    if client == ANTHROPIC:
        return {**asked, "max_tokens": 100}
    return {**asked, "stream_options": {"include_usage": True}} if stream else asked


class Seen(NamedTuple):
    """What a client got."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def request_id(self) -> str:
        return self.headers["x-potstill-request-id"]

    @property
    def streamed(self) -> bool:
        return self.headers["content-type"].startswith("text/event-stream")


class Quick(Upstream):
    """Waits of milliseconds are slept: nobody leaves meanwhile."""

    def _wait(self, connection: Any, seconds: float, request: Request) -> bool:
        if seconds > 0.02:
            return super()._wait(connection, seconds, request)
        time.sleep(seconds)
        return True


class Watched:
    def __init__(self, db: Path, **settings: Any) -> None:
        self.answer: Callable[[Request], Pieces] = lambda request: b""
        """What the upstreams do."""
        self.upstreams = {name: Quick(lambda request: self.answer(request)) for name in NAMES}
        more = {"limits": Limits(drain_s=2.0, max_answer_bytes=4 << 20), **settings}
        self.settings = Gateway(
            port=0,
            db=str(db),
            upstreams=tuple(
                Told(name=name, base_url=one.url, dialect=name, idle_timeout_s=IDLE_S, retries=0)
                for name, one in self.upstreams.items()
            ),
            models=tuple(Model(name=f"to-{name}", upstream=name, model=f"to-{name}") for name in NAMES),
            routes=tuple(Route(name=f"to-{name}", teacher=f"to-{name}") for name in NAMES),
            **more,
        )
        self.server = GatewayServer(self.settings)
        self.errors: list[str] = []
        self.seen: dict[str, tuple[Seen, bool]] = {}
        """What clients saw by the request's id, with whether it was complete."""
        self._handler = _Errors(self.errors)
        self._connection: http.client.HTTPConnection | None = None
        self._before: tuple[int, int] | None = None

    def __enter__(self) -> Watched:
        logging.getLogger().addHandler(self._handler)
        self.server.start()
        self.loop = self._on_loop(asyncio.get_running_loop)
        self.loop.call_soon_threadsafe(self.loop.set_exception_handler, self._handler.of_loop)
        return self

    def __exit__(self, *exc: object) -> None:
        self.disconnect()
        self.server.stop()
        logging.getLogger().removeHandler(self._handler)
        for upstream in self.upstreams.values():
            upstream.close()
        assert not self.errors, self.errors[:3]

    # --- asking -------------------------------------------------------------------------------------------------------

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.server.url)
        return str(parts.hostname), int(parts.port or 0)

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(*self.address, timeout=120)

    def ask(self, path: str, body: Any, **headers: str) -> Seen:
        """Over one kept connection, which no upstream's fault may break."""
        if self._connection is None:
            self._connection = self.connect()
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._connection.request("POST", path, data, {"content-type": "application/json", **headers})
        response = self._connection.getresponse()
        return Seen(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())

    def disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def metrics(self) -> dict[str, float]:
        connection = self.connect()
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        connection.close()
        pairs = [line.rpartition(" ") for line in lines if line and not line.startswith("#")]
        return {name: float(value) for name, _, value in pairs}

    def count(self, prefix: str) -> float:
        """The sum of all counters that begin so."""
        return sum(value for name, value in self.metrics().items() if name.startswith(prefix))

    # --- what must hold -----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Remember how much is open now."""
        self.seen.clear()
        self.disconnect()
        self._before = self.quiet()

    def quiet(self) -> tuple[int, int]:
        """Tasks and open files, once no request is served and nothing waits to be recorded."""
        app = self.server.app
        assert app is not None
        until = time.monotonic() + 120
        counts: list[tuple[int, int]] = []
        while time.monotonic() < until:
            if app.inflight == 0 and app._recorder.waiting == 0:
                self._on_loop(gc.collect)
                counts.append((len(self._on_loop(self._tasks)), len(os.listdir("/proc/self/fd"))))
                if counts[-3:] == [counts[-1]] * 3:
                    return counts[-1]
            time.sleep(0.01)
        raise AssertionError(f"not quiet: {app.inflight} requests, {app._recorder.waiting} to record, {counts[-3:]}")

    def settled(self, *, more_files: int = 8) -> None:
        """Nothing was logged as an error, left open or recorded otherwise than it was seen.

        ``more_files``: connections to upstreams that are kept, and their other ends in this process.
        """
        self.disconnect()
        tasks, files = self.quiet()
        assert not self.errors, self.errors[:3]
        if self._before is not None:
            assert tasks <= self._before[0], [str(task) for task in self._on_loop(self._tasks)]
            assert files <= self._before[1] + more_files, (files, self._before)
        kept = self.recorded()
        for request_id, (seen, complete) in self.seen.items():
            exchange = kept[request_id]
            assert exchange.status == seen.status
            assert exchange.response == seen.body, (exchange.response[-300:], seen.body[-300:])
            assert exchange.complete == complete, (exchange.error, seen.body[-300:])
            assert complete or exchange.error is not None
            assert exchange.streamed == seen.streamed

    def recorded(self) -> dict[str, Exchange]:
        """What the store holds, by the request's id."""
        from potstill.trajectories.store import Store

        found: dict[str, Exchange] = {}
        after = 0
        with Store.open(self.settings.db) as store:
            while rows := store.recent(None, after, 500):
                found |= {row.exchange.request_id: row.exchange for row in rows}
                after = rows[-1].seq
        return found

    def _tasks(self) -> list[asyncio.Task[Any]]:
        return [task for task in asyncio.all_tasks(self.loop) if not task.done()]

    def _on_loop(self, call: Callable[[], Any]) -> Any:
        loop = getattr(self, "loop", None) or self.server.app._recorder._loop  # type: ignore[union-attr]
        done, result = threading.Event(), []

        def run() -> None:
            result.append(call())
            done.set()

        loop.call_soon_threadsafe(run)
        assert done.wait(60), "the event loop hangs"
        return result[0]


class _Errors(logging.Handler):
    """Whatever is logged as an error, from any library, and what an event loop has no other place for."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._errors = errors
        self.setFormatter(logging.Formatter("%(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self._errors.append(self.format(record))

    def of_loop(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._errors.append(f"event loop: {context.get('message')}: {context.get('exception')!r}")
