"""Ed25519 signatures (RFC 8032) of manifests, by the package ``cryptography``, which is loaded when one is asked for.

Keys are PEM files, such as ``openssl genpkey -algorithm ed25519 -out key.pem`` and ``openssl pkey -in key.pem -pubout``
write. Knows keys and texts. Does not know what a manifest says, nor whom to trust.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

from potstill.errors import ConfigError, MissingExtra

PURPOSE = b"potstill manifest 1\n"
"""Stands before what is signed, so that a signature made for something else is none of a manifest."""


class Signer:
    """A private key. Raises ``ConfigError`` for a file that holds none, ``MissingExtra`` without ``cryptography``."""

    def __init__(self, path: Path) -> None:
        loaded = _loaded(path, "load_pem_private_key", password=None)
        if not isinstance(loaded, _ed25519().Ed25519PrivateKey):
            raise ConfigError(f"{path} holds no Ed25519 key. Type: openssl genpkey -algorithm ed25519 -out {path}")
        self._key = loaded
        self.public_key: str = loaded.public_key().public_bytes_raw().hex()

    def sign(self, text: str) -> str:
        """The signature of a text, with the public key, as JSON."""
        signature = self._key.sign(PURPOSE + text.encode()).hex()
        return json.dumps({"public_key": self.public_key, "signature": signature}, sort_keys=True)


def public_key(path: Path) -> str:
    """The public key of a PEM file in hexadecimal. Raises ``ConfigError``, ``MissingExtra``."""
    loaded = _loaded(path, "load_pem_public_key")
    if not isinstance(loaded, _ed25519().Ed25519PublicKey):
        raise ConfigError(f"{path} holds no public Ed25519 key. Type: openssl pkey -in KEY -pubout -out {path}")
    raw: str = loaded.public_bytes_raw().hex()
    return raw


def signed_by(text: str, signature: str) -> str | None:
    """The public key (hexadecimal) that signed a text; None where the signature is none of it.

    Raises ``MissingExtra``.
    """
    ed25519 = _ed25519()
    invalid = importlib.import_module("cryptography.exceptions").InvalidSignature
    try:
        said = json.loads(signature)
        key = bytes.fromhex(said["public_key"])
        ed25519.Ed25519PublicKey.from_public_bytes(key).verify(
            bytes.fromhex(said["signature"]), PURPOSE + text.encode("utf-8", "surrogatepass")
        )
    except (ValueError, TypeError, KeyError, RecursionError, invalid):
        return None
    return key.hex()


def _loaded(path: Path, loader: str, **options: Any) -> Any:
    serialization = _module("cryptography.hazmat.primitives.serialization")
    try:
        return getattr(serialization, loader)(path.read_bytes(), **options)
    except OSError as error:
        raise ConfigError(f"Cannot read the key {path}: {error.strerror}.") from None
    except Exception as error:  # which ones depends on the version of cryptography
        raise ConfigError(f"{path} is not a key in PEM without a password ({type(error).__name__}).") from None


def _ed25519() -> Any:
    return _module("cryptography.hazmat.primitives.asymmetric.ed25519")


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingExtra("A signature", "sign") from None
