"""Locks between processes, held through a file. The system frees a lock if its holder dies.

What it knows: how each platform locks a file. What it does not do: know what a lock is for.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

POLL_S = 0.2


@contextlib.contextmanager
def exclusive(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of the file ``path``, which is made where it is absent and stays.

    Raises ``BlockingIOError`` if another process holds it and ``wait`` is False.
    """
    with path.open("a+b") as file:
        _acquire(file.fileno(), wait)
        yield


def _acquire(descriptor: int, wait: bool) -> None:
    if sys.platform == "win32":
        import msvcrt

        while True:
            try:
                return msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            except OSError as error:
                if not wait:
                    raise BlockingIOError(str(error)) from error
                time.sleep(POLL_S)
    import fcntl

    return fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
