"""``seams.Ask``: a neutral prompt to a model, whichever dialect its upstream speaks, and its choices back.

What it knows: one request for ``n`` samples or ``n`` requests, and what each cost. What it does not do: choose models,
weigh answers, or talk to clients.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import aiohttp
import msgspec

from potstill.errors import (
    NOT_JSON,
    BadResponse,
    KeyRefused,
    ModelError,
    ModelTimeout,
    ModelUnavailable,
    PotstillError,
    RateLimited,
)
from potstill.serve.clients.problems import CHAT, Refused
from potstill.serve.seams import CUT, Asked
from potstill.serve.settings import Model
from potstill.serve.tenants.guesses import may_be_billed
from potstill.serve.upstreams.answers import usage_of
from potstill.serve.upstreams.endpoints import READ_ERRORS, Endpoint, Upstreams, read_failure
from potstill.serve.upstreams.shaping import SAMPLING, shaped
from potstill.serve.upstreams.translate import assembled
from potstill.trajectories.exchange import Upstream
from potstill.types import Answerer, ErrorRecord
from potstill.wire.dialect import Problem, dialect
from potstill.wire.events import Event
from potstill.wire.neutral import Answer, Prompt

_ERRORS: dict[str, type[ModelError]] = {
    "authentication": KeyRefused,
    "permission": KeyRefused,
    "rate_limit": RateLimited,
    "quota": RateLimited,
    "timeout": ModelTimeout,
    "overloaded": ModelUnavailable,
    "upstream": ModelUnavailable,
}


EXCERPT = 16 * 1024
"""Bytes that are kept of an answer that was no answer."""

Told = Callable[[Upstream], None]


class Questions:
    """Asks over the gateway's connections. ``max_bytes`` bounds one answer."""

    def __init__(self, upstreams: Upstreams, *, max_bytes: int) -> None:
        self._upstreams = upstreams
        self._max_bytes = max_bytes

    async def ask(self, model: Model, prompt: Prompt, *, n: int = 1, told: Told = lambda call: None) -> list[Asked]:
        """``n`` choices in all. Where they are asked for apart and only some fail, the failed ones have no choices and
        a call with its error; raises ``ModelError`` where all fail. ``told``: see ``seams.Ask``."""
        endpoint = self._upstreams.endpoints[model.upstream]
        shares = endpoint.upstream.n_shares_prompt and endpoint.dialect == CHAT
        asked = msgspec.structs.replace(prompt, model=model.model, stream=False, stream_usage=False, n=1)
        if n == 1 or (shares and "n" not in endpoint.shapes.of(model, SAMPLING).omit):
            one = await self._one(endpoint, model, msgspec.structs.replace(asked, n=n), n, told)
            if one[1] is None or n == 1 or "n" not in endpoint.shapes.of(model, SAMPLING).omit:
                told(one[0].call)
                return [_or_raise(one)]
        answers = await asyncio.gather(*(self._sample(endpoint, model, asked, told) for _ in range(n)))
        if all(isinstance(error, ModelError) for _, error in answers):
            _or_raise(answers[0])
        return [one for one, _ in answers]

    async def stream(self, model: Model, prompt: Prompt) -> AsyncIterator[Event]:
        """The events of one streamed answer. Raises ``ModelError`` before the first event; later failures are
        ``Broken``."""
        endpoint = self._upstreams.endpoints[model.upstream]
        spoken = dialect(endpoint.dialect)
        asked = msgspec.structs.replace(prompt, model=model.model, stream=True, stream_usage=True, n=1)
        body = shaped(spoken.encode_request(asked), endpoint.shapes.of(model, SAMPLING))
        response = await self._sent(endpoint, body)
        decoder = spoken.stream_decoder()
        try:
            if response.status != 200:
                raise _error(spoken.decode_problem(response.status, await self._read(endpoint, response)))
            async for chunk in response.content.iter_any():
                for event in decoder.feed(chunk):
                    yield event
            for event in decoder.close():
                yield event
        except READ_ERRORS:
            for event in decoder.close():
                yield event
        finally:
            response.close()

    async def _sample(
        self, endpoint: Endpoint, model: Model, prompt: Prompt, told: Told
    ) -> tuple[Asked, ModelError | None]:
        one = await self._one(endpoint, model, prompt, 1, told)
        told(one[0].call)
        return one

    async def _one(
        self, endpoint: Endpoint, model: Model, prompt: Prompt, n: int, told: Told
    ) -> tuple[Asked, ModelError | None]:
        """One request, with the error that it met; sent again where the model refuses a field that can be spared."""
        written = dialect(endpoint.dialect).encode_request(prompt)
        while True:
            body = shaped(written, endpoint.shapes.of(model, SAMPLING))
            asked, failure = await self._once(endpoint, model, body, n, told)
            status, said = asked.call.status, asked.call.response or b""
            if failure is None or not endpoint.shapes.learn(model, status or 0, said, body, SAMPLING):
                return asked, failure
            if n > 1 and "n" in endpoint.shapes.of(model, SAMPLING).omit:
                return asked, failure

    async def _once(
        self, endpoint: Endpoint, model: Model, body: bytes, n: int, told: Told
    ) -> tuple[Asked, ModelError | None]:
        """One request, with the error that it met. ``told`` hears of it only where it is cut off."""
        attempt = _Attempt(endpoint, model, body, n)
        answer = Answer(id="", model=model.model, choices=())
        failure: ModelError | None = None
        try:
            response = await self._sent(endpoint, body, attempt)
            try:
                attempt.status = response.status
                attempt.received = endpoint.redact(await self._read(endpoint, response))
            finally:
                response.close()
            answer = self._decoded(endpoint, response, attempt.received)
        except ModelError as error:
            failure = error.with_traceback(None)  # it holds this frame, and with it the bodies
        except asyncio.CancelledError:
            told(attempt.call(ErrorRecord(kind=CUT, message="cut off before the answer was whole"), None))
            raise
        met = None if failure is None else ErrorRecord(kind=type(failure).__name__, message=str(failure))
        return Asked(answer=answer, call=attempt.call(met, answer.raw_usage)), failure

    async def _sent(self, endpoint: Endpoint, body: bytes, attempt: _Attempt | None = None) -> aiohttp.ClientResponse:
        try:
            return await self._upstreams.send(endpoint, body, endpoint.headers((), same_dialect=False))
        except Refused as failure:
            if attempt is not None:
                attempt.problem = failure.problem
            raise _error(failure.problem) from None

    async def _read(self, endpoint: Endpoint, response: aiohttp.ClientResponse) -> bytes:
        chunks: list[bytes] = []
        room = self._max_bytes
        try:
            if response.content.at_eof():  # read already, to see whether asking again would help
                return await response.read()
            async for chunk in response.content.iter_any():
                chunks.append(chunk)
                room -= len(chunk)
                if room < 0:
                    raise BadResponse(f"The upstream '{endpoint.name}' answered more than {self._max_bytes} bytes.")
        except READ_ERRORS as error:
            raise _error(read_failure(endpoint, error).problem) from None
        return b"".join(chunks)

    def _decoded(self, endpoint: Endpoint, response: aiohttp.ClientResponse, received: bytes) -> Answer:
        spoken = dialect(endpoint.dialect)
        if response.status != 200:
            raise _error(spoken.decode_problem(response.status, received))
        try:
            if response.content_type == "text/event-stream":
                return assembled(received, spoken)
            return spoken.decode_answer(received)
        except PotstillError as error:
            raise BadResponse(f"The upstream '{endpoint.name}': {error}") from None


