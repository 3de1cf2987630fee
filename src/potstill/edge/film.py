"""The grid student: a grid of symbols, a mission and the past in, one logit for each admissible action out. Numpy only.

The mission's words and what was done before modulate convolutions over what is seen now (FiLM, arXiv 1709.07871; for
BabyAI arXiv 1810.08272). This docstring is the contract with the trained network
(``potstill.distill.weights.policies.film`` in PyTorch). All is float32; ``W.x`` is the array ``x.weight`` (out, in)
with its bias ``x.bias``; [a; b] is concatenation.

Configuration (JSON object)::

    kind        "film"
    vocabulary  list of words, position = number (``words.Words``);  buckets: B >= 1, numbers behind it
    actions     list of all actions that it knows, n of them
    size        s, columns and rows of the grid;  symbols: list, how many each number of a cell has, v in all
    embedding   e, of a word;      goal    g, state of the mission's reader
    patch       p, of a cell of the past;  memory  m, of a past turn and of the memory's state
    condition   k;      channels c, of a cell now;    blocks  b >= 1
    squeezed    q, of a cell before the last layers;  hidden  h

Arrays::

    word.weight      (len(vocabulary) + B, e)      goal.input, goal.hidden      the unit of ``gru`` (e to g)
    patch.weight     (v, p)                        turn       (m, s*s*p)        start      (m, g)
    action.weight    (n + 1, m)                    facing.weight (4, m)
    memory.input, memory.hidden                    the unit of ``gru`` (m to m)
    condition        (k, g + m)                    direction.weight (4, k)
    symbol.weight    (v, c)                        place.weight (s*s, c)         wanted     (c, k)
    block.I.conv     (c, 9c)                       block.I.film (2c, k)         for I = 0 .. b-1
    squeeze          (q, c)                        hidden     (h, s*s*q + k)    score      (n, h)

Forward pass, for a grid with direction d and T past turns (oldest first)::

    goal   = the last state of the mission's unit over word.weight[words], from zeros
    turn_i = relu(W.turn [cells of grid_i in patch] + action.weight[action_i] + facing.weight[direction_i])
             an action that is none of the n has the number n
    mind   = the last state of the memory's unit over turn_0 .. turn_(T-1), from tanh(W.start goal)
    cond   = relu(W.condition [goal; mind] + direction.weight[d])
    x      = (W.wanted cond) * symbol.weight, summed over the numbers of a cell, + place.weight   (s*s, c)
    x      = x + relu((1 + u) * W.conv neighbours(x) + w),  [u; w] = W.film cond                  for each block
             neighbours of (i, j): the 9 cells (i-1, j-1), (i-1, j), .. (i+1, j+1), zeros beyond the border
    logits = W.score relu(W.hidden [relu(W.squeeze x), cell by cell; cond])

The plan of a situation is not read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .grids import DIRECTIONS, Grid, GridForm
from .gru import Gru
from .layers import Floats, Shelf, whole
from .tensors import Array, BadFile
from .words import Words

REMEMBERED = 2048
"""Past turns and missions whose vectors are kept: an episode shows the same ones again at every step."""
MOST_CODES = 100_000
MOST_BLOCKS = 16


class Film:
    """See the module's docstring. Raises ``BadFile`` where arrays and configuration do not fit."""

    kind = "film"

    def __init__(self, arrays: Mapping[str, Array], config: Mapping[str, Any]) -> None:
        self.words, self.form = _words(config), grid_form(config)
        self.actions = {action: number for number, action in enumerate(_actions(config))}
        e, g, p, m = (whole(config, name) for name in ("embedding", "goal", "patch", "memory"))
        k, c, q, h = (whole(config, name) for name in ("condition", "channels", "squeezed", "hidden"))
        n, cells, kinds = len(self.actions), self.form.cells, sum(self.form.symbols)
        shelf = Shelf(arrays)
        self._word = shelf.table("word.weight", len(self.words), e)
        self._goal, self._memory = Gru(shelf, "goal", e, g), Gru(shelf, "memory", m, m)
        of_code = self.form.of_code()
        self._patch = shelf.take("patch.weight", kinds, p)[of_code].sum(axis=1)
        self._symbol = shelf.take("symbol.weight", kinds, c)[of_code].sum(axis=1)
        self._place, self._wanted = shelf.take("place.weight", cells, c), _linear(shelf, "wanted", c, k)
        self._turn, self._start = _linear(shelf, "turn", m, cells * p), _linear(shelf, "start", m, g)
        self._action, self._facing = shelf.take("action.weight", n + 1, m), shelf.take("facing.weight", DIRECTIONS, m)
        self._condition = _linear(shelf, "condition", k, g + m)
        self._direction = shelf.take("direction.weight", DIRECTIONS, k)
        self._blocks = [
            (_linear(shelf, f"block.{block}.conv", c, 9 * c), _linear(shelf, f"block.{block}.film", 2 * c, k))
            for block in range(whole(config, "blocks", 1, MOST_BLOCKS))
        ]
        self._squeeze = _linear(shelf, "squeeze", q, c)
        self._hidden, self._score = _linear(shelf, "hidden", h, cells * q + k), _linear(shelf, "score", n, h)
        shelf.done()
        self._near = neighbours(self.form.size)
        self._goals: dict[str, Floats] = {}
        self._turns: dict[tuple[str, str], Floats] = {}

    def logits(self, situation: Mapping[str, Any], candidates: Sequence[str]) -> Floats:
        """One logit for each candidate, shape (candidates,).

        ``situation``: ``goal`` and ``observation`` (texts, the latter a grid as in ``grids``), ``past``: a list of
        ``{"action", "observation"}``, oldest first. Raises ``ValueError`` for what is no such grid, and for a candidate
        that is none of its actions.
        """
        chosen = [self._number(candidate) for candidate in candidates]
        grid = self.form.read(situation.get("observation", ""))
        goal = self._mission(situation.get("goal", ""))
        past = [self._past(turn["observation"], turn["action"]) for turn in situation.get("past", ())]
        start = np.tanh(_applied(self._start, goal))
        mind = self._memory.last(np.stack(past), start) if past else start
        scores: Floats = self._scores(grid, goal, mind)[chosen]
        return scores

    def _scores(self, grid: Grid, goal: Floats, mind: Floats) -> Floats:
        said = _applied(self._condition, np.concatenate([goal, mind])) + self._direction[grid.direction]
        cond = np.maximum(said, 0.0)
        x = self._symbol[grid.codes] * _applied(self._wanted, cond) + self._place
        channels = x.shape[1]
        for conv, film in self._blocks:
            around = np.concatenate([x, np.zeros((1, channels), np.float32)])[self._near].reshape(len(x), -1)
            by, plus = np.split(_applied(film, cond), 2)
            x = x + np.maximum((1.0 + by) * _applied(conv, around) + plus, 0.0)
        cells = np.maximum(_applied(self._squeeze, x), 0.0).reshape(-1)
        inner = np.maximum(_applied(self._hidden, np.concatenate([cells, cond])), 0.0)
        return _applied(self._score, inner)

    def _mission(self, text: str) -> Floats:
        found = self._goals.get(text)
        if found is None:
            zeros, numbers = np.zeros(self._goal.width, np.float32), self.words.encode(text)
            found = self._goal.last(self._goal.gates(self._word.rows(numbers)), zeros) if numbers else zeros
            _keep(self._goals, text, found)
        return found

    def _past(self, observation: str, action: str) -> Floats:
        """What a past turn says to the gates of the memory."""
        found = self._turns.get((observation, action))
        if found is None:
            grid = self.form.read(observation)
            said = _applied(self._turn, self._patch[grid.codes].reshape(-1)) + self._facing[grid.direction]
            done = self._action[self.actions.get(action, len(self.actions))]
            found = self._memory.gates(np.maximum(said + done, 0.0))
            _keep(self._turns, (observation, action), found)
        return found

    def _number(self, candidate: str) -> int:
        if candidate not in self.actions:
            raise ValueError(unknown_action(candidate, self.actions))
        return self.actions[candidate]


