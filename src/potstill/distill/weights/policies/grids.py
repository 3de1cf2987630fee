"""Labelled decisions of grid worlds as arrays: each distinct observation is read once, then everything is numbers.

Knows the form of grids (``edge.grids``) and words, and how to cut batches without a loop over rows. Does not choose
decisions, split or weigh them (``data``), and holds no tensor longer than a batch.
Letters: B decisions of a batch, A actions of the student, S cells, P past turns of a batch in all, T past turns at
most, U distinct missions of a batch, W words of a mission at most.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from potstill.distill.weights.data.labelled import Labelled, one_hot, probabilities
from potstill.distill.weights.policies.batch import Batch, Floats, Integers, Tensor, gathered, padded, ragged, told
from potstill.distill.weights.policies.pytorch import load_torch
from potstill.distill.weights.policies.symmetries import Symmetries
from potstill.edge.film import unknown_action
from potstill.edge.grids import GridForm
from potstill.edge.words import Words
from potstill.errors import ConfigError

torch = load_torch()

MOST_ACTIONS = 64


class FilmInputs(NamedTuple):
    """What the grid student reads."""

    cell_BS: Tensor
    """Codes of the cells in view (``GridForm.code``)."""
    direction_B: Tensor
    goal_B: Tensor
    """Rows of ``word_UW``."""
    word_UW: Tensor
    """Numbers of a mission's words, 0 behind its end."""
    worded_U: Tensor
    """How many words each has."""
    past_cell_PS: Tensor
    past_direction_P: Tensor
    past_action_P: Tensor
    past_BT: Tensor
    """True where there is a past turn: P of them; oldest first, from the left."""
    turns_B: Tensor


def actions_of(examples: Iterable[Labelled]) -> tuple[str, ...]:
    """All actions that were possible somewhere, in alphabetical order.

    Raises ``ConfigError`` where they are too many for a student with one output for each.
    """
    found = sorted({action for example in examples for action in example.admissible})
    if len(found) > MOST_ACTIONS:
        raise ConfigError(
            f"These data have {len(found)} different actions, such as '{found[0]}'; a student with one output for each "
            f"takes up to {MOST_ACTIONS}. Take a ranker: --student ranker"
        )
    return tuple(found)


