"""The gateway as a running HTTP server: uvicorn with uvloop and httptools, in the foreground or in a thread.

What it knows: start, signals, drain. What it does not do: requests (``app``).
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from potstill.errors import ConfigError
from potstill.serve.admin_key import check_admin_key
from potstill.serve.assembly import opened
from potstill.serve.clients.client import Message, Receive, Send
from potstill.serve.memory import hold_little
from potstill.serve.packages import needs_packages
from potstill.serve.settings import Gateway

if TYPE_CHECKING:
    import uvicorn

    from potstill.serve.app import App

KEEP_ALIVE_S = 75.0
"""Longer than clients keep idle connections: then it is they who close, and no request meets a closing connection."""


GC_OBJECTS = 10_000
"""A pass over so many new objects takes about half a millisecond."""


class GatewayServer:
    """One gateway. ``run`` serves until a signal comes; ``start`` and ``stop`` serve in a thread.

    Raises ``MissingExtra`` where the server's packages are not installed, ``ConfigError`` for a weak admin key.
    ``on_draining`` is told how many requests are under way, if any, when it begins to stop. ``fold_at_end``: open
    episodes of a file become trajectories then.
    """

    def __init__(
        self,
        settings: Gateway,
        *,
        admin_key: str | None = None,
        on_started: Callable[[str], None] | None = None,
        on_draining: Callable[[int], None] | None = None,
        fold_at_end: bool = False,
    ) -> None:
        self.settings = settings
        self._fold_at_end = fold_at_end
        self.app: App | None = None
        self.url = ""
        """Where it listens, without path; known once it has started."""
        check_admin_key(admin_key, settings.host)
        self._admin_key = admin_key
        self._on_started = on_started
        self._on_draining = on_draining
        self._error: BaseException | None = None
        self._parts: AbstractAsyncContextManager[App] | None = None
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._server = _server(self)

    def run(self) -> None:
        """Serve until SIGINT or SIGTERM, then drain. Raises what kept the gateway from starting."""
        if threading.current_thread() is threading.main_thread():
            hold_little()
        try:
            self._server.run()
        except SystemExit:
            if self._error is None:
                host, port = self.settings.host, self.settings.port
                raise ConfigError(
                    f"Nothing listens on {host}:{port}: the port is taken or not allowed. Type: --port {port + 1}"
                ) from None
        finally:
            self._ready.set()
        if self._error is not None:
            raise self._error

    def start(self) -> GatewayServer:
        """Serve in a thread of its own; returns when it listens."""
        self._thread = threading.Thread(target=self._run_quietly, name="potstill-gateway", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            raise self._error
        return self

    def stop(self) -> None:
        """Drain and stop."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join()

    def __enter__(self) -> GatewayServer:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _run_quietly(self) -> None:
        try:
            self.run()
        except BaseException as error:
            self._error = error

    def started(self, server: uvicorn.Server) -> None:
        """Called on the event loop when the socket listens."""
        host, port = server.servers[0].sockets[0].getsockname()[:2]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        if threading.current_thread() is threading.main_thread():
            _rest_the_collector()
        self._ready.set()
        if self._on_started is not None:
            self._on_started(self.url)

    def draining(self) -> None:
        """Called on the event loop when a signal came: running requests may end."""
        if self.app is None:
            return
        self.app.drain()
        if self.app.inflight and self._on_draining is not None:
            self._on_draining(self.app.inflight)

    # --- ASGI ---------------------------------------------------------------------------------------------------------

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self.app is not None:
            return await self.app(scope, receive, send)
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            self._parts = opened(self.settings, self._admin_key, fold_at_end=self._fold_at_end)
            self.app = await self._parts.__aenter__()
        except Exception as error:
            self._error = error
            await send({"type": "lifespan.startup.failed", "message": ""})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._parts.__aexit__(None, None, None)
        await send({"type": "lifespan.shutdown.complete"})


def _rest_the_collector() -> None:
    """What a process of our own has loaded by now stays: the garbage collector need not walk through it again, and
    looks at what came since every ten requests or so instead of at each."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_OBJECTS, 20, 20)


def _server(gateway: GatewayServer) -> uvicorn.Server:
    needs_packages()
    import uvicorn

    from potstill.serve.clients.protocol import BoundedProtocol

    settings = gateway.settings
    limits = settings.limits
    bounds = {"header_timeout_s": limits.header_timeout_s, "write_timeout_s": limits.write_timeout_s}
    protocol = type("Protocol", (BoundedProtocol,), bounds)

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            gateway.started(self)

        async def shutdown(self, sockets: Any = None) -> None:
            gateway.draining()
            await super().shutdown(sockets)

    config = uvicorn.Config(
        gateway,
        host=settings.host,
        port=settings.port,
        loop="asyncio" if sys.platform == "win32" else "uvloop",
        http=protocol,
        ws="none",
        lifespan="on",
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        backlog=2048,
        timeout_keep_alive=int(KEEP_ALIVE_S),
        timeout_graceful_shutdown=max(1, int(settings.limits.drain_s)),
    )
    return Server(config)
