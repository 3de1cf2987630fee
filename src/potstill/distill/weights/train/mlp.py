"""From labelled decisions whose observations are vectors to a perceptron to train, and the side that the gate asks.

It knows what a perceptron needs: one list of actions, and as many numbers in every observation. It does not read
stores, write files (``gate.export``) or play episodes. Training itself is ``teaching``, as for every student.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.distill.weights.data.checks import fixed_actions
from potstill.distill.weights.data.labelled import Labelled, one_hot, probabilities
from potstill.distill.weights.gate import Side
from potstill.distill.weights.gate_shapes import ASKED
from potstill.distill.weights.policies.mlp import Mlp, MlpShape, VectorExamples, new_mlp
from potstill.distill.weights.policies.pytorch import load_torch
from potstill.distill.weights.train.recipe import MlpRecipe
from potstill.distill.weights.train.teaching import Prepared
from potstill.edge.vectors import vector_of
from potstill.errors import ConfigError

torch = load_torch()


def prepare(learn: Sequence[Labelled], held_out: Sequence[Labelled], recipe: MlpRecipe) -> Prepared:
    """Everything that training needs. Mean and scale of the observations are those of ``learn``.

    Raises ``ConfigError`` for data that teach nothing or that are no vectors of one width, before anything is trained.
    """
    if not learn:
        raise ConfigError("There is no decision to learn from. Record episodes of a teacher first.")
    width = len(vector_in(learn[0]))
    actions = fixed_actions([*learn, *held_out])
    data, held = (vector_examples(some, actions, width) for some in (learn, held_out))
    problem = data.problem()
    if problem is not None:
        raise ConfigError(f"Nothing can be learnt: {problem}. Record other episodes, or more of them.")
    sizes = (width, *([recipe.width] * recipe.layers), len(actions))
    shape = MlpShape(sizes=sizes, activation=recipe.activation, actions=actions)
    return Prepared(new_mlp(shape, seed=recipe.train.seed, normal=data.normal(), dropout=recipe.dropout), data, held)


def vector_examples(decisions: Sequence[Labelled], actions: Sequence[str], width: int) -> VectorExamples:
    """Decisions as arrays, their actions as positions in ``actions``. A distribution, where one is known of any
    decision, is the action alone for the others. Raises ``ConfigError`` for an observation of another width."""
    places = {action: place for place, action in enumerate(actions)}
    vectors = np.zeros((len(decisions), width), np.float32)
    for row, decision in enumerate(decisions):
        vector = vector_in(decision)
        if len(vector) != width:
            raise ConfigError(
                f"The observation of task {decision.task_id} step {decision.step_index} has {len(vector)} numbers, the "
                f"first one {width}. Learn from one environment at a time: --env NAME, or --run RUN."
            )
        vectors[row] = vector
    return VectorExamples(
        vectors,
        np.array([places[decision.action] for decision in decisions], np.int64),
        action_count=len(actions),
        probabilities=_shares(decisions, places),
        weights=np.array([decision.weight for decision in decisions], np.float32),
    )


def vector_in(decision: Labelled) -> NDArray[np.float32]:
    """The observation. Raises ``ConfigError`` where it is no JSON list of numbers."""
    seen = decision.situation.observation
    vector = vector_of(seen)
    if vector is None:
        raise ConfigError(
            f"The observation of task {decision.task_id} step {decision.step_index} is no JSON list of numbers but "
            f"{' '.join(seen.split())[:40]!r}: an mlp reads vectors. For texts type: --student ranker"
        )
    return vector


def trained_side(network: Mlp) -> Side:
    """The network as the parity gate asks it: vectors in one batch."""

    def answer(vectors: Sequence[Any]) -> list[Any]:
        network.eval()
        with torch.inference_mode():
            return list(network(torch.from_numpy(np.stack(vectors).astype(np.float32))).numpy())

    return answer


def questions_of(decisions: Sequence[Labelled], most: int = ASKED) -> list[NDArray[np.float32]]:
    """What the gate asks about: ``most`` held-out observations, evenly picked."""
    return [vector_in(decision) for decision in decisions[:: max(1, -(-len(decisions) // most))]]


def _shares(decisions: Sequence[Labelled], places: dict[str, int]) -> NDArray[np.float64] | None:
    known = [probabilities(decision) for decision in decisions]
    if all(one is None for one in known):
        return None
    shares = np.zeros((len(decisions), len(places)))
    for row, (decision, one) in enumerate(zip(decisions, known, strict=True)):
        shares[row, [places[action] for action in decision.admissible]] = one_hot(decision) if one is None else one
    return shares
