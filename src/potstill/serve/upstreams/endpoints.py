"""Requests to upstreams over kept connections: keys, headers, time-outs, and repeats where they are safe.

What it knows: HTTP, where an endpoint is, which failure is which problem. What it does not do: dialects' bodies, who is
asked, or what is done with the answer's bytes. Cancelling the awaiting task closes the connection at once.

Sent again before the first byte of an answer only: where no connection came about; after 429 and 503 (529) that ask for
a short wait or none, for the upstream says that it has not begun; and once where a connection that was used before is
lost at once, without a byte of an answer: it was closed meanwhile. Never where a new connection is lost, or after a
time-out, 500, 502 or 504: the work may be done and billed.
"""

from __future__ import annotations

import asyncio
import io
import re
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from potstill.errors import ConfigError
from potstill.models.keys import Key, find_key, how_to_set
from potstill.models.limits import parse_retry_after
from potstill.serve import settings as told
from potstill.serve.clients.problems import ANTHROPIC, CHAT, RESPONSES, Refused, refused
from potstill.serve.telemetry.metrics import Metrics
from potstill.serve.tenants import keys
from potstill.serve.upstreams.shaping import PUT_IN, Shapes

if TYPE_CHECKING:
    from aiohttp.client_exceptions import ClientConnectorError

PATHS = {CHAT: "/chat/completions", RESPONSES: "/responses", ANTHROPIC: "/messages"}
KNOWN_PATHS = frozenset({*PATHS.values(), "/embeddings", "/messages/count_tokens", "/models"})
NOT_BEGUN = frozenset({429, 503, 529})
"""Statuses by which an upstream says that it has not begun: sent again, if it is not to be long."""
BACKOFF_S = 0.25
STALE_S = 1.0
"""A kept connection that is lost so soon after the request was sent had been closed before; later, work may be done."""
ANTHROPIC_VERSION = "2023-06-01"
LARGE_BODY = 1 << 20
READ_ERRORS = (aiohttp.ClientError, TimeoutError, ConnectionError)
"""What reading an answer can meet."""
_LOST = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientPayloadError, ConnectionResetError)

_FORWARDED = frozenset(
    b"accept user-agent idempotency-key traceparent tracestate http-referer x-title x-client-request-id".split()
)
_ANSWERED = frozenset(b"content-type x-request-id request-id x-should-retry retry-after retry-after-ms".split())
_ANSWERED_PREFIXES = (b"openai-", b"anthropic-", b"x-ratelimit-")
_KEYS = (b"authorization", b"x-api-key")
_WAS_KEPT: ContextVar[bool] = ContextVar("was_kept", default=False)
"""Whether the request that this task sent last went out on a connection that others had used before."""
_HOLDS_KEY = re.compile("auth|key|token|secret|cookie", re.IGNORECASE)
OUR_PREFIX = keys.PREFIX.encode()


