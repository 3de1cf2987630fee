"""Writing episodes to a file in any of the formats, whole or not at all.

What it knows: the formats by name, atomic replacement. What it does not do: the formats
themselves (jsonl, openai_chat, trl, parquet).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from potstill.errors import StoreError
from potstill.types import Answerer, Trajectory


class Format(StrEnum):
    JSONL = "jsonl"
    OPENAI_CHAT = "openai-chat"
    TRL = "trl"
    TRL_STEPS = "trl-steps"
    PARQUET = "parquet"


UNITS = {
    Format.TRL_STEPS: "rows",
    Format.PARQUET: "steps",
    Format.OPENAI_CHAT: "conversations",
    Format.TRL: "conversations",
}
"""What a line or row of a format is; of the others: an episode."""


def export(
    trajectories: Iterable[Trajectory],
    target: BinaryIO,
    format: Format | str,
    *,
    all_outcomes: bool = False,
    answerers: Collection[Answerer] | None = None,
    read_blob: Callable[[str], bytes] | None = None,
    left_out: Counter[str] | None = None,
) -> int:
    """Write episodes, one in memory at a time; returns lines or rows (``UNITS`` names them).

    The rest is for the formats to learn from (``openai-chat``, ``trl``, ``trl-steps``): they hold only episodes that
    succeeded unless ``all_outcomes``, and of these what ``answerers`` said (None: whoever). ``read_blob`` gives images,
    which only ``openai-chat`` can hold. ``left_out`` counts, by reason, what could not be written.
    """
    match Format(format):
        case Format.JSONL:
            from potstill.trajectories.jsonl import write_jsonl

            return write_jsonl(trajectories, target)
        case Format.PARQUET:
            from potstill.trajectories.parquet import write_parquet

            return write_parquet(trajectories, target)
        case learnt:
            from potstill.trajectories.finetuning import EVERYBODY
            from potstill.trajectories.openai_chat import write_openai_chat
            from potstill.trajectories.trl import write_trl

            who = EVERYBODY if answerers is None else answerers
            if learnt is Format.OPENAI_CHAT:
                return write_openai_chat(
                    trajectories,
                    target,
                    all_outcomes=all_outcomes,
                    answerers=who,
                    read_blob=read_blob,
                    left_out=left_out,
                )
            by_step = learnt is Format.TRL_STEPS
            return write_trl(
                trajectories, target, by_step=by_step, all_outcomes=all_outcomes, answerers=who, left_out=left_out
            )


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
