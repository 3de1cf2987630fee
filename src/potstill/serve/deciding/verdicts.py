"""What outcomes say about a rollout: each episode counts once, for its arm, in the stage in which it began.

What it knows: what the store holds of an episode that has an outcome (running, folded, both), and the row that says
that it was counted. What it does not do: keep outcomes (``admin.outcomes``), judge stages
(``rollout.stages``), make a client wait.

It does not matter who served the episode, when its outcome comes, or how often: a row for each counted episode is put
by compare-and-set before it is counted, so several processes count it once, and a correction changes what was counted.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

import msgspec

from potstill.decide.assignment import Route as Served
from potstill.decide.rollout import Stage
from potstill.errors import StoreError
from potstill.serve.deciding.costs import Costs
from potstill.serve.rollout.rows import Corrected, Ended
from potstill.serve.rollout.stages import Stages, StateStore, plain
from potstill.trajectories.episode_rows import COUNTED, episode_digest
from potstill.trajectories.exchange import Episode
from potstill.types import Struct, Trajectory

CAUGHT_UP_S = 2.0
"""How long the exchanges before an outcome may still be on their way into the store."""
MOST = 10_000
"""Episodes that wait to be looked at."""
_TRIES = 10

log = logging.getLogger(__name__)


class Ending(NamedTuple):
    """What is known of an episode that ended."""

    route: str
    stage: str
    """As its first exchange holds it: ``canary/cascade``."""
    began_at: float
    """Unix seconds."""
    success: bool | None
    cost_usd: float | None
    """Without shadow work; None: not known."""


class Counted(Struct, frozen=True, kw_only=True):
    """The row of an episode that was counted."""

    route: str
    served: Served
    entered_at: float
    success: bool | None
    """None: taken back."""
    cost_usd: float | None = None


class Episodes(Protocol):
    """The store, as far as it tells how an episode went. Blocks."""

    def episode(self, namespace: str, episode_id: str) -> Episode: ...

    def get(self, id: str, *, namespace: str | None = None) -> Trajectory: ...


def ending_of(store: Episodes, costs: Costs, namespace: str, episode_id: str) -> Ending | None:
    """What the store holds of an episode, wherever it is by now; None if nothing, or no outcome. Blocks."""
    episode = store.episode(namespace, episode_id)
    before = _folded(store, episode)
    outcome = episode.outcome or (None if before is None else before.outcome)
    asked = [one.exchange for one in episode.exchanges if one.exchange.request]
    if outcome is None or (before is None and not asked):
        return None
    spent = costs.spent(call for exchange in asked for call in exchange.calls)
    if before is None:
        first = next((one for one in asked if one.stage), asked[0])
        return Ending(first.route, first.stage, first.started_at, outcome.success, spent)
    earlier = costs.spent_on(before)
    whole = None if spent is None or earlier is None else spent + earlier
    routes = before.metadata.get("routes") or [""]
    return Ending(str(routes[0]), before.arm, before.started_at, outcome.success, whole)


def _folded(store: Episodes, episode: Episode) -> Trajectory | None:
    if episode.trajectory_id is None:
        return None
    try:
        return store.get(episode.trajectory_id, namespace=episode.namespace)
    except StoreError:  # removed in between: the rest of the episode says what it can
        return None


class Verdicts:
    """For one event loop. ``told`` never waits; ``caught_up`` waits until what was answered is in the store."""

    def __init__(
        self,
        stages: Stages,
        rows: StateStore,
        look: Callable[[str, str], Ending | None],
        caught_up: Callable[[float], Awaitable[object]] | None = None,
    ) -> None:
        self._stages, self._rows, self._look, self._caught_up = stages, rows, look, caught_up
        self._threads = ThreadPoolExecutor(1, "potstill-verdicts")
        self._waiting: dict[tuple[str, str], None] = {}
        self._worker: asyncio.Task[None] | None = None
        self._closed = False
        self.counts: Counter[str] = Counter()
        """``counted``, ``corrected``, ``of-no-arm``, ``failed`` and ``dropped``."""

    def told(self, namespace: str, episode_id: str) -> None:
        """An episode's outcome was set, changed or taken back."""
        if self._closed or len(self._waiting) >= MOST:
            self.counts["dropped"] += 1
            return
        self._waiting[namespace, episode_id] = None
        if self._worker is None or self._worker.done():
            self._worker = asyncio.get_running_loop().create_task(self._work(), name="potstill-verdicts")

    async def aclose(self) -> None:
        """Count what was told; what is told from now on is not."""
        self._closed = True
        if self._worker is not None:
            await self._worker
        self._threads.shutdown(wait=False)

    async def _work(self) -> None:
        while self._waiting:
            told = list(self._waiting)
            if self._caught_up is not None:
                await self._caught_up(CAUGHT_UP_S)
            for one in told:
                self._waiting.pop(one, None)
                try:
                    await self._one(*one)
                except Exception:  # an outcome is kept all the same; only the rollout does not hear of it
                    self.counts["failed"] += 1
                    log.exception("an outcome could not be counted for the rollout")

    async def _one(self, namespace: str, episode_id: str) -> None:
        loop = asyncio.get_running_loop()
        ending = await loop.run_in_executor(self._threads, self._look, namespace, episode_id)
        if ending is None or not await self.count(namespace, episode_id, ending):
            self.counts["of-no-arm"] += 1

    async def count(self, namespace: str, episode_id: str, ending: Ending) -> bool:
        """Count an ending, or what is new of it. False where it counts for no arm of the present stage."""
        wanted = self._placed(ending)
        if wanted is None:
            return False
        loop = asyncio.get_running_loop()
        before, now = await loop.run_in_executor(self._threads, self._put, _row_key(namespace, episode_id), wanted)
        if before is not None and before.success is not None:
            if before.success is not now.success:
                self.counts["corrected"] += 1
                change = Corrected(
                    served=now.served,
                    was=before.success,
                    success=now.success,
                    cost_usd=now.cost_usd,
                    entered_at=now.entered_at,
                )
                self._stages.observed(now.route, change)
        elif now.success is not None:
            self.counts["counted"] += 1
            self._stages.observed(
                now.route,
                Ended(served=now.served, success=now.success, cost_usd=now.cost_usd, entered_at=now.entered_at),
            )
        return True

    def _placed(self, ending: Ending) -> Counted | None:
        """For which arm an ending counts: that of the episode's beginning, if the stage is still the same."""
        if ending.route not in self._stages.staged:
            return None
        state = self._stages.row(ending.route).rollout
        stage, _, served = ending.stage.rpartition("/")
        if stage not in (Stage.CANARY, Stage.LIVE) or stage != state.serving or served not in set(Served):
            return None
        if ending.began_at < state.entered_at:
            return None
        return Counted(
            route=ending.route,
            served=Served(served),
            entered_at=state.entered_at,
            success=ending.success,
            cost_usd=ending.cost_usd,
        )

    def _put(self, key: str, wanted: Counted) -> tuple[Counted | None, Counted]:
        """What was counted before, and what is now. An episode that goes on keeps the cost that it was counted with."""
        for _ in range(_TRIES):
            found = self._rows.get_state(COUNTED, key)
            before = None if found is None else msgspec.convert(found[1], Counted)
            if before is None and wanted.success is None:
                return None, wanted
            now = wanted
            if before is not None and before.success is not None:
                now = msgspec.structs.replace(before, success=wanted.success)
            if now == before or self._rows.put_state(COUNTED, key, plain(now), 0 if found is None else found[0]):
                return before, now
        raise StoreError("The row of a counted episode is changed by others all the time.")


def _row_key(namespace: str, episode_id: str) -> str:
    return episode_digest(namespace, episode_id)
