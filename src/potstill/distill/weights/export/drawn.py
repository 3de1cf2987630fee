"""Questions made of a policy's own vocabulary, for a gate where its held-out decisions are not at hand.

They say whether two programs compute the same, with words, pasts and numbers of actions of all sizes. They do not say
how a policy does on tasks. Drawn by a seed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from potstill.distill.weights.gate_shapes import Question
from potstill.edge.film import Film
from potstill.edge.grids import DIRECTIONS
from potstill.edge.mlp import Mlp
from potstill.edge.policy import Policy
from potstill.types import Past, Situation

MOST_WORDS, MOST_TURNS, MOST_ACTIONS = 30, 12, 20
UNKNOWN = "zzyzx"
"""Falls into a bucket."""


def drawn_questions(policy: Policy, count: int = 100, seed: int = 0) -> list[Any]:
    """``count`` questions, or vectors for a policy that reads them: as spread as its own inputs were."""
    rng = np.random.default_rng(seed)
    if isinstance(policy.network, Mlp):
        spread = rng.normal(size=(count, policy.network.inputs))
        if "input.mean" in policy.arrays:
            spread = spread / policy.arrays["input.scale"] + policy.arrays["input.mean"]
        return list(spread.astype(np.float32))
    if isinstance(policy.network, Film):
        return [_grid_question(policy.network, rng) for _ in range(count)]
    words = [*policy.network.words.vocabulary, UNKNOWN]
    return [_question(words, rng) for _ in range(count)]


def _grid_question(film: Film, rng: np.random.Generator) -> Question:
    words, actions = [*film.words.vocabulary, UNKNOWN], list(film.actions)
    done = [*actions, UNKNOWN]
    past = tuple(
        Past(observation=_grid(film, rng), action=done[rng.integers(len(done))])
        for _ in range(rng.integers(MOST_TURNS))
    )
    admissible = rng.permutation(actions)[: rng.integers(1, len(actions) + 1)].tolist()
    situation = Situation(goal=_text(words, rng), observation=_grid(film, rng), past=past)
    return Question(situation=situation, admissible=tuple(admissible))


def _grid(film: Film, rng: np.random.Generator) -> str:
    cells = rng.integers(film.form.symbols, size=(film.form.size, film.form.size, len(film.form.symbols)))
    return json.dumps({"grid": cells.tolist(), "direction": int(rng.integers(DIRECTIONS))})


def _question(words: Sequence[str], rng: np.random.Generator) -> Question:
    past = tuple(
        Past(observation=_text(words, rng), action=_text(words, rng, 4)) for _ in range(rng.integers(MOST_TURNS))
    )
    actions = [_text(words, rng, 4, least=1) for _ in range(rng.integers(1, MOST_ACTIONS + 1))]
    if past:
        actions.append(past[-1].action)
    admissible = tuple(dict.fromkeys(actions))
    situation = Situation(goal=_text(words, rng), observation=_text(words, rng), past=past)
    return Question(situation=situation, admissible=admissible)


def _text(words: Sequence[str], rng: np.random.Generator, most: int = MOST_WORDS, least: int = 0) -> str:
    return " ".join(words[at] for at in rng.integers(len(words), size=rng.integers(least, most + 1)))
