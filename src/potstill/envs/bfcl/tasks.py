"""Which function-calling tasks there are: the four categories, and a fixed division of them for learning and testing.

What it knows: the splits. What it does not do: play.

Tasks with the same number in different categories tell the same story, so ``train`` and ``test`` are divided by
number: no story is in both. Learning from ``base`` and testing on ``miss_func`` would leak; learn from ``train`` with
that category instead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from potstill.envs.bfcl import data
from potstill.envs.bfcl.data import CATEGORIES, Entry
from potstill.errors import TaskNotFound, UnknownName
from potstill.types import Task

TEST_SHARE = 0.25


class BfclTasks:
    """``train`` and ``test`` hold the tasks of ``category`` (several with commas), each category is a split as well."""

    def __init__(self, *, category: str = "base") -> None:
        self._categories = [part.strip() for part in category.split(",")]
        for name in self._categories:
            if name not in CATEGORIES:
                raise UnknownName("category of bfcl", name, CATEGORIES)

    def splits(self) -> Sequence[str]:
        return ("train", "test", *CATEGORIES)

    def tasks(self, split: str) -> Sequence[Task]:
        if split in CATEGORIES:
            return [_task(entry, split) for entry in data.entries(split).values()]
        if split not in self.splits():
            raise TaskNotFound(f"bfcl has no split '{split}'. Available: {', '.join(self.splits())}.")
        held_out = split == "test"
        return [
            _task(entry, split)
            for category in self._categories
            for entry in data.entries(category).values()
            if is_held_out(entry.id) == held_out
        ]


def is_held_out(entry_id: str) -> bool:
    """Whether a task's number falls into the test part; fixed for ever, the same in all categories."""
    digest = hashlib.sha256(f"bfcl:{data.number_of(entry_id)}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < TEST_SHARE * 2**64


def _task(entry: Entry, split: str) -> Task:
    return Task(
        id=entry.id,
        environment="bfcl",
        goal=entry.turns[0],
        split=split,
        kind="+".join(sorted(entry.classes)),
        data={"category": entry.category, "id": entry.id},
    )
