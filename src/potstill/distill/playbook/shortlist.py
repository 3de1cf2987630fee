"""The bullets nearest to what is happening now.

What it knows: rankers of ``potstill.retrieval``, which only take texts and never give one back. What it does not do:
ranking, budgets, who may see which bullet.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable

import numpy as np

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

    def nearest(self, query: str, count: int, never: Collection[str] = ()) -> list[Bullet]:
        """At most ``count`` bullets with a score above 0, the nearest first; ties by number. ``never``: ids to skip."""
        with self._lock:
            found = [pair for id, pair in self._found.items() if id not in never]
            if not found or count < 1:
                return []
            scores = np.asarray(self._ranker.scores(query))[[place for place, _ in found]]
        numbers = np.array([bullet.number for _, bullet in found])
        order = np.lexsort((numbers, -scores))[:count]
        return [found[place][1] for place in order if scores[place] > 0]


def _text(bullet: Bullet) -> tuple[str, str]:
    return bullet.id, bullet.content
