"""Writing episodes to a file in any of the formats, whole or not at all.

What it knows: the formats by name, atomic replacement. What it does not do: the formats
themselves (jsonl, openai_chat, parquet).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from potstill.errors import StoreError
from potstill.types import Trajectory


class Format(StrEnum):
    JSONL = "jsonl"
    OPENAI_CHAT = "openai-chat"
    PARQUET = "parquet"


def export(
    trajectories: Iterable[Trajectory], target: BinaryIO, format: Format | str, *, all_outcomes: bool = False
) -> int:
    """Write episodes, one in memory at a time; returns lines (JSONL) or rows (Parquet: steps).

    ``all_outcomes`` is for ``openai-chat``, which otherwise writes only episodes that succeeded.
    """
    match Format(format):
        case Format.JSONL:
            from potstill.trajectories.jsonl import write_jsonl

            return write_jsonl(trajectories, target)
        case Format.OPENAI_CHAT:
            from potstill.trajectories.openai_chat import write_openai_chat

            return write_openai_chat(trajectories, target, all_outcomes=all_outcomes)
        case Format.PARQUET:
            from potstill.trajectories.parquet import write_parquet

            return write_parquet(trajectories, target)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes its name only when it is complete and on the disk; an interruption leaves the old one."""
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        with partial.open("wb") as target:
            yield target
            target.flush()
            os.fsync(target.fileno())
        partial.replace(path)
    except OSError as error:
        raise StoreError(f"Cannot write {path}: {error.strerror}.") from error
    finally:
        partial.unlink(missing_ok=True)
