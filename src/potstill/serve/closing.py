"""Episodes that are over become trajectories, where audit, retrieval and export read.

What it knows: when an episode counts as over (no call for ``idle_s``). What it does not do: make the trajectory
(``record.folding``), SQL, or stand in a request's way: it runs in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable

from potstill.record.folding import fold_episode
from potstill.trajectories.exchange import OpenEpisode
from potstill.trajectories.store import Store
from potstill.types import Trajectory

EVERY_S = 30.0
AT_A_TIME = 100

_log = logging.getLogger("potstill.gateway")


FOLDING = "folding"
"""Of processes on one store one folds at a time; the others' work would be thrown away (``Folded.STALE``)."""


class Closer:
    """``folded`` is told each trajectory, ``looked`` that a look is over (what others folded can be read); both in the
    thread."""

    def __init__(
        self,
        store: Store,
        idle_s: float,
        folded: Callable[[Trajectory], object] | None = None,
        looked: Callable[[], object] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._idle_s = idle_s
        self._folded = folded
        self._looked = looked
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._stopping = threading.Event()
        self._at_work = threading.Lock()

    async def start(self) -> None:
        """Look every now and then, in the background."""
        self._task = asyncio.create_task(self._look(), name="potstill-closer")

    async def aclose(self) -> None:
        """Stop; the episode that is being folded is finished, in its thread, before the store may be closed."""
        self._stopping.set()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await asyncio.to_thread(self._at_work.acquire)
        self._at_work.release()

    def close_idle(self) -> int:
        """Fold what has been idle for long enough; how many episodes that were: 0 where another process is at it.
        Blocks."""
        if not self._idle(1):
            return 0
        with self._store.alone(FOLDING) as mine:
            idle = self._idle(AT_A_TIME) if mine else []
            return sum(self._close(one) for one in idle if not self._stopping.is_set())

    def _idle(self, most: int) -> list[OpenEpisode]:
        return self._store.open_episodes(idle_before=self._clock() - self._idle_s, limit=most)

    def _look_now(self) -> None:
        with self._at_work:
            while not self._stopping.is_set() and self.close_idle() == AT_A_TIME:
                continue
            if self._looked is not None and not self._stopping.is_set():
                self._looked()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(min(EVERY_S, self._idle_s / 2))
            try:
                await asyncio.to_thread(self._look_now)
            except Exception:  # the journal keeps the episodes; the next look finds them again
                _log.exception("idle episodes could not be folded")

    def _close(self, one: OpenEpisode) -> bool:
        """Fold one episode; what cannot be folded stays in the journal and does not keep others from it."""
        try:
            trajectory = fold_episode(self._store, one.namespace, one.episode_id)
        except Exception:
            _log.exception("episode %r of %r could not be folded", one.episode_id, one.namespace)
            return False
        if trajectory is not None and self._folded is not None:
            self._folded(trajectory)
        return trajectory is not None
