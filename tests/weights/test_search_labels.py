"""How many of the teacher's labels a search learns: whole tasks, smaller sets in larger ones, within the budget."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_examples import decisions

from potstill.distill.weights.data.labelled import Labelled
from potstill.distill.weights.search.labels import SHARES, labels_in, share_of, shares_of, within
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
