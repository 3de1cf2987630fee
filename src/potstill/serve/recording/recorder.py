"""Exchanges on their way into the store, off the path of the client's answer, within a bound of bytes.

What it knows: the queue, its bound and what happens beyond it, batches, which sequence number is durable. What it does
not do: SQL (``trajectories.journal``), redaction's rules (a function that is handed in), what an exchange means.

One thread takes what has gathered, redacts it and hands it to the journal; it waits for the commit, and meanwhile the
next batch gathers: however fast exchanges come, there is one batch under way and one fsync for all of it. Huge
exchanges go through a thread of their own, one by one, so that nobody else's record waits for them: an episode's huge
exchange may get a later sequence number than the one that followed it.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Protocol

import msgspec

from potstill.serve.settings import Overflow
from potstill.serve.telemetry.metrics import Metrics
from potstill.trajectories.exchange import Exchange
from potstill.trajectories.writer import CommitUnknown, Unreachable

BATCH = 256
BATCH_BYTES = 1024 * 1024
"""A batch that holds so much takes no more."""
HUGE = 1024 * 1024
"""Bytes of an exchange from which on it is recorded apart."""
SMALL = 64 * 1024
"""Bytes of an exchange up to which it takes the room that is there, whoever waits."""
LINGER_S = 0.02
"""How long an exchange waits for others to share its commit, where no client waits for it. Longer saves commits and
makes batches that hold up the event loop: with 50 ms the slowest hundredth of requests took half as long again."""
UNKNOWN_S = 30.0
"""How long a batch whose commit may or may not have been one waits for the store to say which. Afterwards it counts as
not recorded, and may be there; it is never written twice."""
ASK_EVERY_S = 0.5
REMEMBERED = 8192
"""Of how many of the latest requests the sequence number can be asked for by the request's id."""

_log = logging.getLogger("potstill.gateway")


class Journal(Protocol):
    """The store, as far as the recorder knows it."""

    def record_nowait(self, exchanges: Sequence[Exchange]) -> Future[list[int]]: ...


class Ticket(msgspec.Struct):
    """A place in the queue that was reserved when the request came."""

    size: int
    """Bytes that count against the bound: of the request, and of what is there of the answer."""
    accepted: bool = True
    lost: bool = False
    """It was accepted, and then the answer found no room."""


class _Job(msgspec.Struct, frozen=True):
    exchange: Exchange
    ticket: Ticket
    durable: asyncio.Future[int | None] | None
    """Resolved with the sequence number, or None where the store did not take the exchange."""


class _Lane:
    """Jobs of one thread, and how many of them were put and written."""

    def __init__(self, run: Callable[[_Lane], None], name: str) -> None:
        self.taken = self.written = 0
        self.queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=run, args=(self,), name=name, daemon=True)
        self.thread.start()


