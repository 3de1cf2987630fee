"""The admin API under ``/v1/potstill/``, and the tenants' endpoint for outcomes, as a raw ASGI application.

What it knows: who is an admin, which request goes to which act, how failures are told. What it does not do: the acts
themselves (``admin_reads``, ``admin_acts``, ``outcomes``), HTML, or anything on the way of a completion.

An admin is who sends the admin key as a bearer, or holds the cookie that ``POST login`` gives for it (``sessions``).
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from potstill.errors import ConfigError, StoreError, UnknownName
from potstill.serve import dashboard, json_http
from potstill.serve.admin_acts import Acts
from potstill.serve.admin_figures import Figures
from potstill.serve.admin_parts import AdminStore, Blocking, RouteActs
from potstill.serve.admin_reads import Reads
from potstill.serve.json_http import Call, Disconnected, Receive, Refusal, Scope, Send
from potstill.serve.outcomes import Outcomes, Tell
from potstill.serve.parts import Gate
from potstill.serve.sessions import SESSION_S, Guesses, Session, Sessions, cookie, cookie_of, same_origin, token_matches
from potstill.serve.settings import Gateway
from potstill.serve.tenants import TenantGate
from potstill.types import Struct

PREFIX = "/v1/potstill/"
NOT_OURS = frozenset({"/v1/potstill/acknowledged"})
"""What clients ask with their own keys."""
OUTCOME = re.compile(r"/v1/episodes/(?P<episode>.+)/outcome", re.DOTALL)
SECRET_ROW = ("admin", "session-secret")
_READS = ("GET", "HEAD")

_log = logging.getLogger("potstill.gateway")

Handler = Callable[..., Awaitable[tuple[int, object]]]


class Login(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    key: str


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
    ) -> None:
        self._admin_key = admin_key
        self._store = store
        self._clock = clock
        self._sessions: Sessions | None = None
        self._guesses = Guesses()
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="potstill-admin")
        blocking = Blocking(self._threads)
        tenants = gate if isinstance(gate, TenantGate) else None
        reads = Reads(settings, store, blocking, stages, tenants, gauges, clock)
        acts = Acts(store, blocking, stages, tenants, redact, clock, tell)
        self._reads = reads
        figures = Figures(settings, store, blocking, clock)
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
        if not self._admin_key:
            raise Refusal(403, "permission", "The admin API is off, because the gateway has no admin key.")
        name = call.path.removeprefix(PREFIX)
        if name in ("login", "logout", "session"):
            return await self._session(name, call, receive, send)
        await self._must_be_admin(call)
        handler, found = self._handler(call.method, name)
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

    # --- who is an admin ----------------------------------------------------------------------------------------------

    async def _must_be_admin(self, call: Call) -> None:
        """Raises ``Refusal``."""
        if (key := call.key) is not None:
            return await self._check_key(call, key)
        session = await self._session_of(call)
        if session is None:
            raise Refusal(401, "authentication", "Send the admin key as 'Authorization: Bearer ...', or log in.")
        if call.method not in _READS:
            _must_be_meant(call, session)

    async def _check_key(self, call: Call, key: str) -> None:
        at = self._clock()
        if (wait_s := self._guesses.wait_s(call.address, at)) > 0.0:
            message = "Too many wrong admin keys from this address. Wait a little."
            raise Refusal(429, "rate_limit", message, retry_after_s=wait_s)
        if not (await self._known()).is_admin(key):
            self._guesses.was_wrong(call.address, at)
            raise Refusal(401, "authentication", "The admin key is not this gateway's.")

    async def _session_of(self, call: Call) -> Session | None:
        value = cookie_of(call.headers.get("cookie", ""))
        return None if value is None else (await self._known()).of(value, self._clock())

    async def _known(self) -> Sessions:
        """Sessions under the secret that all processes of the store share; under one of our own where it fails."""
        if self._sessions is None:
            loop = asyncio.get_running_loop()
            try:
                secret = await asyncio.wait_for(loop.run_in_executor(self._threads, self._shared_secret), 5.0)
            except (StoreError, TimeoutError, ValueError):
                _log.warning("the secret of sessions cannot be read from the store: logins hold in this process only")
                secret = secrets.token_bytes(32)
            self._sessions = Sessions(self._admin_key or "", secret)
        return self._sessions

    def _shared_secret(self) -> bytes:
        while True:
            found = self._store.get_state(*SECRET_ROW)
            if found is not None:
                return bytes.fromhex(found[1]["secret"])
            self._store.put_state(*SECRET_ROW, {"secret": secrets.token_hex(32)}, 0)

    async def _session(self, name: str, call: Call, receive: Receive, send: Send) -> None:
        """``POST login``, ``POST logout``, ``GET session`` (the token for forms after a page was loaded again)."""
        if name == "session":
            return await self._tell_session(call, send)
        if call.method != "POST":
            raise Refusal(405, "invalid_request", "This takes POST.")
        if not same_origin(
            call.headers.get("origin"), call.headers.get("sec-fetch-site"), call.headers.get("host", "")
        ):
            raise Refusal(403, "permission", "Log in and out from the gateway's own pages.")
        body = await json_http.read_body(receive)
        if name == "logout":
            header = cookie("", max_age_s=0, secure=call.secure).encode()
            return await json_http.answer(send, 200, {"logged_in": False}, [(b"set-cookie", header)])
        await self._check_key(call, json_http.decode(call, body, Login).key)
        value, session = (await self._known()).begin(self._clock())
        header = cookie(value, max_age_s=int(SESSION_S), secure=call.secure).encode()
        await json_http.answer(send, 200, _told(session), [(b"set-cookie", header)])

    async def _tell_session(self, call: Call, send: Send) -> None:
        if call.method != "GET":
            raise Refusal(405, "invalid_request", "This takes GET.")
        session = await self._session_of(call)
        if session is None:
            raise Refusal(401, "authentication", "Nobody is logged in here.")
        await json_http.answer(send, 200, _told(session))


def _told(session: Session) -> dict[str, object]:
    return {"logged_in": True, "csrf": session.csrf, "expires_at": session.expires_at}


def _must_be_meant(call: Call, session: Session) -> None:
    """A write with a cookie: the browser's user must have meant it."""
    headers = call.headers
    if not same_origin(headers.get("origin"), headers.get("sec-fetch-site"), headers.get("host", "")):
        raise Refusal(403, "permission", "This request comes from another site.")
    if not token_matches(session, headers.get("x-potstill-csrf", "")):
        raise Refusal(403, "permission", "Send the session's token as 'x-potstill-csrf' (GET session tells it).")
