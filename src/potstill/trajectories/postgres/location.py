"""Where a store on PostgreSQL is: its URL taken apart, and how it is shown without its password.

What it knows: URLs as libpq takes them, and our own parameter ``schema``. What it does not do: connections.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from potstill.errors import ConfigError
from potstill.types import Struct

DEFAULT_SCHEMA = "potstill"
CONNECT_TIMEOUT_S = 5
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_SECRET = ("password", "sslpassword")
_SHOWN = ("host", "port", "user", "dbname")
"""What is shown of the parameters after the question mark."""


class Location(Struct, frozen=True, kw_only=True):
    conninfo: str
    """For libpq; holds the password."""
    schema: str
    """The tables' schema: several stores may share a database."""
    shown: str
    """The URL without anything secret; opens the same store where the password comes from the environment."""
    secrets: tuple[str, ...] = ()
    """Texts that no message may hold."""

    def __repr__(self) -> str:
        return f"Location({self.shown!r})"

    def clean(self, text: str) -> str:
        """A message without the secrets."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


def locate(url: str) -> Location:
    """``postgresql://user@host:port/database?schema=NAME``. Raises ``ConfigError`` that does not hold the password."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    schema = query.pop("schema", DEFAULT_SCHEMA)
    login, at, server = parts.netloc.rpartition("@")
    user, colon, password = login.partition(":")
    shown = {name: value for name, value in query.items() if name in _SHOWN}
    if schema != DEFAULT_SCHEMA:
        shown["schema"] = schema
    location = Location(
        conninfo=_url(parts.netloc, parts.path, {"connect_timeout": str(CONNECT_TIMEOUT_S), **query}),
        schema=schema,
        shown=_url(user + at + server, parts.path, shown),
        secrets=_secrets([password if colon else "", *(query.get(name, "") for name in _SECRET)]),
    )
    if not _SCHEMA.fullmatch(schema):
        raise ConfigError(
            f"The schema in {location.shown} is {schema!r}; it must be small letters, digits and underscores, "
            "63 at most."
        )
    return location


def _url(netloc: str, path: str, query: dict[str, Any]) -> str:
    text = urlunsplit(("postgresql", netloc, path or "/", urlencode(query, quote_via=quote, safe="/"), ""))
    return text if netloc else text.replace("postgresql:/", "postgresql:///", 1).replace("////", "//", 1)


def _secrets(found: list[str]) -> tuple[str, ...]:
    """Each as it was typed and as it is meant, the longest first."""
    texts = {text for secret in found for text in (secret, unquote(secret)) if text}
    return tuple(sorted(texts, key=len, reverse=True))
