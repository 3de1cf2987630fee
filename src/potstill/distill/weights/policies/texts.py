"""Labelled decisions of text worlds as arrays: each distinct text is read once, then everything is numbers.

Knows the words (``edge.words``), what the ranker sees of a situation, and how to cut batches without a loop over rows.
Does not choose decisions, split or weigh them (``data``), and holds no tensor longer than a batch.
Letters: B decisions of a batch, N candidates at most (M in all), T past turns at most, U distinct texts of a batch.
"""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from potstill.distill.weights.data.labelled import Labelled, one_hot, probabilities
from potstill.distill.weights.policies.batch import Batch, Floats, Integers, Tensor, gathered, padded, ragged, told
from potstill.distill.weights.policies.pytorch import load_torch
from potstill.edge.ranker import SCALARS, scalars
from potstill.edge.words import Words, split

torch = load_torch()


class RankerInputs(NamedTuple):
    """What the ranker reads. Texts are rows of one table; everything else points into it."""

    words: Tensor
    """Numbers of all words of the batch's distinct texts, text by text, int64."""
    starts_U: Tensor
    worded_U: Tensor
    """False for a text without a word."""
    goal_B: Tensor
    observation_B: Tensor
    candidate_BN: Tensor
    candidates_BN: Tensor
    """True where there is a candidate: M of them."""
    past_action_BT: Tensor
    past_observation_BT: Tensor
    past_BT: Tensor
    """True where there is a past turn; oldest first, from the left."""
    age_BT: Tensor
    scalars_MS: Tensor
    """Of the candidates, decision by decision, without padding."""


def vocabulary_of(examples: Iterable[Labelled], *, least: int = 2, most: int = 4000) -> list[str]:
    """Words that stand in at least ``least`` distinct texts, the commonest first; ties in alphabetical order.

    Of the training split only: a word that only held-out tasks have must fall into a bucket there as it would later.
    """
    texts: set[str] = set()
    for example in examples:
        texts.update((example.situation.goal, example.situation.observation), example.admissible)
        texts.update(text for turn in example.situation.past for text in (turn.observation, turn.action))
    return words_of(texts, least=least, most=most)


def words_of(texts: Iterable[str], *, least: int = 2, most: int = 4000) -> list[str]:
    """Words that stand in at least ``least`` of the texts, the commonest first; ties in alphabetical order."""
    counts = Counter(word for text in texts for word in set(split(text)))
    common = sorted((-count, word) for word, count in counts.items() if count >= least)
    return [word for _, word in common[:most]]


