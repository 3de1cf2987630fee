"""Who may use the admin API: the admin key as a bearer, or a browser's session with a token against forged requests.

What it knows: signatures, cookies, how often somebody may guess. What it does not do: HTTP, or what an admin may do.

A session is a signed cookie, so every process with the same key and the same stored secret takes it. It is HttpOnly and
SameSite=Strict. Writes with a cookie need the session's token in ``x-potstill-csrf`` as well, and come from our own
origin where the browser names one. Changing the admin key ends all sessions.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from urllib.parse import urlsplit

from potstill.serve.limits import Bucket
from potstill.types import Struct

COOKIE = "potstill_session"
SESSION_S = 4 * 3600.0
GUESSES_PER_MINUTE = 10
"""Wrong keys from one address. Further ones are refused unread, right or wrong, until some time has passed."""
ADDRESSES = 10_000
_COOKIE_VALUE = re.compile(r"v1\.([0-9]{1,12})\.([A-Za-z0-9_-]{22})\.([A-Za-z0-9_-]{43})")


class Session(Struct, frozen=True, kw_only=True):
    """A browser that logged in."""

    expires_at: float
    """Unix seconds."""
    csrf: str
    """To be sent as ``x-potstill-csrf`` with every write."""


class Sessions:
    """Makes and checks sessions. ``secret`` (32 random bytes) is shared by the processes of one gateway."""

    def __init__(self, admin_key: str, secret: bytes) -> None:
        self._expected = _hashed(admin_key)
        self._signing_key = hashlib.blake2b(self._expected, key=secret, person=b"potstill-login").digest()

    def is_admin(self, key: str) -> bool:
        """In constant time."""
        return hmac.compare_digest(_hashed(key), self._expected)

    def begin(self, at: float) -> tuple[str, Session]:
        """A cookie's value, and the session that it stands for."""
        expires, nonce = int(at + SESSION_S), secrets.token_urlsafe(16)
        value = f"v1.{expires}.{nonce}.{self._sign('session', expires, nonce)}"
        return value, Session(expires_at=float(expires), csrf=self._sign("csrf", expires, nonce))

    def of(self, value: str, at: float) -> Session | None:
        """The session of a cookie's value; None if it is not ours or over."""
        match = _COOKIE_VALUE.fullmatch(value)
        if match is None:
            return None
        expires, nonce = int(match[1]), match[2]
        if not hmac.compare_digest(match[3], self._sign("session", expires, nonce)) or at >= expires:
            return None
        return Session(expires_at=float(expires), csrf=self._sign("csrf", expires, nonce))

    def _sign(self, what: str, expires: int, nonce: str) -> str:
        text = f"{what}.{expires}.{nonce}".encode()
        digest = hashlib.blake2b(text, key=self._signing_key, digest_size=32).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _hashed(key: str) -> bytes:
    return hashlib.blake2b(key.encode(errors="surrogatepass"), person=b"potstill-admin").digest()


def cookie(value: str, *, max_age_s: int, secure: bool) -> str:
    """A ``Set-Cookie`` header's value; an age of 0 removes the cookie."""
    parts = [f"{COOKIE}={value}", "Path=/", f"Max-Age={max_age_s}", "HttpOnly", "SameSite=Strict"]
    return "; ".join([*parts, "Secure"] if secure else parts)


def cookie_of(header: str) -> str | None:
    """Our cookie's value out of a ``Cookie`` header."""
    for part in header.split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return None


def token_matches(session: Session, token: str) -> bool:
    return hmac.compare_digest(session.csrf.encode(), token.encode(errors="surrogatepass"))


def same_origin(origin: str | None, site: str | None, host: str) -> bool:
    """Whether a browser says that a request comes from our own pages. One that says nothing is taken at its word: its
    token is asked for all the same."""
    if site is not None and site not in ("same-origin", "none"):
        return False
    if origin is None:
        return True
    try:
        return urlsplit(origin).netloc.lower() == host.lower() != ""
    except ValueError:
        return False


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
