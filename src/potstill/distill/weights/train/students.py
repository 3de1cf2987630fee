"""Which student a recipe makes: the one place that knows them all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from potstill.distill.weights.data.labelled import Labelled
from potstill.distill.weights.gate import Side
from potstill.distill.weights.policies.film import Film
from potstill.distill.weights.policies.mlp import Mlp
from potstill.distill.weights.train import film, mlp, ranker
from potstill.distill.weights.train.recipe import FilmRecipe, MlpRecipe, Recipe
from potstill.distill.weights.train.teaching import Prepared


def prepare(learn: Sequence[Labelled], held_out: Sequence[Labelled], recipe: Recipe) -> Prepared:
    """A network with its first weights, and the data as it reads them. Raises as the student's own ``prepare``."""
    if isinstance(recipe, FilmRecipe):
        return film.prepare(learn, held_out, recipe)
    if isinstance(recipe, MlpRecipe):
        return mlp.prepare(learn, held_out, recipe)
    return ranker.prepare(learn, held_out, recipe)


def trained_side(network: Any) -> Side:
    """The network as the parity gate asks it."""
    if isinstance(network, Mlp):
        return mlp.trained_side(network)
    return film.trained_side(network) if isinstance(network, Film) else ranker.trained_side(network)


def questions_of(network: Any, decisions: Sequence[Labelled]) -> Sequence[Any]:
    """What the parity gate asks this kind of student: held-out decisions without their answers."""
    return mlp.questions_of(decisions) if isinstance(network, Mlp) else ranker.questions_of(decisions)
