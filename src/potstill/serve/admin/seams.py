"""What the admin API asks of the rest of the gateway, and how it keeps the event loop free of what blocks.

What it knows: contracts. What it does not do: any of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Protocol, TypeVar, Unpack

from potstill.decide.rollout import Stage
from potstill.serve.rollout.rows import StageRow
from potstill.serve.rollout.stages import Switch
from potstill.serve.tenants.key_rows import KeyStore
from potstill.trajectories.exchange import Episode, OpenEpisode, OutcomePlace, Recorded
from potstill.trajectories.queries import Filters, Summary
from potstill.trajectories.state import Versioned
from potstill.types import Outcome, Trajectory

T = TypeVar("T")


class AdminStore(KeyStore, Protocol):
    """The store, as far as it is shown and changed here. All of it blocks."""

    def get_state(self, kind: str, key: str) -> Versioned | None: ...

    def put_state(self, kind: str, key: str, value: Any, expected_version: int) -> bool: ...

    def last_seq(self) -> int: ...

    def recent(self, namespace: str | None, after_seq: int, limit: int = 100) -> list[Recorded]: ...

    def open_episodes(self, namespace: str | None = None) -> list[OpenEpisode]: ...

    def episode(self, namespace: str, episode_id: str) -> Episode: ...

    def episode_known(self, namespace: str, episode_id: str) -> bool: ...

    def set_episode_outcome(self, namespace: str, episode_id: str, outcome: Outcome) -> OutcomePlace: ...

    def summaries(self, **filters: Unpack[Filters]) -> list[Summary]: ...

    def get(self, id: str, *, namespace: str | None = None) -> Trajectory: ...


class RouteActs(Protocol):
    """``stages.Stages``: the stages of all routes."""

    def row(self, name: str) -> StageRow: ...

    def placed_by_mode(self, name: str) -> Stage | None: ...

    def rolls_out(self, name: str) -> bool: ...

    @property
    def switch(self) -> Switch: ...

    async def act(self, name: str, what: str, by: str = "") -> StageRow: ...

    @property
    def unwritten(self) -> bool: ...

    async def kill_all(self, killed: bool = True, by: str = "") -> Switch: ...


class Blocking:
    """Runs what blocks in threads of its own, a few at a time, for no longer than ``WAIT_S``."""

    WAIT_S = 20.0

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def __call__(self, work: Callable[..., T], *arguments: Any, **named: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: work(*arguments, **named))
