"""Under which names an open gateway may be asked: a page whose own name leads to this machine (DNS rebinding) is not
taken for a program of its owner.

What it knows: the ``Host`` header, loopback names. What it does not do: keys; a gateway that asks for them needs no
such guard.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from potstill.serve.admin_key import is_loopback

REMEMBERED = 64


class Hosts:
    """``host``: where the gateway listens; ``further``: names that the settings allow beside it."""

    def __init__(self, host: str, further: Iterable[str] = ()) -> None:
        self._allowed = frozenset(_plain(name) for name in (host, *further))
        self._seen: set[bytes] = set()

    def allows(self, header: bytes | None) -> bool:
        """Whether a request with this ``Host`` may come in; one without came from no browser.

        >>> hosts = Hosts("127.0.0.1", ["agents.internal"])
        >>> [hosts.allows(one) for one in (None, b"localhost:8000", b"[::1]", b"Agents.internal:80", b"evil.example")]
        [True, True, True, True, False]
        """
        if header is None or header in self._seen:
            return True
        if not self.knows(named(header.decode("latin-1"))):
            return False
        if len(self._seen) < REMEMBERED:
            self._seen.add(header)
        return True

    def knows(self, name: str) -> bool:
        """Whether a host's name is of this machine or allowed."""
        return name in self._allowed or (not name.startswith("/") and is_loopback(name))


def named(header: str) -> str:
    """The name in a ``Host`` header, without its port; empty where there is none."""
    try:
        return _plain(urlsplit(f"//{header.strip()}").hostname or "")
    except ValueError:
        return ""


def _plain(name: str) -> str:
    return name.strip("[]").rstrip(".").lower()
