"""What a gateway remembers of open episodes to decide their next step: a few numbers each, the idlest forgotten.

What it knows: how an episode is served, the cascade's state, when each side last answered it. What it does not do: find
the episode of a request (``record``), keep conversations. An episode that was forgotten goes on from its messages and,
for modes in which one side keeps the task, from a state row.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from potstill.decide import CascadeState
from potstill.decide.assignment import Route as Served
from potstill.record.recent import Recent
from potstill.serve.deciding.switching import Warmth
from potstill.serve.rollout.stages import Assigned, StateStore, plain
from potstill.trajectories.episode_rows import CASCADE, episode_key
from potstill.types import Answerer, EscalationMode, Struct
from potstill.wire.neutral import Prompt

T = TypeVar("T")

MOST_EPISODES = 10_000
"""About 1 KB each."""
IDLE_S = 1800.0
KEPT = frozenset({EscalationMode.TASK, EscalationMode.STICKY})
"""Modes whose state says more than the messages do."""


class Kept(Struct, frozen=True, kw_only=True):
    """The state row of an episode."""

    teacher_left: int = 0
    holder: Answerer | None = None
    at: float = 0.0
    """Unix seconds."""


@dataclass(slots=True)
class Held:
    """One open episode."""

    route: str
    begun: Assigned
    """How its first request was served: the arm that its outcome counts for."""
    state: CascadeState
    before: CascadeState
    """The state that the last request met: a client that sends it again meets it once more."""
    asked: bytes = b""
    """Digest of the last request."""
    last_step: int = 0
    """Steps that were finished when it was sent."""
    version: int = 0
    """Of the state row."""
    compacted: bool = False
    """The teacher last saw a compact prompt: its cache does not hold the conversation."""
    warmth: dict[Answerer, Warmth] = field(default_factory=dict)


class HeldEpisodes:
    """The idlest go first where there are too many; what was idle for ``idle_s`` to twice as long goes anyway, as its
    episode is over then (``closing``)."""

    def __init__(
        self, most: int = MOST_EPISODES, idle_s: float = IDLE_S, clock: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._held: Recent[str, Held] = Recent(most, idle_s)

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: str) -> Held | None:
        return self._held.get(key, self._clock())

    def put(self, key: str, held: Held) -> Held:
        self._held.put(key, held, self._clock())
        return held


class KeptStates:
    """The state rows of episodes whose mode says more than their messages: read once, written when they change."""

    def __init__(self, store: StateStore, clock: Callable[[], float], patience_s: float = 0.5) -> None:
        self._store, self._clock = store, clock
        self.patience_s = patience_s
        """How long a request waits for its episode's row."""
        self._writing: set[asyncio.Task[None]] = set()
        self._threads = ThreadPoolExecutor(2, "potstill-cascade-state")
        self.failures = 0

    async def restored(self, key: str, held: Held) -> str:
        """Put what the row says into ``held``; the note says why that failed."""
        try:
            async with asyncio.timeout(self.patience_s):
                found = await self._run(self._store.get_state, CASCADE, key)
            kept = Kept() if found is None else msgspec.convert(found[1], Kept)
        except Exception as problem:  # whatever a store's driver raises: the cascade votes anew
            self.failures += 1
            return f"the episode's cascade state could not be read: {type(problem).__name__}"
        held.version = 0 if found is None else found[0]
        held.state = msgspec.structs.replace(held.state, teacher_left=kept.teacher_left, holder=kept.holder)
        return ""

    def keep(self, key: str, held: Held) -> None:
        """Write the row off the path. Another process that wrote in between keeps its word."""
        task = asyncio.get_running_loop().create_task(self._write(key, held), name="potstill-cascade-state")
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def written(self, within_s: float = 5.0) -> None:
        """Wait for rows that are on their way."""
        if self._writing:
            await asyncio.wait(set(self._writing), timeout=within_s)

    async def aclose(self) -> None:
        await self.written()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[..., T], *told: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *told)

    async def _write(self, key: str, held: Held) -> None:
        kept = Kept(teacher_left=held.state.teacher_left, holder=held.state.holder, at=self._clock())
        version = held.version
        held.version += 1
        try:
            if not await self._run(self._store.put_state, CASCADE, key, plain(kept), version):
                found = await self._run(self._store.get_state, CASCADE, key)
                held.version = 0 if found is None else found[0]
        except Exception:  # the same: the row is written again when it changes
            self.failures += 1
            held.version = version


def key_of(namespace: str, episode_id: str) -> str:
    """Episodes of two tenants never meet, whatever their names."""
    return episode_key(namespace, episode_id)


def digest_of(prompt: Prompt) -> bytes:
    """Of what distinguishes one request of an episode from the next: how long it is, and its last turn."""
    tail: list[Any] = [len(prompt.turns), prompt.turns[-1:]]
    return hashlib.blake2b(msgspec.json.encode(tail), digest_size=12).digest()


def served_now(begun: Assigned, now: Assigned) -> Served:
    """How the next request is served. An episode that began with the teacher is never handed to the cascade half-way;
    one of the cascade's goes back to the teacher as soon as its stage does."""
    if now.served is Served.CASCADE and begun.served is not Served.CASCADE and not begun.note:
        return begun.served
    return now.served
