"""Who may hold how many bytes: a bound, one line for all that is large, and who goes past it.

What it knows: sizes, who waits, whose client reads. What it does not do: the queue to the store (``recorder``), or what
an exchange is. Its rule stands at ``Room``; all of it runs on the event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import msgspec

SMALL = 64 * 1024
"""Bytes of a request, and of an answer, up to which it waits in no line."""
LOOK_EVERY_S = 0.25
"""How often it is looked whether the client of the answer that goes through still reads, while others wait."""


def _reads() -> bool:
    return True


class Ticket(msgspec.Struct, eq=False):
    """A place that was reserved when the request came."""

    size: int
    """Bytes that count against the bound: of the request, and of what is there of the answer."""
    accepted: bool = True
    lost: bool = False
    """It was accepted, and then the answer found no room."""
    answer: int = 0
    """Bytes of the answer among them."""
    reads: Callable[[], bool] = _reads
    """False: the client has taken nothing for a while of what is written to it."""
    held: bool = False
    """The answer's bytes are still needed when the record is written."""
    written: bool = False


class _Waiting(NamedTuple):
    ticket: Ticket
    size: int
    small: bool
    of_answer: bool
    turn: asyncio.Future[None]


class Room:
    """The rule, so that no number of exchanges can wait for each other:

    1. What is small passes. A request, and the beginning of an answer, of up to ``SMALL`` bytes may use all of the
       bound; the rest only seven eighths of it, and waits for that in one line, in the order in which it came.
    2. The first in the line never waits for others in it: where there is no room for it, it goes through, whatever the
       bound says, and so does all that still comes of its exchange. One goes through at a time.
    3. Whose client stops reading steps aside for the next one. It keeps what it holds; for more it waits in the line.
       Those aside hold the bound once more at most, or are one: beyond that the line waits for them to read or end,
       which a client that takes nothing does at the write time-out.
    4. While the gateway stops, nobody waits.

    So at most twice the bound is held, and two exchanges.
    """

    def __init__(self, most: int, loop: asyncio.AbstractEventLoop) -> None:
        self.bytes = 0
        """All that is held."""
        self._most = most
        self._loop = loop
        self._small: deque[_Waiting] = deque()
        self._line: deque[_Waiting] = deque()
        self._through: Ticket | None = None
        self._aside: set[Ticket] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._stopping = False

    def fits(self, size: int, *, small: bool = True) -> bool:
        """Beside what goes through and what stepped aside."""
        if self._stopping:
            return True
        held = self.bytes - (0 if self._through is None else self._through.size) - self._of_those_aside()
        if small:
            return held == 0 or held + size <= self._most
        return held + size <= self._most * 7 // 8

    def enters(self, ticket: Ticket, size: int) -> bool:
        """Count a request, if it need not wait."""
        small = size <= SMALL
        if (self._small if small else self._line) or not self.fits(size, small=small):
            return False
        self._take(ticket, size)
        return True

    def grows(self, ticket: Ticket, size: int) -> bool:
        """Count more of an answer, if it need not wait."""
        small = ticket.answer + size <= SMALL
        if ticket is not self._through and not (self._fits_for(ticket, size, small) and (small or not self._line)):
            return False
        self._take(ticket, size, of_answer=True)
        return True

    async def turn(self, ticket: Ticket, size: int, *, of_answer: bool = False) -> None:
        """Wait until that is counted. Whoever is cancelled gives back what the ticket has."""
        small = (ticket.answer if of_answer else 0) + size <= SMALL
        waiting = _Waiting(ticket, size, small, of_answer, self._loop.create_future())
        (self._small if small and not of_answer else self._line).append(waiting)
        self.settle()
        self._look_again()
        await waiting.turn

    def left(self, ticket: Ticket) -> None:
        """Nothing of it is held any more."""
        size, ticket.size = ticket.size, 0
        if ticket is self._through:
            self._through = None
        self._aside.discard(ticket)
        self.bytes -= size
        self.settle()

    def resize(self, ticket: Ticket, size: int) -> None:
        """What it holds is known exactly."""
        self.bytes += size - ticket.size
        ticket.size = size
        self.settle()

    def stop(self) -> None:
        """Nobody waits any more."""
        self._stopping = True
        self.settle()

    def settle(self) -> None:
        """Let in whoever need not wait any more."""
        while self._small and (self._small[0].turn.done() or self.fits(self._small[0].size)):
            self._let_in(self._small.popleft())
        while self._line and (self._line[0].turn.done() or self._may_go(self._line[0])):
            self._let_in(self._line.popleft())

    def _let_in(self, waiting: _Waiting) -> None:
        if not waiting.turn.done():  # else it was cancelled
            self._take(waiting.ticket, waiting.size, of_answer=waiting.of_answer)
            waiting.turn.set_result(None)

    def _take(self, ticket: Ticket, size: int, *, of_answer: bool = False) -> None:
        ticket.size += size
        ticket.answer += size if of_answer else 0
        self.bytes += size

    def _fits_for(self, ticket: Ticket, size: int, small: bool) -> bool:
        """One that stepped aside comes back among the others with all that it holds."""
        if ticket not in self._aside:
            return self.fits(size, small=small)
        if not self.fits(ticket.size + size, small=False):
            return False
        self._aside.discard(ticket)
        return True

    def _may_go(self, first: _Waiting) -> bool:
        if self._fits_for(first.ticket, first.size, first.small):
            return True
        if self._through is not None and not self._steps_aside(self._through):
            return False
        self._aside.discard(first.ticket)
        self._through = first.ticket
        return True

    def _steps_aside(self, through: Ticket) -> bool:
        if through.reads() or (self._aside and self._of_those_aside() + through.size > self._most):
            return False
        self._aside.add(through)
        return True

    def _of_those_aside(self) -> int:
        return sum(ticket.size for ticket in self._aside) if self._aside else 0

    def _look_again(self) -> None:
        """Nothing tells when a client stops reading."""
        if self._line and self._timer is None:
            self._timer = self._loop.call_later(LOOK_EVERY_S, self._looked)

    def _looked(self) -> None:
        self._timer = None
        self.settle()
        self._look_again()
