"""Questions as the inputs of an ONNX policy: numpy arrays under the names that its file asks for.

Texts become numbers of words (``edge.words``), each distinct text of a batch once; everything else points at them.
Letters as in ``networks``; padding is -1. Knows questions and words. Does not know how a model is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from potstill.distill.weights.gate_shapes import Question
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


def padded(rows: Sequence[Sequence[int]], least: int = 0) -> NDArray[np.int64]:
    """Rows of different lengths as one array, -1 behind each.

    >>> padded([[4], [5, 6]]).tolist()
    [[4, -1], [5, 6]]
    """
    table = np.full((len(rows), max([least, *map(len, rows)])), -1, np.int64)
    for index, row in enumerate(rows):
        table[index, : len(row)] = row
    return table
