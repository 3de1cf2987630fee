"""Keys as a request needs them: found without the store where one was used lately, and never trusted for long.

What it knows: how old an answer of the store may be. What it does not do: compare secrets (``keys``), limits, tables.

Every second the keys in use are read again off the event loop, so that a revocation takes effect within seconds in
every process. While the store does not answer, keys that it confirmed within ``GRACE_S`` stay good and, once a request
found it so, wait for nothing (agents go on); keys that are not known here are refused as "cannot be checked": nobody
gets in by breaking the store.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Executor
from typing import Protocol

from potstill.errors import StoreError
from potstill.serve.tenants.keys import VirtualKey


class KeyRows(Protocol):
    """Where keys are kept. Blocking; called from threads."""

    def virtual_key(self, id: str) -> VirtualKey | None:
        """Raises where it cannot be told."""


FRESH_S = 5.0
"""So old may an answer be; beyond it the request waits for the store."""
GRACE_S = 3600.0
"""So long a key stays good while the store fails."""
ABSENT_S = 2.0
"""So long an unknown id is remembered as such: as long as a new key may need to be seen in other processes."""
LOOKUP_S = 2.0
"""So long a request waits for the store."""
IDLE_S = 600.0
"""A key unused for this long is forgotten."""
KEYS = 20_000
"""Remembered keys, and as many unknown ids."""
WAITING = 256
"""Lookups at a time. More are refused: made-up ids must not pile up."""


class _Seen:
    __slots__ = ("asked_at", "key", "used_at")

    def __init__(self, key: VirtualKey, at: float) -> None:
        self.key = key
        self.asked_at = self.used_at = at


class KeyCache:
    """Used from one event loop; ``at`` is Unix seconds throughout."""

    def __init__(self, rows: KeyRows, executor: Executor) -> None:
        self._rows = rows
        self._executor = executor
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._absent: OrderedDict[str, float] = OrderedDict()
        self._asking: dict[str, asyncio.Task[VirtualKey | None]] = {}
        self._failing = False
        """The store did not answer when it was last asked: nobody waits for it whose key is good without."""
        self.failures = 0
        """How often the store did not answer."""

    def known(self, id: str, at: float) -> VirtualKey | None:
        """The key, where the store confirmed it lately. Quick, never waits."""
        seen = self._seen.get(id)
        if seen is None or abs(at - seen.asked_at) > FRESH_S:
            return None
        seen.used_at = at
        return seen.key

    async def find(self, id: str, at: float) -> VirtualKey | None:
        """The key, asking the store where need be; None: there is none. Raises ``StoreError``: cannot be told now."""
        if (key := self.known(id, at)) is not None:
            return key
        if abs(at - self._absent.get(id, -ABSENT_S)) < ABSENT_S:
            return None
        try:
            if self._failing and (key := self._good_still(id, at)) is not None:
                self._ask(id, at)  # its answer, once there is one, ends the failing
                return key
            return await asyncio.wait_for(asyncio.shield(self._ask(id, at)), LOOKUP_S)
        except Exception as error:  # whatever the store raises, keys that it confirmed lately stay good
            self._failing = True
            if (key := self._good_still(id, at)) is None:
                raise StoreError(f"the key cannot be looked up: {error}") from error
            return key

    def _good_still(self, id: str, at: float) -> VirtualKey | None:
        """A key that the store confirmed within ``GRACE_S``, for as long as it fails."""
        seen = self._seen.get(id)
        if seen is None or abs(at - seen.asked_at) > GRACE_S:
            return None
        seen.used_at = at
        return seen.key

    def forget(self, id: str) -> None:
        """Something about this key was changed here: ask the store at the next use."""
        self._seen.pop(id, None)
        self._absent.pop(id, None)

    async def refresh(self, at: float) -> None:
        """Read the keys in use again; forget those that are not. Never raises."""
        for id in [id for id, seen in self._seen.items() if at - seen.used_at > IDLE_S]:
            del self._seen[id]
        due = [id for id, seen in self._seen.items() if at - seen.used_at <= FRESH_S and seen.asked_at != at]
        if not due:
            return
        try:
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self._executor, self._read, due)
        except Exception:
            self.failures += 1
            self._failing = True
            return
        for id, key in found:
            self._keep(id, key, at)

    def _read(self, ids: Iterable[str]) -> list[tuple[str, VirtualKey | None]]:
        return [(id, self._rows.virtual_key(id)) for id in ids]

    def _ask(self, id: str, at: float) -> asyncio.Task[VirtualKey | None]:
        """One question to the store for each id, however many requests wait for it."""
        task = self._asking.get(id)
        if task is None:
            if len(self._asking) >= WAITING:
                raise StoreError("too many keys are being looked up at this moment")
            task = asyncio.create_task(self._look_up(id, at))
            self._asking[id] = task
            task.add_done_callback(lambda done: self._asked(id, done))
        return task

    def _asked(self, id: str, done: asyncio.Task[VirtualKey | None]) -> None:
        del self._asking[id]
        if not done.cancelled() and done.exception() is not None:
            self.failures += 1

    async def _look_up(self, id: str, at: float) -> VirtualKey | None:
        loop = asyncio.get_running_loop()
        key = await loop.run_in_executor(self._executor, self._rows.virtual_key, id)
        self._keep(id, key, at)
        return key

    def _keep(self, id: str, key: VirtualKey | None, at: float) -> None:
        self._failing = False
        if key is None:
            self._seen.pop(id, None)
            self._absent[id] = at
            self._absent.move_to_end(id)
            if len(self._absent) > KEYS:
                self._absent.popitem(last=False)
            return
        self._absent.pop(id, None)
        seen = self._seen.get(id)
        if seen is None:
            self._seen[id] = _Seen(key, at)
            if len(self._seen) > KEYS:
                self._seen.popitem(last=False)
            return
        seen.asked_at = at
        if key != seen.key:
            seen.key = key
