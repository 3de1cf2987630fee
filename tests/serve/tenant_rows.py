"""Keys and spend in memory, as several gates share them, with a switch that makes the store fail."""

from __future__ import annotations

import threading

import msgspec

from potstill.errors import StoreError
from potstill.serve.tenants.keys import VirtualKey
from potstill.serve.tenants.limits import NOTHING, Amount


class MemoryRows:
    def __init__(self) -> None:
        self.keys: dict[str, VirtualKey] = {}
        self.amounts: dict[tuple[str, str, int], Amount] = {}
        self.broken = False
        self.error: Exception = StoreError("the disk is gone")
        self.lookups = 0
        self._lock = threading.Lock()

    def _check(self) -> None:
        if self.broken:
            raise self.error

    def put(self, key: VirtualKey) -> None:
        self.keys[key.id] = key

    def revoke(self, id: str) -> bool:
        self.keys[id] = msgspec.structs.replace(self.keys[id], revoked_at=1.0)
        return True

    def virtual_key(self, id: str) -> VirtualKey | None:
        self._check()
        self.lookups += 1
        return self.keys.get(id)

    def add_spend(self, batch: dict[tuple[str, str, int], Amount]) -> None:
        self._check()
        with self._lock:
            for row, amount in batch.items():
                self.amounts[row] = self.amounts.get(row, NOTHING).plus(amount)

    def spent(self, tenant: str, key_id: str | None, day: int) -> Amount:
        self._check()
        total = NOTHING
        with self._lock:
            for (whose, key, when), amount in self.amounts.items():
                if whose == tenant and when == day and key_id in (None, key):
                    total = total.plus(amount)
        return total
