"""Where gateways on one store tell each other of episodes without a name (``record.placement.Shared``).

What it knows: the queue of what is told, what was answered lately, how long a request may wait for an answer. What it
does not do: place requests (``record.live``), SQL (``trajectories.traces``).

A store that is slow or away costs a request ``PATIENCE_S`` once a second at most; the episode then goes on under
another id, as it would after a restart.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from potstill.trajectories.traces import Trace

PATIENCE_S = 0.5
AGAIN_S = (0.0, 0.02, 0.04, 0.08)
"""Pauses before each question, where an answer leads to several episodes."""
PAUSE_S = 1.0
"""After a question that was not answered in time none is asked for so long."""
REMEMBERED = 10_000
WAITING = 50_000
"""Traces that wait for a store that is away; beyond that they are not kept."""


class TraceStore(Protocol):
    """The store, as far as this knows it. Blocking; called from threads."""

    def leave_traces(self, traces: Sequence[Trace]) -> None: ...
    def follow_traces(self, namespace: str, hashes: Sequence[int]) -> tuple[int, str | None] | None: ...
    def forget_traces(self, before: float) -> int: ...


class Meeting:
    """Used from one event loop, but for ``tidy``."""

    def __init__(self, store: TraceStore, idle_s: float, clock: Callable[[], float] = time.time) -> None:
        self._store, self._idle_s, self._clock = store, idle_s, clock
        self._found: OrderedDict[tuple[str, int], str] = OrderedDict()
        self._waiting: list[Trace] = []
        self._writing: asyncio.Task[None] | None = None
        self._threads = ThreadPoolExecutor(5, "potstill-meeting")
        self._again_at = float("-inf")
        self.failures = 0
        """Questions and traces that the store did not take."""

    async def fetch(self, namespace: str, hashes: Sequence[int]) -> None:
        if self._clock() < self._again_at:
            return
        try:
            async with asyncio.timeout(PATIENCE_S):
                found = await self._ask(namespace, tuple(hashes))
        except Exception:  # whatever a store's driver raises: the request is placed by what is known here
            self.failures += 1
            self._again_at = self._clock() + PAUSE_S
            return
        if found is not None:
            self._found[namespace, found[0]] = found[1]
            if len(self._found) > REMEMBERED:
                self._found.popitem(last=False)

    async def _ask(self, namespace: str, hashes: tuple[int, ...]) -> tuple[int, str] | None:
        """Episodes that began alike are told apart by their answers: the one in question may be on its way."""
        loop = asyncio.get_running_loop()
        for pause_s in AGAIN_S:
            await asyncio.sleep(pause_s)
            found = await loop.run_in_executor(self._threads, self._store.follow_traces, namespace, hashes)
            if found is None:
                return None
            if (episode_id := found[1]) is not None:
                return found[0], episode_id
        return None

    def find(self, namespace: str, hashes: Sequence[int]) -> str | None:
        return next((self._found[namespace, one] for one in hashes if (namespace, one) in self._found), None)

    def publish(self, namespace: str, episode_id: str, hashes: Sequence[int], now: float) -> None:
        if len(self._waiting) < WAITING:
            self._waiting += [Trace(namespace, one, episode_id, now) for one in hashes]
        if self._writing is None and self._waiting:
            self._writing = asyncio.get_running_loop().create_task(self._write(), name="potstill-meeting")

    def tidy(self) -> None:
        """Forget what no request can go on from any more. Blocking."""
        self._store.forget_traces(self._clock() - self._idle_s)

    async def aclose(self) -> None:
        """Tell what waits, if the store takes it."""
        if self._writing is not None:
            await self._writing
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _write(self) -> None:
        """One batch at a time; meanwhile the next one gathers. What cannot be written is not tried again."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                await loop.run_in_executor(self._threads, self._store.leave_traces, batch)
            except Exception:  # the same
                self.failures += len(batch)
        self._writing = None
