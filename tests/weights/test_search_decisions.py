"""What a search over recipes decides: the space, who goes on at a rung, which trial is best, what the frontier is."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.distill.weights.losses.config import Kind
from potstill.distill.weights.search.aim import Aim, Chosen, Goal, chosen, rivals_at
from potstill.distill.weights.search.frontier import rows_of, undominated
from potstill.distill.weights.search.halving import goes_on, rungs
from potstill.distill.weights.search.smaller import command, compression
from potstill.distill.weights.search.space import (
    Among,
    Point,
    Range,
    Space,
    Value,
    drawn,
    first_point,
    parts_of,
    recipe_at,
    space_of,
)
from potstill.distill.weights.search.trials import Look, State, Trial, Variant, keep, read
from potstill.distill.weights.train.config import TrainConfig
from potstill.distill.weights.train.recipe import FilmRecipe, MlpRecipe, RankerRecipe
from potstill.errors import ConfigError

RECIPES = (RankerRecipe(), FilmRecipe(), MlpRecipe())
values = st.floats(0, 1)


def randomly(space: Space, seed: int) -> Point:
    rng = random.Random(seed)

    def choose(name: str, of: Range | Among) -> Value:
        return rng.choice(of.values) if isinstance(of, Among) else rng.uniform(of.low, of.high)

    return drawn(space, choose)


def trial(number: int, looks: dict[int, float], state: State = State.FINISHED, **more: object) -> Trial:
    reached = tuple(Look(step, value) for step, value in looks.items())
    point = first_point(RankerRecipe())
    return Trial(number=number, point=point, state=state, steps=max(looks, default=0), looks=reached, **more)  # type: ignore[arg-type]


@given(st.sampled_from(RECIPES), st.booleans(), st.integers(0, 10**6))
def test_every_point_of_a_space_is_a_recipe(base: RankerRecipe, soft: bool, seed: int) -> None:
    space = space_of(base, soft=soft)
    point = randomly(space, seed)
    recipe = recipe_at(base, point)
    assert (recipe.width, recipe.train.learning_rate) == (point["width"], point["learning_rate"])
    assert soft or recipe.train.loss.kind is not Kind.SOFT
    assert parts_of(space, point).keys() == point.keys()
    assert recipe_at(base, first_point(base)) == base


def test_rungs_by_hand() -> None:
    assert rungs(900) == (100, 300)
    assert rungs(100) == (11, 33)
    assert rungs(3) == (1,)
    assert rungs(81, levels=3) == (3, 9, 27)


@given(st.integers(1, 10**6))
def test_rungs_rise_and_are_looked_at(steps: int) -> None:
    found = rungs(steps)
    assert all(a < b for a, b in zip((0, *found), (*found, steps), strict=True))
    assert all(rung % found[0] == 0 for rung in found)


def test_who_goes_on_by_hand() -> None:
    # Seven were there, this is the eighth: the best 8 // 3 = 2 go on.
    rivals = [0.9, 0.8, 0.5, 0.4, 0.3, 0.2, 0.1]
    assert [goes_on(value, rivals) for value in (0.95, 0.85, 0.8, 0.79)] == [True, True, True, False]
    assert goes_on(0.0, [])


@given(st.lists(values, min_size=1, max_size=30), st.integers(2, 4))
def test_who_is_best_goes_on_and_who_is_better_than_one_that_does_as_well(rivals: list[float], eta: int) -> None:
    assert goes_on(max(rivals), rivals, eta=eta)
    kept = [goes_on(value, rivals, eta=eta) for value in sorted(rivals)]
    assert kept == sorted(kept)
    if len(set(rivals)) == len(rivals):
        assert sum(kept) == max(1, (len(rivals) + 1) // eta)


@given(st.lists(st.tuples(st.integers(1, 5), values), min_size=1, max_size=20))
def test_whoever_is_dominated_is_so_by_one_of_the_frontier(points: list[tuple[int, float]]) -> None:
    on = undominated([cost for cost, _ in points], [value for _, value in points])
    front = [point for point, kept in zip(points, on, strict=True) if kept]
    for (cost, value), kept in zip(points, on, strict=True):
        assert kept != any(c <= cost and v >= value and (c, v) != (cost, value) for c, v in front)


def whole(value: float, size: int) -> tuple[Variant, ...]:
    return (Variant(bits=32, bytes=4 * size, value=value),)


def test_the_best_is_finished_and_of_equal_ones_the_smallest() -> None:
    trials = [
        trial(0, {3: 0.5, 9: 0.7}, parameters=100, variants=whole(0.7, 100)),
        trial(1, {3: 0.5, 9: 0.7}, parameters=50, variants=whole(0.7, 50)),
        trial(2, {3: 0.99}, State.STOPPED, parameters=1),
        trial(3, {}, State.DIVERGED),
    ]
    assert chosen(trials) == Chosen(trials[1], trials[1].variants[0])
    assert chosen(trials[2:]) is None
    assert rivals_at(trials, 3) == [0.5, 0.5, 0.99]


def test_what_is_cheapest_within_the_margin_by_hand() -> None:
    def in_bits(size: int, *found: tuple[int, float]) -> tuple[Variant, ...]:
        return tuple(Variant(bits=bits, bytes=size * bits // 8, value=value) for bits, value in found)

    trials = [
        trial(0, {9: 0.9}, parameters=100, labels=80, variants=in_bits(100, (32, 0.9), (8, 0.9), (4, 0.8))),
        trial(1, {9: 0.89}, parameters=20, labels=80, variants=in_bits(20, (32, 0.89), (8, 0.5), (4, 0.5))),
        trial(2, {9: 0.85}, parameters=200, labels=20, variants=in_bits(200, (32, 0.85), (8, 0.85), (4, 0.85))),
    ]

    def picked(goal: Goal, within: float) -> tuple[int, int]:
        found = chosen(trials, Aim(goal=goal, within=within))
        assert found is not None
        return found.trial.number, found.variant.bits

    assert picked(Goal.SUCCESS, 0.5) == (0, 32), "value alone, whatever may be given up"
    assert picked(Goal.BYTES, 0.0) == (0, 8), "100 bytes against 400"
    assert picked(Goal.BYTES, 0.01) == (1, 32), "80 bytes, and 0.89 is 0.9 - 0.01"
    assert picked(Goal.BYTES, 0.1) == (0, 4), "50 bytes"
    assert (picked(Goal.LABELS, 0.01), picked(Goal.LABELS, 0.05)) == ((0, 32), (2, 32))
    # At a rung, trial 2 asks only those that learnt no more than its 20 labels, trial 0 all.
    assert rivals_at(trials, 9, Goal.LABELS, cost=20) == [0.85]
    assert rivals_at(trials, 9, Goal.BYTES, cost=100) == [0.9, 0.89]


def test_a_pruned_one_is_chosen_for_its_bytes_alone_and_has_its_own_time() -> None:
    half = Variant(bits=32, bytes=100, value=0.9, pruned=0.5, cpu_s=1.0)
    few = Variant(bits=8, bytes=25, value=0.7, pruned=0.5, cpu_s=1.0)
    trials = [trial(0, {9: 0.8}, cpu_s=2.0, labels=10, variants=(*whole(0.8, 50), half, few))]

    def picked(goal: Goal, within: float) -> Variant:
        found = chosen(trials, Aim(goal=goal, within=within))
        assert found is not None
        return found.variant

    assert picked(Goal.SUCCESS, 0.0) == picked(Goal.LABELS, 0.5) == trials[0].variants[0], "what is trained is whole"
    assert (picked(Goal.BYTES, 0.1), picked(Goal.BYTES, 0.2)) == (half, few)
    rows = {(row["bits"], row["pruned"]): (row["cpu_s"], row["frontier"]) for row in rows_of(trials)}
    assert rows == {(32, 0.0): (2.0, "cpu_s"), (32, 0.5): (3.0, "bytes cpu_s labels"), (8, 0.5): (3.0, "bytes")}


def test_the_command_for_a_variant_by_hand() -> None:
    recipe = RankerRecipe(train=TrainConfig(steps=18, batch=16, seed=3))
    how = compression(recipe, 100)
    assert (how.prune, how.finetune_steps) == ((0.5,), 4)
    said = {
        (0.0, 8): "potstill compress a.policy --out a-small.policy --int8",
        (0.5, 32): "potstill compress a.policy --out a-small.policy --prune 0.5 --finetune-steps 4 --batch 16 --seed 3",
    }
    for (share, bits), words in said.items():
        assert command(Path("a.policy"), Variant(bits=bits, bytes=1, value=0.0, pruned=share), how) == words
    assert command(Path("a.policy"), Variant(bits=32, bytes=1, value=0.0), how) is None


scored = st.tuples(values, st.integers(1, 5), st.integers(1, 5))


@given(st.lists(scored, min_size=1, max_size=12), st.sampled_from(Goal), st.floats(0, 1))
def test_what_is_chosen_is_good_enough_and_nothing_good_enough_is_cheaper(
    scores: list[tuple[float, int, int]], goal: Goal, within: float
) -> None:
    trials = [
        trial(number, {9: value}, parameters=size, labels=labels, variants=whole(value, size))
        for number, (value, size, labels) in enumerate(scores)
    ]
    found, best = chosen(trials, Aim(goal=goal, within=within)), max(value for value, _, _ in scores)
    assert found is not None
    margin = 0.0 if goal is Goal.SUCCESS else within
    assert found.variant.value >= best - margin - 1e-8
    costs = {Goal.SUCCESS: lambda one: 0, Goal.BYTES: lambda one: one.parameters, Goal.LABELS: lambda one: one.labels}
    enough = [one for one in trials if one.variants[0].value >= best - margin]
    assert costs[goal](found.trial) <= min(costs[goal](one) for one in enough)


def test_the_frontier_by_hand() -> None:
    def variants(value: float, size: int) -> tuple[Variant, ...]:
        return (Variant(bits=32, bytes=4 * size, value=value), Variant(bits=8, bytes=size, value=value - 0.1))

    trials = [
        trial(0, {9: 0.7}, variants=variants(0.7, 100), cpu_s=2.0, labels=40),
        trial(1, {9: 0.5}, variants=variants(0.5, 50), cpu_s=1.0, labels=40),
        trial(2, {9: 0.4}, variants=variants(0.4, 60), cpu_s=3.0, labels=10),
    ]
    found = {(row["trial"], row["bits"]): row["frontier"] for row in rows_of(trials)}
    assert found == {
        (0, 32): "bytes cpu_s labels",
        (0, 8): "bytes",
        (1, 32): "cpu_s",
        (1, 8): "bytes",
        (2, 32): "labels",
        (2, 8): "",
    }


def test_what_is_kept_is_read_and_another_searchs_is_refused(tmp_path: Path) -> None:
    path, told = tmp_path / "search.json", {"recipe": "a", "data": "b"}
    trials = [
        trial(0, {3: 0.5, 9: 0.7}, variants=(Variant(bits=32, bytes=8, value=0.7),)),
        trial(1, {}, State.DIVERGED),
    ]
    keep(path, told, trials)
    assert read(path, told) == trials
    with pytest.raises(ConfigError, match=r"another one .*: data b / c\."):
        read(path, {**told, "data": "c"})
    path.write_bytes(path.read_bytes().replace(b'"version": 2', b'"version": 1'))
    with pytest.raises(ConfigError, match=r"of version 1, read is 2\. Remove it to begin anew"):
        read(path, told)
    path.write_text('{"version": 1}')
    with pytest.raises(ConfigError, match="no file of a search"):
        read(path, told)
    with pytest.raises(ConfigError, match=r"no search .*--resume"):
        read(tmp_path / "none.json", told)
