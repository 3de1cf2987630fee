"""A mapping that forgets: what was not used for a while, and the idlest of what is too much.

What it knows: two generations of entries and when they were begun. What it does not do: clocks (each use brings its
time), locks.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Entries used within ``idle_s`` seconds stay, those unused for twice as long are gone, at the next use of any.

    Never more than ``most`` entries; the ``most // 2`` that were used last stay whatever comes. An entry takes a place
    in a dict and nothing else.

    >>> names = Recent[str, int](most=100, idle_s=60.0)
    >>> names.put("a", 1, now=0.0)
    >>> names.get("a", now=59.0), names.get("a", now=200.0)
    (1, None)
    """

    def __init__(self, most: int, idle_s: float) -> None:
        self._half, self._idle_s = max(1, most // 2), idle_s
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}
        self._begun: float | None = None

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, key: K, now: float) -> V | None:
        """The value, which counts as used."""
        self._turn(now)
        found = self._young.get(key)
        if found is None:
            found = self._old.pop(key, None)
            if found is not None:
                self._add(key, found, now)
        return found

    def put(self, key: K, value: V, now: float) -> None:
        """In the place of what stood under the key. ``value`` is not None."""
        self._turn(now)
        self._old.pop(key, None)
        self._add(key, value, now)

    def _add(self, key: K, value: V, now: float) -> None:
        self._young[key] = value
        if len(self._young) > self._half:
            del self._young[key]
            self._old, self._young, self._begun = self._young, {key: value}, now

    def _turn(self, now: float) -> None:
        """Begin a generation where the present one is old enough. A clock that was set back begins one anew."""
        begun = self._begun
        if begun is None or now < begun:
            self._begun = now
        elif now - begun >= 2 * self._idle_s:
            self._old, self._young, self._begun = {}, {}, now
        elif now - begun >= self._idle_s:
            self._old, self._young, self._begun = self._young, {}, begun + self._idle_s
