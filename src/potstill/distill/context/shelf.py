"""One shelf of demonstrations: everything of one namespace and one environment, with a ranker for each key.

What it knows: texts by key, which step belongs to which trajectory, and how the keys' scores become one. What it does
not do: which trajectories are good enough, budgets, text blocks.

Scores. A key's raw scores (BM25 or cosine, negative ones count as 0) are divided by the largest one among the entries
that may be shown, so each key lies in [0, 1]. A key is left out if the query has no text for it or nothing scores above
0, and for the entries that have no text for it (an expert's steps have no reasoning): a missing key neither helps nor
harms. A step's score is the weighted mean of its trajectory's keys and its own:

    score(s) = sum_k w_k norm_k(s) has_k(s) / sum_k w_k has_k(s)

and a trajectory scores as its best step does (multi-key retrieval of arXiv 2505.00234; its rank-dependent padding of
missing scores and its index-by-index loops are not taken over).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet

import numpy as np
from numpy.typing import NDArray

from potstill.distill.context.config import TRAJECTORY_KEYS
from potstill.distill.context.render import ShownStep
from potstill.distill.context.slots import argument_words, shape_of
from potstill.protocols import ContextQuery, Ranker
from potstill.types import Struct

Floats = NDArray[np.float64]
HISTORY_ACTIONS = 3
"""How many of the last actions make the ``history`` key."""


class Entry(Struct, frozen=True, kw_only=True):
    """What is kept of a trajectory: the texts, not the calls."""

    trajectory_id: str
    task_id: str
    kind: str = ""
    goal: str = ""
    plan: str = ""
    steps: tuple[ShownStep, ...]


class _Key:
    """One key's ranker and which of its texts are not empty."""

    def __init__(self, ranker: Ranker) -> None:
        self.ranker = ranker
        self._present: list[bool] = []
        self._empty = 0
        self._array: NDArray[np.bool_] = np.zeros(0, dtype=bool)

    def add(self, texts: Sequence[str]) -> None:
        self.ranker.add(texts)
        present = [bool(text.strip()) for text in texts]
        self._present += present
        self._empty += present.count(False)

    @property
    def complete(self) -> bool:
        """Whether none of its texts is empty."""
        return self._empty == 0

    @property
    def present(self) -> NDArray[np.bool_]:
        if len(self._array) != len(self._present):
            self._array = np.array(self._present, dtype=bool)
        return self._array


class Shelf:
    """Entries in the order in which they were added; positions of entries and steps are insertion order."""

    def __init__(self, make_ranker: Callable[[], Ranker], keys: Sequence[str]) -> None:
        self._keys = {key: _Key(make_ranker()) for key in keys}
        self.entries: list[Entry] = []
        self._arguments: set[str] = set()
        self._first_step: list[int] = [0]
        self._task_codes: dict[str, int] = {}
        self._entry_tasks: list[int] = []
        self._arrays: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        return len(self.entries)

    def add(self, entry: Entry) -> None:
        arguments = argument_words(step.action for step in entry.steps)
        texts = {
            "goal": [entry.goal],
            "shape": [shape_of(entry.goal, arguments)],
            "plan": [entry.plan],
            "observation": [step.observation for step in entry.steps],
            "reasoning": [step.reasoning for step in entry.steps],
            "history": [history_text([s.action for s in entry.steps[:i]]) for i in range(len(entry.steps))],
        }
        for name, key in self._keys.items():
            key.add(texts[name])
        self.entries.append(entry)
        self._arguments |= arguments
        self._first_step.append(self._first_step[-1] + len(entry.steps))
        self._entry_tasks.append(self._task_codes.setdefault(entry.task_id, len(self._task_codes)))
        self._arrays = None

    def layout(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """(first step of each entry, entry of each step, task code of each entry)."""
        if self._arrays is None:
            bounds = np.array(self._first_step, dtype=np.int64)
            owner = np.repeat(np.arange(len(self.entries), dtype=np.int64), np.diff(bounds))
            self._arrays = bounds[:-1], owner, np.array(self._entry_tasks, dtype=np.int64)
        return self._arrays

    def eligible(self, task_id: str) -> NDArray[np.bool_]:
        """Which entries may be shown to a task: all but its own. Shape (entries,)."""
        return np.asarray(self.layout()[2] != self._task_codes.get(task_id, -1))

    def step_scores(self, query: ContextQuery, eligible: NDArray[np.bool_], weights: dict[str, float]) -> Floats:
        """The score of every step in [0, 1], shape (steps,); 0 for entries that are not eligible."""
        _, owner, _ = self.layout()
        everything = bool(eligible.all())
        of_entries = _Sum(len(self.entries), None if everything else eligible)
        of_steps = _Sum(len(owner), None if everything else eligible[owner])
        for name, text in query_texts(query, self._arguments).items():
            key = self._keys.get(name)
            if key is not None and weights[name] and text.strip():
                (of_entries if name in TRAJECTORY_KEYS else of_steps).add(key, text, weights[name])
        return of_steps.mean_with(of_entries, owner)

    def best_scores(self, step_scores: Floats) -> Floats:
        """For each entry its best step's score."""
        return np.asarray(np.maximum.reduceat(step_scores, self.layout()[0]))

    def best_step(self, step_scores: Floats, entry: int) -> int:
        """The index in its episode of an entry's best step, the first of equals."""
        first = self._first_step
        return int(np.argmax(step_scores[first[entry] : first[entry + 1]]))


def query_texts(query: ContextQuery, arguments: AbstractSet[str] = frozenset()) -> dict[str, str]:
    """The query's text for each key; ``arguments``: the words that stand for things in the shelf's actions."""
    return {
        "goal": query.goal,
        "shape": shape_of(query.goal, arguments),
        "plan": query.plan,
        "observation": query.observation,
        "reasoning": query.reasoning,
        "history": history_text(query.history),
    }


def history_text(actions: Sequence[str]) -> str:
    return "\n".join(actions[-HISTORY_ACTIONS:])


class _Sum:
    """Weighted scores of several keys and the sum of their weights. ``eligible`` None: all are.

    A key that every entry has a text for weighs the same for all of them, which spares arrays as long as the shelf.
    """

    def __init__(self, length: int, eligible: NDArray[np.bool_] | None) -> None:
        self._eligible = eligible
        self._total: Floats = np.zeros(length)
        self._weight: Floats | float = 0.0

    def add(self, key: _Key, text: str, weight: float) -> None:
        normal = self._normalised(key.ranker.scores(text))
        if normal is None:
            return
        normal *= weight
        if key.complete:
            self._weight = self._weight + weight
        else:
            normal *= key.present
            self._weight = self._weight + weight * key.present.astype(np.float64)
        self._total += normal

    def mean_with(self, of_entries: _Sum, owner: NDArray[np.int64]) -> Floats:
        """The weighted mean of each step's own keys and its entry's; 0 where it has none, and where not eligible."""
        total, more = self._total, of_entries._weight
        total += of_entries._total[owner]
        weight = self._weight + (more if isinstance(more, float) else more[owner])
        total /= np.maximum(weight, 1e-12)
        if self._eligible is not None:
            total[~self._eligible] = 0.0
        return total

    def _normalised(self, scores: NDArray[np.float32]) -> Floats | None:
        """Raw scores over the largest eligible one; None if nothing eligible scores above 0."""
        raw = scores.astype(np.float64)
        np.maximum(raw, 0.0, out=raw)
        if self._eligible is not None:
            raw[~self._eligible] = 0.0
        largest = raw.max(initial=0.0)
        if largest <= 0:
            return None
        raw /= largest
        return raw
