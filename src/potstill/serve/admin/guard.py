"""Who may use the admin API: whoever sends the admin key as a bearer, guessing aside.

What it knows: keys in constant time, how often an address may be wrong. What it does not do: HTTP, or what an admin may
do. No cookie is taken, so a page of another site has nothing to forge a request with.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict

from potstill.serve.tenants.limits import Bucket

GUESSES_PER_MINUTE = 10
"""Wrong keys from one address. Further wrong ones are told to wait. The right one always passes: it has 50 bits at the
least (``admin_key``), so what protects it is not the limit, and a limit on it would let anybody behind the same proxy
keep the owner from the kill switch."""
ADDRESSES = 10_000


class AdminKey:
    """Knows the key by its hash."""

    def __init__(self, admin_key: str) -> None:
        self._expected = _hashed(admin_key)

    def matches(self, key: str) -> bool:
        """In constant time."""
        return hmac.compare_digest(_hashed(key), self._expected)


def _hashed(key: str) -> bytes:
    return hashlib.blake2b(key.encode(errors="surrogatepass"), person=b"potstill-admin").digest()


class Guesses:
    """How often each address was wrong lately."""

    def __init__(self, per_minute: int = GUESSES_PER_MINUTE) -> None:
        self._per_minute = per_minute
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def wait_s(self, address: str, at: float) -> float:
        """0: may try; else after so many seconds."""
        bucket = self._buckets.get(address)
        return 0.0 if bucket is None else bucket.wait_s(at)

    def was_wrong(self, address: str, at: float) -> None:
        bucket = self._buckets.setdefault(address, Bucket(self._per_minute, at))
        bucket.wait_s(at)
        bucket.take()
        self._buckets.move_to_end(address)
        if len(self._buckets) > ADDRESSES:
            self._buckets.popitem(last=False)
