"""Attempts are counted once, errors stand apart, and a sum with an unknown part is unknown."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.logs.records import Attempt, Problem, Source
from potstill.measure.audit.attempts import Attempts
from potstill.measure.audit.dirt import Dirt
from potstill.measure.audit.groups import Settings, budget_curve_of, frontier_of, group_of
from potstill.measure.audit.result import Group
from potstill.types import Usage

NOW = 1_800_000_000.0


def two_dollars_a_token(model: str, usage: Usage, at: float | None) -> float | None:
    return None if model == "unpriced" else 2.0 * (usage.input_tokens + usage.output_tokens)


def attempt(task: str, success: bool | None = True, cost: float | None = 1.0, **more: Any) -> Attempt:
    fields = {"model": "m", "run": "r", "input_tokens": 10, "output_tokens": 5, "cached_input_tokens": 4} | more
    return Attempt(task_id=task, success=success, cost_usd=cost, **fields)


def counted(*attempts: Attempt) -> tuple[dict[tuple[str, str], Group], dict[tuple[str, str | None], int]]:
    dirt = Dirt()
    counted = Attempts(two_dollars_a_token, dirt, now=NOW)
    for one in attempts:
        counted.add(one)
    groups = {key: group_of(*key, rows, Settings()) for key, rows in counted.groups.items()}
    return groups, {(warned.kind, warned.run): warned.count for warned in dirt.warnings()}


def test_a_hand_worked_group() -> None:
    """Four tasks: two successes at $1 and $2, a failure at $3, and an error that had cost $0.50."""
    groups, warned = counted(
        attempt("a", True, 1.0, episode_id="1"),
        attempt("a", True, 1.0, episode_id="1"),
        attempt("b", True, 2.0, episode_id="2"),
        attempt("c", False, 3.0, episode_id="3"),
        attempt("d", None, 0.5, episode_id="4", error="connection refused", input_tokens=None, output_tokens=None),
    )
    group = groups["m", "r"]
    assert (group.n, group.n_infrastructure_errors, group.n_duplicates, group.tasks) == (3, 1, 1, 4)
    assert group.success == pytest.approx(2 / 3)
    assert group.success_with_errors_failed == pytest.approx(2 / 4)
    assert group.cost_usd == pytest.approx(6.5)
    assert group.cost_per_episode_usd == pytest.approx(6.5 / 4)
    assert group.cost_of_pass_usd == pytest.approx(6.5 / 2)
    assert (group.input_tokens, group.cached_input_tokens, group.output_tokens) == (30, 12, 15)
    assert warned["duplicate_episodes", "r"] == 1
    assert warned["infrastructure_errors", "r"] == 1
    assert "unknown_outcomes" not in {kind for kind, _ in warned}


def test_what_cannot_be_known_is_none() -> None:
    groups, warned = counted(
        attempt("a", model="unpriced", cost=None),
        attempt("b", None, run="unjudged"),
        attempt("c", run="uncounted", input_tokens=None),
    )
    unpriced, unjudged, uncounted = groups["unpriced", "r"], groups["m", "unjudged"], groups["m", "uncounted"]
    assert unpriced.cost_usd is unpriced.cost_of_pass_usd is unpriced.cost_per_episode_usd is None
    assert unpriced.success == 1.0
    assert unjudged.success is unjudged.success_ci is unjudged.cost_of_pass_usd is None
    assert unjudged.cost_per_episode_usd == 1.0
    assert uncounted.input_tokens is None
    assert uncounted.output_tokens == 5
    assert warned == {
        ("missing_cost", "r"): 1,
        ("unknown_outcomes", "unjudged"): 1,
        ("missing_tokens", "uncounted"): 1,
        ("price_mismatch", "unjudged"): 1,
    }


def test_no_success_has_no_cost_of_pass() -> None:
    groups, _ = counted(attempt("a", False), attempt("b", False))
    assert groups["m", "r"].cost_of_pass_usd is None
    assert groups["m", "r"].success == 0.0


def test_recorded_dollars_count_and_are_compared_with_computed_ones() -> None:
    groups, warned = counted(
        attempt("a", cost=30.0), attempt("b", cost=30.2), attempt("c", cost=60.0), attempt("d", cost=None)
    )
    assert groups["m", "r"].cost_usd == pytest.approx(30.0 + 30.2 + 60.0 + 30.0)
    assert warned == {("price_mismatch", "r"): 1, ("priced_from_tokens", "r"): 1}


def test_an_error_without_dollars_or_tokens_was_not_billed() -> None:
    groups, warned = counted(
        attempt("a", cost=30.0),
        attempt("b", None, None, error="no route", input_tokens=None, output_tokens=None, cached_input_tokens=None),
    )
    assert groups["m", "r"].cost_usd == 30.0
    assert groups["m", "r"].input_tokens == 10
    assert warned["errors_without_cost", "r"] == 1


def test_the_same_attempt_in_another_run_is_a_duplicate() -> None:
    """As in a real set of results, where a repaired run repeats the episodes of the broken one."""
    same = {"episode_id": "4fe1", "started_at": 1_771_632_000.0}
    groups, _ = counted(attempt("a", run="first", **same), attempt("a", run="second", **same))
    assert (groups["m", "first"].n, groups["m", "second"].n) == (1, 0)
    assert groups["m", "second"].n_duplicates == 1
    assert groups["m", "second"].cost_of_pass_usd is None


def test_episodes_that_are_numbered_anew_in_each_run_all_count() -> None:
    groups, warned = counted(
        attempt("a", run="first", episode_id="1", cost=1.0),
        attempt("a", run="second", episode_id="1", cost=2.0),
        attempt("a", run="first", episode_id="1", model="other"),
    )
    assert all(group.n == 1 and group.n_duplicates == 0 for group in groups.values())
    assert warned["reused_episode_ids", "second"] == 1


def test_problems_are_told_with_their_lines() -> None:
    dirt = Dirt()
    counted = Attempts(two_dollars_a_token, dirt, now=NOW)
    problem = Problem("bad_number", "cost_usd is -1")
    counted.add(attempt("a", cost=None, problems=(problem,), source=Source("log.jsonl", 7)))
    counted.add(attempt("b", cost=30.0, started_at=5.0, source=Source("log.jsonl", 8)))
    told = {warned.kind: warned for warned in dirt.warnings()}
    assert "log.jsonl:7 cost_usd is -1" in told["bad_number"].detail
    assert "log.jsonl:8" in told["clock_jumps"].detail


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.floats(0, 10), st.booleans()), min_size=1, max_size=30)
)
def test_groups_agree_with_a_plain_sum(rows: list[tuple[str, bool, float, bool]]) -> None:
    attempts = [
        attempt(task, None if broke else success, cost, error="broke" if broke else None)
        for task, success, cost, broke in rows
    ]
    group = counted(*attempts)[0]["m", "r"]
    tried = [row for row in rows if not row[3]]
    assert group.n == len(tried)
    assert group.n + group.n_infrastructure_errors == len(rows)
    assert group.cost_usd == pytest.approx(sum(cost for _, _, cost, _ in rows))
    if tried:
        assert group.success == pytest.approx(sum(success for _, success, _, _ in tried) / len(tried))
    assert counted(*attempts, *attempts)[0]["m", "r"].n == 2 * group.n


def test_the_frontier_holds_what_no_mixture_beats() -> None:
    """$1: 20 %, $2: 25 %, $3: 80 %: at $2 a mixture of the others reaches 50 %."""
    groups, _ = counted(
        *(attempt(str(task), task < 2, 1.0, run="cheap") for task in range(10)),
        *(attempt(str(task), task < 2.5, 2.0, run="middle") for task in range(10)),
        *(attempt(str(task), task < 8, 3.0, run="dear") for task in range(10)),
        attempt("0", run="unpriced", model="unpriced", cost=None),
    )
    on_hull = {row.run: row.on_hull for row in frontier_of(list(groups.values()))}
    assert on_hull == {"cheap": True, "middle": False, "dear": True, "unpriced": False}


def test_the_budget_curve_counts_successes_within_each_budget() -> None:
    """Successes at $1 and $3, a failure at $2; up to $4 the area is (3/4 + 1/4) / 3."""
    dirt = Dirt()
    attempts = Attempts(two_dollars_a_token, dirt, now=NOW)
    for one in (attempt("a", True, 1.0), attempt("b", False, 2.0), attempt("c", True, 3.0)):
        attempts.add(one)
    curve = budget_curve_of("m", "r", attempts.groups["m", "r"], 4.0)
    assert curve is not None
    assert curve.auc == pytest.approx((3 / 4 + 1 / 4) / 3)
    assert curve.success[0] == 0.0
    assert curve.success[-1] == pytest.approx(2 / 3)
    below = [share for budget, share in zip(curve.budgets_usd, curve.success, strict=True) if 1.0 <= budget < 3.0]
    assert set(below) == {1 / 3}


def test_groups_at_the_same_point_of_the_frontier_are_both_on_it() -> None:
    groups, _ = counted(attempt("a", model="m1"), attempt("a", model="m2"), attempt("a", False, 2.0, model="m3"))
    assert [(row.model, row.on_hull) for row in frontier_of(list(groups.values()))] == [
        ("m1", True),
        ("m2", True),
        ("m3", False),
    ]


def test_tokens_of_a_group_that_only_broke_are_unknown() -> None:
    broke = {"error": "timeout", "input_tokens": None, "output_tokens": None, "cached_input_tokens": None}
    groups, warned = counted(attempt("a", None, None, **broke), attempt("b", None, 0.0, **broke))
    assert (groups["m", "r"].input_tokens, groups["m", "r"].output_tokens) == (None, None)
    assert warned["errors_without_cost", "r"] == 2
