"""How an episode began, where this process did not see it: it was restarted, or another one served the beginning.

What it knows: that the store holds the stage of an episode's first exchange, in the journal or in the trajectory that
this became. What it does not do: keep anything; what is held of open episodes is in ``episodes_held``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec

from potstill.decide.assignment import Route as Served
from potstill.serve.rollout.stages import Assigned
from potstill.serve.seams import Placement
from potstill.wire.neutral import Prompt

Began = Callable[[str, str], str | None]
"""The stage of a tenant's episode as its first exchange holds it; None where nothing is recorded. Blocks."""
NAMED = frozenset({"header", "session"})
"""Ways of placing by which any process may have seen the episode before."""


class Beginnings:
    def __init__(self, began: Began | None, patience_s: float = 0.5) -> None:
        self._began = began
        self.patience_s = patience_s
        """How long a request waits for the store."""
        self._threads = ThreadPoolExecutor(2, "potstill-beginnings")

    async def of(self, tenant: str, placement: Placement, prompt: Prompt, now: Assigned) -> Assigned:
        """How an episode that is not held here began; ``now`` where it begins.

        The store is asked only where the answer can change something: where the student may act now, in an episode
        that may have begun elsewhere. Raises whatever the store does, ``TimeoutError`` where it takes too long.
        """
        if self._began is None or now.served is not Served.CASCADE:
            return now
        if placement.how not in NAMED and not any(turn.role == "assistant" for turn in prompt.turns):
            return now
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self.patience_s):
            stage = await loop.run_in_executor(self._threads, self._began, tenant, placement.episode_id)
        return now if stage is None else msgspec.structs.replace(now, served=served_of(stage))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def served_of(stage: str) -> Served:
    """Out of ``canary/cascade``; what a gateway without a student recorded is the teacher's.

    >>> served_of("canary/cascade"), served_of("live/control"), served_of("")
    (<Route.CASCADE: 'cascade'>, <Route.TEACHER: 'teacher'>, <Route.TEACHER: 'teacher'>)
    """
    name = stage.rpartition("/")[2]
    return Served(name) if name in set(Served) else Served.TEACHER
