"""Exchanges on their way into the store, off the path of the client's answer, within a bound of bytes.

What it knows: the queue, its bound and what happens beyond it, batches, which sequence number is durable. What it does
not do: SQL (``trajectories.journal``), redaction's rules (a function that is handed in), what an exchange means.

One thread takes what has gathered, redacts it and hands it to the journal; it waits for the commit, and meanwhile the
next batch gathers: however fast exchanges come, there is one batch under way and one fsync for all of it.
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
    """Bytes that count against the bound."""
    accepted: bool = True


class _Job(msgspec.Struct, frozen=True):
    exchange: Exchange
    ticket: Ticket
    durable: asyncio.Future[int | None] | None
    """Resolved with the sequence number, or None where the store did not take the exchange."""


class Recorder:
    """Made and used on the gateway's event loop; ``aclose`` writes what waits.

    ``recorded`` is told each exchange as the store has it, in the recorder's thread; it must be quick and never raise.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        max_bytes: int,
        metrics: Metrics,
        overflow: Overflow = Overflow.WAIT,
        redact: Callable[[Sequence[Exchange]], Sequence[Exchange]] | None = None,
        linger_s: float = LINGER_S,
        recorded: Callable[[Exchange], None] | None = None,
    ) -> None:
        self.acknowledged = 0
        """The last sequence number that is durable."""
        self.waiting_bytes = 0
        self.waiting = 0
        self._taken = self._written = 0
        self._catching: list[tuple[int, asyncio.Future[None]]] = []
        self._journal = journal
        self._max_bytes = max_bytes
        self._overflow = overflow
        self._redact = redact
        self._linger_s = linger_s
        self._recorded = recorded
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._room: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._seqs: OrderedDict[str, int] = OrderedDict()
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="potstill-recorder", daemon=True)
        self._thread.start()
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

    def cancel(self, ticket: Ticket) -> None:
        """Nothing came of the request: it is not recorded."""
        self._give_back(ticket.size)
        ticket.size = 0

    def put(self, ticket: Ticket, exchange: Exchange, *, wait: bool = False) -> asyncio.Future[int | None] | None:
        """Queue an exchange. ``wait``: the future resolves when it is durable; cancel it freely."""
        if not ticket.accepted:
            return None
        extra = len(exchange.response)
        ticket.size += extra
        self.waiting_bytes += extra
        self.waiting += 1
        self._taken += 1
        durable = self._loop.create_future() if wait else None
        self._queue.put(_Job(exchange, ticket, durable))
        return durable

    def add(self, exchange: Exchange) -> None:
        """Queue an exchange that no client waits for (shadow); beyond the bound it is dropped and counted."""
        size = len(exchange.request)
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
        waiter = (self._taken, done)
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
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        await asyncio.sleep(0)  # what the thread handed over last

    def _fits(self, size: int) -> bool:
        return self.waiting_bytes == 0 or self.waiting_bytes + size <= self._max_bytes

    def _give_back(self, size: int) -> None:
        self.waiting_bytes -= size
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

    def _done(self, jobs: Sequence[_Job], seqs: Sequence[int | None]) -> None:
        for job, seq in zip(jobs, seqs, strict=True):
            if seq is None:
                self._metrics.unrecorded.add()
            else:
                self._metrics.recorded.add()
                self.acknowledged = max(self.acknowledged, seq)
                self._seqs[job.exchange.request_id] = seq
            if job.durable is not None and not job.durable.done():
                job.durable.set_result(seq)
        while len(self._seqs) > REMEMBERED:
            self._seqs.popitem(last=False)
        self._metrics.commits.add()
        self.waiting -= len(jobs)
        self._written += len(jobs)
        self._told_caught_up()
        self._give_back(sum(job.ticket.size for job in jobs))

    def _told_caught_up(self) -> None:
        for wanted, done in self._catching:
            if self._written >= wanted and not done.done():
                done.set_result(None)

    # --- in the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        stop = False
        while not stop:
            job = self._queue.get()
            jobs: list[_Job] = []
            if job is not None and job.durable is None and self._linger_s:
                time.sleep(self._linger_s)
            while job is not None:
                jobs.append(job)
                if len(jobs) >= BATCH:
                    break
                try:
                    job = self._queue.get_nowait()
                except queue.Empty:
                    break
            stop = job is None
            if jobs:
                seqs = self._write(jobs)
                self._loop.call_soon_threadsafe(self._done, jobs, seqs)

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
        return exchanges if self._redact is None else self._redact(exchanges)
