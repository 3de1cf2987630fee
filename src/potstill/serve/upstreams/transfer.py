"""One request to one upstream and its answer to the client, whole or as a stream.

What it knows: the order of reading and writing, limits, what is told when an answer breaks off. What it does not do:
choose the upstream or fail over (``forward``), or dialects (an ``Adapter`` stands between).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import aiohttp
import msgspec

from potstill.errors import NOT_JSON, BadResponse
from potstill.models.limits import parse_retry_after
from potstill.serve.answer_bytes import Kept
from potstill.serve.clients.problems import Headers, Refused, refused, translated
from potstill.serve.settings import Model
from potstill.serve.tenants.guesses import may_be_billed
from potstill.serve.upstreams.answers import END_MARKS, usage_of, usage_of_stream
from potstill.serve.upstreams.endpoints import READ_ERRORS, Endpoint, Upstreams, answer_headers, read_failure
from potstill.serve.upstreams.passing import Adapter
from potstill.serve.upstreams.told import Heard, Read, Told
from potstill.serve.work import Work, answerer_header
from potstill.trajectories.exchange import Upstream
from potstill.types import Answerer, ErrorRecord
from potstill.wire.dialect import Problem, dialect

MAX_REFUSAL_BYTES = 1 << 20
LONG = 256 * 1024
"""Bytes of an answer beyond which its translation takes longer than others should wait."""
OWN_HEADERS = frozenset((b"content-type", b"retry-after", b"retry-after-ms", b"x-should-retry"))
"""Those of an error that the gateway writes itself."""
EVENTS: Headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]

Grow = Callable[[Work, int], Awaitable[None]]
End = Callable[[Work, bytes], Awaitable[None]]
Whole = Callable[[Work, int, Headers, bytes], Awaitable[None]]


class Transfer:
    """``end`` and ``whole`` write the end of an answer, or all of it, and see to the record.

    ``grow``: asked for room before bytes are kept; as long as it waits, the upstream is not read. ``hold``: the event
    that ends a stream is not written before ``end`` does it (strict recording).
    """

    def __init__(
        self,
        upstreams: Upstreams,
        work: Work,
        model: Model,
        answerer: Answerer,
        adapter: Adapter,
        *,
        max_bytes: int,
        hold: bool,
        grow: Grow,
        end: End,
        whole: Whole,
    ) -> None:
        self._upstreams = upstreams
        self._endpoint: Endpoint = upstreams.endpoints[model.upstream]
        self._work = work
        self._model = model
        self._answerer = answerer
        self._adapter = adapter
        self._max_bytes = max_bytes
        self._marks = END_MARKS[work.incoming.dialect] if hold else ()
        self._grow = grow
        self._end = end
        self._whole = whole
        self._at = time.time()
        self._asked = time.perf_counter()
        self._first: float | None = None
        self._status = 0
        self._received = Kept()
        """What came, where that is not what the client gets."""
        self._streams = False
        self._heard: Heard | None = None
        """Of a stream that is not kept whole."""
        self._error: ErrorRecord | None = None
        self._problem: Problem | None = None
        self._noted = False

    async def run(self) -> bool:
        """Serve the client. False: the upstream does not take a field that the gateway put in, nothing was told to the
        client, and the same may be asked without.

        Raises ``Refused`` where no answer came and the client has seen nothing yet.
        """
        work, endpoint = self._work, self._endpoint
        headers = endpoint.headers(work.incoming.headers, same_dialect=endpoint.dialect == work.incoming.dialect)
        try:
            response = await self._upstreams.send(endpoint, self._adapter.request, headers)
            work.waited_s += time.perf_counter() - self._asked
            self._status = response.status
            try:
                return await self._answered(response)
            finally:
                if not response.content.at_eof():  # else the connection serves others already
                    response.close()
        except Refused as failure:
            self._problem = failure.problem
            self._error = ErrorRecord(kind=failure.problem.kind, message=failure.problem.message)
            raise
        finally:
            self._note()

    async def _for_the_client(self, body: bytes) -> bytes:
        """A long answer is translated on a thread, where others get their turn in between. Raises ``BadResponse``."""
        if self._adapter.foreign and len(body) > LONG:
            return await asyncio.to_thread(self._adapter.whole, body, streamed=self._streams)
        return self._adapter.whole(body, streamed=self._streams)

    async def _answered(self, response: aiohttp.ClientResponse) -> bool:
        if response.status >= 300:
            return await self._refusal(response)
        self._streams = response.content_type == "text/event-stream"
        if self._streams and (self._work.incoming.outline.stream or not self._adapter.foreign):
            await self._stream(response)
            return True
        body = await self._read(response, self._max_bytes)
        try:
            answer = await self._for_the_client(body)
        except BadResponse as error:
            raise refused(502, "upstream", f"Upstream '{self._endpoint.name}': {error}", code="bad_answer") from None
        self._work.answerer = self._answerer
        if self._adapter.foreign and self._work.incoming.outline.stream:
            await self._begin(response)
            self._work.chunks.append(answer)
            self._note()
            await self._end(self._work, answer)
            return True
        self._note()
        await self._whole(self._work, response.status, answer_headers(response), answer)
        return True

    async def _read(self, response: aiohttp.ClientResponse, limit: int) -> bytes:
        try:
            if response.content.at_eof():  # read already, to see whether asking again would help
                self._received.append(await response.read())
            while chunk := await response.content.readany():
                await self._grow(self._work, len(chunk))
                self._received.append(chunk)
                limit -= len(chunk)
                if limit < 0:
                    raise self._too_long()
        except READ_ERRORS as error:
            raise read_failure(self._endpoint, error) from None
        return self._received.joined()

    async def _refusal(self, response: aiohttp.ClientResponse) -> bool:
        """An upstream's own error: as it came where the client can read it, else as a problem."""
        endpoint, status = self._endpoint, response.status
        body = endpoint.redact(await self._read(response, MAX_REFUSAL_BYTES))
        if endpoint.shapes.learn(self._model, status, body, self._adapter.request, self._adapter.put_in):
            return False
        if status > 599:
            raise refused(502, "upstream", f"The upstream '{endpoint.name}' answered with the status {status}.")
        if 300 <= status < 400:
            raise refused(502, "upstream", f"The upstream '{endpoint.name}' redirects ({status}); set its base_url.")
        if status in (401, 403) and endpoint.key is not None and not endpoint.upstream.pass_key:
            message = f"The upstream '{endpoint.name}' refused the gateway's key ({status}): see {endpoint.key.source}."
            raise refused(status, "authentication" if status == 401 else "permission", message)
        problem = dialect(endpoint.dialect).decode_problem(status, body)
        headers, spoken = answer_headers(response), self._work.incoming.dialect
        if endpoint.dialect == spoken and body[:1] == b"{":
            raise Refused(problem, status, headers, body)
        wait = parse_retry_after(response.headers, time.time())
        problem = translated(msgspec.structs.replace(problem, retry_after_s=wait), spoken)
        raise Refused(problem, headers=[pair for pair in headers if pair[0] not in OWN_HEADERS])

    async def _stream(self, response: aiohttp.ClientResponse) -> None:
        work, adapter, client = self._work, self._adapter, self._work.client
        held: list[bytes] = []
        size, content = 0, response.content
        failure: Refused | None = None
        try:
            while chunk := await content.readany():
                await self._grow(work, len(chunk))
                if adapter.foreign:
                    self._keep(self._received, chunk, heard=True)
                size += len(chunk)
                if size > self._max_bytes:
                    raise self._too_long()
                out = adapter.feed(chunk)
                if not out:
                    continue
                if not client.started:
                    await self._begin(response)
                if adapter.foreign:
                    await self._grow(work, len(out))
                self._keep(work.chunks, out, heard=not adapter.foreign)
                if held or content.at_eof() or any(mark in out for mark in self._marks):
                    held.append(out)
                else:
                    await client.write(out)
        except (*READ_ERRORS, Refused) as error:
            failure = error if isinstance(error, Refused) else read_failure(self._endpoint, error)
        came = self._came()
        told = self._told(came)
        if failure is None or adapter.ended(told):
            last, problem = adapter.close(told)
        else:
            last, problem = adapter.broken(failure.problem), failure.problem
        if problem is None:
            if not client.started:
                await self._begin(response)
        elif client.started:
            self._broke(problem.kind, problem.message)
        else:
            try:
                raise failure or Refused(problem)
            finally:
                del failure  # which holds this frame, and with it the bodies, until the garbage collector comes
        self._note(came)
        work.chunks.append(last)
        del came, told
        await self._end(work, b"".join((*held, last)))

    def _keep(self, kept: Kept, more: bytes, *, heard: bool) -> None:
        """``heard``: these are the upstream's own words. Where only their ends stay, they are read as they pass."""
        kept.append(more)
        if self._work.ticket.accepted:
            return
        if heard and self._heard is None:
            self._heard = Heard(self._endpoint.dialect)
            self._heard.hear(kept.joined())
        elif heard and self._heard is not None:
            self._heard.hear(more)
        kept.cut()

    def _told(self, came: bytes) -> Told:
        if self._heard is None:
            return Read(came, self._endpoint.dialect)
        self._heard.hear(self._adapter.rest())
        self._heard.close()
        return self._heard

    def _came(self) -> bytes:
        """The upstream's bytes: held apart where the client gets others, else taken from what the client got."""
        if self._adapter.foreign or not self._streams:
            return self._received.joined()
        return self._work.chunks.joined() + self._adapter.rest()

    async def _begin(self, response: aiohttp.ClientResponse) -> None:
        work = self._work
        work.streamed, work.status, work.answerer = True, response.status, self._answerer
        self._first = time.perf_counter()
        headers = [pair for pair in answer_headers(response) if pair[0] != b"content-type"]
        await work.client.begin(response.status, [*EVENTS, *headers, answerer_header(work)], joined=True)

    def _broke(self, kind: str, message: str) -> None:
        self._error = ErrorRecord(kind=kind, message=message)
        self._work.broke(kind, message)

    def _too_long(self) -> Refused:
        message = f"The upstream '{self._endpoint.name}' answered more than {self._max_bytes} bytes (max_answer_bytes)."
        return refused(502, "upstream", message, code="too_long")

    def _note(self, came: bytes | None = None) -> None:
        """Put the call among those of the exchange, once. ``came``: what the upstream sent, where that is known."""
        if self._noted:
            return
        self._noted = True
        model, received = self._model, self._came() if came is None else came
        foreign = self._adapter.foreign or self._status >= 300
        took = time.perf_counter() - self._asked
        self._work.calls.append(
            Upstream(
                model=model.model,
                upstream=model.upstream,
                answerer=self._answerer,
                dialect=self._endpoint.dialect,
                price_as=model.price_as,
                started_at=self._at,
                latency_s=took,
                first_byte_s=None if self._first is None else self._first - self._asked,
                status=self._status,
                may_be_billed=self._status == 0 and may_be_billed(self._problem, took),
                n=self._work.incoming.outline.n or 1,
                raw_usage=self._usage(received),
                request=self._adapter.request if self._adapter.foreign else None,
                response=self._endpoint.redact(received) if foreign else None,
                error=self._error,
            )
        )

    def _usage(self, received: bytes) -> dict[str, object] | None:
        try:
            if not self._streams:
                return self._adapter.usage or usage_of(received)
            apart = usage_of_stream(self._adapter.usage_told, self._endpoint.dialect)
            if apart is None and self._heard is not None:
                return self._heard.usage
            return apart or usage_of_stream(received, self._endpoint.dialect)
        except NOT_JSON:
            return None