def unknown_action(action: str, known: Sequence[str] | Mapping[str, int]) -> str:
    """What to say of an action that a policy has no output for."""
    return f"This policy has never seen the action '{action[:40]}'. It knows: {', '.join(known)[:200]}."


def grid_form(config: Mapping[str, Any]) -> GridForm:
    """The form of the grids that a configuration describes. Raises ``BadFile``."""
    symbols = config.get("symbols")
    if not isinstance(symbols, list) or not 1 <= len(symbols) <= 8:
        raise BadFile("Its configuration has no list 'symbols' with one to eight numbers.")
    form = GridForm(whole(config, "size", 1, 64), tuple(whole({"symbols": n}, "symbols", 1, 1000) for n in symbols))
    if form.codes > MOST_CODES:
        raise BadFile(f"Its configuration's symbols make {form.codes} kinds of cells; allowed: up to {MOST_CODES}.")
    return form


def _linear(shelf: Shelf, name: str, out: int, wide: int) -> tuple[Floats, Floats]:
    return np.ascontiguousarray(shelf.take(f"{name}.weight", out, wide).T), shelf.take(f"{name}.bias", out)


def _applied(layer: tuple[Floats, Floats], x: Floats) -> Floats:
    found: Floats = x @ layer[0] + layer[1]
    return found


def neighbours(size: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """For each cell the numbers of the 9 around it, shape (size * size, 9); size * size is beyond the border."""
    padded = np.full((size + 2, size + 2), size * size, np.int64)
    padded[1:-1, 1:-1] = np.arange(size * size).reshape(size, size)
    around = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
    return np.ascontiguousarray(around.reshape(size * size, 9))


def _keep(kept: dict[Any, Floats], key: Any, value: Floats) -> None:
    if len(kept) >= REMEMBERED:
        kept.clear()
    kept[key] = value


def _actions(config: Mapping[str, Any]) -> list[str]:
    given = config.get("actions")
    if not isinstance(given, list) or not given or not all(isinstance(action, str) for action in given):
        raise BadFile("Its configuration has no list 'actions' with one text at least.")
    if len(set(given)) < len(given):
        raise BadFile("Its list 'actions' holds an action twice.")
    return given


def _words(config: Mapping[str, Any]) -> Words:
    vocabulary = config.get("vocabulary")
    if not isinstance(vocabulary, list):
        raise BadFile("Its configuration has no list 'vocabulary'.")
    try:
        return Words(vocabulary, whole(config, "buckets"))
    except (TypeError, ValueError) as error:
        raise BadFile(str(error)) from None
