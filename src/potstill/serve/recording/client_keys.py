"""Keys of clients that are passed on to upstreams: never kept, even where an upstream repeats them.

What it knows: the keys that went out with requests of this process (in memory), and where an exchange can hold one:
bodies, errors, notes, a stream that spells one out in pieces. What it does not do: know a key by its looks
(``record.redact``), or the gateway's own secrets (``own_secrets``, which is applied afterwards).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

from potstill.record.cleaning import EDGE, Cleaner
from potstill.record.pieces import holds, holds_any
from potstill.record.sse_text import interleaved, is_stream, redact_stream, streamed_text
from potstill.serve.recording.own_secrets import OwnSecrets
from potstill.trajectories.exchange import Exchange

MOST = 1024
"""Keys that are remembered; the one that was not used for longest is forgotten."""
MASK = b"[redacted:client-key]"
_LONG, _SHORT = 20, 12


class ClientKeys:
    """``then``: what is applied afterwards. ``learn`` from any thread, the rest as ``OwnSecrets``."""

    def __init__(self, then: OwnSecrets) -> None:
        self._then = then
        self._known: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()
        self._keys: _Keys | None = None

    def learn(self, value: str) -> None:
        """A header's value that goes to an upstream as a client's key (``Bearer`` before it or not)."""
        secret = value[7:].strip() if value[:7].lower() == "bearer " else value.strip()
        keys = self._keys
        if keys is not None and keys.newest == secret:
            return
        if not _is_secret(secret):
            return
        with self._lock:
            new = secret not in self._known
            self._known[secret] = None
            self._known.move_to_end(secret)
            while len(self._known) > MOST:
                self._known.popitem(last=False)
            if new or self._keys is None:
                self._keys = _Keys(tuple(self._known), secret)

    def exchanges(self, exchanges: Sequence[Exchange]) -> list[Exchange]:
        """Many exchanges without secrets. From one thread only."""
        keys = self._keys
        return self._then.exchanges(exchanges if keys is None else keys.cleaner(exchanges))

    def each(self, exchanges: Sequence[Exchange]) -> list[Exchange]:
        """Exchanges without secrets, each looked at from its beginning to its end. From any thread."""
        keys = self._keys
        return [self._then.exchange(one if keys is None else keys.exchange(one)) for one in exchanges]

    def text(self, text: str) -> str:
        keys = self._keys
        return self._then.text(text if keys is None else keys.text(text))


class _Keys(OwnSecrets):
    """Takes out the keys that are known now; made anew when one comes to be known."""

    def __init__(self, secrets: Sequence[str], newest: str) -> None:
        super().__init__(())
        self.newest = newest
        found = {secret.encode("utf-8", "surrogatepass") for secret in secrets}
        escaped = {secret.replace(b"/", b"\\/") for secret in found}
        self._found = tuple(sorted(found | escaped, key=len, reverse=True))
        self.cleaner = Cleaner(self._holds, self.exchange, edge=max(EDGE, *map(len, self._found)))

    def _holds(self, data: bytes) -> bool:
        return holds_any(data, self._found)

    def body(self, data: bytes) -> bytes:
        clean = self._masked(data)
        if is_stream(clean) and (interleaved(clean) or self._holds(streamed_text(clean))):
            return redact_stream(clean, self._pieces, self._masked)
        return clean

    def _masked(self, data: bytes) -> bytes:
        for secret in self._found:
            if holds(data, secret):
                data = data.replace(secret, MASK)
        return data

    def _pieces(self, text: str) -> str:
        return self._masked(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")


def _is_secret(value: str) -> bool:
    """Not what people write where a server wants no key: ``EMPTY``, ``not-needed``, ``lm-studio``."""
    return len(value) >= _LONG or (len(value) >= _SHORT and any(letter.isdigit() for letter in value))
