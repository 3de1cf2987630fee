"""Parquet for verl's SFT trainer: a row a conversation, its column ``messages``. Needs pyarrow (extra ``parquet``).

What it knows: what verl's MultiTurnSFTDataset reads (github.com/verl-project/verl, verl/utils/dataset/
multiturn_sft_dataset.py, version 0.9): role and content of each message; every answer of the assistant is learnt. What
it does not do: find conversations (``finetuning``), images, and calls of tools: a column of Parquet gives every call
all arguments of all calls, as null where there was none, and verl would write these into prompts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from itertools import islice
from typing import Any, BinaryIO

from potstill.trajectories.finetuning import EVERYBODY, Conversation, Unfit, whole_answers, written
from potstill.trajectories.parquet import ROW_GROUP, load_pyarrow
from potstill.trajectories.trl import told_messages
from potstill.types import Answerer, Trajectory


def write_verl(
    trajectories: Iterable[Trajectory],
    target: BinaryIO,
    *,
    all_outcomes: bool = False,
    answerers: Collection[Answerer] = EVERYBODY,
    reasoning: bool = False,
    left_out: Counter[str] | None = None,
) -> int:
    """Returns how many rows. Raises ``MissingExtra``."""
    pa, parquet = load_pyarrow()
    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    schema = pa.schema([("messages", pa.list_(message))])
    chosen = (one for one in trajectories if one.succeeded or all_outcomes)
    rows = written(chosen, answerers, _rows, left_out, reasoning=reasoning)
    count = 0
    with parquet.ParquetWriter(target, schema, compression="zstd") as writer:
        while group := list(islice(rows, ROW_GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
            count += len(group)
    return count


def _rows(said: Conversation) -> list[dict[str, Any]]:
    whole_answers(said)
    if said.tools or any(message.role == "tool" or message.tool_calls for message in said.messages):
        raise Unfit("tools were called, which this format cannot say: take trl, ms-swift or llama-factory")
    return [{"messages": told_messages(said.messages)}]
