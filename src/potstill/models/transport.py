"""One POST to an endpoint that may misbehave: time-outs, size limit, retries, a limit of requests under way.

What it knows: HTTP and which failure is which error of ``potstill.errors``. What it does not do: the dialect of what is
sent and answered (``wire``), keys (headers come in), or which model is asked.

Cancelling the awaiting task closes the connection and frees the slot. Redirects are refused: a key goes to the named
host only, and a POST that turns into a GET answers nonsense.
"""

from __future__ import annotations

import asyncio
import random
import time
import urllib.request
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import aiohttp

from potstill.errors import (
    BadResponse,
    ContextOverflow,
    KeyRefused,
    ModelError,
    ModelTimeout,
    ModelUnavailable,
    RateLimited,
)
from potstill.models.limits import RETRY_STATUSES, RetryPolicy, Timeouts, parse_retry_after
from potstill.types import Struct
from potstill.wire.openai_chat import decode_error, excerpt

MAX_RESPONSE_BYTES = 32 * 1024 * 1024
_LOST = (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionResetError)


class Answer(Struct, frozen=True, kw_only=True):
    """A body that came whole with status 200."""

    body: bytes
    request_id: str | None
    attempts: int
    half_answers: int
    """Attempts whose answer broke off midway: the endpoint may bill them, and nobody knows how much."""
    latency_s: float
    """Of the last attempt, without waiting for a slot or for retries."""


class _Retry(Exception):
    """An attempt failed in a way that may pass."""

    def __init__(self, error: ModelError, retry_after_s: float | None = None, *, half: bool = False) -> None:
        super().__init__(str(error))
        self.error = error
        self.retry_after_s = retry_after_s
        self.half = half


