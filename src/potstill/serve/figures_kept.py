"""What episodes' figures were when they were read, until the episodes change: light enough for a day of thousands.

What it knows: which figures still hold, what of them a day's overview needs, how many are kept. What it does not do:
read episodes (``admin_figures``), arithmetic.
"""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Iterable
from hashlib import blake2b

import msgspec

from potstill.serve.figures import EpisodeFigures

SEARCHED = 2000
"""Figures of whole episodes, about 2 KB each: as many as one search looks through."""
_DIGEST_BYTES = 16
_NOBODY: dict[str, int] = {}

Key = tuple[object, ...]
"""Namespace and id, then what changes when the episode does."""


class KeptFigures:
    """Those of a day (about 1 KB for each of its episodes, those of another day forgotten), and of whole episodes that
    a search met lately. Safe to use from many threads."""

    def __init__(self, searched: int = SEARCHED) -> None:
        self._most = searched
        self._day: int | None = None
        self._of_day: dict[bytes, tuple[int, EpisodeFigures]] = {}
        self._whole: OrderedDict[bytes, tuple[int, EpisodeFigures]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._of_day) + len(self._whole)

    def find(self, key: Key, day: int | None) -> EpisodeFigures | None:
        """``day`` None: of the whole episode."""
        name, version = _split(key)
        with self._lock:
            if day is not None and day != self._day:
                return None
            held = self._whole if day is None else self._of_day
            found = held.get(name)
            if found is None or found[0] != version:
                return None
            if day is None:
                self._whole.move_to_end(name)
            return found[1]

    def keep(self, key: Key, day: int | None, figures: EpisodeFigures) -> None:
        """In the place of what the same episode had before. Of a day only what its overview adds up is kept."""
        name, version = _split(key)
        with self._lock:
            if day is None:
                self._whole[name] = version, figures
                self._whole.move_to_end(name)
                if len(self._whole) > self._most:
                    self._whole.popitem(last=False)
                return
            if day != self._day:
                self._day, self._of_day = day, {}
            self._of_day[name] = version, lean(figures)

    def only(self, keys: Iterable[Key], day: int) -> None:
        """These are all the episodes of the day: what others had is forgotten (they ended under another id, or were
        removed)."""
        names = {_split(key)[0] for key in keys}
        with self._lock:
            if day == self._day and len(self._of_day) > len(names):
                self._of_day = {name: one for name, one in self._of_day.items() if name in names}


def lean(figures: EpisodeFigures) -> EpisodeFigures:
    """Without what only a listing shows, and with one text for what many episodes say."""
    return msgspec.structs.replace(
        figures,
        tenant=sys.intern(figures.tenant),
        route=sys.intern(figures.route),
        stage=sys.intern(figures.stage),
        episode="",
        goal="",
        answered=_NOBODY,
    )


def _split(key: Key) -> tuple[bytes, int]:
    name = msgspec.msgpack.encode(key[:2])
    return blake2b(name, digest_size=_DIGEST_BYTES).digest(), hash(key[2:])
