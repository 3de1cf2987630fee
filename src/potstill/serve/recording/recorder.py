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
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from enum import StrEnum
from typing import Protocol

import msgspec

from potstill.serve.recording.room import Room, Ticket
from potstill.serve.settings import Overflow
from potstill.serve.telemetry.metrics import Metrics
from potstill.trajectories.exchange import Exchange
from potstill.trajectories.writer import CommitUnknown, Unreachable

BATCH = 256
BATCH_BYTES = 1024 * 1024
"""A batch that holds so much takes no more."""
HUGE = 1024 * 1024
"""Bytes of an exchange from which on it is recorded apart."""
LINGER_S = 0.02
"""How long an exchange waits for others to share its commit, where no client waits for it. Longer saves commits and
makes batches that hold up the event loop: with 50 ms the slowest hundredth of requests took half as long again."""
UNKNOWN_S = 30.0
"""How long a batch whose commit may or may not have been one waits for the store to say which. Afterwards it counts as
not recorded, and may be there; it is never written twice."""
ASK_EVERY_S = 0.5
REMEMBERED = 8192
"""Of how many of the latest requests the fate can be asked for by the request's id."""
WAITING, LOST = 0, -1
"""In place of a sequence number, which is 1 or more."""

_log = logging.getLogger("potstill.gateway")


class Journal(Protocol):
    """The store, as far as the recorder knows it."""

    def record_nowait(self, exchanges: Sequence[Exchange]) -> Future[list[int]]: ...


