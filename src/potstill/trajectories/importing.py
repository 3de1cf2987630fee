"""Bringing files of episodes into a store: the good lines are kept, the bad ones are reported by number.

What it knows: which formats can be read, how to keep the writer busy without holding a whole file. What it does not
do: the formats themselves. Parquet cannot be read back: it holds no prompts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from typing import BinaryIO

import msgspec

from potstill.errors import DiskFull, StoreError
from potstill.trajectories.export import Format
from potstill.trajectories.jsonl import BadLine, read_jsonl
from potstill.trajectories.openai_chat import read_openai_chat
from potstill.trajectories.store import Store
from potstill.types import Struct, Trajectory

AHEAD = 256


class ImportReport(Struct, frozen=True, kw_only=True):
    """``unchanged``: the same episodes were in the store already."""

    added: int
    unchanged: int
    bad: tuple[BadLine, ...] = ()


def import_file(
    store: Store, source: BinaryIO, format: Format | str = Format.JSONL, *, namespace: str | None = None
) -> ImportReport:
    """Append every readable episode. ``namespace`` puts them into that tenant's, whatever the file says.

    Raises ``DiskFull`` (what was added before stays); anything wrong with one line becomes a ``BadLine``.
    """
    counts = [0, 0]
    bad: list[BadLine] = []
    waiting: deque[tuple[int, Future[bool]]] = deque()

    def settle() -> None:
        number, future = waiting.popleft()
        try:
            counts[0 if future.result() else 1] += 1
        except DiskFull:
            raise
        except StoreError as error:
            bad.append(BadLine(number, str(error)))

    for number, item in _numbered(source, format, namespace):
        if isinstance(item, BadLine):
            bad.append(item)
            continue
        try:
            waiting.append((number, store.append_nowait(item)))
        except StoreError as error:
            bad.append(BadLine(number, str(error)))
        if len(waiting) >= AHEAD:
            settle()
    while waiting:
        settle()
    return ImportReport(added=counts[0], unchanged=counts[1], bad=tuple(sorted(bad, key=lambda one: one.line)))


def _numbered(
    source: BinaryIO, format: Format | str, namespace: str | None
) -> Iterator[tuple[int, Trajectory | BadLine]]:
    match Format(format):
        case Format.JSONL:
            items = read_jsonl(source)
        case Format.OPENAI_CHAT:
            items = read_openai_chat(source, namespace=namespace or "default")
        case Format.PARQUET:
            raise StoreError("Parquet holds no prompts and cannot be imported. Export as jsonl to move episodes.")
        case other:
            raise StoreError(f"{other.value} is for training and cannot be imported. Export as jsonl to move episodes.")
    for number, item in items:
        if isinstance(item, Trajectory) and namespace is not None:
            item = msgspec.structs.replace(item, namespace=namespace)
        yield number, item
