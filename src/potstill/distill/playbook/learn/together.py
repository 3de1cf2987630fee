"""Waiting: for several things at once in a fixed order of results, and for a write that must not be torn.

What it knows: asyncio. What it does not do: anything of playbooks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def together(works: Iterable[Coroutine[Any, Any, T]], limit: int) -> list[T]:
    """Results in the order of the works, of which ``limit`` go on at the same time. Where one raises, the others are
    cancelled and its error is raised."""
    room = asyncio.Semaphore(limit)

    async def one(work: Coroutine[Any, Any, T]) -> T:
        async with room:
            return await work

    pending = list(works)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(work)) for work in pending]
    except BaseExceptionGroup as problems:
        raise _first(problems) from None
    finally:
        for work in pending:
            work.close()  # one that was never begun would complain
    return [task.result() for task in tasks]


def _first(problems: BaseExceptionGroup[BaseException]) -> BaseException:
    first = problems.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


async def finished(work: Callable[[], T]) -> T:
    """Run something that blocks in a thread, and wait for its end also when cancelled: what it writes is whole, and the
    store is not closed under it."""
    doing = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait([doing])
        raise