class Fate(StrEnum):
    """What became of an exchange."""

    RECORDED = "recorded"
    """It is durable."""
    WAITING = "waiting"
    """It is answered, and will be written."""
    LOST = "lost"
    """It is not in the store and will not be: no room, or the store refused it."""
    UNKNOWN = "unknown"
    """Still being answered, by another process, never seen, or too long ago to be remembered."""


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

    The bound counts requests, and answers as they come, until they are recorded and their clients have them (but for
    the last 64 KiB or so, in the connection's buffer). What finds no room waits, and its upstream is not read
    meanwhile; who waits for whom, and why nobody waits for ever, stands at ``room.Room``: what is small passes, the
    first that waits goes through whatever the bound says, and steps aside for the next one when its client does not
    read. At most twice the bound and two exchanges are held, and what upstreams' sockets buffer. (A student's answers
    to several questions are counted when they are recorded.) With ``Overflow.DROP`` nothing waits: what finds no room
    is not recorded, and what is held of a stream goes; a whole answer stays until its client has it, and its request
    counts among those in flight.

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
        self.waiting = 0
        self._catching: list[tuple[tuple[int, ...], asyncio.Future[None]]] = []
        self._journal = journal
        self._overflow = overflow
        self._redact = redact
        self._redact_huge = redact if redact_huge is None else redact_huge
        self._telling = threading.Lock()
        self._linger_s = linger_s
        self._recorded = recorded
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._room = Room(max_bytes, self._loop)
        self._fates: OrderedDict[str, int] = OrderedDict()
        """Sequence numbers of the latest requests by id, ``WAITING`` or ``LOST``."""
        self._lanes = (_Lane(self._run, "potstill-recorder"), _Lane(self._run, "potstill-recorder-huge"))
        metrics.gauge(
            "potstill_queue_bytes",
            "Bytes of exchanges that are served or wait to be recorded.",
            lambda: self.waiting_bytes,
        )
        metrics.gauge("potstill_queue_exchanges", "Exchanges that wait to be recorded.", lambda: self.waiting)
        metrics.gauge("potstill_acknowledged_seq", "Last durable sequence number.", lambda: self.acknowledged)

    @property
    def waiting_bytes(self) -> int:
        """Of requests that are served, of their answers as far as they came, and of what waits to be recorded."""
        return self._room.bytes

    # --- on the event loop --------------------------------------------------------------------------------------------

    async def reserve(self, size: int, reads: Callable[[], bool] | None = None) -> Ticket:
        """Room for a request of ``size`` bytes: at once where there is some. Else waits for it, or gives a ticket that
        is not accepted, as the overflow policy says. ``reads``: whether its client takes what is written to it."""
        ticket = Ticket(0) if reads is None else Ticket(0, reads=reads)
        if self._room.enters(ticket, size):
            return ticket
        if self._overflow is Overflow.DROP and self._room.bytes:
            self._metrics.dropped.add()
            return Ticket(0, accepted=False)
        try:
            await self._room.turn(ticket, size)
        except asyncio.CancelledError:
            self.cancel(ticket)
            raise
        return ticket

    def grown(self, ticket: Ticket, size: int) -> bool:
        """Count ``size`` more bytes of an answer. False: there is no room, see ``room``."""
        return not ticket.accepted or self._room.grows(ticket, size)

    async def room(self, ticket: Ticket, size: int) -> None:
        """Wait until ``grown``, or give the place up, as the overflow policy says: the ticket is ``lost`` then."""
        if self._overflow is Overflow.DROP:
            ticket.accepted, ticket.lost = False, True
            self._metrics.dropped.add()
            self.cancel(ticket)
            return
        await self._room.turn(ticket, size, of_answer=True)

    def cancel(self, ticket: Ticket) -> None:
        """Nothing came of the request: it is not recorded."""
        self._room.left(ticket)

    def hold(self, ticket: Ticket) -> None:
        """Its bytes count until ``release``, though they be recorded before: the client does not have them yet."""
        ticket.held = True

    def release(self, ticket: Ticket) -> None:
        """The client has its answer."""
        ticket.held = False
        if ticket.written:
            self._room.left(ticket)

    def drain(self) -> None:
        """The gateway stops: nobody waits for room any more."""
        self._room.stop()

    def put(self, ticket: Ticket, exchange: Exchange, *, wait: bool = False) -> asyncio.Future[int | None] | None:
        """Queue an exchange. ``wait``: the future resolves when it is durable; cancel it freely."""
        if not ticket.accepted:
            self._ended(exchange.request_id, LOST)
            return None
        self._ended(exchange.request_id, WAITING)
        size = _size(exchange)
        self._room.resize(ticket, size)
        self.waiting += 1
        durable = self._loop.create_future() if wait else None
        lane = self._lanes[size >= HUGE]
        lane.taken += 1
        lane.queue.put(_Job(exchange, ticket, durable))
        return durable

    def add(self, exchange: Exchange) -> None:
        """Queue an exchange that no client waits for (shadow); beyond the bound it is dropped and counted."""
        size = _size(exchange)
        if not self._room.fits(size):
            self._metrics.dropped.add()
            return
        self.put(Ticket(0), exchange)

    def fate(self, request_id: str) -> tuple[Fate, int | None]:
        """What became of one of the latest requests that this process answered, and its durable sequence number."""
        found = self._fates.get(request_id)
        if found is None:
            return Fate.UNKNOWN, None
        if found > 0:
            return Fate.RECORDED, found
        return (Fate.WAITING if found == WAITING else Fate.LOST), None

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

    def _ended(self, request_id: str, fate: int) -> None:
        if not request_id:  # a question of ours: no client can ask for it
            return
        self._fates[request_id] = fate
        if len(self._fates) > REMEMBERED:
            self._fates.popitem(last=False)

    def _done(self, lane: _Lane, jobs: Sequence[_Job], seqs: Sequence[int | None]) -> None:
        for job, seq in zip(jobs, seqs, strict=True):
            self._ended(job.exchange.request_id, LOST if seq is None else seq)
            if seq is None:
                self._metrics.unrecorded.add()
            else:
                self._metrics.recorded.add()
                self.acknowledged = max(self.acknowledged, seq)
            job.ticket.written = True
            if job.durable is not None and not job.durable.done():
                job.durable.set_result(seq)
        self._metrics.commits.add()
        self.waiting -= len(jobs)
        lane.written += len(jobs)
        self._told_caught_up()
        for job in jobs:
            if not job.ticket.held:
                self._room.left(job.ticket)

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
