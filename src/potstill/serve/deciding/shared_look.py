"""A blocking question that many requests ask at once: asked in one thread at a time, answered for all of them.

What it knows: who may share an answer, and when to give up. What it does not do: the question.

An answer is shared only by those who asked before the question was put: so nobody is told how things stood before it
asked. Where the store hangs, one thread hangs with it, and not one for every request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class SharedLook(Generic[T]):
    """One event loop. Raises what the question raises, and ``TimeoutError`` at once where it has hung for long."""

    def __init__(self, question: Callable[[], T]) -> None:
        self._question = question
        self._running: asyncio.Task[T] | None = None
        self._next: asyncio.Task[T] | None = None
        self._since = 0.0

    async def ask(self, patience_s: float) -> T:
        """``patience_s``: how long the question that is under way may have taken, to be waited for."""
        if self._running is None:
            return await asyncio.shield(self._begin())
        if asyncio.get_running_loop().time() - self._since > patience_s:
            raise TimeoutError
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._after(self._running))
            self._next.add_done_callback(_heard)
        return await asyncio.shield(self._next)

    def _begin(self) -> asyncio.Task[T]:
        loop = asyncio.get_running_loop()
        self._since = loop.time()
        self._running = loop.create_task(asyncio.to_thread(self._question))
        self._running.add_done_callback(self._ended)
        return self._running

    def _ended(self, task: asyncio.Task[T]) -> None:
        _heard(task)
        if self._running is task:
            self._running = None

    async def _after(self, before: asyncio.Task[T]) -> T:
        await asyncio.wait([before])
        self._next = None
        return await asyncio.shield(self._running or self._begin())


def _heard(task: asyncio.Task[T]) -> None:
    """Nobody may be waiting for it any more: its error is no news then."""
    if not task.cancelled():
        task.exception()
