"""Texts that took long to compute, kept on disk under a content key.

Entries are zlib-compressed UTF-8, written to a temporary file and renamed, so that a reader sees a whole entry or none.
A damaged entry counts as absent. It does not know what the texts mean, and never unpickles or runs them.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import zlib
from pathlib import Path

MAX_ENTRY_BYTES = 64 * 2**20
"""Refuse to expand an entry beyond this: no game's translation comes near it."""


def default_directory() -> Path:
    """``$POTSTILL_CACHE``, else ``$XDG_CACHE_HOME/potstill``, else ``~/.cache/potstill``."""
    stated = os.environ.get("POTSTILL_CACHE")
    if stated:
        return Path(stated)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "potstill"


class TextCache:
    """Texts by key in one folder. A folder that cannot be written makes every ``put`` a no-op, never an error."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, key: str) -> str | None:
        try:
            return _expand(self._path(key).read_bytes())
        except (OSError, zlib.error, UnicodeDecodeError, ValueError):
            return None

    def put(self, key: str, text: str) -> bool:
        """Keep a text; False where the folder cannot be written (read-only, full)."""
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        except OSError:
            return False
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(zlib.compress(text.encode(), 6))
            os.replace(temporary, path)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            return False
        return True

    def _path(self, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()
        return self.folder / name[:2] / f"{name}.z"


def _expand(data: bytes) -> str:
    reader = zlib.decompressobj()
    text = reader.decompress(data, MAX_ENTRY_BYTES)
    if not reader.eof:
        raise ValueError("a truncated or oversized entry")
    return text.decode()