class Endpoint:
    """One upstream of the settings with all that can be worked out once."""

    def __init__(self, upstream: told.Upstream, passed: Callable[[str], None] = lambda value: None) -> None:
        self.upstream = upstream
        self._passed = passed
        self.name = upstream.name
        self.dialect = upstream.dialect
        self.key = _key(upstream)
        self.shapes = Shapes(upstream)
        base = upstream.base_url.rstrip("/")
        self._base = base if upstream.dialect != ANTHROPIC or base.endswith("/v1") else f"{base}/v1"
        self._urls: dict[str, URL] = {}
        self._extra = frozenset(name.lower().encode() for name in upstream.forward_headers)
        self._own = self._own_headers()
        self.proxy = _proxy_for(base)
        self.timeout = aiohttp.ClientTimeout(
            total=upstream.timeout_s, sock_connect=upstream.connect_timeout_s, sock_read=upstream.idle_timeout_s
        )

    def url(self, path: str = "") -> URL:
        """Of the dialect's own endpoint, or of another path under the base URL."""
        path = path or PATHS[self.dialect]
        known = self._urls.get(path)
        if known is None:
            known = URL(self._base + path)
            if path in KNOWN_PATHS:  # others hold ids that clients make up
                self._urls[path] = known
        return known

    def headers(self, client: Iterable[tuple[bytes, bytes]], *, same_dialect: bool) -> CIMultiDict[str]:
        """What is sent: the client's own headers only by name from a list, its key only where the settings say so."""
        sent = CIMultiDict[str]()
        for name, value in client:
            if self._may_pass(name, same_dialect):
                sent.add(name.decode("latin-1"), value.decode("latin-1"))
                if name in self._extra and _HOLDS_KEY.search(name.decode("latin-1")):
                    self._passed(value.decode("latin-1"))
            elif name in _KEYS and self._passes(value):
                sent.add(*self._said(name, value.decode("latin-1"), same_dialect=same_dialect))
                self._passed(value.decode("latin-1"))
        for own, text in self._own.items():
            sent[own] = text
        if self.dialect == ANTHROPIC and "anthropic-version" not in sent:
            sent["anthropic-version"] = ANTHROPIC_VERSION
        return sent

    def counts(self, model: told.Model) -> bool:
        """Whether the usage of streamed chat completions is asked for where the client did not."""
        return self.upstream.stream_usage and "stream_options" not in self.shapes.of(model, PUT_IN).omit

    def redact(self, body: bytes) -> bytes:
        """A refusal's body without the key, which some upstreams repeat."""
        if self.key is None:
            return body
        return self.key.redact(body.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")

    def _passes(self, key: bytes) -> bool:
        """A client's key goes on only where the settings say so, and never one of ours."""
        return self.upstream.pass_key and OUR_PREFIX not in key

    def _said(self, name: bytes, value: str, *, same_dialect: bool) -> tuple[str, str]:
        """A client's key as this dialect wants it."""
        if same_dialect:
            return name.decode(), value
        secret = value[7:] if value[:7].lower() == "bearer " else value
        return ("x-api-key", secret) if self.dialect == ANTHROPIC else ("Authorization", f"Bearer {secret}")

    def _may_pass(self, name: bytes, same_dialect: bool) -> bool:
        """What official clients say beside the body. A translated request keeps what concerns the provider, but not the
        version of a dialect that it is no longer written in."""
        if name.startswith(b"anthropic-"):
            return self.dialect == ANTHROPIC and (same_dialect or name == b"anthropic-beta")
        if name.startswith(b"openai-"):
            return self.dialect != ANTHROPIC
        return name in self._extra or (same_dialect and (name in _FORWARDED or name.startswith(b"x-stainless-")))

    def _own_headers(self) -> dict[str, str]:
        own = {"Content-Type": "application/json", "Accept-Encoding": "identity", **self.upstream.headers}
        if self.key is not None:
            bearer = self.key.header()
            own |= {"x-api-key": bearer["Authorization"][7:]} if self.dialect == ANTHROPIC else bearer
        return own


class Upstreams:
    """All endpoints and their connections. Made and used on one event loop. ``passed`` is told clients' keys that go
    out with their requests."""

    def __init__(
        self, upstreams: Iterable[told.Upstream], metrics: Metrics, passed: Callable[[str], None] = lambda value: None
    ) -> None:
        self.endpoints: Mapping[str, Endpoint] = {one.name: Endpoint(one, passed) for one in upstreams}
        self._metrics = metrics
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30.0, ttl_dns_cache=60),
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=1 << 18,
            skip_auto_headers=("User-Agent",),
            trace_configs=[_kept_connections()],
        )

    def secrets(self) -> list[str]:
        """What must never be kept or told: keys, and headers of the settings that look like they hold one."""
        keys = [one.key.header()["Authorization"][7:] for one in self.endpoints.values() if one.key is not None]
        headers = [pair for one in self.endpoints.values() for pair in one.upstream.headers.items()]
        return keys + [value for name, value in headers if _HOLDS_KEY.search(name)]

    async def send(
        self,
        endpoint: Endpoint,
        body: bytes | None,
        headers: CIMultiDict[str],
        *,
        path: str = "",
        method: str = "POST",
    ) -> aiohttp.ClientResponse:
        """The answer's head, whatever its status; the caller reads the body and closes it.

        Raises ``Refused`` where no answer came.
        """
        attempt = 0
        while True:
            sent_at = time.perf_counter()
            _WAS_KEPT.set(False)
            failure: Refused | None = None
            wait: float | None = None
            try:
                response = await self._request(endpoint, method, endpoint.url(path), body, headers)
            except aiohttp.ClientConnectorError as error:
                failure, wait = _unreachable(endpoint, error), self._pause(endpoint, attempt, None)
            except _LOST as error:
                stale = attempt == 0 and time.perf_counter() - sent_at < STALE_S and _was_closed_before(error)
                failure, wait = _lost(endpoint, error), 0.0 if stale and endpoint.upstream.retries else None
            except TimeoutError as error:
                failure, wait = _timed_out(endpoint, error), None
            except aiohttp.ClientError as error:
                failure, wait = _no_http(endpoint, error), None
            else:
                self._metrics.upstream.add(endpoint.name, str(response.status))
                if response.status not in NOT_BEGUN:
                    return response
                pause = self._pause(endpoint, attempt, parse_retry_after(response.headers, time.time()))
                if pause is None or await _out_of_quota(response):
                    return response
                response.close()
                wait = pause
            if failure is not None:
                self._metrics.upstream.add(endpoint.name, "none")
                if wait is None:
                    try:
                        raise failure
                    finally:
                        del failure  # which holds this frame, and with it the body
            attempt += 1
            self._metrics.retries.add(endpoint.name)
            await asyncio.sleep(wait or 0)

    async def aclose(self) -> None:
        await self._session.close()

    async def _request(
        self, endpoint: Endpoint, method: str, url: URL, body: bytes | None, headers: CIMultiDict[str]
    ) -> aiohttp.ClientResponse:
        data = io.BytesIO(body) if body is not None and len(body) > LARGE_BODY else body
        return await self._session.request(
            method,
            url,
            data=data,
            headers=headers,
            allow_redirects=False,
            proxy=endpoint.proxy,
            timeout=endpoint.timeout,
        )

    @staticmethod
    def _pause(endpoint: Endpoint, attempt: int, asked: float | None) -> float | None:
        """Seconds until the next attempt; None: there is none."""
        if attempt >= endpoint.upstream.retries:
            return None
        if asked is not None:
            return asked if asked <= endpoint.upstream.retry_after_cap_s else None
        return BACKOFF_S * 2.0**attempt


