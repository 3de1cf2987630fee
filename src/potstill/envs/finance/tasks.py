"""The questions of FiNER and Formula out of JSONL files of the user's: one object a line, ``context`` and ``target``.

What it knows: how the files are named, how a context divides into a question and what stands around it. What it does
not do: fetch them. The files are those of the paper's release (``eval/finance/data``, from FinLoRA, arXiv 2505.19819):
``finer_train_...jsonl`` 1000, ``finer_val_...`` 500, ``finer_test_...`` 441; ``formula_train_...`` 500,
``formula_val_...`` 300, ``formula_test.jsonl`` 200 lines.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from potstill.errors import NOT_JSON, BadTask, ConfigError, TaskNotFound, one_of
from potstill.types import Task

DATASETS = ("finer", "formula")
PLAIN_NUMBER = (
    "Answer with a plain number, rounded to the nearest hundredth if need be and written out: 5 million is 5000000."
)

_SPLITS = {"train": r"train", "valid": r"val|valid|validation|dev", "test": r"test"}
_QUESTION_FIELDS = ("context", "question", "input")
_LABEL_FIELDS = ("target", "answer", "output")
_FORMULA = re.compile(r"^\s*Use formula (.+?) to answer", re.DOTALL)
_FIRST = re.compile(r"\n\s*1[.)] ")


class Divided(NamedTuple):
    """A context: what is asked, what it is asked about or how, and the kind of question where it is named."""

    question: str
    material: str
    kind: str = ""


class FinanceTasks:
    """``directory``: the folder with the files, or one file. ``dataset``: ``finer`` or ``formula``.

    ``show_formula``: Formula's lines begin with the name of the formula that answers them. The release cuts it off
    before a model sees the question, and so it is here unless this is true.
    """

    def __init__(self, directory: str, *, dataset: str = "formula", show_formula: bool = False) -> None:
        one_of("dataset", dataset, DATASETS)
        self._dataset, self._show = dataset, show_formula
        self._files = _files(Path(directory), dataset)

    def splits(self) -> Sequence[str]:
        return tuple(self._files)

    def tasks(self, split: str) -> Sequence[Task]:
        if split not in self._files:
            raise TaskNotFound(f"{self._dataset} has no split '{split}'. Available: {', '.join(self._files)}.")
        path = self._files[split]
        tasks: list[Task] = []
        with path.open(encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    tasks.append(self._task(split, len(tasks), _row(line, f"{path.name}, line {number}")))
        if not tasks:
            raise TaskNotFound(f"{path} holds no questions.")
        return tasks

    def _task(self, split: str, index: int, row: tuple[str, str]) -> Task:
        context, label = row
        parts = divide_finer(context) if self._dataset == "finer" else divide_formula(context, self._show)
        return Task(
            id=f"{self._dataset}-{split}-{index:05d}",
            environment="finance",
            goal=parts.question,
            split=split,
            kind=parts.kind,
            data={"dataset": self._dataset, "material": parts.material, "label": label},
        )


def divide_finer(context: str) -> Divided:
    """The numbered questions, and the instruction with its list of tags, which is the same for all.

    >>> divide_finer("Tags: A,B. Answer 2 questions.\\n1. Tag of 5?\\n2. Tag of 7?\\nTags:").question
    '1. Tag of 5?\\n2. Tag of 7?\\nTags:'
    """
    if "Instruction: " in context and "Input: " in context:
        before, _, after = context.partition("Input: ")
        return Divided(after.rpartition("Answer:")[0].strip() or after.strip(), before.partition("Instruction: ")[2])
    first = _FIRST.search(context)
    if first is None or not context[: first.start()].strip():
        return Divided(context.strip(), "Answer with the tags alone, in the order of the questions, between commas.")
    return Divided(context[first.start() :].strip(), context[: first.start()].strip())


def divide_formula(context: str, show_formula: bool = False) -> Divided:
    """The question between its marks, and how to answer. What stands before them names the formula.

    >>> divide_formula('Use formula Margin = A / B to answer. Question: "A is 3, B is 4?". Answer:').question
    'A is 3, B is 4?'
    """
    named = _FORMULA.match(context)
    kind = named[1].partition("=")[0].strip()[:80] if named else ""
    before, marked, after = context.partition("Question: ")
    if not marked:
        return Divided(context.strip(), PLAIN_NUMBER, kind)
    question = after.partition(". Answer:")[0].strip()
    if len(question) > 1 and question[0] == question[-1] == '"':
        question = question[1:-1]
    material = f"{before.strip()} {PLAIN_NUMBER}" if show_formula and before.strip() else PLAIN_NUMBER
    return Divided(question, material, kind)


# --- inside ---------------------------------------------------------------------------------------------------------


def _files(place: Path, dataset: str) -> dict[str, Path]:
    """The file of each split, in the order of the splits."""
    if place.is_file():
        return {_split_of(place.name) or "all": place}
    if not place.is_dir():
        raise ConfigError(f"There is no folder or file {place}. Type: --tasks DIR with the JSONL files of '{dataset}'.")
    found: dict[str, Path] = {}
    for path in sorted(place.glob("*.jsonl")):
        split = _split_of(path.name)
        if split is None or dataset not in path.name.lower():
            continue
        if split in found:
            raise ConfigError(
                f"{place} holds two files for the split '{split}' of {dataset}: {found[split].name} and {path.name}. "
                f"Name one: --tasks {found[split]}"
            )
        found[split] = path
    if not found:
        raise ConfigError(
            f"{place} holds no file of '{dataset}'. Their names hold '{dataset}' and one of train, val, test, and end "
            f"in .jsonl, such as {dataset}_test.jsonl."
        )
    return {split: found[split] for split in _SPLITS if split in found}


def _split_of(name: str) -> str | None:
    words = re.split(r"[^a-z]+", name.lower())
    return next((split for split, shape in _SPLITS.items() if any(re.fullmatch(shape, word) for word in words)), None)


def _row(line: str, place: str) -> tuple[str, str]:
    """Context and label of a line. Raises ``BadTask`` with the place."""
    try:
        row: Any = json.loads(line)
    except (ValueError, *NOT_JSON) as error:
        raise BadTask(f"{place}: not a JSON object: {error}") from None
    if not isinstance(row, dict):
        raise BadTask(f"{place}: a JSON object is expected, not {type(row).__name__}.")
    context = next((row[field] for field in _QUESTION_FIELDS if isinstance(row.get(field), str)), "")
    label = next((row[field] for field in _LABEL_FIELDS if row.get(field) is not None), None)
    if isinstance(label, list):
        label = ",".join(str(item) for item in label)
    if not context.strip() or not isinstance(label, str | int | float) or not str(label).strip():
        raise BadTask(f"{place}: 'context' and 'target' are expected, neither empty; the line has {sorted(row)}.")
    return context, str(label).strip()
