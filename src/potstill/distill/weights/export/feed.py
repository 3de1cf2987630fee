"""Questions as the inputs of an ONNX policy: numpy arrays under the names that its file asks for.

Texts become numbers of words (``edge.words``), each distinct text of a batch once; everything else points at them.
Letters as in ``networks``; padding is -1. Knows questions and words. Does not know how a model is run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from potstill.distill.weights.gate_shapes import Question
from potstill.edge.grids import GridForm
from potstill.edge.ranker import SCALARS, scalars
from potstill.edge.words import Words

Inputs = dict[str, NDArray[Any]]


def vectors(questions: Sequence[Any]) -> Inputs:
    """``x_BD`` float32 (B, D)."""
    return {"x_BD": np.asarray(questions, np.float32)}


def texts(questions: Sequence[Question], words: Words) -> Inputs:
    """The inputs of a ranker::

    words_UL             int64    numbers of the words of each distinct text
    goal_B observation_B int64    rows of words_UL
    candidate_BN         int64    rows of words_UL, in the order of the admissible actions
    past_action_BT past_observation_BT    int64    the same, oldest turn first
    scalars_BNS          float32  ``edge.ranker.scalars`` of each candidate
    """
    rows: dict[str, int] = {}

    def row(text: str) -> int:
        return rows.setdefault(text, len(rows))

    asked = [question.situation for question in questions]
    known = [
        scalars(words, msgspec.to_builtins(one.situation), one.admissible).reshape(-1, SCALARS) for one in questions
    ]
    most = max(len(question.admissible) for question in questions)
    table = np.zeros((len(questions), most, SCALARS), np.float32)
    for index, some in enumerate(known):
        table[index, : len(some)] = some
    pointing = {
        "goal_B": np.array([row(one.goal) for one in asked], np.int64),
        "observation_B": np.array([row(one.observation) for one in asked], np.int64),
        "candidate_BN": padded([[row(text) for text in question.admissible] for question in questions]),
        "past_action_BT": padded([[row(turn.action) for turn in one.past] for one in asked]),
        "past_observation_BT": padded([[row(turn.observation) for turn in one.past] for one in asked]),
    }
    return {"words_UL": padded([words.encode(text) for text in rows], least=1), **pointing, "scalars_BNS": table}


def grids(questions: Sequence[Question], words: Words, form: GridForm, actions: Mapping[str, int]) -> Inputs:
    """The inputs of a grid student; ``actions``: the number of each that it knows::

    words_BW           int64    numbers of the mission's words
    cell_BSK           int64    for each cell the rows of its numbers in the tables of symbols (``GridForm.of_code``)
    direction_B        int64
    past_cell_BTSK past_direction_BT    int64    the same of the past turns, oldest first
    past_action_BT     int64    what was done there; of an action that it does not know, their number

    W and T are 1 at least. Raises ``ValueError`` for an observation that is no such grid.
    """
    asked, of_code = [question.situation for question in questions], form.of_code()
    now = [form.read(one.observation) for one in asked]
    past = [[form.read(turn.observation) for turn in one.past] for one in asked]
    turns = max([1, *map(len, past)])
    past_cells = np.zeros((len(asked), turns, form.cells), np.int64)
    for index, some in enumerate(past):
        for nth, grid in enumerate(some):
            past_cells[index, nth] = grid.codes
    return {
        "words_BW": padded([words.encode(one.goal) for one in asked], least=1),
        "cell_BSK": of_code[np.stack([grid.codes for grid in now])],
        "direction_B": np.array([grid.direction for grid in now], np.int64),
        "past_cell_BTSK": of_code[past_cells],
        "past_direction_BT": np.maximum(padded([[grid.direction for grid in some] for some in past], least=1), 0),
        "past_action_BT": padded(
            [[actions.get(turn.action, len(actions)) for turn in one.past] for one in asked], least=1
        ),
    }


def padded(rows: Sequence[Sequence[int]], least: int = 0) -> NDArray[np.int64]:
    """Rows of different lengths as one array, -1 behind each.

    >>> padded([[4], [5, 6]]).tolist()
    [[4, -1], [5, 6]]
    """
    table = np.full((len(rows), max([least, *map(len, rows)])), -1, np.int64)
    for index, row in enumerate(rows):
        table[index, : len(row)] = row
    return table
