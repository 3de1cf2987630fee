"""Takes the gateway's own secrets out of what is kept: upstreams' keys, the admin key, tenants' virtual keys.

What it knows: these secrets as they are, whatever they look like, and the form of virtual keys, of which the public id
stays. What it does not do: recognise other people's secrets by their looks (``record.redact`` does, after this).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import msgspec

from potstill.record.cleaning import EDGE, Cleaner
from potstill.record.pieces import holds, holds_any
from potstill.serve.tenants.keys import ID_LENGTH, PREFIX, SECRET_LENGTH
from potstill.trajectories.exchange import Exchange, Upstream
from potstill.types import ErrorRecord

MASK = b"[redacted:gateway-key]"
SHORTEST = 8
"""Characters. Shorter ones would be found in innocent texts."""
_PREFIX = PREFIX.encode()
_VIRTUAL = re.compile(rb"(psk_[a-z2-7]{%d}_)[A-Za-z0-9]{%d}" % (ID_LENGTH, SECRET_LENGTH))


class Rules(Protocol):
    """``record.redact.Redactor``: what looks like a secret."""

    def exchange(self, exchange: Exchange) -> Exchange: ...

    def may_hold(self, data: bytes) -> bool: ...

    def text(self, text: str) -> str: ...


class OwnSecrets:
    """Safe to use from several threads, but for ``exchanges``. ``then``: rules that are applied afterwards."""

    def __init__(self, secrets: Iterable[str | None], then: Rules | None = None) -> None:
        self._then = then
        found = {secret for secret in secrets if secret is not None and len(secret) >= SHORTEST}
        escaped = {secret.replace("/", "\\/") for secret in found}  # as some JSON encoders write it
        self._secrets = tuple(secret.encode() for secret in sorted(found | escaped, key=len, reverse=True))
        longest = max(map(len, self._secrets), default=0)
        self._cleaner = Cleaner(self._may_hold, self.exchange, edge=max(EDGE, longest))

    def body(self, data: bytes) -> bytes:
        for secret in self._secrets:
            if holds(data, secret):
                data = data.replace(secret, MASK)
        return _VIRTUAL.sub(rb"\1[redacted]", data) if holds(data, _PREFIX) else data

    def text(self, text: str) -> str:
        own = self._text(text)
        return own if self._then is None else self._then.text(own)

    def exchanges(self, exchanges: Sequence[Exchange]) -> list[Exchange]:
        """Many exchanges without our secrets. From one thread only."""
        return self._cleaner(exchanges)

    def exchange(self, exchange: Exchange) -> Exchange:
        """An exchange without our secrets, in whatever field."""
        own = self._exchange(exchange)
        return own if self._then is None else self._then.exchange(own)

    def _may_hold(self, data: bytes) -> bool:
        if holds(data, _PREFIX) or holds_any(data, self._secrets):
            return True
        return self._then is not None and self._then.may_hold(data)

    def _text(self, text: str) -> str:
        data = text.encode("utf-8", "surrogatepass")
        clean = self.body(data)
        return text if clean is data else clean.decode("utf-8", "surrogatepass")

    def _exchange(self, exchange: Exchange) -> Exchange:
        return msgspec.structs.replace(
            exchange,
            request=self.body(exchange.request),
            response=self.body(exchange.response),
            calls=tuple(self._call(call) for call in exchange.calls),
            decision=self._fields(exchange.decision),
            notes=tuple(self._text(note) for note in exchange.notes),
            error=self._error(exchange.error),
            metadata=self._fields(exchange.metadata),
            episode_id=self._text(exchange.episode_id),
            route=self._text(exchange.route),
        )

    def _call(self, call: Upstream) -> Upstream:
        return msgspec.structs.replace(
            call,
            request=None if call.request is None else self.body(call.request),
            response=None if call.response is None else self.body(call.response),
            error=self._error(call.error),
            model=self._text(call.model),
        )

    def _error(self, error: ErrorRecord | None) -> ErrorRecord | None:
        return None if error is None else msgspec.structs.replace(error, message=self._text(error.message))

    def _fields(self, value: Any) -> Any:
        """Of a struct or a mapping."""
        if not value:
            return value
        encoded = msgspec.json.encode(value)
        clean = self.body(encoded)
        return value if clean is encoded else msgspec.json.decode(clean, type=type(value))
