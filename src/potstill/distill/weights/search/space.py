"""What a search may choose of a recipe: data, loss, temperature, width, learning rate. Pure, without Optuna.

A point is what one trial chose, as plain values by name. Everything else of a recipe stays as it was given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from potstill.distill.weights.losses.config import Direction, Kind, build
from potstill.distill.weights.search.labels import SHARES
from potstill.distill.weights.search.weighing import GIVEN
from potstill.distill.weights.train.recipe import MlpRecipe, Recipe
from potstill.types import Struct

Value = str | int | float
Point = dict[str, Value]
_NOT_OF_LOSS = ("tasks", "data", "width", "learning_rate")
"""The names of a point that are no options of the loss."""


class Range(Struct, frozen=True, tag=True):
    """Any number from ``low`` to ``high``, each power of ten as likely as another."""

    low: float
    high: float


class Among(Struct, frozen=True, tag=True):
    """One of a few values."""

    values: tuple[Value, ...]


class Space(Struct, frozen=True, kw_only=True):
    """What may vary. A loss's own options vary only where that loss was chosen."""

    tasks: Among
    """Shares of the tasks to learn from."""
    data: Among = Among((GIVEN,))
    """How much each group of the data weighs; of one value there is nothing to choose, and a point has none."""
    kinds: Among
    widths: Among
    learning_rates: Range = Range(3e-4, 1e-2)
    smoothings: Among = Among((0.0, 0.05, 0.1))
    margins: Among = Among((1.0, 5.0))
    temperatures: Range = Range(0.5, 4.0)
    directions: Among = Among(tuple(direction.value for direction in Direction))
    hard_shares: Among = Among((0.0, 0.4))


class Choosing(Protocol):
    """Who chooses: Optuna, or a test."""

    def __call__(self, name: str, of: Range | Among) -> Value: ...


def space_of(recipe: Recipe, *, soft: bool, shares: Sequence[float] = SHARES, mixes: Sequence[str] = (GIVEN,)) -> Space:
    """The space for a kind of student. ``soft``: the data hold more of the teacher than its action."""
    kinds = (Kind.HARD, Kind.MARGIN, Kind.SOFT) if soft else (Kind.HARD, Kind.MARGIN)
    widths = (8, 16, 32, 64, 128) if isinstance(recipe, MlpRecipe) else (16, 32, 64, 128)
    return Space(
        tasks=Among(tuple(shares)),
        data=Among(tuple(mixes)),
        kinds=Among(tuple(kind.value for kind in kinds)),
        widths=Among(widths),
    )


def drawn(space: Space, choose: Choosing) -> Point:
    """A point, each of its values chosen in turn."""
    point: Point = {"tasks": choose("tasks", space.tasks)}
    if len(space.data.values) > 1:
        point["data"] = choose("data", space.data)
    point["width"] = choose("width", space.widths)
    point["learning_rate"] = choose("learning_rate", space.learning_rates)
    point["kind"] = choose("kind", space.kinds)
    if point["kind"] == Kind.HARD:
        point["smoothing"] = choose("smoothing", space.smoothings)
    elif point["kind"] == Kind.MARGIN:
        point["margin"] = choose("margin", space.margins)
    else:
        point["temperature"] = choose("temperature", space.temperatures)
        point["direction"] = choose("direction", space.directions)
        point["hard_share"] = choose("hard_share", space.hard_shares)
    return point


def parts_of(space: Space, point: Mapping[str, Value]) -> dict[str, Range | Among]:
    """What each value of a point was chosen from."""
    found: dict[str, Range | Among] = {}

    def again(name: str, of: Range | Among) -> Value:
        found[name] = of
        return point[name]

    drawn(space, again)
    return found


def first_point(recipe: Recipe, space: Space | None = None) -> Point:
    """The recipe as it is by hand, so that a search is never worse informed than who did not search."""
    given: Point = {"data": GIVEN} if space is not None and len(space.data.values) > 1 else {}
    return {
        "tasks": 1.0,
        **given,
        "width": recipe.width,
        "learning_rate": recipe.train.learning_rate,
        "kind": Kind.HARD.value,
        "smoothing": 0.0,
    }


def recipe_at(base: Recipe, point: Mapping[str, Value]) -> Recipe:
    """The recipe with a point's values; its share of the tasks and their weights are about data, and no part of it.

    >>> from potstill.distill.weights.train.recipe import RankerRecipe
    >>> recipe_at(RankerRecipe(), {"width": 16, "learning_rate": 0.001, "kind": "hard", "smoothing": 0.1}).width
    16
    """
    loss = build({name: value for name, value in point.items() if name not in _NOT_OF_LOSS})
    train = msgspec.structs.replace(base.train, loss=loss, learning_rate=float(point["learning_rate"]))
    return msgspec.structs.replace(base, width=int(point["width"]), train=train)
