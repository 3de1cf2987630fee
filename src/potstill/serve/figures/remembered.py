"""What episodes' figures were when they were read, until the episodes change: light enough for a day of thousands.

What it knows: which figures still hold, what of them a day's overview needs, how many are kept. What it does not do:
read episodes (``admin.figures_api``), arithmetic.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from hashlib import blake2b

import msgspec

from potstill.serve.figures.episode import EpisodeFigures

SEARCHED = 2000
"""Figures of whole episodes, about 2 KB each: as many as one search looks through."""
_DIGEST_BYTES = 16
_VERSION_BYTES = 8
_row = msgspec.msgpack.Decoder(EpisodeFigures)

Key = tuple[object, ...]
"""Namespace and id, then what changes when the episode does."""


class KeptFigures:
    """Those of a day, packed (about 400 bytes for each of its episodes, those of another day forgotten), and of whole
    episodes that a search met lately. Safe to use from many threads."""

    def __init__(self, searched: int = SEARCHED) -> None:
        self._most = searched
        self._day: int | None = None
        self._of_day: dict[bytes, bytes] = {}
        """A version, then the figures."""
        self._whole: OrderedDict[bytes, tuple[bytes, EpisodeFigures]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._of_day) + len(self._whole)

    def holds(self, key: Key, day: int) -> bool:
        """Whether an episode's figures of a day are kept as it is now."""
        name, version = _split(key)
        with self._lock:
            return day == self._day and self._of_day.get(name, b"").startswith(version)

    def find(self, key: Key, day: int | None) -> EpisodeFigures | None:
        """``day`` None: of the whole episode."""
        name, version = _split(key)
        with self._lock:
            if day is not None:
                packed = self._of_day.get(name, b"") if day == self._day else b""
                return _row.decode(packed[_VERSION_BYTES:]) if packed.startswith(version) else None
            found = self._whole.get(name)
            if found is None or found[0] != version:
                return None
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
            self._of_day[name] = version + msgspec.msgpack.encode(lean(figures))

    def only(self, keys: Iterable[Key], day: int) -> None:
        """These are all the episodes of the day as they are now: what others had is forgotten (they changed, ended
        under another id, or were removed)."""
        wanted = dict(map(_split, keys))
        with self._lock:
            if day == self._day:
                kept = self._of_day.items()
                self._of_day = {name: one for name, one in kept if name in wanted and one.startswith(wanted[name])}

    def of_day(self, day: int) -> Iterator[EpisodeFigures]:
        """What is kept of a day now, one at a time."""
        with self._lock:
            packed = list(self._of_day.values()) if day == self._day else []
        for one in packed:
            yield _row.decode(one[_VERSION_BYTES:])


def lean(figures: EpisodeFigures) -> EpisodeFigures:
    """Without what only a listing shows."""
    return msgspec.structs.replace(figures, episode="", goal="", answered={})


def _split(key: Key) -> tuple[bytes, bytes]:
    """An episode's name, and what it is now."""
    name = blake2b(msgspec.msgpack.encode(key[:2]), digest_size=_DIGEST_BYTES).digest()
    return name, blake2b(msgspec.msgpack.encode(key[2:]), digest_size=_VERSION_BYTES).digest()
