"""The few episodes that show a figure best: the largest by what it came to.

What it knows: scores and names. What it does not do: keep the episodes themselves.
"""

from __future__ import annotations

import heapq

MOST = 3


class Tops:
    """The ``MOST`` names with the largest scores."""

    __slots__ = ("_heap",)

    def __init__(self) -> None:
        self._heap: list[tuple[float, str]] = []

    def offer(self, score: float, name: str) -> None:
        """Keep the name if it is among the largest."""
        entry = (score, name)
        if len(self._heap) < MOST:
            heapq.heappush(self._heap, entry)
        elif entry > self._heap[0]:
            heapq.heapreplace(self._heap, entry)

    def names(self) -> tuple[str, ...]:
        """The largest first."""
        return tuple(name for _, name in sorted(self._heap, reverse=True))
