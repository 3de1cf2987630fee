"""From labelled decisions in grids to a network that can be trained, and the side that the gate asks.

It knows what a grid student needs. Training itself is the same for every student (``teaching``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from potstill.distill.weights.data.labelled import Labelled
from potstill.distill.weights.gate import Side
from potstill.distill.weights.gate_shapes import Question
from potstill.distill.weights.policies.film import Film, film_shape, new_film
from potstill.distill.weights.policies.grids import GridExamples, actions_of
from potstill.distill.weights.policies.pytorch import load_torch
from potstill.distill.weights.policies.symmetries import Symmetries, colours_in
from potstill.distill.weights.policies.texts import words_of
from potstill.distill.weights.train.ranker import unlabelled
from potstill.distill.weights.train.recipe import Augment, FilmRecipe
from potstill.distill.weights.train.teaching import Prepared
from potstill.errors import ConfigError

torch = load_torch()


def prepare(learn: Sequence[Labelled], held_out: Sequence[Labelled], recipe: FilmRecipe) -> Prepared:
    """Everything that training needs. The vocabulary and the actions are those of ``learn`` alone.

    Raises ``ConfigError`` for data that teach nothing or hold no grids, before anything is trained.
    """
    if not learn:
        raise ConfigError("There is no decision to learn from. Record episodes of a teacher first.")
    missions = dict.fromkeys(decision.situation.goal for decision in learn)
    colours = Augment.COLOURS in recipe.augment
    vocabulary = dict.fromkeys(
        [*words_of(missions), *(colours_in(missions) if colours else [])]
    )  # a colour of one mission only is a word, too
    shape = film_shape(tuple(vocabulary), actions_of(learn), recipe.width)
    words, form = shape.words(), shape.form()
    symmetries = None
    if recipe.augment:
        if recipe.train.batch == 1:
            raise ConfigError(
                "--augment draws anew for each batch, and with --batch 1 a decision is always the same batch: it would "
                "look alike in every epoch. Type --batch 2 or more."
            )
        rotations, seed = Augment.ROTATIONS in recipe.augment, recipe.train.seed
        symmetries = Symmetries(words, form, shape.actions, colours=colours, rotations=rotations, seed=seed)
    data = GridExamples(learn, words, form, shape.actions, symmetries)
    held = GridExamples(held_out, words, form, shape.actions)
    problem = data.problem()
    if problem is not None:
        raise ConfigError(f"Nothing can be learnt: {problem}. Record other episodes, or more of them.")
    return Prepared(new_film(shape, seed=recipe.train.seed, dropout=recipe.dropout), data, held)


def trained_side(network: Film) -> Side:
    """The network as the parity gate asks it: questions of any length in one batch."""
    shape = network.shape
    words, form, places = shape.words(), shape.form(), {action: place for place, action in enumerate(shape.actions)}

    def answer(questions: Sequence[Question]) -> list[Any]:
        some = [unlabelled(question) for question in questions]
        batch = GridExamples(some, words, form, shape.actions).batch(np.arange(len(questions)))
        network.eval()
        with torch.inference_mode():
            logits_BA = network(batch.inputs).numpy()
        return [
            row[[places[action] for action in question.admissible]]
            for row, question in zip(logits_BA, questions, strict=True)
        ]

    return answer
