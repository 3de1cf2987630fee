"""One request from its admission to its record: who is asked, what fails open, and what the client is told.

What it knows: the order in which models are tried. What it does not do: read a request or route it (``app``), talk to
an upstream (``transfer``), decide between student and teacher (``seams.Decider``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from potstill.errors import BadRequest, PotstillError
from potstill.serve.answer_bytes import Kept
from potstill.serve.clients.client import Watch
from potstill.serve.clients.problems import (
    JSON,
    Headers,
    Refused,
    body_of,
    event_of,
    headers_of,
    problem_of,
    translated,
)
from potstill.serve.recording.recorder import Recorder
from potstill.serve.seams import CutShort, Decided, Decider
from potstill.serve.settings import Limits, Mode, Model
from potstill.serve.telemetry.metrics import Metrics
from potstill.serve.upstreams.endpoints import Upstreams
from potstill.serve.upstreams.passing import Adapter, Passing
from potstill.serve.upstreams.shaping import shaped
from potstill.serve.upstreams.transfer import EVENTS, Transfer
from potstill.serve.upstreams.translate import Translating, as_stream, must_be_rewritten, named_by_us
from potstill.serve.work import Work, answerer_header
from potstill.trajectories.exchange import Exchange
from potstill.types import Answerer
from potstill.wire.dialect import Problem, dialect
from potstill.wire.neutral import Answer, Prompt

FAREWELL_S = 1.0
"""How long the last word to a client may take when the gateway stops."""
_STOPPING = Problem(
    status=503,
    kind="overloaded",
    message="The gateway stopped before the answer's end. Send the request again.",
    code="shutdown",
    retry_after_s=1.0,
)

_log = logging.getLogger("potstill.gateway")


class Forwarder:
    """Serves admitted requests. ``settled`` is called once for each, with what became of it; it must be quick."""

    def __init__(
        self,
        upstreams: Upstreams,
        recorder: Recorder,
        metrics: Metrics,
        limits: Limits,
        settled: Callable[[Work, Exchange], None],
        *,
        strict: bool = False,
        decider: Decider | None = None,
    ) -> None:
        self._upstreams = upstreams
        self._recorder = recorder
        self._metrics = metrics
        self._limits = limits
        self._settled = settled
        self._strict = strict
        self._decider = decider

    async def serve(self, work: Work, watch: Watch) -> None:
        """Answer the client and record the exchange, whatever happens."""
        try:
            await self._guarded(work)
        except asyncio.CancelledError as cut:
            work.calls.extend(cut.calls if isinstance(cut, CutShort) else ())
            by = "client" if watch.left else "shutdown"
            work.broke("ClientLeft" if watch.left else "Shutdown", f"cut off by the {by} before the answer's end")
            self._metrics.cut.add(work.target.label, by)
            if not watch.left:
                await self._say_farewell(work)
                raise
        finally:
            watch.stop()
            self._record(work, wait=False)
            self._recorder.release(work.ticket)

    async def _say_farewell(self, work: Work) -> None:
        """The drain time is over: the client hears so in its dialect, where its answer has not begun or is a stream."""
        if work.recorded or (work.client.started and not work.streamed):
            return
        name = work.incoming.dialect
        problem = translated(_STOPPING, name)
        last = event_of(problem, name) if work.client.started else body_of(problem, name)
        work.status = work.status or problem.status
        work.chunks.append(last)
        with contextlib.suppress(Exception):  # whoever does not read any more need not be told
            async with asyncio.timeout(FAREWELL_S):
                if work.client.started:
                    await work.client.end(last)
                else:
                    await work.client.whole(problem.status, [*JSON, *headers_of(problem)], last)

    async def _guarded(self, work: Work) -> None:
        """Every failure becomes words in the client's dialect."""
        try:
            await self._answer(work)
        except Exception as error:
            if not isinstance(error, Refused | PotstillError):
                _log.exception("request %s failed", work.incoming.request_id)
            await self._tell(work, error)

    async def _tell(self, work: Work, error: Exception) -> None:
        problem, name = problem_of(error), work.incoming.dialect
        work.failed(problem)
        if work.client.started:
            last = event_of(problem, name)
            work.complete = False
            work.chunks.append(last)
            await self._end(work, last)
        elif isinstance(error, Refused) and error.body:
            work.status = error.status
            await self._whole(work, error.status, error.headers, error.body)
        else:
            more = error.headers if isinstance(error, Refused) else []
            await self._whole(work, problem.status, [*JSON, *headers_of(problem), *more], body_of(problem, name))

    # --- who answers --------------------------------------------------------------------------------------------------

    async def _answer(self, work: Work) -> None:
        target = work.target
        if target.route.mode is not Mode.RECORD:
            work.decided = await self._decide(work)
        answer, prompt = work.decided.answer, work.prompt
        if answer is not None and prompt is not None and await self._deliver(work, answer, prompt):
            return
        await self._ask(work, target.teacher, Answerer.TEACHER, work.decided.prompt)

    async def _decide(self, work: Work) -> Decided:
        """What the decider says; the teacher answers where it fails, and where the request cannot be read."""
        if self._decider is None:
            return Decided()
        try:
            work.prompt = dialect(work.incoming.dialect).decode_request(work.incoming.body)
        except BadRequest as error:
            self._fail_open(work, "request", f"only the teacher was asked, the request could not be read: {error}")
            return Decided()
        try:
            return await self._decider.decide(
                work.target.route, work.prompt, work.placement, work.admission, said=work.placement.metadata
            )
        except Exception as error:
            _log.exception("deciding about request %s failed", work.incoming.request_id)
            self._fail_open(work, "decision", f"deciding failed ({type(error).__name__}): {error}")
            return Decided()

    async def _deliver(self, work: Work, answer: Answer, prompt: Prompt) -> bool:
        """Send the student's answer in the client's dialect. False: that dialect cannot say it."""
        spoken = dialect(work.incoming.dialect)
        try:
            body = as_stream(answer, prompt, spoken) if prompt.stream else spoken.encode_answer(answer, prompt)
        except PotstillError as error:
            self._fail_open(work, "student", f"the student's answer cannot be told to this client: {error}")
            return False
        await self._grow(work, len(body))
        work.answerer, work.status, work.streamed = Answerer.STUDENT, 200, prompt.stream
        if not prompt.stream:
            await self._whole(work, 200, JSON, body)
            return True
        await work.client.begin(200, [*EVENTS, answerer_header(work)], joined=True)
        work.chunks.append(body)
        await self._end(work, body)
        return True

    async def _ask(self, work: Work, model: Model, answerer: Answerer, prompt: Prompt | None) -> None:
        while True:
            transfer = Transfer(
                self._upstreams,
                work,
                model,
                answerer,
                self._adapter(work, model, prompt),
                max_bytes=self._limits.max_answer_bytes,
                hold=self._strict,
                grow=self._grow,
                end=self._end,
                whole=self._whole,
            )
            if await transfer.run():
                return

    def _adapter(self, work: Work, model: Model, prompt: Prompt | None) -> Adapter:
        endpoint, incoming = self._upstreams.endpoints[model.upstream], work.incoming
        same = endpoint.dialect == incoming.dialect and not must_be_rewritten(incoming.dialect, incoming.body)
        if prompt is None and same:
            body, counts = shaped(incoming.body, endpoint.shapes.of(model)), endpoint.counts(model)
            return Passing(body, incoming.outline, incoming.dialect, model.model, ask_usage=counts)
        spoken = dialect(incoming.dialect)
        if work.prompt is None:
            work.prompt = spoken.decode_request(incoming.body)
        asked = prompt or work.prompt
        shape = endpoint.shapes.of(model, named_by_us(asked))
        return Translating(asked, spoken, dialect(endpoint.dialect), model.model, shape)

    def _fail_open(self, work: Work, what: str, note: str) -> None:
        self._metrics.fail_open.add(what)
        work.notes.append(note)

    # --- the end ------------------------------------------------------------------------------------------------------

    async def _whole(self, work: Work, status: int, headers: Headers, body: bytes) -> None:
        work.status = status
        work.chunks = Kept([body])
        if work.ticket.lost:
            headers = [*headers, (b"x-potstill-recording", b"dropped")]
        elif self._strict:
            headers = [*headers, *_seq_headers(work, await self._durable(work))]
        await work.client.whole(status, [*headers, answerer_header(work)], body)

    async def _end(self, work: Work, last: bytes) -> None:
        """``last`` is among the chunks already. Strict: it waits for the disk, and a comment tells the number."""
        if work.ticket.lost:
            last = b": x-potstill-recording: dropped\n\n" + last
        elif self._strict:
            said = _seq_headers(work, await self._durable(work))
            last = b"".join(b": %b: %b\n\n" % pair for pair in said) + last
        await work.client.end(last)

    async def _grow(self, work: Work, size: int) -> None:
        if not self._recorder.grown(work.ticket, size):
            await self._recorder.room(work.ticket, size)

    async def _durable(self, work: Work) -> int | None:
        self._recorder.hold(work.ticket)
        durable = self._record(work, wait=True)
        return None if durable is None else await durable

    def _record(self, work: Work, *, wait: bool) -> asyncio.Future[int | None] | None:
        if work.recorded:
            return None
        work.recorded = True
        exchange = work.exchange()
        durable = self._recorder.put(work.ticket, exchange, wait=wait)
        try:
            self._settled(work, exchange)
            if self._decider is not None and work.prompt is not None and work.target.route.mode is not Mode.RECORD:
                self._decider.finished(work.target.route, work.prompt, exchange)
        except Exception:
            _log.exception("settling request %s failed", work.incoming.request_id)
        return durable


def _seq_headers(work: Work, seq: int | None) -> Headers:
    """What was dropped is told by a header that every answer of it has (``app``)."""
    if seq is not None:
        return [(b"x-potstill-seq", str(seq).encode())]
    return [(b"x-potstill-recording", b"failed")] if work.ticket.accepted else []
