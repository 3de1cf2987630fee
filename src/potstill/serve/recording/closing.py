"""Episodes that are over become trajectories, where audit, retrieval and export read.

What it knows: when an episode counts as over: no call for ``idle_s``; an outcome and no call for some seconds; the end
of the only process. One that goes on all the same is folded again, into the same trajectory. What it does not do: make
the trajectory (``record.folding``), SQL, or stand in a request's way: it runs in a thread.
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
AFTER_OUTCOME_S = 5.0
"""After an outcome an episode is over when it was idle for so long: a last call still joins it."""
MARGIN_S = 0.1
END_S = 5.0
"""How long the end of a process may take for the episodes that are open then."""

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
        self._told = asyncio.Event()
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

    def outcome_told(self) -> None:
        """Look again as soon as the episode may be over. On the event loop; never waits."""
        self._told.set()

    def close_idle(self) -> int:
        """Fold what has been idle for long enough; how many episodes that were: 0 where another process is at it.
        Blocks."""
        if not self._idle(1):
            return 0
        with self._store.alone(FOLDING) as mine:
            idle = self._idle(AT_A_TIME) if mine else []
            return sum(self._close(one) for one in idle if not self._stopping.is_set())

    def _idle(self, most: int) -> list[OpenEpisode]:
        now = self._clock()
        found = self._store.open_episodes(idle_before=now - self._idle_s, limit=most)
        if len(found) < most and self._idle_s > AFTER_OUTCOME_S:
            ended = self._store.open_episodes(
                idle_before=now - AFTER_OUTCOME_S, outcome_known=True, limit=most - len(found)
            )
            keys = {(one.namespace, one.episode_id) for one in found}
            found += [one for one in ended if (one.namespace, one.episode_id) not in keys]
        return found

    def _look_now(self) -> None:
        with self._at_work:
            while not self._stopping.is_set() and self.close_idle() == AT_A_TIME:
                continue
            if self._looked is not None and not self._stopping.is_set():
                self._looked()

    async def _look(self) -> None:
        while True:
            await self._pause()
            try:
                await asyncio.to_thread(self._look_now)
            except Exception:  # the journal keeps the episodes; the next look finds them again
                _log.exception("idle episodes could not be folded")

    async def _pause(self) -> None:
        every_s = min(EVERY_S, self._idle_s / 2)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(every_s):
                await self._told.wait()
        if self._told.is_set():
            self._told.clear()
            await asyncio.sleep(min(every_s, AFTER_OUTCOME_S + MARGIN_S))

    def _close(self, one: OpenEpisode) -> bool:
        """Fold one episode; what cannot be folded stays in the journal and does not keep others from it."""
        trajectory = _fold(self._store, one)
        if trajectory is not None and self._folded is not None:
            self._folded(trajectory)
        return trajectory is not None


def close_open(
    store: Store,
    folded: Callable[[Trajectory], object] | None = None,
    within_s: float = END_S,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Fold what is open when the last gateway on a store ends, as far as that goes in time; how many episodes that
    were. The others are folded when a gateway runs again. Blocks.
    """
    until = clock() + within_s
    done = 0
    with store.alone(FOLDING) as mine:
        for one in store.open_episodes() if mine else []:
            if clock() >= until:
                break
            trajectory = _fold(store, one)
            if trajectory is not None and folded is not None:
                folded(trajectory)
            done += trajectory is not None
    return done


def _fold(store: Store, one: OpenEpisode) -> Trajectory | None:
    try:
        return fold_episode(store, one.namespace, one.episode_id)
    except Exception:
        _log.exception("episode %r of %r could not be folded", one.episode_id, one.namespace)
        return None
