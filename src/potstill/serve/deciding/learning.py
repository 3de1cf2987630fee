"""The demonstrations that a gateway shows: whatever any process on its store has folded, read as it appears.

What it knows: which successful trajectories this process has read. What it does not do: choose among them (the library
refuses what is no demonstration), rank, or fold.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from potstill.errors import StoreError
from potstill.trajectories.store import Store

if TYPE_CHECKING:
    from potstill.distill.context.library import DemonstrationLibrary


class Learning:
    """Keeps a library up with its store. Blocking; called from threads."""

    def __init__(self, store: Store, library: DemonstrationLibrary) -> None:
        self.library = library
        self._store = store
        self._read: set[str] = set()
        self._busy = threading.Lock()

    def catch_up(self) -> int:
        """Read what is successful by now, of every tenant: folded by other processes, or told its outcome since.

        Returns how many were read. What cannot be read is left out, and asked for again.
        """
        with self._busy:
            new = [id for id in self._store.ids(namespace=None, success=True) if id not in self._read]
            return sum(self._take(id) for id in new)

    def _take(self, id: str) -> bool:
        try:
            trajectory = self._store.get(id)
        except StoreError:  # damaged, or pruned since
            return False
        self.library.add(trajectory)
        self._read.add(id)
        return True
