"""Files that are there as a whole or not at all: written beside, flushed to the disk, then given their name.

What it knows: the order of these steps, and what a full disk is called here. What it does not do: folders of several
files (each of their writers knows which file of it comes last).
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from potstill.errors import DiskFull, StoreError


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the name ``path`` only when it is complete and on the disk.

    An error, a kill or an interruption leaves what had the name before; folders that are missing are made. Raises
    ``StoreError`` where the file cannot be written, ``DiskFull`` where no room is left.
    """
    partial = partial_of(path)
    try:
        with telling(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as target:
                yield target
                target.flush()
                os.fsync(target.fileno())
            partial.replace(path)
            sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def partial_of(path: Path) -> Path:
    """A hidden name beside ``path`` that no other writer of it has."""
    return path.with_name(f".{path.name}.partial-{os.getpid()}-{secrets.token_hex(4)}")


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: a new name is that only once its folder is."""
    if os.name == "nt":  # folders cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def telling(path: Path) -> Iterator[None]:
    """Say which file an ``OSError`` is about. Raises ``StoreError``, or ``DiskFull`` where no room is left."""
    try:
        yield
    except OSError as error:
        kind = DiskFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else StoreError
        raise kind(f"Cannot write {path}: {error.strerror or error}.") from error
