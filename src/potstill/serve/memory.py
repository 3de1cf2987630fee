"""How a process that serves for weeks has its C library hold memory: in few places, and free memory given back.

What it knows: the settings of glibc's malloc. What it does not do: anything in a process that is not the gateway's own,
or with another C library.

glibc gives each thread that competes an arena of its own (eight for each core), and free memory within one is of no use
to the others; it also raises by itself the size up to which freed blocks are kept, to 32 MiB, and keeps twice as much
at an arena's end. A gateway's threads hold large bodies for milliseconds: it would keep the largest of all of them.
What is free between blocks that stay goes back only when somebody asks.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping

ARENAS = 2
"""The event loop's, and one for the threads that record, fold and read."""
APART_BYTES = 1 << 20
"""Larger blocks are the system's own pages, which go back when they are freed."""
END_BYTES = 4 << 20
"""So much may be free at the end of an arena."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_SETTINGS = (
    ("MALLOC_ARENA_MAX", _ARENA_MAX, ARENAS),
    ("MALLOC_MMAP_THRESHOLD_", _MMAP_THRESHOLD, APART_BYTES),
    ("MALLOC_TRIM_THRESHOLD_", _TRIM_THRESHOLD, END_BYTES),
)
"""By the names of the environment's variables that set the same."""

_ours = False
"""Whether this process is the gateway's own."""


def hold_little(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Tell the C library, before other threads begin; what the environment sets stays. Returns what was set, by the
    names of the environment's variables: nothing where there is no glibc."""
    global _ours
    mallopt = _of_glibc("mallopt")
    if mallopt is None:
        return ()
    _ours = True
    return tuple(name for name, setting, value in _SETTINGS if name not in environment and mallopt(setting, value) == 1)


def give_back() -> bool:
    """Give whole free pages back, wherever they lie; a few milliseconds. False where nothing did: also in a process
    that was not told to hold little."""
    trim = _of_glibc("malloc_trim") if _ours else None
    return trim is not None and trim(0) == 1


def _of_glibc(name: str) -> Callable[..., int] | None:
    """A function that no other C library has."""
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    found: Callable[..., int] | None = getattr(ctypes.CDLL(None), name, None)
    return found
