"""The ranker: a situation and the admissible actions in, one logit for each action out. Numpy only.

This docstring is the contract with the trained network (``potstill.distill.weights.policies.ranker`` in PyTorch): the
same names, shapes and formulas. All is float32; ``W.x`` is the array ``x.weight`` with shape (out, in); [a; b] is
concatenation; the softmax and the products are the usual ones.

Configuration (JSON object)::

    kind        "ranker"
    vocabulary  list of words, position = number (``words.Words``)
    buckets     B >= 1, numbers behind the vocabulary for other words
    embedding   e, width of a word's embedding
    width       t, width of a text and of a past turn
    ages        A >= 1, rows of the table of ages
    age         a, width of an age's embedding
    query       k, width of queries and keys
    hidden      h, width of the scorer's hidden layer

Arrays::

    embedding.weight (len(vocabulary) + B, e)      text.weight   (t, 2e)        text.bias   (t,)
    age.weight       (A, a)                        past.weight   (t, 2t + a)    past.bias   (t,)
    query.weight     (k, 3t)                       key.weight    (k, t)
    nothing.key      (k,)                          nothing.value (t,)
    hidden.weight    (h, 7t + 4)                   hidden.bias   (h,)
    score.weight     (1, h)                        score.bias    (1,)

Forward pass, with T past turns (oldest first) and N candidates::

    E(x)   = embedding rows of Words(vocabulary, buckets).encode(x)                        (words, e)
    text(x) = relu(W.text [mean E(x); max E(x)] + text.bias);  zeros (t,) where x has no word
    past_i = relu(W.past [text(action_i); text(observation_i); age.weight[min(age_i, A - 1)]] + past.bias)
             age_i = T - 1 - i: 0 is the latest turn
    c, g, o = text(candidate), text(goal), text(observation)
    q      = W.query [c; g; o]
    keys   = nothing.key, W.key past_0, ..., W.key past_(T-1);   values = nothing.value, past_0, ..., past_(T-1)
    hist   = sum_i softmax_i(q . keys_i / sqrt(k)) values_i      (no past: nothing.value)
    f      = [c; g; o; hist; c*g; c*o; c*hist; scalars]                                    (7t + 4,)
    logit  = W.score relu(W.hidden f + hidden.bias) + score.bias

``scalars`` is the function below, for both sides: an action was done before where a past turn's action is equal to it,
character by character. The plan of a situation is not read. What is not admissible is simply not among the candidates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .layers import Floats, Shelf, whole
from .tensors import Array, BadFile
from .words import Words

SCALARS = 4
REMEMBERED = 2048
"""Texts whose words and vectors are kept: an episode shows the same actions and observations again at every step."""


def scalars(words: Words, situation: Mapping[str, Any], candidates: Sequence[str]) -> Floats:
    """What words alone say about each candidate, shape (candidates, 4), float32.

    ``log1p(times it was done)``; ``1 / (1 + age of the turn that did it last)`` (1 for the latest turn, 0 for never);
    the share of its words that the goal has; the share that the observation has (0 where it has no words). A word
    counts as often as it stands in the candidate; equality is that of its number.
    """
    done = [turn["action"] for turn in situation.get("past", ())]
    times: dict[str, int] = {}
    last: dict[str, int] = {}
    for index, action in enumerate(done):
        times[action] = times.get(action, 0) + 1
        last[action] = index
    goal = set(words.encode(situation.get("goal", "")))
    seen = set(words.encode(situation.get("observation", "")))
    table = np.zeros((len(candidates), SCALARS), np.float32)
    for row, candidate in enumerate(candidates):
        numbers = words.encode(candidate)
        if candidate in times:
            table[row, 0] = np.log1p(times[candidate])
            table[row, 1] = 1.0 / (len(done) - last[candidate])
        if numbers:
            table[row, 2] = sum(number in goal for number in numbers) / len(numbers)
            table[row, 3] = sum(number in seen for number in numbers) / len(numbers)
    return table


class _Remembering(Words):
    """Reads each text once, as long as it is shown again and again."""

    def __init__(self, vocabulary: Sequence[str], buckets: int) -> None:
        super().__init__(vocabulary, buckets)
        self._read: dict[str, list[int]] = {}

    def encode(self, text: str) -> list[int]:
        found = self._read.get(text)
        if found is None:
            found = super().encode(text)
            if len(self._read) >= REMEMBERED:
                self._read.clear()
            self._read[text] = found
        return found


class Ranker:
    """See the module's docstring. Raises ``BadFile`` where arrays and configuration do not fit."""

    kind = "ranker"

    def __init__(self, arrays: Mapping[str, Array], config: Mapping[str, Any]) -> None:
        e, t, age, k = (whole(config, name) for name in ("embedding", "width", "age", "query"))
        ages, hidden = whole(config, "ages"), whole(config, "hidden")
        self.words = _words(config)
        shelf = Shelf(arrays)
        self._embedding = shelf.table("embedding.weight", len(self.words), e)
        self._text = shelf.take("text.weight", t, 2 * e), shelf.take("text.bias", t)
        self._ages = shelf.take("age.weight", ages, age)
        self._past = shelf.take("past.weight", t, 2 * t + age).T, shelf.take("past.bias", t)
        self._query, self._key = shelf.take("query.weight", k, 3 * t).T, shelf.take("key.weight", k, t).T
        self._nothing = shelf.take("nothing.key", k), shelf.take("nothing.value", t)
        self._hidden = shelf.take("hidden.weight", hidden, 7 * t + SCALARS).T, shelf.take("hidden.bias", hidden)
        self._score = shelf.take("score.weight", 1, hidden)[0], shelf.take("score.bias", 1)
        shelf.done()
        self._width, self._sharpness = t, 1.0 / math.sqrt(k)
        self._remembered: dict[str, Floats] = {}

    def logits(self, situation: Mapping[str, Any], candidates: Sequence[str]) -> Floats:
        """One logit for each candidate, shape (candidates,).

        ``situation``: ``goal``, ``observation`` (texts) and ``past``, a list of ``{"action", "observation"}``, oldest
        first; what is absent is empty.
        """
        goal, seen = self.text(situation.get("goal", "")), self.text(situation.get("observation", ""))
        c = np.stack([self.text(candidate) for candidate in candidates]) if candidates else self._no_rows()
        g, o = np.broadcast_to(goal, c.shape), np.broadcast_to(seen, c.shape)
        hist = self._asked(np.concatenate([c, g, o], axis=1), situation.get("past", ()))
        known = scalars(self.words, situation, candidates)
        features = np.concatenate([c, g, o, hist, c * g, c * o, c * hist, known], axis=1)
        inner = np.maximum(features @ self._hidden[0] + self._hidden[1], 0.0)
        scores: Floats = inner @ self._score[0] + self._score[1]
        return scores

    def text(self, text: str) -> Floats:
        """The vector of a text, shape (width,). Each is computed by itself, so it never depends on its company."""
        found = self._remembered.get(text)
        if found is None:
            numbers = self.words.encode(text)
            found = self._vector(numbers) if numbers else np.zeros(self._width, np.float32)
            if len(self._remembered) >= REMEMBERED:
                self._remembered.clear()
            self._remembered[text] = found
        return found

    def _vector(self, numbers: list[int]) -> Floats:
        rows = self._embedding.rows(numbers)
        pooled = np.concatenate([rows.mean(axis=0), rows.max(axis=0)])
        vector: Floats = np.maximum(self._text[0] @ pooled + self._text[1], 0.0)
        return vector

    def _asked(self, about: Floats, past: Sequence[Mapping[str, Any]]) -> Floats:
        """What the past answers to each candidate, shape (candidates, width)."""
        keys, values = self._nothing[0][None], self._nothing[1][None]
        if past:
            turns = self._turns(past)
            keys, values = np.concatenate([keys, turns @ self._key]), np.concatenate([values, turns])
        weights = (about @ self._query) @ keys.T * self._sharpness
        weights = np.exp(weights - weights.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        answers: Floats = weights @ values
        return answers

    def _turns(self, past: Sequence[Mapping[str, Any]]) -> Floats:
        done = np.stack([self.text(turn["action"]) for turn in past])
        seen = np.stack([self.text(turn["observation"]) for turn in past])
        ages = self._ages[np.minimum(np.arange(len(past) - 1, -1, -1), len(self._ages) - 1)]
        parts = np.concatenate([done, seen, ages], axis=1)
        turns: Floats = np.maximum(parts @ self._past[0] + self._past[1], 0.0)
        return turns

    def _no_rows(self) -> Floats:
        return np.zeros((0, self._width), np.float32)


def _words(config: Mapping[str, Any]) -> _Remembering:
    vocabulary = config.get("vocabulary")
    if not isinstance(vocabulary, list):
        raise BadFile("Its configuration has no list 'vocabulary'.")
    try:
        return _Remembering(vocabulary, whole(config, "buckets"))
    except (TypeError, ValueError) as error:
        raise BadFile(str(error)) from None