class Recorder:
    """Made and used on the gateway's event loop; ``aclose`` writes what waits.

    The bound counts requests, and answers as they come. A request waits for room before it is served. An answer that
    finds none waits too, and its upstream is not read meanwhile, but for one: the answer that has waited for longest
    goes through, whatever the bound says, and so do the bytes that still come of it until it is written. It waits for
    nobody here, so it ends (by the upstream's and the client's time-outs at the latest), its bytes come back, and the
    next one goes through: no number of answers that share the bound can wait for each other. An eighth of the bound is
    for requests and the first ``SMALL`` bytes of their exchanges, and what goes through does not count against them:
    small exchanges pass while large answers wait. So at most the bound and one exchange are held, and what upstreams'
    sockets buffer. (A student's answers and those to several questions are counted when they are recorded.)
    With ``Overflow.DROP`` nothing waits: what finds no room is not recorded, and what is held of a stream goes.

    ``recorded`` is told each exchange as the store has it, in one of the recorder's threads, by one at a time; it must
    be quick and never raise. ``redact`` is called from one thread, ``redact_huge`` from another (default: ``redact``).
    """

    def __init__(
        self,
        journal: Journal,
        *,
        max_bytes: int,
        metrics: Metrics,
        overflow: Overflow = Overflow.WAIT,
        redact: Callable[[Sequence[Exchange]], Sequence[Exchange]] | None = None,
        redact_huge: Callable[[Sequence[Exchange]], Sequence[Exchange]] | None = None,
        linger_s: float = LINGER_S,
        recorded: Callable[[Exchange], None] | None = None,
    ) -> None:
        self.acknowledged = 0
        """The last sequence number that is durable."""
        self.waiting_bytes = 0
        self.waiting = 0
        self._catching: list[tuple[tuple[int, ...], asyncio.Future[None]]] = []
        self._journal = journal
        self._max_bytes = max_bytes
        self._overflow = overflow
        self._redact = redact
        self._redact_huge = redact if redact_huge is None else redact_huge
        self._telling = threading.Lock()
        self._linger_s = linger_s
        self._recorded = recorded
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._room: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._growing: deque[tuple[Ticket, int, asyncio.Future[bool]]] = deque()
        self._through: Ticket | None = None
        """Of the answer that needs no room."""
        self._seqs: OrderedDict[str, int] = OrderedDict()
        self._lanes = (_Lane(self._run, "potstill-recorder"), _Lane(self._run, "potstill-recorder-huge"))
        metrics.gauge("potstill_queue_bytes", "Bytes that wait to be recorded.", lambda: self.waiting_bytes)
        metrics.gauge("potstill_queue_exchanges", "Exchanges that wait to be recorded.", lambda: self.waiting)
        metrics.gauge("potstill_acknowledged_seq", "Last durable sequence number.", lambda: self.acknowledged)

    # --- on the event loop --------------------------------------------------------------------------------------------

    async def reserve(self, size: int) -> Ticket:
        """Room for a request of ``size`` bytes: at once where there is some. Else waits for it, or gives a ticket that
        is not accepted, as the overflow policy says."""
        if self._fits(size) and not self._room:
            self.waiting_bytes += size
            return Ticket(size)
        if self._overflow is Overflow.DROP:
            self._metrics.dropped.add()
            return Ticket(0, accepted=False)
        turn: asyncio.Future[None] = self._loop.create_future()
        self._room.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back(size)
            raise
        return Ticket(size)

    def grown(self, ticket: Ticket, size: int) -> bool:
        """Count ``size`` more bytes of an answer. False: there is no room, see ``room``."""
        if not ticket.accepted:
            return True
        small = ticket.size + size <= SMALL and self._fits(size)
        if not small and ticket is not self._through and (self._growing or not self._grows(size)):
            return False
        ticket.size += size
        self.waiting_bytes += size
        return True

    async def room(self, ticket: Ticket, size: int) -> None:
        """Wait until ``grown``, or give the place up, as the overflow policy says: the ticket is ``lost`` then."""
        if self._overflow is Overflow.DROP:
            ticket.accepted, ticket.lost = False, True
            self._metrics.dropped.add()
            self.cancel(ticket)
            return
        turn: asyncio.Future[bool] = self._loop.create_future()
        self._growing.append((ticket, size, turn))
        self._let_in()
        await turn  # whoever is cancelled gives back what was counted with the exchange that comes of it

    def cancel(self, ticket: Ticket) -> None:
        """Nothing came of the request: it is not recorded."""
        size, ticket.size = ticket.size, 0
        self._left(ticket)
        self._give_back(size)

    def put(self, ticket: Ticket, exchange: Exchange, *, wait: bool = False) -> asyncio.Future[int | None] | None:
        """Queue an exchange. ``wait``: the future resolves when it is durable; cancel it freely."""
        if not ticket.accepted:
            return None
        size = _size(exchange)
        extra, ticket.size = size - ticket.size, size
        self.waiting += 1
        durable = self._loop.create_future() if wait else None
        lane = self._lanes[size >= HUGE]
        lane.taken += 1
        lane.queue.put(_Job(exchange, ticket, durable))
        self._give_back(-extra)
        return durable

    def add(self, exchange: Exchange) -> None:
        """Queue an exchange that no client waits for (shadow); beyond the bound it is dropped and counted."""
        size = _size(exchange)
        if not self._fits(size):
            self._metrics.dropped.add()
            return
        self.waiting_bytes += size
        self.put(Ticket(size), exchange)

    def seq_of(self, request_id: str) -> int | None:
        """The durable sequence number of one of the latest requests."""
        return self._seqs.get(request_id)

    async def caught_up(self, within_s: float) -> bool:
        """Wait until all that was put by now is written; False if that takes longer than ``within_s``."""
        done: asyncio.Future[None] = self._loop.create_future()
        waiter = (tuple(lane.taken for lane in self._lanes), done)
        self._catching.append(waiter)
        self._told_caught_up()
        try:
            async with asyncio.timeout(within_s):
                await done
        except TimeoutError:
            return False
        finally:
            self._catching.remove(waiter)
        return True

    async def aclose(self) -> None:
        """Record what waits, then stop."""
        for lane in self._lanes:
            lane.queue.put(None)
        for lane in self._lanes:
            await asyncio.to_thread(lane.thread.join)
        await asyncio.sleep(0)  # what the thread handed over last

    def _fits(self, size: int) -> bool:
        """Of a request."""
        held = self.waiting_bytes - (0 if self._through is None else self._through.size)
        return held == 0 or held + size <= self._max_bytes

    def _grows(self, size: int) -> bool:
        """Whether more of an answer fits."""
        return self.waiting_bytes == 0 or self.waiting_bytes + size <= self._max_bytes * 7 // 8

    def _give_back(self, size: int) -> None:
        self.waiting_bytes -= size
        self._let_in()

    def _left(self, ticket: Ticket) -> None:
        if ticket is self._through:
            self._through = None

    def _let_in(self) -> None:
        """Answers and requests, each in the order in which they came."""
        while self._growing:
            ticket, more, grows = self._growing[0]
            if not grows.cancelled():
                if not self._grows(more):
                    if self._through is not None:
                        break
                    self._through = ticket
                ticket.size += more
                self.waiting_bytes += more
                grows.set_result(True)
            self._growing.popleft()
        while self._room:
            wanted, turn = self._room[0]
            if turn.cancelled():
                self._room.popleft()
                continue
            if not self._fits(wanted):
                return
            self._room.popleft()
            self.waiting_bytes += wanted
            turn.set_result(None)

    def _done(self, lane: _Lane, jobs: Sequence[_Job], seqs: Sequence[int | None]) -> None:
        for job, seq in zip(jobs, seqs, strict=True):
            if seq is None:
                self._metrics.unrecorded.add()
            else:
                self._metrics.recorded.add()
                self.acknowledged = max(self.acknowledged, seq)
                self._seqs[job.exchange.request_id] = seq
            self._left(job.ticket)
            if job.durable is not None and not job.durable.done():
                job.durable.set_result(seq)
        while len(self._seqs) > REMEMBERED:
            self._seqs.popitem(last=False)
        self._metrics.commits.add()
        self.waiting -= len(jobs)
        lane.written += len(jobs)
        self._told_caught_up()
        self._give_back(sum(job.ticket.size for job in jobs))

    def _told_caught_up(self) -> None:
        for wanted, done in self._catching:
            written = all(lane.written >= number for lane, number in zip(self._lanes, wanted, strict=True))
            if written and not done.done():
                done.set_result(None)

    # --- in the thread ------------------------------------------------------------------------------------------------

    def _run(self, lane: _Lane) -> None:
        stop = False
        while not stop:
            job = lane.queue.get()
            jobs: list[_Job] = []
            size = 0
            if job is not None and job.durable is None and self._linger_s:
                time.sleep(self._linger_s)
            while job is not None:
                jobs.append(job)
                size += job.ticket.size
                if len(jobs) >= BATCH or size >= BATCH_BYTES:
                    break
                try:
                    job = lane.queue.get_nowait()
                except queue.Empty:
                    break
            stop = job is None
            if jobs:
                seqs = self._write(jobs)
                self._loop.call_soon_threadsafe(self._done, lane, jobs, seqs)

    def _write(self, jobs: Sequence[_Job]) -> list[int | None]:
        """Their sequence numbers; a member that the store refuses does not take the others with it."""
        try:
            exchanges = self._clean([job.exchange for job in jobs])
            seqs: list[int | None] = list(self._appended(exchanges))
        except Exception as error:
            if len(jobs) == 1 or isinstance(error, CommitUnknown | Unreachable):
                _log.error("%d exchanges were not recorded: %s: %s", len(jobs), type(error).__name__, error)
                return [None] * len(jobs)
            return [seq for job in jobs for seq in self._write([job])]
        if self._recorded is not None:
            with self._telling:
                for exchange in exchanges:
                    self._recorded(exchange)
        return seqs

    def _appended(self, exchanges: Sequence[Exchange]) -> list[int]:
        """Appends once. Raises ``CommitUnknown`` where it stays unknown whether that happened."""
        try:
            return self._journal.record_nowait(exchanges).result()
        except CommitUnknown as error:
            unknown = error
        until = time.monotonic() + UNKNOWN_S
        while time.monotonic() < until:
            time.sleep(ASK_EVERY_S)
            try:
                seqs: list[int] = unknown.again().result()
            except CommitUnknown as error:
                unknown = error
            except Unreachable:
                continue
            else:
                return seqs
        raise unknown

    def _clean(self, exchanges: Sequence[Exchange]) -> Sequence[Exchange]:
        huge = len(exchanges) == 1 and _size(exchanges[0]) >= HUGE
        redact = self._redact_huge if huge else self._redact
        return exchanges if redact is None else redact(exchanges)


def _size(exchange: Exchange) -> int:
    calls = sum(len(call.request or b"") + len(call.response or b"") for call in exchange.calls)
    return len(exchange.request) + len(exchange.response) + calls
