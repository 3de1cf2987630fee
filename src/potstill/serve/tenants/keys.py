"""Virtual keys: how they look, what is kept of them, and how a presented one is checked.

What it knows: the text ``psk_<public id>_<secret>``, the kept form ``VirtualKey``. What it does not do: tables,
budgets, HTTP (``gate``), or a provider's keys, which are the environment's alone.

Only a salted BLAKE2b digest of the secret is kept. Slow password hashes (argon2, scrypt) exist to make guesses at what
people can remember dear. Our secrets are drawn from 2^190, so no speed of guessing helps, and a slow hash on every
request would be a way to keep the gateway busy. The salt keeps one table of digests from serving two stores.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string

from potstill.errors import ConfigError
from potstill.types import Struct

PREFIX = "psk_"
ID_LENGTH = 12
SECRET_LENGTH = 32
"""Characters of ``ALPHABET``: 32 x log2(62) = 190 bits."""
ALPHABET = string.ascii_letters + string.digits
_ID_ALPHABET = string.ascii_lowercase + "234567"
_SHAPE = re.compile(rf"psk_([a-z2-7]{{{ID_LENGTH}}})_([A-Za-z0-9]{{{SECRET_LENGTH}}})")
_PERSON = b"potstill-key-1"
_NOBODY_SALT = bytes(16)
_NOBODY_DIGEST = bytes(32)
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class VirtualKey(Struct, frozen=True, kw_only=True):
    """What is kept of a key: enough to check it and to bound what it may spend, not enough to make it again."""

    id: str
    """Public: it names the key in listings, logs and records."""
    tenant: str
    salt: bytes
    digest: bytes
    """BLAKE2b of the secret under ``salt``."""
    name: str = ""
    """What it is for, in its owner's words."""
    routes: tuple[str, ...] = ()
    """Routes that it may ask for, each exact or ending in ``*``; empty: all that its tenant may."""
    budget_usd_per_day: float | None = None
    budget_tokens_per_day: int | None = None
    requests_per_minute: int | None = None
    created_at: float = 0.0
    """Unix seconds, as are the next two."""
    expires_at: float | None = None
    revoked_at: float | None = None


class Presented(Struct, frozen=True):
    """A key as a client sent it, taken apart. It holds the secret: never log or store one."""

    id: str
    secret: str

    def __repr__(self) -> str:
        return f"Presented({self.id}, ***)"


def create(tenant: str, at: float, **fields: object) -> tuple[VirtualKey, str]:
    """A new key, and its text, which nobody can show a second time. ``fields``: the others of ``VirtualKey``.

    Raises ``ConfigError`` for a tenant's name, a budget, a rate or an expiry that cannot be meant.
    """
    id = "".join(secrets.choice(_ID_ALPHABET) for _ in range(ID_LENGTH))
    secret = "".join(secrets.choice(ALPHABET) for _ in range(SECRET_LENGTH))
    salt = secrets.token_bytes(16)
    key = VirtualKey(id=id, tenant=tenant, salt=salt, digest=digest(secret, salt), created_at=at, **fields)  # type: ignore[arg-type]
    check(key)
    return key, f"{PREFIX}{id}_{secret}"


def check(key: VirtualKey) -> None:
    """Raise ``ConfigError`` for a key that could never be used as it was meant."""
    if not _TENANT.fullmatch(key.tenant):
        raise ConfigError(
            f"'{key.tenant[:80]}' is no name of a tenant; allowed: 1 to 64 letters, digits, '.', '_' and '-', "
            "beginning with a letter or digit. Type for example: --tenant team-a"
        )
    for what, value, least in (
        ("budget_usd_per_day", key.budget_usd_per_day, 0.0),
        ("budget_tokens_per_day", key.budget_tokens_per_day, 0),
        ("requests_per_minute", key.requests_per_minute, 1),
    ):
        if value is not None and not least <= value <= 1e12:
            raise ConfigError(f"{what} is {value}; allowed: {least} to 1e12, or leave it out for no limit")
    if len(key.name) > 200 or not key.name.isprintable():
        raise ConfigError("a key's name has at most 200 printable characters")
    if key.expires_at is not None and not key.created_at < key.expires_at < 1e11:
        raise ConfigError("a key cannot expire before it is made; give a moment in the future")
    for route in key.routes:
        if not 0 < len(route) <= 200 or not route.isprintable() or "*" in route[:-1]:
            raise ConfigError(f"'{route[:80]}' is no route; allowed: a name, or the beginning of names and '*'")


def digest(secret: str, salt: bytes) -> bytes:
    return hashlib.blake2b(secret.encode(), digest_size=32, salt=salt, person=_PERSON).digest()


def parse(text: str) -> Presented | None:
    """None: not the form of our keys (a provider's key, a typing error)."""
    match = _SHAPE.fullmatch(text)
    return None if match is None else Presented(match[1], match[2])


def matches(key: VirtualKey | None, presented: Presented) -> bool:
    """Whether the secret is the key's. Takes as long for a key that does not exist, and compares in constant time."""
    salt, expected = (_NOBODY_SALT, _NOBODY_DIGEST) if key is None else (key.salt, key.digest)
    same = hmac.compare_digest(digest(presented.secret, salt), expected)
    return same and key is not None


def may_ask(routes: tuple[str, ...], route: str) -> bool:
    """Whether a list of routes (empty: all) holds this one."""
    return not routes or any(
        route == allowed or (allowed.endswith("*") and route.startswith(allowed[:-1])) for allowed in routes
    )