class GridExamples:
    """A dataset of decisions in grids. Satisfies ``batch.Examples``. With ``symmetries`` batches are changed by them.

    Raises ``ConfigError`` that names the decision whose observation is no grid of this form, or whose action is none of
    the student's.
    """

    def __init__(
        self,
        examples: Sequence[Labelled],
        words: Words,
        form: GridForm,
        actions: Sequence[str],
        symmetries: Symmetries | None = None,
    ) -> None:
        self._symmetries = symmetries
        self._names = {action: number for number, action in enumerate(actions)}
        table, past = _Table(form), [turn for e in examples for turn in e.situation.past]
        self._grid = np.array([self._read(table, e, e.situation.observation) for e in examples], np.int64)
        self._past_grid = np.array(
            [self._read(table, e, turn.observation) for e in examples for turn in e.situation.past], np.int64
        )
        self._past_action = np.array([self._names.get(turn.action, len(actions)) for turn in past], np.int64)
        self._past_at = ragged([len(e.situation.past) for e in examples])
        self._cells, self._directions = table.arrays()
        missions = list(dict.fromkeys(e.situation.goal for e in examples))
        encoded, number = [words.encode(mission) for mission in missions], {m: n for n, m in enumerate(missions)}
        self._words = np.array([word for mission in encoded for word in mission], np.int64)
        self._words_at = ragged([len(mission) for mission in encoded])
        self._goal = np.array([number[e.situation.goal] for e in examples], np.int64)
        self._mask = np.zeros((len(examples), len(actions)), np.bool_)
        for row, e in enumerate(examples):
            self._mask[row, [self._number(e, action) for action in e.admissible]] = True
        self._target = np.array([self._names[e.action] for e in examples], np.int64)
        self._weight = np.array([e.weight for e in examples], np.float32)
        self._probabilities = self._distributions(examples)
        self._told = told(self._probabilities)
        self.digest = self._digest(actions)

    def __len__(self) -> int:
        return len(self._target)

    def problem(self) -> str | None:
        if len(self) == 0:
            return "there is no decision in these data"
        if not np.any(self._weight > 0):
            return "every decision has weight 0"
        if bool(np.all(self._mask.sum(axis=1) < 2)):
            return "no decision has more than one admissible action, so there is nothing to choose"
        if len(np.unique(self._target)) == 1:
            return "the teacher's action is the same in every decision"
        return None

    def batch(self, rows: Integers) -> Batch:
        rows = np.asarray(rows, np.int64)
        where, turns = gathered(self._past_at, rows)
        symmetries, goals = self._symmetries, self._goal[rows]
        missions, goal = np.unique(goals, return_inverse=True) if symmetries is None else (goals, np.arange(len(rows)))
        word_where, worded = gathered(self._words_at, missions)
        there = padded(worded, int(worded.max()))
        word = np.zeros(there.shape, np.int64)
        word[there] = self._words[word_where]
        past = self._past_grid[where]
        cells, direction = self._cells[self._grid[rows]], self._directions[self._grid[rows]]
        past_cells, past_direction = self._cells[past], self._directions[past]
        if symmetries is not None:
            now = symmetries.drawn(rows)
            before = now.repeated(turns)
            cells, direction = symmetries.codes(now, cells), symmetries.directions(now, direction)
            past_cells = symmetries.codes(before, past_cells)
            past_direction = symmetries.directions(before, past_direction)
            word = symmetries.words(now, word)
        numbers = (
            cells,
            direction,
            goal,
            word,
            worded,
            past_cells,
            past_direction,
            self._past_action[where],
            padded(turns, int(turns.max())),
            turns,
        )
        mask = self._mask[rows]
        return Batch(
            FilmInputs(*(torch.from_numpy(number) for number in numbers)),
            torch.from_numpy(mask),
            torch.from_numpy(self._target[rows]),
            None if self._probabilities is None else torch.from_numpy(self._probabilities[rows]),
            torch.from_numpy(self._weight[rows]),
            None if self._told is None else torch.from_numpy(self._told[rows]),
        )

    def _read(self, table: _Table, example: Labelled, text: str) -> int:
        try:
            return table.number(text)
        except ValueError as error:
            raise ConfigError(f"Task {example.task_id}, step {example.step_index}: {error}") from None

    def _number(self, example: Labelled, action: str) -> int:
        if action not in self._names:
            raise ConfigError(
                f"Task {example.task_id}, step {example.step_index}: {unknown_action(action, self._names)} Record more "
                "episodes to learn from, so that each action is among them."
            )
        return self._names[action]

    def _distributions(self, examples: Sequence[Labelled]) -> Floats | None:
        """Over the student's actions; the decision's action alone where no more is known of it."""
        known = [probabilities(e) for e in examples]
        if all(one is None for one in known):
            return None
        shares = np.zeros(self._mask.shape, np.float32)
        for row, (e, one) in enumerate(zip(examples, known, strict=True)):
            shares[row, [self._names[action] for action in e.admissible]] = one_hot(e) if one is None else one
        return shares

    def _digest(self, actions: Sequence[str]) -> str:
        hashed = hashlib.sha256("\n".join(actions).encode())
        for name, value in sorted(vars(self).items()):
            if isinstance(value, np.ndarray):
                hashed.update(f"{name} {value.dtype} {value.shape}\n".encode() + value.tobytes())
        if self._symmetries is not None:
            hashed.update(self._symmetries.tobytes())
        return hashed.hexdigest()


class _Table:
    """Distinct grids in the order in which they came."""

    def __init__(self, form: GridForm) -> None:
        self._form = form
        self._numbers: dict[str, int] = {}
        self._cells: list[NDArray[np.int32]] = []
        self._directions: list[int] = []

    def number(self, text: str) -> int:
        found = self._numbers.get(text)
        if found is None:
            grid = self._form.read(text)
            found = self._numbers[text] = len(self._cells)
            self._cells.append(grid.codes.astype(np.int32))
            self._directions.append(grid.direction)
        return found

    def arrays(self) -> tuple[NDArray[np.int32], Integers]:
        cells = np.array(self._cells, np.int32).reshape(len(self._cells), self._form.cells)
        return cells, np.array(self._directions, np.int64)
