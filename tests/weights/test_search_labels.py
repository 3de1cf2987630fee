"""Which of the data a search learns: whole tasks, smaller sets in larger ones, within the budget; what they weigh."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_examples import decisions

from potstill.distill.weights.data.labelled import Evidence, Labelled
from potstill.distill.weights.search.labels import SHARES, labels_in, share_of, shares_of, within
from potstill.distill.weights.search.weighing import mixes_of, weighed
from potstill.errors import ConfigError

ONE = decisions(1)[0]


def of_tasks(counts: list[tuple[int, int]]) -> list[Labelled]:
    """A decision for each task's number and how often it was met."""
    return [msgspec.structs.replace(ONE, task_id=f"task-{task}", count=count) for task, count in counts]


some = st.lists(st.tuples(st.integers(0, 12), st.integers(1, 9)), min_size=1, max_size=40).map(of_tasks)


def by_task(made: list[Labelled]) -> Counter[str]:
    return Counter(one.task_id for one in made)


@given(some, st.integers(1, 200), st.sampled_from(SHARES))
def test_budgets_are_kept_in_whole_tasks_and_lie_in_each_other(made: list[Labelled], most: int, share: float) -> None:
    whole = by_task(made)
    try:
        kept = within(made, most)
    except ConfigError:
        assert most < max(labels_in(one for one in made if one.task_id == task) for task in whole)
        return
    assert labels_in(kept) <= most
    less, part = share_of(kept, share), by_task(kept)
    assert all(whole[task] == times for task, times in part.items())
    assert by_task(less).items() <= part.items() <= by_task(within(made, most + 5)).items()
    assert len(by_task(less)) == -(-len(part) * share // 1)
    assert [one for one in made if one in kept] == kept, "their order stays"


def test_labels_and_shares_by_hand() -> None:
    made = of_tasks([(0, 3), (1, 2), (1, 1), (2, 4), (3, 1)])
    assert labels_in(made) == 11, "answers, and not five decisions"
    assert [len(by_task(share_of(made, share))) for share in (1.0, 0.5, 0.25, 0.1)] == [4, 2, 1, 1]
    assert within(made, None) == within(made, 11) == made
    assert len(by_task(within(made, 10))) == 3
    assert within([], 5) == []
    with pytest.raises(ConfigError, match=r"2 labels are fewer than the 40 .* --search-labels 40"):
        within(of_tasks([(0, 40)]), 2)


def test_a_share_is_tried_where_it_teaches() -> None:
    made = decisions(40)
    assert shares_of(made) == SHARES
    assert shares_of(of_tasks([(task, 1) for task in range(8)])) == (1.0,), "one action alone was taken"
    assert shares_of(made, made, fixed_actions=True)[0] == 1.0
    rare = msgspec.structs.replace(ONE, admissible=("sing", *ONE.admissible))
    assert shares_of(made, [rare], fixed_actions=True) == (1.0,), "no output for what is asked"
    assert shares_of(made, [rare]) == SHARES


@pytest.mark.extra
def test_a_trial_learns_its_share_of_the_budget_in_as_many_steps(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("optuna")
    from search_killed import BASE

    from potstill.distill.weights.search.searching import search
    from potstill.distill.weights.search.trials import State
    from potstill.distill.weights.search.trying import shared_out

    data = shared_out(decisions(120), 0.3, 48)
    assert len(data.learn) == 48
    found = search(BASE, data, count=8, path=tmp_path / "search.json")
    assert {trial.labels for trial in found.trials} == {48, 24, 12}
    assert all(trial.labels == 48 * float(trial.point["tasks"]) for trial in found.trials)
    assert {trial.steps for trial in found.trials if trial.state is State.FINISHED} == {18}


def of_groups(*groups: tuple[str, int, float]) -> list[Labelled]:
    """So many decisions of each environment, each of this weight."""
    return [
        msgspec.structs.replace(one, environment=name, weight=weight)
        for name, count, weight in groups
        for one in decisions(count)
    ]


def weights_of(made: list[Labelled]) -> dict[str, float]:
    summed = defaultdict[str, float](float)
    for one in made:
        summed[one.environment] += one.weight
    return {name: round(weight, 9) for name, weight in sorted(summed.items())}


def test_weights_of_groups_by_hand() -> None:
    made = of_groups(("grid", 30, 1.0), ("house", 10, 1.0))
    assert mixes_of(made) == ("given", "even", "by-labels", "3x-grid", "3x-house")
    found = {mix: weights_of(weighed(made, mix)) for mix in mixes_of(made)}
    assert found == {
        "given": {"grid": 30.0, "house": 10.0},
        "even": {"grid": 20.0, "house": 20.0},
        "by-labels": {"grid": 30.0, "house": 10.0},
        "3x-grid": {"grid": 30.0, "house": 10.0},
        "3x-house": {"grid": 10.0, "house": 30.0},
    }
    balanced = of_groups(("grid", 30, 2 / 3), ("house", 10, 2.0))
    assert weights_of(weighed(balanced, "by-labels")) == {"grid": 30.0, "house": 10.0}
    alone = of_groups(("grid", 8, 1.0))
    assert mixes_of(alone) == ("given",)
    assert weights_of(weighed(alone, "3x-house")) == {"grid": 8.0}, "the share of the tasks has none of the other"
    told = [msgspec.structs.replace(one, evidence=Evidence.VOTES, votes=(1,) * len(one.admissible)) for one in alone]
    assert mixes_of([*alone, *told]) == ("given", "even", "by-labels", "3x-one-hot", "3x-votes")
    assert mixes_of([*made, *told]) == ("given", "even", "by-labels", "3x-grid", "3x-house"), "environments first"


grouped = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.integers(1, 4), st.floats(0, 5, allow_subnormal=False)),
    min_size=1,
    max_size=9,
)


@given(grouped, st.data())
def test_weights_are_1_on_the_average_and_stay_as_they_were_within_a_group(
    groups: list[tuple[str, int, float]], data: st.DataObject
) -> None:
    made = of_groups(*groups)
    mix = data.draw(st.sampled_from(mixes_of(made)))
    found = weighed(made, mix)
    assert [msgspec.structs.replace(one, weight=1.0) for one in found] == [
        msgspec.structs.replace(one, weight=1.0) for one in made
    ]
    if mix == "given" or not any(one.weight for one in made):
        return
    assert math.isclose(sum(one.weight for one in found), len(made), rel_tol=1e-6)
    for a, b in itertools.pairwise(range(len(made))):
        if made[a].environment == made[b].environment:
            assert math.isclose(found[a].weight * made[b].weight, found[b].weight * made[a].weight, abs_tol=1e-6)


@pytest.mark.extra
def test_trials_weigh_two_environments_and_what_is_trained_at_the_end_does(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("optuna")
    from search_killed import BASE

    from potstill.cli.training.search import final_of
    from potstill.distill.weights.search.searching import search
    from potstill.distill.weights.search.trying import Data

    learn = of_groups(("grid", 60, 1.0), ("house", 20, 1.0))
    found = search(
        BASE, Data(learn, of_groups(("grid", 20, 1.0), ("house", 20, 1.0))), count=6, path=tmp_path / "s.json"
    )
    points = [trial.point for trial in found.trials]
    assert points[0]["data"] == "given"
    assert len({point["data"] for point in points}) > 2
    assert {str(point["data"]) for point in points} <= {*mixes_of(learn)}
    best = msgspec.structs.replace(found.best, point={**found.best.point, "tasks": 1.0, "data": "3x-house"})
    assert weights_of(final_of(BASE, best, learn, None)[1]) == {"grid": 20.0, "house": 60.0}
