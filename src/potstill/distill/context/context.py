"""Demonstrations as ``protocols.Context``: retrieved, random, none; per step, frozen per task, or hybrid.

What it knows: which of ``for_task`` and ``for_step`` shows what in each mode. What it does not do: ranking
(``library``), prompts (the run layer puts the text where its layout says).

Nothing is remembered between calls of one episode, so one object serves any number of episodes at once. The hybrid mode
freezes by goal and plan alone, which stay the same: at each step it asks whether the frozen demonstrations still reach
``refresh_below`` of the best possible score, and shows fresh ones beside them only where they do not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

import msgspec

from potstill.distill.context.config import ContextConfig, Extent, Mode
from potstill.distill.context.demonstration import Demonstration
from potstill.distill.context.library import DemonstrationLibrary
from potstill.distill.context.render import render
from potstill.protocols import ContextBlock, ContextQuery
from potstill.types import DemonstrationRef


class _Choose(Protocol):
    def __call__(self, query: ContextQuery, extent: Extent) -> list[Demonstration]: ...


class NoContext:
    """Shows nothing: the zero-shot arm."""

    name = "none"

    async def for_task(self, query: ContextQuery) -> ContextBlock:
        return ContextBlock()

    async def for_step(self, query: ContextQuery) -> ContextBlock:
        return ContextBlock()

    async def observe(self, shown: Sequence[DemonstrationRef], success: bool) -> None:
        return None


class RetrievedDemonstrations:
    """The nearest demonstrations of a library. ``config`` defaults to the library's own.

    Ranking runs in a thread: an embedder may take tens of milliseconds or ask an endpoint. Its errors are raised; the
    episode loop records them and lets the teacher answer.
    """

    def __init__(self, library: DemonstrationLibrary, config: ContextConfig | None = None) -> None:
        self._library = library
        self._config = library.checked(config)

    @property
    def name(self) -> str:
        return f"retrieved:{self._config.ranker}:{self._config.mode}"

    async def for_task(self, query: ContextQuery) -> ContextBlock:
        return await asyncio.to_thread(_task_block, self._config, query, self._choose)

    async def for_step(self, query: ContextQuery) -> ContextBlock:
        return await asyncio.to_thread(self._step_block, query)

    async def observe(self, shown: Sequence[DemonstrationRef], success: bool) -> None:
        self._library.observe(shown, success)

    def _choose(self, query: ContextQuery, extent: Extent) -> list[Demonstration]:
        return self._library.retrieve(query, extent=extent, config=self._config)

    def _step_block(self, query: ContextQuery) -> ContextBlock:
        if self._config.mode is Mode.HYBRID and self._frozen_suffice(query):
            return ContextBlock()
        return _step_block(self._config, query, self._choose)

    def _frozen_suffice(self, query: ContextQuery) -> bool:
        frozen = self._choose(_frozen_query(query), _task_extent(self._config))
        shown = [demonstration.ref for demonstration in frozen]
        return self._library.nearness(query, shown, self._config) >= self._config.refresh_below


class RandomDemonstrations:
    """As many demonstrations of the same size, drawn at random: what retrieval must beat.

    The same for the same task, seed and library; per step, another draw at each step. Hybrid is drawn as per task.
    """

    def __init__(self, library: DemonstrationLibrary, config: ContextConfig | None = None, seed: int = 0) -> None:
        self._library = library
        self._config = library.checked(config)
        self._seed = seed

    @property
    def name(self) -> str:
        return f"random:{self._config.mode}"

    async def for_task(self, query: ContextQuery) -> ContextBlock:
        return _task_block(self._config, query, self._choose)

    async def for_step(self, query: ContextQuery) -> ContextBlock:
        if self._config.mode is not Mode.PER_STEP:
            return ContextBlock()
        return _step_block(self._config, query, self._choose)

    async def observe(self, shown: Sequence[DemonstrationRef], success: bool) -> None:
        return None

    def _choose(self, query: ContextQuery, extent: Extent) -> list[Demonstration]:
        step = query.step_index if self._config.mode is Mode.PER_STEP else 0
        return self._library.sample(query, f"{self._seed}/{step}", extent=extent, config=self._config)


def _task_block(config: ContextConfig, query: ContextQuery, choose: _Choose) -> ContextBlock:
    if config.mode is Mode.PER_STEP:
        return ContextBlock()
    asked = _frozen_query(query) if config.mode is Mode.HYBRID else query
    return _block(config, choose(asked, _task_extent(config)))


def _step_block(config: ContextConfig, query: ContextQuery, choose: _Choose) -> ContextBlock:
    if config.mode is Mode.PER_TASK:
        return ContextBlock()
    extent = Extent.WINDOW if config.extent is Extent.AUTO else config.extent
    return _block(config, choose(query, extent))


def _task_extent(config: ContextConfig) -> Extent:
    return Extent.WHOLE if config.extent is Extent.AUTO else config.extent


def _frozen_query(query: ContextQuery) -> ContextQuery:
    """What does not change during an episode."""
    return msgspec.structs.replace(query, observation="", reasoning="", history=(), step_index=0)


def _block(config: ContextConfig, chosen: Sequence[Demonstration]) -> ContextBlock:
    text = render([demonstration.shown for demonstration in chosen], config.style, config.compact_chars)
    return ContextBlock(text=text, demonstrations=tuple(demonstration.ref for demonstration in chosen))