class _Attempt:
    """One request while it is under way, and the call that it becomes."""

    def __init__(self, endpoint: Endpoint, model: Model, body: bytes, n: int) -> None:
        self._endpoint, self._model, self._body, self._n = endpoint, model, body, n
        self._at, self._started = time.time(), time.perf_counter()
        self.status, self.received = 0, b""
        self.problem: Problem | None = None

    def call(self, error: ErrorRecord | None, usage: dict[str, object] | None) -> Upstream:
        took = time.perf_counter() - self._started
        kept = self.received if error is None else self.received[:EXCERPT]
        return Upstream(
            model=self._model.model,
            upstream=self._model.upstream,
            answerer=Answerer.STUDENT,
            dialect=self._endpoint.dialect,
            price_as=self._model.price_as,
            started_at=self._at,
            latency_s=took,
            status=self.status,
            may_be_billed=self.status == 0 and may_be_billed(self.problem, took),
            n=self._n,
            raw_usage=usage or _usage(self.received),
            request=self._body,
            response=kept or None,
            error=error,
        )


def _error(problem: Problem) -> ModelError:
    return _ERRORS.get(problem.kind, ModelError)(problem.message)


def _or_raise(answered: tuple[Asked, ModelError | None]) -> Asked:
    asked, error = answered
    if error is not None:
        raise error
    return asked


def _usage(received: bytes) -> dict[str, object] | None:
    try:
        return usage_of(received)
    except NOT_JSON:
        return None
