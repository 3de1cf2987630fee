"""The student beside the teacher, off the client's path: a bounded queue, and what agreement is.

What it knows: how many bytes may wait, how many students are asked at a time, how the teacher's recorded bytes become
an answer. What it does not do: draw the sample, ask the student, count for the rollout, write records (``shadowing``).

Where work comes faster than the student answers it is dropped and counted: shadow is evidence, never a duty.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from potstill.decide.cascade import tally
from potstill.errors import PotstillError
from potstill.serve.deciding.student import Sample, reply_of
from potstill.serve.deciding.validity import ValidAnswers
from potstill.trajectories.exchange import Exchange
from potstill.types import Answerer, Decision, Reply
from potstill.wire.assemble import Assembler
from potstill.wire.dialect import dialect
from potstill.wire.neutral import Prompt

log = logging.getLogger(__name__)

MOST_BYTES = 32 * 1024 * 1024
"""Of requests that wait."""
WORKERS = 4


class Job(NamedTuple):
    """An exchange to be shadowed, with its prompt as the client sent it."""

    route: str
    """Name in the settings: clients may ask for it under other names."""
    prompt: Prompt
    exchange: Exchange

    @property
    def size(self) -> int:
        return len(self.exchange.request) + len(self.exchange.response)


class Compared(NamedTuple):
    """What the student did beside the teacher."""

    acted: bool
    """The cascade would have trusted it."""
    agreed: bool
    """Its most common valid action is the teacher's."""


class ShadowQueue:
    """Runs jobs a few at a time. ``counts``: ``offered``, ``dropped``, ``done`` and ``failed``."""

    def __init__(
        self, run: Callable[[Job], Awaitable[None]], *, workers: int = WORKERS, most_bytes: int = MOST_BYTES
    ) -> None:
        self._run = run
        self._workers, self._most = workers, most_bytes
        self._waiting: deque[Job] = deque()
        self._bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._active = 0
        self._closed = False
        self.counts: Counter[str] = Counter()

    def offer(self, job: Job) -> bool:
        """Take a job, or drop it where too much waits or the gateway is closing. Never waits."""
        self.counts["offered"] += 1
        if self._closed or self._bytes + job.size > self._most:
            self.counts["dropped"] += 1
            return False
        self._waiting.append(job)
        self._bytes += job.size
        if self._active < self._workers:
            self._active += 1
            task = asyncio.get_running_loop().create_task(self._work(), name="potstill-shadow")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return True

    async def aclose(self, drain_s: float) -> None:
        """Let what waits end within ``drain_s`` seconds; what is left is dropped."""
        self._closed = True
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=drain_s)
        left = set(self._tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        self.counts["dropped"] += len(self._waiting) + len(left)
        self._waiting.clear()
        self._bytes = 0

    async def _work(self) -> None:
        try:
            await self._work_off()
        finally:
            self._active -= 1

    async def _work_off(self) -> None:
        while self._waiting:
            job = self._waiting.popleft()
            self._bytes -= job.size
            try:
                await self._run(job)
                self.counts["done"] += 1
            except Exception:  # one broken job must not end the others
                log.exception("shadow of an exchange on route %s failed", job.route)
                self.counts["failed"] += 1


def teachers_reply(exchange: Exchange) -> Reply | None:
    """What the teacher answered; None where the recorded bytes hold no whole answer."""
    if not exchange.complete or exchange.status != 200 or exchange.answerer is not Answerer.TEACHER:
        return None
    spoken = dialect(exchange.dialect)
    try:
        if exchange.streamed:
            decoder, assembler = spoken.stream_decoder(), Assembler()
            assembler.extend(decoder.feed(exchange.response))
            assembler.extend(decoder.close())
            answer = assembler.answer()
        else:
            answer = spoken.decode_answer(exchange.response)
    except PotstillError:
        return None
    return reply_of(answer.choices[0]) if answer.choices else None


def compare(teacher: Reply, samples: Sequence[Sample], decision: Decision, rule: ValidAnswers) -> Compared | None:
    """Whether both did the same; None where that cannot be said: the student did not answer, or the teacher's own
    answer is none that the rule knows (cut off, filtered)."""
    key = rule.key(teacher, None)
    if key is None or not samples:
        return None
    replies = [sample.reply for sample in samples]
    winner = tally(replies, rule, None).winner
    agreed = winner is not None and rule.key(replies[winner], None) == key
    return Compared(acted=decision.answerer is Answerer.STUDENT, agreed=agreed)
