"""The gateway's process has few arenas, and gives back what it freed; other processes are left as they are."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from potstill.serve.memory import hold_little

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc has arenas for each thread")

THREADS = """
import ctypes, sys, threading
from potstill.serve.memory import hold_little

if sys.argv[1] == "few":
    hold_little({})
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
gate = threading.Barrier(6)
held = []

def work():
    gate.wait()
    held.append(libc.malloc(10_000))
    gate.wait()

threads = [threading.Thread(target=work) for _ in range(6)]
[one.start() for one in threads]
[one.join() for one in threads]
libc.fopen.restype, libc.fopen.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_char_p]
libc.malloc_info.argtypes, libc.fclose.argtypes = [ctypes.c_int, ctypes.c_void_p], [ctypes.c_void_p]
page = libc.fopen(b"/dev/stdout", b"w")
libc.malloc_info(0, page)
libc.fclose(page)
"""

PLACES = r"""
import ctypes, re, sys
from potstill.serve.memory import give_back, hold_little

if sys.argv[1] == "few":
    hold_little({})
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]

def resident():
    return int(re.search(r"VmRSS:\s+(\d+)", open("/proc/self/status").read())[1])

def used(size):
    place = libc.malloc(size)
    ctypes.memset(place, 1, size)
    return place
"""

FREED = f"""{PLACES}
before = resident()
for size in (8 << 20, 16 << 20, 30 << 20):
    libc.free(used(size))
places = [used(12 << 20) for _ in range(4)]
small = used(1000)
for place in places:
    libc.free(place)
print(resident() - before)
"""


BETWEEN = f"""{PLACES}
before = resident()
places = [used(size) for _ in range(400) for size in (100_000, 1000)]
for place in places[::2]:
    libc.free(place)
print(resident() - before, give_back(), resident() - before)
"""


def said(script: str, how: str) -> str:
    run = subprocess.run([sys.executable, "-c", script, how], capture_output=True, text=True, check=True)
    return run.stdout


@glibc
def test_threads_share_two_arenas() -> None:
    assert said(THREADS, "few").count("<heap nr=") == 2
    assert said(THREADS, "many").count("<heap nr=") > 2


@glibc
def test_large_blocks_go_back_when_they_are_freed() -> None:
    assert int(said(FREED, "few")) < 4 * 1024
    assert int(said(FREED, "many")) > 40 * 1024


@glibc
def test_what_is_free_between_blocks_that_stay_goes_back_when_asked() -> None:
    held, gave, left = said(BETWEEN, "few").split()
    assert int(held) > 30 * 1024
    assert (gave, int(left) < 10 * 1024) == ("True", True)
    held, gave, left = said(BETWEEN, "many").split()
    assert (gave, int(left) > 30 * 1024) == ("False", True)  # the memory of other processes is not ours


def test_what_the_environment_sets_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: _Musl())
    assert hold_little({}) == ()
    monkeypatch.setattr("ctypes.CDLL", lambda name: _Glibc())
    monkeypatch.setattr(sys, "platform", "linux")
    assert hold_little({"MALLOC_ARENA_MAX": "1"}) == ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert hold_little({}) == ()


class _Musl:
    """Has no ``mallopt``."""


class _Glibc:
    def mallopt(self, setting: int, value: int) -> int:
        return 1