class TextExamples:
    """A dataset of text decisions. Satisfies ``batch.Examples``."""

    def __init__(self, examples: Sequence[Labelled], words: Words) -> None:
        table = _Table(words)
        self._goal = np.array([table.number(e.situation.goal) for e in examples], np.int64)
        self._observation = np.array([table.number(e.situation.observation) for e in examples], np.int64)
        self._candidate = _column(table, [e.admissible for e in examples])
        self._past_action = _column(table, [[turn.action for turn in e.situation.past] for e in examples])
        self._past_observation = _column(table, [[turn.observation for turn in e.situation.past] for e in examples])
        self._candidates_at = ragged([len(e.admissible) for e in examples])
        self._past_at = ragged([len(e.situation.past) for e in examples])
        self._target = np.array([e.admissible.index(e.action) for e in examples], np.int64)
        self._weight = np.array([e.weight for e in examples], np.float32)
        self._probabilities = _distributions(examples)
        self._told = told(self._probabilities)
        self._scalars = _scalars(examples, words)
        self._words, self._words_at = table.arrays()
        self._kinds = len({e.action for e in examples})
        environments = sorted({e.environment for e in examples})
        several = len(environments) > 1
        self.groups = np.array([environments.index(e.environment) for e in examples], np.int64) if several else None
        self.digest = self._digest()

    def __len__(self) -> int:
        return len(self._target)

    def problem(self) -> str | None:
        if len(self) == 0:
            return "there is no decision in these data"
        if not np.any(self._weight > 0):
            return "every decision has weight 0"
        if bool(np.all(np.diff(self._candidates_at) < 2)):
            return "no decision has more than one admissible action, so there is nothing to choose"
        if self._kinds == 1:
            return "the teacher's action is the same in every decision"
        return None

    def easiest_first(self) -> Integers:
        """By how many actions there are to choose among, then by how much has happened; else as they come."""
        rows = np.lexsort((np.diff(self._past_at), np.diff(self._candidates_at)))
        return rows.astype(np.int64)

    def batch(self, rows: Integers) -> Batch:
        rows = np.asarray(rows, np.int64)
        where, lengths = gathered(self._candidates_at, rows)
        mask = padded(lengths, max(1, int(lengths.max())))
        past_where, past_lengths = gathered(self._past_at, rows)
        past = padded(past_lengths, int(past_lengths.max()))
        used = (
            self._goal[rows],
            self._observation[rows],
            self._candidate[where],
            self._past_action[past_where],
            self._past_observation[past_where],
        )
        distinct, positions = np.unique(np.concatenate(used), return_inverse=True)
        goal, observation, candidate, action, seen = np.split(positions, np.cumsum([len(u) for u in used])[:-1])
        word_where, word_lengths = gathered(self._words_at, distinct)
        inputs = RankerInputs(
            words=torch.from_numpy(self._words[word_where]),
            starts_U=torch.from_numpy(np.cumsum(word_lengths) - word_lengths),
            worded_U=torch.from_numpy(word_lengths > 0),
            goal_B=torch.from_numpy(goal),
            observation_B=torch.from_numpy(observation),
            candidate_BN=_spread(mask, candidate),
            candidates_BN=torch.from_numpy(mask),
            past_action_BT=_spread(past, action),
            past_observation_BT=_spread(past, seen),
            past_BT=torch.from_numpy(past),
            age_BT=torch.from_numpy(np.maximum(past_lengths[:, None] - 1 - np.arange(past.shape[1]), 0)),
            scalars_MS=torch.from_numpy(self._scalars[where]),
        )
        soft = None if self._probabilities is None else _spread(mask, self._probabilities[where])
        known = None if self._told is None else _spread(mask, self._told[where])
        target, weight = torch.from_numpy(self._target[rows]), torch.from_numpy(self._weight[rows])
        return Batch(inputs, torch.from_numpy(mask), target, soft, weight, known)

    def _digest(self) -> str:
        hashed = hashlib.sha256()
        for name, value in sorted(vars(self).items()):
            if isinstance(value, np.ndarray):
                hashed.update(f"{name} {value.dtype} {value.shape}\n".encode() + value.tobytes())
        return hashed.hexdigest()


class _Table:
    """Distinct texts in the order in which they came, as numbers of words."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        return self._numbers.setdefault(text, len(self._numbers))

    def arrays(self) -> tuple[Integers, Integers]:
        encoded = [self._words.encode(text) for text in self._numbers]
        flat = np.array([number for text in encoded for number in text], np.int64)
        return flat, ragged([len(text) for text in encoded])


class _Remembering(Words):
    """The same numbers, kept for texts that were asked before: candidates repeat from step to step."""

    def __init__(self, words: Words) -> None:
        super().__init__(words.vocabulary, words.buckets)
        self._kept = functools.lru_cache(maxsize=None)(super().encode)

    def encode(self, text: str) -> list[int]:
        return self._kept(text)


def _column(table: _Table, rows: Iterable[Sequence[str]]) -> Integers:
    return np.array([table.number(text) for row in rows for text in row], np.int64)


def _distributions(examples: Sequence[Labelled]) -> Floats | None:
    """All distributions one behind the other, a decision's action alone where no more is known of it.

    None where nothing is known of any.
    """
    known = [probabilities(e) for e in examples]
    if all(one is None for one in known):
        return None
    rows = (one_hot(e) if one is None else one for e, one in zip(examples, known, strict=True))
    return np.array([p for row in rows for p in row], np.float32)


def _scalars(examples: Sequence[Labelled], words: Words) -> Floats:
    remembering = _Remembering(words)
    rows = [scalars(remembering, msgspec.to_builtins(e.situation), e.admissible) for e in examples]
    return np.concatenate(rows) if rows else np.zeros((0, SCALARS), np.float32)


def _spread(mask: np.ndarray, values: np.ndarray) -> Tensor:
    """Values of rows that lie one behind the other as a tensor with a row each, 0 where ``mask`` is False."""
    table = np.zeros((*mask.shape, *values.shape[1:]), values.dtype)
    table[mask] = values
    return torch.from_numpy(table)
