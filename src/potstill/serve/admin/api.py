"""The admin API under ``/v1/potstill/``, and the tenants' endpoint for outcomes, as a raw ASGI application.

What it knows: who is an admin, which request goes to which act, how failures are told. What it does not do: the acts
themselves (``reads``, ``acts``, ``outcomes``), HTML, or anything on the way of a completion.

An admin is who sends the admin key as a bearer (``guard``).
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from potstill.errors import ConfigError, StoreError, UnknownName
from potstill.serve import dashboard
from potstill.serve.admin.acts import Acts
from potstill.serve.admin.books import Books
from potstill.serve.admin.figures_api import Figures
from potstill.serve.admin.guard import AdminKey, Guesses
from potstill.serve.admin.outcomes import Outcomes, Tell
from potstill.serve.admin.reads import Reads
from potstill.serve.admin.seams import AdminStore, Blocking, RouteActs
from potstill.serve.clients import json_http
from potstill.serve.clients.json_http import Call, Disconnected, Receive, Refusal, Scope, Send
from potstill.serve.seams import Gate, Loaded
from potstill.serve.settings import Gateway
from potstill.serve.tenants.gate import TenantGate

PREFIX = "/v1/potstill/"
NOT_OURS = frozenset({"/v1/potstill/acknowledged"})
"""What clients ask with their own keys."""
OUTCOME = re.compile(r"/v1/episodes/(?P<episode>.+)/outcome", re.DOTALL)

_log = logging.getLogger("potstill.gateway")

Handler = Callable[..., Awaitable[tuple[int, object]]]


class Admin:
    """One for each process. ``gauges`` is what the status page shows beside its own (queue, in flight)."""

    def __init__(
        self,
        *,
        settings: Gateway,
        store: AdminStore,
        gate: Gate,
        admin_key: str | None,
        stages: RouteActs | None = None,
        gauges: Callable[[], Mapping[str, Any]] = dict,
        redact: Callable[[str], str] = str,
        clock: Callable[[], float] = time.time,
        tell: Tell = lambda tenant, episode: None,
        policies: Callable[[], Mapping[str, Loaded]] = dict,
    ) -> None:
        self._admin_key = AdminKey(admin_key) if admin_key else None
        self._clock = clock
        self._guesses = Guesses()
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="potstill-admin")
        blocking = Blocking(self._threads)
        tenants = gate if isinstance(gate, TenantGate) else None
        reads = Reads(settings, store, blocking, stages, tenants, gauges, clock, policies)
        acts = Acts(store, blocking, stages, tenants, redact, clock, tell)
        self._reads = reads
        figures = Figures(settings, store, blocking, clock)
        books = Books(settings, store, blocking)
        self._outcomes = Outcomes(store, gate, blocking, redact, clock, tell)
        self._table: list[tuple[str, re.Pattern[str], Handler]] = [
            (method, re.compile(pattern, re.DOTALL), handler)
            for method, pattern, handler in (
                ("GET", "status", reads.status),
                ("GET", "routes", reads.routes),
                ("POST", r"routes/(?P<name>.+)/(?P<act>freeze|unfreeze|kill|release|recalibrated)", acts.route),
                ("POST", "kill-switch", acts.kill_switch),
                ("GET", "episodes", reads.episodes),
                ("GET", r"episodes/(?P<tenant>[^/]+)/(?P<episode>.+)", reads.episode),
                ("POST", r"episodes/(?P<tenant>[^/]+)/(?P<episode>.+)/outcome", acts.outcome),
                ("GET", "live", reads.live),
                ("GET", "figures", figures.overview),
                ("GET", "figures/episodes", figures.episodes),
                ("GET", r"figures/episodes/(?P<tenant>[^/]+)/(?P<episode>.+)", figures.episode),
                ("GET", "playbooks", books.books),
                ("GET", r"playbooks/(?P<tenant>[^/]+)/(?P<name>.+)", books.book),
                ("GET", "tenants", reads.tenants),
                ("GET", "keys", acts.keys),
                ("POST", "keys", acts.create_key),
                ("GET", r"keys/(?P<id>[^/]+)", acts.key),
                ("PATCH", r"keys/(?P<id>[^/]+)", acts.change_key),
                ("DELETE", r"keys/(?P<id>[^/]+)", acts.revoke_key),
            )
        ]

    def handles(self, path: str) -> bool:
        """Whether a path is for this application."""
        if path in dashboard.PATHS:
            return True
        return (path.startswith(PREFIX) and path not in NOT_OURS) or OUTCOME.fullmatch(path) is not None

    def drain(self) -> None:
        """Waiting requests are answered now: the server is on its way down."""
        self._reads.draining.set()

    async def aclose(self) -> None:
        self.drain()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if dashboard.handles(scope["method"], scope["path"]):
            return await dashboard.serve(scope, send)
        try:
            await self._serve(Call.of(scope), receive, send)
        except Disconnected:
            return
        except Refusal as refusal:
            await json_http.refuse(send, refusal)
        except UnknownName as error:
            await json_http.refuse(send, Refusal(404, "not_found", str(error)))
        except ConfigError as error:
            await json_http.refuse(send, Refusal(409, "conflict", str(error)))
        except StoreError as error:
            _log.warning("%s %s: %s", scope["method"], scope["path"][:200], error)
            told = Refusal(
                503, "overloaded", "The store did not answer as it should; the log says why.", retry_after_s=2.0
            )
            await json_http.refuse(send, told)
        except Exception:
            _log.exception("%s %s failed", scope["method"], scope["path"][:200])
            await json_http.refuse(send, Refusal(500, "internal", "The gateway failed here; its log says where."))

    async def _serve(self, call: Call, receive: Receive, send: Send) -> None:
        outcome = OUTCOME.fullmatch(call.path)
        if outcome is not None:
            if call.method != "POST":
                raise Refusal(405, "invalid_request", "An outcome is sent with POST.")
            status, value = await self._outcomes.post(call, await json_http.read_body(receive), outcome["episode"])
            return await json_http.answer(send, status, value)
        if call.path in dashboard.PATHS:
            raise Refusal(405, "invalid_request", "The dashboard's files are read with GET.")
        if self._admin_key is None:
            raise Refusal(403, "permission", "The admin API is off, because the gateway has no admin key.")
        self._must_be_admin(call)
        handler, found = self._handler(call.method, call.path.removeprefix(PREFIX))
        body = await json_http.read_body(receive)
        status, value = await handler(call, body, receive, **found)
        await json_http.answer(send, status, value)

    def _handler(self, method: str, name: str) -> tuple[Handler, dict[str, str]]:
        allowed = []
        for wanted, pattern, handler in self._table:
            if (match := pattern.fullmatch(name)) is not None:
                if wanted == method:
                    return handler, match.groupdict()
                allowed.append(wanted)
        if allowed:
            raise Refusal(405, "invalid_request", f"This takes {', '.join(sorted(set(allowed)))}.")
        raise Refusal(404, "not_found", "There is no such page in the admin API.")

    async def permits(self, scope: Scope, send: Send) -> bool:
        """Whether an admin asks; who is none is told so."""
        try:
            if self._admin_key is None:
                raise Refusal(403, "permission", "This page is for the admin key, and the gateway has none.")
            self._must_be_admin(Call.of(scope))
        except Refusal as refusal:
            await json_http.refuse(send, refusal)
            return False
        return True

    # --- who is an admin ----------------------------------------------------------------------------------------------

    def _must_be_admin(self, call: Call) -> None:
        """Raises ``Refusal``."""
        if call.key is None:
            raise Refusal(401, "authentication", "Send the admin key as 'Authorization: Bearer ...'.")
        if self._admin_key is not None and self._admin_key.matches(call.key):
            return  # whatever others tried from the same address: nobody can lock the kill switch away
        at = self._clock()
        if (wait_s := self._guesses.wait_s(call.address, at)) > 0.0:
            message = "Too many wrong admin keys from this address, and this one is wrong too. Wait a little."
            raise Refusal(429, "rate_limit", message, retry_after_s=wait_s)
        self._guesses.was_wrong(call.address, at)
        raise Refusal(401, "authentication", "The admin key is not this gateway's.")