class Transport:
    """Posts JSON to one URL. Usable from one event loop at a time; a new loop gets new connections."""

    def __init__(
        self,
        url: str,
        *,
        timeouts: Timeouts,
        retry: RetryPolicy,
        max_concurrency: int,
        max_bytes: int,
        rng: random.Random,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._url = url
        self._timeouts = timeouts
        self._retry = retry
        self._max_concurrency = max_concurrency
        self._max_bytes = max_bytes
        self._rng = rng
        self._clock = clock
        self._proxy = _proxy_for(url)
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._slots = asyncio.Semaphore(max_concurrency)

    async def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send ``body``, retry what may pass, and return the whole answer.

        Raises ``ModelTimeout``, ``ModelUnavailable``, ``RateLimited``, ``KeyRefused``, ``ContextOverflow``,
        ``BadResponse``, or ``ModelError`` for a request that the endpoint refuses for another reason.
        """
        session = await self._open()
        half_answers = 0
        async with self._slots:
            for attempt in range(1, self._retry.attempts + 1):
                started = time.perf_counter()
                try:
                    payload, request_id = await self._attempt(session, body, headers)
                except _Retry as failure:
                    half_answers += failure.half
                    await self._pause(failure, attempt)
                    continue
                return Answer(
                    body=payload,
                    request_id=request_id,
                    attempts=attempt,
                    half_answers=half_answers,
                    latency_s=time.perf_counter() - started,
                )
        raise AssertionError("the last attempt returns or raises")

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _open(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None or self._session.closed or self._loop is not loop:
            if self._session is not None and self._loop is loop:
                await self._session.close()
            timeout = aiohttp.ClientTimeout(
                total=self._timeouts.total_s, sock_connect=self._timeouts.connect_s, sock_read=self._timeouts.idle_s
            )
            connector = aiohttp.TCPConnector(limit=self._max_concurrency)
            self._session = aiohttp.ClientSession(timeout=timeout, connector=connector)
            self._loop = loop
            self._slots = asyncio.Semaphore(self._max_concurrency)
        return self._session

    async def _pause(self, failure: _Retry, attempt: int) -> None:
        """Wait before the next attempt, or raise the failure if there is none or the wait asked for is too long."""
        if attempt >= self._retry.attempts:
            tries = f" ({attempt} attempts)" if attempt > 1 else ""
            raise type(failure.error)(f"{failure.error}{tries}") from None
        if failure.retry_after_s is not None and failure.retry_after_s > self._retry.retry_after_cap_s:
            raise type(failure.error)(
                f"{failure.error}. It asks to wait {failure.retry_after_s:.0f} s, more than the "
                f"{self._retry.retry_after_cap_s:.0f} s that potstill waits. Try again later"
            ) from None
        await asyncio.sleep(self._retry.delay_s(attempt, failure.retry_after_s, self._rng))

    async def _attempt(
        self, session: aiohttp.ClientSession, body: bytes, headers: Mapping[str, str]
    ) -> tuple[bytes, str | None]:
        try:
            async with session.post(
                self._url, data=body, headers=headers, allow_redirects=False, proxy=self._proxy
            ) as response:
                payload = await self._read(response)
                request_id = response.headers.get("x-request-id") or response.headers.get("request-id")
                if response.status != 200:
                    raise self._refusal(response, payload)
                if "html" in response.content_type:
                    raise BadResponse(
                        f"{self._url} answered with a web page ({response.content_type}), not with a chat completion: "
                        f"{excerpt(payload)}. Does the base URL end in the API's path, usually /v1?"
                    )
                return payload, request_id
        except aiohttp.ClientConnectorDNSError as error:
            raise ModelUnavailable(
                f"The host of {self._url} has no address ({error.os_error}). Check the URL"
            ) from None
        except TimeoutError as error:
            raise self._timed_out(error) from None
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError) as error:
            raise ModelUnavailable(f"No secure connection to {self._url}: {error}. Check the URL's scheme") from None
        except aiohttp.ClientConnectorError as error:
            raise ModelUnavailable(
                f"No connection to {self._url} ({error.strerror or error.os_error}). Is the server running, and are "
                "host and port right?"
            ) from None
        except aiohttp.ClientResponseError as error:
            raise BadResponse(f"{self._url} does not speak HTTP as expected: {error.message[:160]}") from None
        except _LOST as error:
            raise _Retry(ModelUnavailable(f"{self._url} closed the connection ({type(error).__name__})")) from None
        except aiohttp.InvalidURL:
            raise ModelUnavailable(f"'{self._url}' is not an address. Check the URL") from None

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """The whole body, or ``BadResponse`` as soon as it is longer than allowed."""
        body = bytearray()
        try:
            async for piece in response.content.iter_any():
                body += piece
                if len(body) > self._max_bytes:
                    raise BadResponse(f"{self._url} answered more than the {self._max_bytes} bytes that are allowed")
        except _LOST as error:
            half = BadResponse(
                f"{self._url} broke off its answer after {len(body)} bytes ({type(error).__name__}): "
                f"{excerpt(bytes(body))}"
            )
            raise _Retry(half, half=response.status == 200) from None
        return bytes(body)

    def _timed_out(self, error: TimeoutError) -> ModelTimeout:
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return ModelTimeout(f"No connection to {self._url} within {self._timeouts.connect_s:g} s. Is it reachable?")
        if isinstance(error, aiohttp.SocketTimeoutError):
            return ModelTimeout(
                f"{self._url} was silent for {self._timeouts.idle_s:g} s. Raise its option idle_s (idle_s=600) "
                "if that is normal"
            )
        return ModelTimeout(
            f"{self._url} did not finish its answer within {self._timeouts.total_s:g} s. Raise its option "
            "total_s (total_s=900) if it may"
        )

    def _refusal(self, response: aiohttp.ClientResponse, payload: bytes) -> Exception:
        """The error that a status other than 200 means."""
        status, said = response.status, decode_error(payload)
        what = f"{self._url} answered {status}: {said.message}"
        if status in (401, 403):
            return KeyRefused(what)
        if 300 <= status < 400:
            target = response.headers.get("Location", "elsewhere").split("?")[0]
            return BadResponse(f"{self._url} redirects to {target}. Type the address that it redirects to")
        if status == 413 or (status in (400, 422, 500) and said.is_overflow):
            return ContextOverflow(what)
        if status == 429:
            limited = RateLimited(what)
            return limited if said.is_quota else _Retry(limited, parse_retry_after(response.headers, self._clock()))
        if status in RETRY_STATUSES or status >= 500:
            return _Retry(ModelUnavailable(what), parse_retry_after(response.headers, self._clock()))
        if status == 404:
            return ModelError(f"{what}. Check the model's name and the base URL")
        return ModelError(what)


def _proxy_for(url: str) -> str | None:
    """The proxy that the environment names for this address (``HTTPS_PROXY``, ``NO_PROXY``, ...). aiohttp's own
    ``trust_env`` would read ``.netrc`` at every request and refuse a key where it holds an entry for the host."""
    parts = urlsplit(url)
    if urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return urllib.request.getproxies().get(parts.scheme)
