"""The last requests of episodes that go on, kept in memory so that the next ones can be stored as differences.

What it knows: which to forget when they take too many bytes. What it does not do: rows; whether a head still stands in
the journal (another process may have folded it) is asked there, each time.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from potstill.trajectories.delta import Base

MAX_BYTES = 24 * 1024 * 1024
"""Of 31 KB requests those of 800 agents: the next request of any other costs reading its last one from the journal."""
PER_EPISODE = 4
"""An agent with helpers has several histories that grow in turn under one episode."""
_OVERHEAD_BYTES = 1000

Key = tuple[str, str]
"""Namespace and episode."""


class Head(NamedTuple):
    """An exchange as its successors are compared with it."""

    seq: int
    digest: bytes
    depth: int
    """How many rows must be read before its own."""
    base: Base
    size: int
    """Of its memory, in bytes, about."""


def make_head(seq: int, digest: bytes, depth: int, base: Base) -> Head:
    return Head(seq, digest, depth, base, base.size + _OVERHEAD_BYTES)


class Heads:
    """Used by the writer's thread only."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._heads: OrderedDict[Key, list[Head]] = OrderedDict()
        self.bytes = 0

    def of(self, key: Key) -> list[Head]:
        """Those of an episode, the newest last."""
        held = self._heads.get(key)
        if held is None:
            return []
        self._heads.move_to_end(key)
        return held.copy()

    def put(self, key: Key, new: Head, replaced: Head | None = None) -> None:
        """Keep a head, in the place of the one that it continues; forget what was not asked for the longest time."""
        kept = [other for other in self._heads.pop(key, ()) if not self._dropped(other, replaced)]
        if len(kept) == PER_EPISODE:
            self.bytes -= kept.pop(0).size
        self._heads[key] = [*kept, new]
        self.bytes += new.size
        while self.bytes > self._max_bytes:
            _, oldest = self._heads.popitem(last=False)
            self.bytes -= sum(other.size for other in oldest)

    def drop(self, key: Key, gone: Head) -> None:
        kept = [other for other in self._heads.pop(key, ()) if not self._dropped(other, gone)]
        if kept:
            self._heads[key] = kept

    def forget(self, key: Key, upto_seq: int) -> None:
        """An episode was folded up to this number: nothing continues what is no row of the journal any more."""
        for head in [one for one in self._heads.get(key, ()) if one.seq <= upto_seq]:
            self.drop(key, head)

    def _dropped(self, one: Head, unwanted: Head | None) -> bool:
        if one is not unwanted:
            return False
        self.bytes -= one.size
        return True
