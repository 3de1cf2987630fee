"""Several environments in one student: each has its share of the weight, and none may be missing unseen."""

from __future__ import annotations

import msgspec
import pytest
from data_episodes import episode
from hypothesis import given
from hypothesis import strategies as st

from potstill.distill.weights.data import Labelled, build
from potstill.distill.weights.data.balance import factors
from potstill.distill.weights.data.environments import look_alikes, must_be_in_each, names_of, shares
from potstill.errors import ConfigError
from potstill.types import Situation, Task, Trajectory

ALL = {"train": 1.0}


def of(environment: str, kind: str, id: str, actions: tuple[str, ...] = ("look", "go north")) -> Trajectory:
    task = Task(id=f"t-{id}", environment=environment, goal=f"goal {id}", kind=kind)
    return msgspec.structs.replace(episode(id, actions), task=task)


def decision(environment: str, action: str, goal: str = "find it", weight: float = 1.0) -> Labelled:
    return Labelled(
        environment=environment,
        task_id=f"{environment} {goal} {action}",
        trajectory_id="e",
        step_index=0,
        situation=Situation(goal=goal),
        admissible=("left", "right"),
        action=action,
        weight=weight,
    )


def test_environments_weigh_the_same_and_so_do_the_kinds_within_one() -> None:
    """Eight meetings in the house (six heat, two look), four in the grid: 6 of 12 each, the house's 3 a kind."""
    episodes = [of("house", "heat", f"h{at}") for at in range(3)] + [of("house", "look", "l")]
    episodes += [of("grid", "go", f"g{at}") for at in range(2)]
    found = build(episodes, fractions=ALL).splits["train"]
    assert shares(found) == {"grid": pytest.approx(0.5), "house": pytest.approx(0.5)}
    by_kind = {kind: sum(one.weight for one in found if one.kind == kind) for kind in ("heat", "look", "go")}
    assert by_kind == pytest.approx({"heat": 3.0, "look": 3.0, "go": 6.0})
    met = build(episodes, fractions=ALL, balanced=False).splits["train"]
    assert shares(met) == {"grid": pytest.approx(4 / 12), "house": pytest.approx(8 / 12)}


def test_kinds_of_one_name_in_two_environments_are_two() -> None:
    episodes = [of("house", "go", f"h{at}") for at in range(3)] + [of("grid", "go", "g")]
    assert shares(build(episodes, fractions=ALL).splits["train"])["grid"] == pytest.approx(0.5)


KINDS = st.tuples(st.sampled_from(["house", "grid", "shop"]), st.sampled_from(["a", "b", "c"]))


@given(st.dictionaries(KINDS, st.integers(1, 500), min_size=1), st.integers(1, 500))
def test_every_environment_has_the_same_sum_where_no_limit_holds_it_back(
    met: dict[tuple[str, str], int], distinct: int
) -> None:
    found = factors(met, distinct, limit=1e9)
    sums: dict[str, float] = {}
    for kind, times in met.items():
        sums[kind[0]] = sums.get(kind[0], 0.0) + found[kind] * times
    assert max(sums.values()) == pytest.approx(min(sums.values()))
    assert sum(sums.values()) == pytest.approx(distinct)


def test_an_environment_that_is_missing_in_a_split_is_named() -> None:
    both = {"train": [decision("a", "left"), decision("b", "left")], "valid": [decision("a", "right")]}
    must_be_in_each(("a",), both)
    with pytest.raises(ConfigError, match="No decision of 'b' fell into the split 'valid'"):
        must_be_in_each(("a", "b"), both)


def test_situations_that_look_the_same_and_want_another_action_are_counted() -> None:
    apart = [decision("a", "left"), decision("b", "left"), decision("a", "left", "x"), decision("a", "right", "x")]
    assert look_alikes(apart) == 0
    assert look_alikes([*apart, decision("b", "left", "x")]) == 1


def test_shares_of_nothing_are_none() -> None:
    assert shares([]) == {}
    assert shares([decision("a", "left", weight=0.0)]) == {"a": 0.0}
    assert names_of("house-rules") == ("house-rules",)
