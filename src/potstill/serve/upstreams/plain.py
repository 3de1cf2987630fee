"""Endpoints that are passed through and not recorded: embeddings, counting tokens, what a provider keeps or lists.

What it knows: which dialects have them, what is billed of them, answers as bytes. What it does not do: students, the
record.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import aiohttp
import msgspec
from multidict import CIMultiDict

from potstill.errors import NOT_JSON, ModelError
from potstill.serve.clients.client import Client
from potstill.serve.clients.problems import ANTHROPIC, Headers, Refused, event_of, refused
from potstill.serve.clients.request_fields import Outline, with_fields
from potstill.serve.recording.settling import Settler
from potstill.serve.routes import Target
from potstill.serve.seams import Admission
from potstill.serve.settings import Limits, Model
from potstill.serve.tenants.guesses import may_be_billed
from potstill.serve.upstreams.answers import usage_of
from potstill.serve.upstreams.endpoints import READ_ERRORS, Endpoint, Upstreams, answer_headers, read_failure
from potstill.serve.upstreams.relay import WholeEvents
from potstill.serve.upstreams.translate import must_be_rewritten
from potstill.trajectories.exchange import Upstream
from potstill.types import Answerer
from potstill.wire import anthropic
from potstill.wire.dialect import Problem
from potstill.wire.usage import normalise_usage

COUNT = "/messages/count_tokens"
FREE = frozenset({COUNT})
"""Paths that no provider bills."""


class Plain:
    """``settler``: charges what is passed through."""

    def __init__(self, upstreams: Upstreams, limits: Limits, settler: Settler) -> None:
        self._upstreams = upstreams
        self._limits = limits
        self._settler = settler

    async def charged(
        self, path: str, target: Target, admission: Admission, headers: Headers, body: bytes, outline: Outline
    ) -> tuple[int, Headers, bytes]:
        """The upstream's answer as ``passed`` gives it, settled with the gate whatever comes of it."""
        at, asked = time.time(), time.perf_counter()
        status, answer = 0, b""
        problem: Problem | None = None
        try:
            status, told, answer = await self.passed(path, target.teacher, headers, body, outline)
        except Refused as failure:
            problem = failure.problem
            raise
        finally:
            call = None if path in FREE else _call(target.teacher, status, answer)
            if call is not None and status == 0 and may_be_billed(problem, time.perf_counter() - asked):
                call = msgspec.structs.replace(call, may_be_billed=True)
            self._settler.passed(admission, target.label, call, at)
        return status, told, answer

    async def passed(
        self, path: str, model: Model, headers: Headers, body: bytes, outline: Outline
    ) -> tuple[int, Headers, bytes]:
        """The upstream's answer as it came: status, headers, body. Raises ``Refused``."""
        endpoint = self._upstreams.endpoints[model.upstream]
        if (endpoint.dialect == ANTHROPIC) != path.startswith("/messages"):
            message = f"The upstream '{endpoint.name}' of '{outline.model}' speaks {endpoint.dialect}: no {path}."
            raise refused(404, "not_found", message)
        if path == COUNT and must_be_rewritten(ANTHROPIC, body):
            body = anthropic.ANTHROPIC.encode_count(anthropic.ANTHROPIC.decode_request(body))
        if model.model != outline.model:
            body = with_fields(body, {"model": msgspec.json.encode(model.model)})
        return await self.asked(endpoint, "POST", path, endpoint.headers(headers, same_dialect=True), body)

    async def asked(
        self, endpoint: Endpoint, method: str, path: str, headers: CIMultiDict[str], body: bytes | None
    ) -> tuple[int, Headers, bytes]:
        """The upstream's answer as it came. Raises ``Refused``."""
        response = await self._upstreams.send(endpoint, body, headers, path=path, method=method)
        try:
            _check(endpoint, response.status)
            answer = b"".join([chunk async for chunk in self._chunks(endpoint, response)])
        finally:
            response.close()
        if response.status >= 300:
            answer = endpoint.redact(answer)
        return response.status, answer_headers(response), answer

    async def streamed(self, endpoint: Endpoint, path: str, headers: CIMultiDict[str], client: Client) -> None:
        """A ``GET`` whose answer may be a stream, told to the client as it comes. Raises ``Refused`` before its first
        byte; a stream that breaks off ends with an error event."""
        response = await self._upstreams.send(endpoint, None, headers, path=path, method="GET")
        try:
            _check(endpoint, response.status)
            if response.content_type != "text/event-stream":
                answer = b"".join([chunk async for chunk in self._chunks(endpoint, response)])
                answer = answer if response.status < 300 else endpoint.redact(answer)
                return await client.whole(response.status, answer_headers(response), answer)
            await client.begin(response.status, answer_headers(response))
            events = WholeEvents()
            try:
                async for chunk in self._chunks(endpoint, response):
                    await client.write(events.feed(chunk))
                await client.end(events.rest())
            except Refused as failure:
                await client.end(event_of(failure.problem, endpoint.dialect))
        finally:
            response.close()

    async def _chunks(self, endpoint: Endpoint, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        room = self._limits.max_answer_bytes
        try:
            if response.content.at_eof():  # read already, to see whether asking again would help
                yield await response.read()
            async for chunk in response.content.iter_any():
                room -= len(chunk)
                if room < 0:
                    message = f"The upstream '{endpoint.name}' answered more than is allowed."
                    raise refused(502, "upstream", message, code="too_long")
                yield chunk
        except READ_ERRORS as error:
            raise read_failure(endpoint, error) from None


def _check(endpoint: Endpoint, status: int) -> None:
    """Raises ``Refused`` for what is no answer to a client."""
    if status > 599:
        raise refused(502, "upstream", f"The upstream '{endpoint.name}' answered with the status {status}.")
    if 300 <= status < 400:
        raise refused(502, "upstream", f"The upstream '{endpoint.name}' redirects ({status}); set its base_url.")
    if status in (401, 403) and endpoint.key is not None and not endpoint.upstream.pass_key:
        raise refused(502, "upstream", f"The upstream '{endpoint.name}' refused the gateway's key.")


def _call(model: Model, status: int, answer: bytes) -> Upstream:
    """What was asked, as far as its price concerns. Never recorded."""
    return Upstream(
        model=model.model,
        upstream=model.upstream,
        answerer=Answerer.TEACHER,
        dialect="",
        price_as=model.price_as,
        status=status,
        raw_usage=_usage(answer) if 0 < status < 300 else None,
    )


def _usage(answer: bytes) -> dict[str, object] | None:
    try:
        usage = usage_of(answer)
        normalise_usage(usage)
    except (*NOT_JSON, ModelError):
        return None
    return usage
