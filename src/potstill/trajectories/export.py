"""Writing episodes to a file in any of the formats, whole or not at all.

What it knows: the formats by name, atomic replacement. What it does not do: the formats
themselves (jsonl, openai_chat, trl, ms_swift, llama_factory, verl, preferences, ranking, arrays, parquet).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from enum import StrEnum
from functools import partial
from typing import BinaryIO

from potstill.errors import ConfigError
from potstill.types import Answerer, Trajectory


class Format(StrEnum):
    JSONL = "jsonl"
    OPENAI_CHAT = "openai-chat"
    TRL = "trl"
    TRL_STEPS = "trl-steps"
    MS_SWIFT = "ms-swift"
    LLAMA_FACTORY = "llama-factory"
    VERL = "verl"
    PREFERENCES = "preferences"
    RANKING = "ranking"
    ARRAYS = "arrays"
    PARQUET = "parquet"


CHATS = (
    Format.OPENAI_CHAT,
    Format.TRL,
    Format.TRL_STEPS,
    Format.MS_SWIFT,
    Format.LLAMA_FACTORY,
    Format.VERL,
)
UNITS = {
    Format.TRL_STEPS: "rows",
    Format.PARQUET: "steps",
    Format.OPENAI_CHAT: "conversations",
    Format.TRL: "conversations",
    Format.MS_SWIFT: "conversations",
    Format.LLAMA_FACTORY: "conversations",
    Format.VERL: "conversations",
    Format.PREFERENCES: "pairs",
    Format.RANKING: "choices",
    Format.ARRAYS: "choices",
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
    reasoning: bool = False,
) -> int:
    """Write episodes, one in memory at a time; returns lines or rows (``UNITS`` names them).

    The rest is for the formats to learn from (all but ``jsonl`` and ``parquet``): they hold only episodes that
    succeeded unless ``all_outcomes``, and of these what ``answerers`` said; None is whoever, but the teacher where
    somebody's answers are the right ones (``preferences``, ``ranking``, ``arrays``). ``read_blob`` gives images, which
    only ``openai-chat`` and ``arrays`` can hold. ``left_out`` counts, by reason, what could not be written.
    ``reasoning`` (``CHATS`` only, else ``ConfigError``) puts what was thought before what was done.
    """
    if reasoning and format not in CHATS:
        raise ConfigError(f"The format '{format}' holds no reasoning. Those that do: {', '.join(CHATS)}.")
    match Format(format):
        case Format.JSONL:
            from potstill.trajectories.jsonl import write_jsonl

            return write_jsonl(trajectories, target)
        case Format.PARQUET:
            from potstill.trajectories.parquet import write_parquet

            return write_parquet(trajectories, target)
        case learnt:
            who = _answerers(learnt) if answerers is None else answerers
            return _writer(learnt, read_blob, reasoning)(
                trajectories, target, all_outcomes=all_outcomes, answerers=who, left_out=left_out
            )


def _answerers(format: Format) -> frozenset[Answerer]:
    from potstill.trajectories.finetuning import EVERYBODY

    chosen_by_one = format in (Format.PREFERENCES, Format.RANKING, Format.ARRAYS)
    return frozenset({Answerer.TEACHER}) if chosen_by_one else EVERYBODY


def _writer(format: Format, read_blob: Callable[[str], bytes] | None, reasoning: bool) -> Callable[..., int]:
    """What writes a format to learn from."""
    match format:
        case Format.OPENAI_CHAT:
            from potstill.trajectories.openai_chat import write_openai_chat

            return partial(write_openai_chat, read_blob=read_blob, reasoning=reasoning)
        case Format.MS_SWIFT | Format.LLAMA_FACTORY:
            from potstill.trajectories import llama_factory, ms_swift
            from potstill.trajectories.finetuning import write_rows

            rows = ms_swift.rows if format is Format.MS_SWIFT else llama_factory.rows
            return partial(write_rows, rows=rows, reasoning=reasoning)
        case Format.VERL:
            from potstill.trajectories.verl import write_verl

            return partial(write_verl, reasoning=reasoning)
        case Format.PREFERENCES:
            from potstill.trajectories.preferences import write_preferences

            return write_preferences
        case Format.RANKING:
            from potstill.trajectories.ranking import write_ranking

            return write_ranking
        case Format.ARRAYS:
            from potstill.trajectories.arrays import write_arrays

            return partial(write_arrays, read_blob=read_blob)
        case _:
            from potstill.trajectories.trl import write_trl

            return partial(write_trl, by_step=format is Format.TRL_STEPS, reasoning=reasoning)
