"""Finds an API key where the user keeps it, and keeps it out of everything that is written.

What it knows: environment variables, then the system's keyring (optional package ``keyring``, service ``potstill``).
What it does not do: write, print or log a key. A ``Key`` shows itself as stars; the environment is read at each use, an
entry of the keyring once per process (asking it can block for long).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence

from potstill.errors import ConfigError

SERVICE = "potstill"
_HIDDEN = "***"


class Key:
    """A secret. ``repr`` and ``str`` hide it, it does not pickle, and ``redact`` takes it out of a text."""

    __slots__ = ("_secret", "source")

    def __init__(self, secret: str, source: str) -> None:
        secret = secret.strip()
        if not secret or not secret.isascii() or not secret.isprintable():
            raise ConfigError(
                f"The key in {source} is empty or holds characters that no header can carry. Set it anew."
            )
        self._secret = secret
        self.source = source

    def header(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._secret}"}

    def redact(self, text: str) -> str:
        """The text without the key, for what endpoints echo in their errors."""
        return text.replace(self._secret, _HIDDEN)

    def __repr__(self) -> str:
        return f"Key({_HIDDEN}, source={self.source!r})"

    __str__ = __repr__

    def __reduce__(self) -> str:
        raise TypeError("a key is never written anywhere")


def find_key(variables: Sequence[str]) -> Key | None:
    """The first of the variables that is set in the environment, else stored in the keyring; None if there is none."""
    for variable in variables:
        if os.environ.get(variable, "").strip():
            return Key(os.environ[variable], variable)
    for variable in variables:
        secret = _from_keyring(variable)
        if secret:
            return Key(secret, f"the keyring's entry {SERVICE}/{variable}")
    return None


def how_to_set(variables: Sequence[str]) -> str:
    """What to type so that ``find_key`` finds a key."""
    name = variables[0]
    return f"Type: export {name}=... (or, with the extra 'keyring': keyring set {SERVICE} {name})"


@functools.cache
def _from_keyring(variable: str) -> str | None:
    try:
        import keyring
        import keyring.errors
    except ImportError:
        return None
    try:
        return keyring.get_password(SERVICE, variable)
    except keyring.errors.KeyringError:
        return None  # A locked or absent keyring is the same as no entry: the error that follows says what to type.
