"""Keys and spend in memory, as several gates share them, with a switch that makes the store fail."""

from __future__ import annotations

import threading

from potstill.errors import StoreError
from potstill.serve.keys import VirtualKey
from potstill.serve.limits import NOTHING, Amount


class MemoryRows:
    def __init__(self) -> None:
        self.keys: dict[str, VirtualKey] = {}
        self.amounts: dict[tuple[str, str, int], Amount] = {}
        self.broken = False
        self.lookups = 0
        self._lock = threading.Lock()

    def _check(self) -> None:
        if self.broken:
            raise StoreError("the disk is gone")

    def put(self, key: VirtualKey) -> None:
        self.keys[key.id] = key

    def virtual_key(self, id: str) -> VirtualKey | None:
        self._check()
        self.lookups += 1
        return self.keys.get(id)

    def add_spend(self, tenant: str, key_id: str, day: int, amount: Amount) -> None:
        self._check()
        with self._lock:
            row = (tenant, key_id, day)
            self.amounts[row] = self.amounts.get(row, NOTHING).plus(amount)

    def spent(self, tenant: str, key_id: str | None, day: int) -> Amount:
        self._check()
        total = NOTHING
        with self._lock:
            for (whose, key, when), amount in self.amounts.items():
                if whose == tenant and when == day and key_id in (None, key):
                    total = total.plus(amount)
        return total
