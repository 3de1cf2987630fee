"""The bullets nearest to what is happening now.

What it knows: rankers of ``potstill.retrieval``, which only take texts and never give one back. What it does not do:
ranking, budgets, who may see which bullet.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.distill.playbook.operations import Bullet
from potstill.protocols import Ranker

_LOST_BEFORE_REBUILDING = 256
"""Texts that nobody may find any more, beside as many as are found, before the ranker is built anew."""


class Shortlist:
    """Finds among bullets by a ranker's score. Safe to use from several threads.

    ``make`` gives empty rankers (``potstill.retrieval.registry.ranker_factory``).
    """

    def __init__(self, make: Callable[[], Ranker]) -> None:
        self._make = make
        self._ranker = make()
        self._texts: list[tuple[str, str]] = []
        self._found: dict[str, tuple[int, Bullet]] = {}
        self._places = self._numbers = np.empty(0, dtype=np.int64)  # in the order of what can be found
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._found)

    @property
    def ids(self) -> tuple[str, ...]:
        """Of the bullets that can be found."""
        return tuple(self._found)

    def hold(self, bullets: Iterable[Bullet], *, anew: bool = False) -> None:
        """From now on these can be found, as they are now, and no others. Only new contents are given to the ranker.

        ``anew``: something was erased; nothing that was held before is kept, also not where nobody finds it.
        """
        with self._lock:
            places = {text: place for place, text in enumerate(self._texts)}
            wanted = {one.id: one for one in bullets}
            missing = [key for key in map(_text, wanted.values()) if key not in places]
            if anew or len(self._texts) + len(missing) > 2 * len(wanted) + _LOST_BEFORE_REBUILDING:
                self._ranker, self._texts = self._make(), []
                missing = [_text(one) for one in wanted.values()]
            self._ranker.add([content for _, content in missing])
            self._texts += missing
            places = {text: place for place, text in enumerate(self._texts)}
            self._found = {one.id: (places[_text(one)], one) for one in wanted.values()}
            self._places = np.array([place for place, _ in self._found.values()], dtype=np.int64)
            self._numbers = np.array([one.number for one in wanted.values()], dtype=np.int64)

    def nearest(self, query: str, count: int, never: Collection[str] = ()) -> list[Bullet]:
        """At most ``count`` bullets with a score above 0, the nearest first; ties by number. ``never``: ids to skip."""
        with self._lock:
            found, places, numbers = self._found, self._places, self._numbers
            if count < 1 or not found.keys() - never:
                return []
            scores = np.asarray(self._ranker.scores(query))[places]
        order = _best(scores, numbers, count + sum(id in found for id in set(never)))
        bullets = list(found.values())
        nearest = (bullets[place][1] for place in order.tolist() if scores[place] > 0)
        return [bullet for bullet in nearest if bullet.id not in never][:count]


def _best(scores: NDArray[np.floating[Any]], numbers: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Where the ``count`` largest scores are, the largest first; ties by number."""
    if count < len(scores):
        some = np.flatnonzero(scores >= np.partition(scores, len(scores) - count)[len(scores) - count])
    else:
        some = np.arange(len(scores))
    best: NDArray[np.int64] = some[np.lexsort((numbers[some], -scores[some]))][:count]
    return best


def _text(bullet: Bullet) -> tuple[str, str]:
    return bullet.id, bullet.content
