"""A model behind any OpenAI-compatible endpoint, over aiohttp.

What it knows: how to ask for ``n`` samples without paying the prompt ``n`` times; how billed requests become calls.
What it does not do: HTTP's failures (``transport``), field names (``wire.openai_chat``), facts of providers
(``providers``), prices. The key is looked up at each request and not kept here.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec

from potstill.errors import BadResponse, ConfigError, KeyRefused, ModelError
from potstill.models.keys import Key, find_key, how_to_set
from potstill.models.limits import RetryPolicy, Timeouts
from potstill.models.providers import Provider, provider_named
from potstill.models.transport import MAX_RESPONSE_BYTES, Answer, Transport
from potstill.protocols import Capabilities
from potstill.types import Answerer, Blob, Call, Completion, ErrorRecord, Reply, Request
from potstill.wire.openai_chat import Decoded, decode_response, encode_request


class HttpModel:
    """Samples from ``POST {base_url}/chat/completions``.

    ``sample`` asks for all samples in one request where the endpoint bills the prompt once, else for the first alone
    and for the others together once its prefix is in the cache. An endpoint that answers fewer than asked is asked for
    the rest. Each billed request is one ``Call``; an answer that broke off midway and was asked for anew is one with an
    error and unknown usage. An error that is raised carries the calls made before it in ``error.calls``.

    >>> model = HttpModel("gpt-6-luna", provider="openai")
    >>> model.name, model.capabilities.n_shares_prompt
    ('openai:gpt-6-luna', True)
    """

    def __init__(
        self,
        model: str,
        *,
        provider: str | Provider = "http",
        base_url: str | None = None,
        key_variable: str | None = None,
        n_shares_prompt: bool | None = None,
        tools: bool | None = None,
        logprobs: bool | None = None,
        priced_as: str | None = None,
        context_tokens: int | None = None,
        timeouts: Timeouts | None = None,
        retry: RetryPolicy | None = None,
        max_concurrency: int = 8,
        max_bytes: int = MAX_RESPONSE_BYTES,
        omit: Sequence[str] = (),
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        read_blob: Callable[[Blob], bytes] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._provider = provider_named(provider) if isinstance(provider, str) else provider
        self._base_url = _checked_url(base_url or self._provider.base_url, self._provider.name)
        self._model = model
        self._name = f"{self._provider.name}:{model}"
        if base_url and base_url.rstrip("/") != self._provider.base_url:
            self._name = f"{self._provider.name}:{self._base_url}#{model}"
        self._variables = (key_variable,) if key_variable else self._provider.key_variables
        shares = self._provider.n_shares_prompt if n_shares_prompt is None else n_shares_prompt
        self._max_n = max(2, self._provider.max_n) if shares else 1
        self._priced_as = priced_as
        self._read_blob = read_blob
        self._headers = {"Content-Type": "application/json", "Accept": "application/json", **(headers or {})}
        if max_concurrency < 1:
            raise ConfigError(f"max_concurrency is {max_concurrency}; it must be at least 1.")
        dialect = self._provider.dialect
        self._dialect = msgspec.structs.replace(
            dialect,
            logprobs=dialect.logprobs if logprobs is None else logprobs,
            omit=dialect.omit | frozenset(omit),
            extra={**dialect.extra, **(extra or {})},
            cache_breakpoints=model.startswith(self._provider.breakpoint_models or ("\0",)),
        )
        self._capabilities = Capabilities(
            n_shares_prompt=shares,
            tools=self._provider.tools if tools is None else tools,
            logprobs=self._provider.logprobs if logprobs is None else logprobs,
            reports_cache=self._provider.reports_cache,
            images=read_blob is not None,
            context_tokens=context_tokens,
        )
        self._transport = Transport(
            self._base_url + "/chat/completions",
            timeouts=timeouts or Timeouts(),
            retry=retry or RetryPolicy(),
            max_concurrency=max_concurrency,
            max_bytes=max_bytes,
            rng=rng or random.Random(),
        )

    @property
    def name(self) -> str:
        return self._name

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def sample(self, request: Request, n: int = 1) -> Completion:
        """Exactly ``n`` replies in order. Raises ``ModelError`` (see ``models.transport``) or ``ConfigError``."""
        if n < 1:
            raise ConfigError(f"n is {n}; at least one sample must be asked for.")
        calls: list[Call] = []
        try:
            # Alone: it is the only request, or it warms the prefix cache for the others.
            await self._ask(request, min(n, self._max_n), 0, calls)
            while (missing := n - _count(calls)) > 0:
                await self._ask_apart(request, missing, _count(calls), calls)
        except ModelError as error:
            error.calls = (*calls, *error.calls)
            raise
        replies = [reply for call in calls for reply in call.replies]
        return Completion(replies=tuple(replies[:n]), calls=tuple(calls))

    async def aclose(self) -> None:
        await self._transport.aclose()

    def __repr__(self) -> str:
        return f"HttpModel({self._name!r})"

    async def _ask_apart(self, request: Request, missing: int, offset: int, calls: list[Call]) -> None:
        """``missing`` samples, each in a request of its own, together. The first failure stops the others."""
        made: list[list[Call]] = [[] for _ in range(missing)]
        try:
            async with asyncio.TaskGroup() as group:
                for index in range(missing):
                    group.create_task(self._ask(request, 1, offset + index, made[index]))
        except* (ModelError, ConfigError) as failures:
            error = _first(failures)
            raise error from None
        finally:
            calls.extend(call for one in made for call in one)

    async def _ask(self, request: Request, n: int, offset: int, calls: list[Call]) -> None:
        """One billed request for ``n`` samples; what it cost goes to ``calls`` even if its answer is useless."""
        key = find_key(self._variables) if self._variables else None
        if key is None and self._provider.key_required:
            raise KeyRefused(f"No key for {self._name}. {how_to_set(self._variables)}")
        started = time.time()
        body = self._encode(request, n, offset)
        try:
            answer = await self._transport.post(body, self._headers | (key.header() if key else {}))
        except ModelError as error:
            raise self._explained(error, key) from None
        call = self._call(request, answer, started)
        calls.extend([_half_answer(call)] * answer.half_answers)
        try:
            decoded = decode_response(answer.body)
        except BadResponse as error:
            where = BadResponse(f"{self._name}: {error}. Is this the base URL of an OpenAI-compatible API?")
            explained = self._explained(where, key)
            calls.append(msgspec.structs.replace(call, error=_record(explained)))
            raise explained from None
        calls.append(_filled(call, decoded))

    def _encode(self, request: Request, n: int, offset: int) -> bytes:
        try:
            return encode_request(
                request, self._model, n, dialect=self._dialect, seed_offset=offset, read_blob=self._read_blob
            )
        except KeyError as error:
            raise ConfigError(
                f"The prompt has an image (digest {error}) and {self._name} was opened without 'read_blob'."
            ) from None

    def _call(self, request: Request, answer: Answer, started: float) -> Call:
        return Call(
            model=self._name,
            answerer=Answerer.NOBODY,
            purpose=request.purpose,
            prompt=request.messages,
            tools=request.tools,
            priced_as=self._priced_as,
            temperature=request.temperature,
            started_at=started,
            latency_s=answer.latency_s,
            attempts=answer.attempts,
            request_id=answer.request_id,
        )

    def _explained(self, error: ModelError, key: Key | None) -> ModelError:
        """The same error without the key, and with what to type where a key was refused."""
        message = key.redact(str(error)) if key else str(error)
        if isinstance(error, KeyRefused) and self._variables:
            source = f"The key came from {key.source}. " if key else "No key was sent. "
            message = f"{message}. {source}{how_to_set(self._variables)}"
        return type(error)(message)


def _checked_url(url: str, provider: str) -> str:
    """The base URL without its trailing slash or the path that is added. Raises ``ConfigError``."""
    try:
        parts = urlsplit(url)
        host, user, _ = parts.hostname, parts.username, parts.port
    except ValueError:
        host, user = None, None
    if not host or not url.startswith(("http://", "https://")):
        raise ConfigError(
            f"'{url}' is not an http(s) address. Type for example: {provider}:http://localhost:8000/v1#NAME"
        )
    if user is not None or parts.query:
        raise ConfigError(
            f"The URL for {host} holds a user name, a password or a query; names of models are stored. Put the key "
            "into an environment variable and name it with key_variable."
        )
    return url.rstrip("/").removesuffix("/chat/completions").rstrip("/")


def _filled(call: Call, decoded: Decoded) -> Call:
    return msgspec.structs.replace(
        call,
        replies=decoded.replies,
        usage=decoded.usage,
        raw_usage=decoded.raw_usage,
        request_id=call.request_id or decoded.request_id,
    )


def _half_answer(call: Call) -> Call:
    error = ErrorRecord(kind="BadResponse", message="the answer broke off midway and was asked for again")
    return msgspec.structs.replace(call, error=error, attempts=1, request_id=None, latency_s=0.0)


def _record(error: ModelError) -> ErrorRecord:
    return ErrorRecord(kind=type(error).__name__, message=str(error))


def _count(calls: Sequence[Call]) -> int:
    replies: list[Reply] = [reply for call in calls for reply in call.replies]
    return len(replies)


def _first(failures: BaseExceptionGroup[Any]) -> ModelError | ConfigError:
    error: BaseException = failures
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, ModelError | ConfigError)
    return error