def answer_headers(response: aiohttp.ClientResponse) -> list[tuple[bytes, bytes]]:
    """Those of an upstream's answer that a client may see: never cookies, never what belongs to one connection."""
    named = [(name.lower(), value) for name, value in response.raw_headers]
    return [(name, value) for name, value in named if name in _ANSWERED or name.startswith(_ANSWERED_PREFIXES)]


def read_failure(endpoint: Endpoint, error: Exception) -> Refused:
    """What broke an answer off after its head."""
    error.__traceback__ = None  # the stream keeps the error, which would keep the frames, which keep the stream
    if isinstance(error, TimeoutError):
        return _timed_out(endpoint, error)
    name = type(error).__name__
    return refused(502, "upstream", f"The upstream '{endpoint.name}' broke off its answer ({name}).", code="cut_off")


def _kept_connections() -> aiohttp.TraceConfig:
    """Has aiohttp say when a request gets a connection that was used before."""

    async def kept(*_: object) -> None:
        _WAS_KEPT.set(True)

    config = aiohttp.TraceConfig()
    config.on_connection_reuseconn.append(kept)
    return config


def _was_closed_before(error: Exception) -> bool:
    """Whether a lost connection is one that had been kept, and nothing of an answer had come over it."""
    half_a_head = isinstance(error, aiohttp.ServerDisconnectedError) and not isinstance(error.message, str)
    return _WAS_KEPT.get() and not half_a_head and not isinstance(error, aiohttp.ClientPayloadError)


async def _out_of_quota(response: aiohttp.ClientResponse) -> bool:
    """Whether a 429 means that money is gone: waiting does not help. The body stays readable."""
    try:
        return response.status == 429 and b"insufficient_quota" in await response.read()
    except (*_LOST, TimeoutError):
        return False


def _key(upstream: told.Upstream) -> Key | None:
    if upstream.key_env is None:
        return None
    key = find_key((upstream.key_env,))
    if key is None:
        raise ConfigError(
            f"The upstream '{upstream.name}' takes its key from {upstream.key_env}, which is not set. "
            f"{how_to_set((upstream.key_env,))}"
        )
    return key


def _proxy_for(url: str) -> str | None:
    """The proxy that the environment names (``HTTPS_PROXY``, ``NO_PROXY``); never out of a ``.netrc``."""
    parts = urlsplit(url)
    return None if urllib.request.proxy_bypass(parts.hostname or "") else urllib.request.getproxies().get(parts.scheme)


def _unreachable(endpoint: Endpoint, error: ClientConnectorError) -> Refused:
    error.__traceback__ = None
    why = error.strerror or str(error.os_error)
    message = f"No connection to the upstream '{endpoint.name}' ({why}). Is it running, and is its base_url right?"
    return refused(502, "upstream", message, code="unreachable")


def _lost(endpoint: Endpoint, error: Exception) -> Refused:
    error.__traceback__ = None
    message = f"The upstream '{endpoint.name}' closed the connection without an answer ({type(error).__name__})."
    return refused(502, "upstream", message, code="connection_lost")


def _timed_out(endpoint: Endpoint, error: TimeoutError) -> Refused:
    error.__traceback__ = None
    upstream = endpoint.upstream
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        message = f"No connection to the upstream '{endpoint.name}' within {upstream.connect_timeout_s:g} s."
        return refused(504, "timeout", message, code="unreachable")
    if isinstance(error, aiohttp.SocketTimeoutError):
        message = f"The upstream '{endpoint.name}' was silent for {upstream.idle_timeout_s:g} s (idle_timeout_s)."
    else:
        message = f"The upstream '{endpoint.name}' did not finish within {upstream.timeout_s:g} s (timeout_s)."
    return refused(504, "timeout", message)


def _no_http(endpoint: Endpoint, error: Exception) -> Refused:
    error.__traceback__ = None
    message = f"The upstream '{endpoint.name}' does not speak HTTP as expected ({type(error).__name__})."
    return refused(502, "upstream", message, code="bad_http")
