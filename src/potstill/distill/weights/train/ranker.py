"""From labelled decisions to a ranker that can be trained: words, arrays, network, and the side that the gate asks.

It knows what a ranker needs. It does not train (``teaching``), read stores, write files (``gate.export``) or play
episodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from potstill.distill.weights.continual.eligible import must_learn_on
from potstill.distill.weights.data.labelled import Labelled
from potstill.distill.weights.gate import Side
from potstill.distill.weights.gate_shapes import Question
from potstill.distill.weights.gate_shapes import questions_of as questions_of
from potstill.distill.weights.policies.pytorch import load_torch
from potstill.distill.weights.policies.ranker import Ranker, RankerShape, new_ranker, ranker_shape
from potstill.distill.weights.policies.texts import TextExamples, vocabulary_of
from potstill.distill.weights.train.recipe import RankerRecipe, Recipe
from potstill.distill.weights.train.teaching import Prepared
from potstill.edge.policy import Policy
from potstill.errors import ConfigError

torch = load_torch()


def prepare(learn: Sequence[Labelled], held_out: Sequence[Labelled], recipe: RankerRecipe) -> Prepared:
    """Everything that training needs. The vocabulary is made from ``learn`` alone.

    Raises ``ConfigError`` for data that teach nothing, before anything is trained.
    """
    if not learn:
        raise ConfigError("There is no decision to learn from. Record episodes of a teacher first.")
    shape = ranker_shape(vocabulary_of(learn), recipe.width)
    words = shape.words()
    data, held = TextExamples(learn, words), TextExamples(held_out, words)
    problem = data.problem()
    if problem is not None:
        raise ConfigError(f"Nothing can be learnt: {problem}. Record other episodes, or more of them.")
    return Prepared(new_ranker(shape, seed=recipe.train.seed, dropout=recipe.dropout), data, held)


def prepare_more(network: Ranker, learn: Sequence[Labelled], held_out: Sequence[Labelled]) -> Prepared:
    """A network that was trained before, with other data, in the words that it knows."""
    words = network.shape.words()
    return Prepared(network, TextExamples(learn, words), TextExamples(held_out, words))


def continued(policy: Policy, learn: Sequence[Labelled], held_out: Sequence[Labelled], recipe: Recipe) -> Prepared:
    """A written policy's own network, to be trained on. Its words stay: one that it does not know falls into a bucket.

    Raises ``ConfigError`` for a policy of another kind or of fewer bits, and as ``prepare`` does.
    """
    must_learn_on(policy)
    shape = msgspec.convert({name: policy.config[name] for name in RankerShape.__struct_fields__}, RankerShape)
    words = shape.words()
    data, held = TextExamples(learn, words), TextExamples(held_out, words)
    problem = data.problem()
    if problem is not None:
        raise ConfigError(f"Nothing can be learnt: {problem}. Record other episodes, or more of them.")
    network = new_ranker(shape, seed=recipe.train.seed, dropout=recipe.dropout)
    network.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in policy.arrays.items()})
    return Prepared(network, data, held)


def trained_side(network: Ranker) -> Side:
    """The network as the parity gate asks it: questions of any length in one batch."""
    words = network.shape.words()

    def answer(questions: Sequence[Question]) -> list[Any]:
        batch = TextExamples([unlabelled(question) for question in questions], words).batch(np.arange(len(questions)))
        network.eval()
        with torch.inference_mode():
            logits_BN = network(batch.inputs).numpy()
        return [row[: len(question.admissible)] for row, question in zip(logits_BN, questions, strict=True)]

    return answer


def unlabelled(question: Question) -> Labelled:
    """The question as a decision, whose label nobody reads."""
    return Labelled(
        environment="",
        task_id="",
        trajectory_id="",
        step_index=0,
        situation=question.situation,
        admissible=question.admissible,
        action=question.admissible[0],
    )
