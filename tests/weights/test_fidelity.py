"""How alike two policies decide: every number worked by hand, and the laws that hold for any of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.distill.weights import fidelity
from potstill.distill.weights.fidelity import Cycle
from potstill.errors import ConfigError
from potstill.measure.statistics import wilson, wilson_by_task
from potstill.types import ToolCall


def call(name: str, arguments: str = "{}") -> ToolCall:
    return ToolCall(id="1", name=name, arguments=arguments)


# --- shares ----------------------------------------------------------------------------------------------------------


def test_a_share_has_wilson_s_interval_and_with_tasks_the_clustered_one() -> None:
    hits = [1, 1, 1, 0, 0, 1, 1, 1]
    alone = fidelity.share(hits)
    assert (alone.value, alone.n, alone.clusters) == (0.75, 8, 8)
    assert alone.interval == wilson(6, 8)
    tasks = list("aaabbccc")
    grouped = fidelity.share(hits, tasks)
    assert (grouped.value, grouped.n, grouped.clusters) == (0.75, 8, 3)
    assert grouped.interval == wilson_by_task([3, 0, 3], [3, 2, 3])
    assert grouped.interval[1] - grouped.interval[0] > alone.interval[1] - alone.interval[0]


def test_nothing_counted_is_unknown_not_zero() -> None:
    assert fidelity.share([]).value is None
    assert fidelity.share([0.0], of=[0.0]).interval is None
    assert fidelity.mean([]).value is None


def test_lists_of_unequal_length_are_refused() -> None:
    with pytest.raises(ConfigError, match="Lists of 2 and 1 entries"):
        fidelity.top1(["a", "b"], ["a"])
    with pytest.raises(ConfigError, match="entries"):
        fidelity.share([1, 0], ["a"])
    with pytest.raises(ConfigError, match="confidence"):
        fidelity.share([1], confidence=1.0)


# --- decisions -------------------------------------------------------------------------------------------------------


def test_top1_by_hand_and_an_invalid_action_agrees_with_nothing() -> None:
    found = fidelity.top1(["go", "look", None, "go"], ["go", "take", None, "go"])
    assert (found.value, found.hits, found.n) == (0.5, 2, 4)


def test_the_chosen_action_is_the_best_admissible_one() -> None:
    scores = np.array([[3.0, 1.0, 2.0], [0.0, 0.0, -1.0]])
    assert fidelity.chosen(scores) == [0, 0]
    assert fidelity.chosen(scores, np.array([[False, True, True], [True, True, True]])) == [2, 0]


def test_kl_by_hand() -> None:
    """(1/2, 1/2) against (1/4, 3/4) is .5 ln 2 + .5 ln 2/3 = .14384; equal rows are at 0, so the mean is half."""
    teacher, student = np.log([[0.5, 0.5], [0.1, 0.9]]), np.log([[0.25, 0.75], [0.1, 0.9]])
    found = fidelity.kl(teacher, student + 7.0)
    assert found.value == pytest.approx((0.5 * math.log(2) + 0.5 * math.log(2 / 3)) / 2)
    assert found.value == pytest.approx(0.14384 / 2, abs=1e-5)
    assert (found.n, found.infinite) == (2, 0)
    assert found.interval == (0.0, pytest.approx(0.14384, abs=1e-5))


def test_kl_counts_what_is_infinite_and_takes_zeros_of_the_teacher() -> None:
    never, even = np.array([[0.0, -np.inf]]), np.zeros((1, 2))
    assert fidelity.kl(never, even).value == pytest.approx(math.log(2))
    found = fidelity.kl(even, never)
    assert (found.value, found.infinite) == (None, 1)
    masked = fidelity.kl(np.array([[0.0, 0.0, np.nan]]), np.array([[0.0, 0.0, 9.0]]), np.array([[True, True, False]]))
    assert masked.value == 0.0


def test_scores_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="Row 1 has a score that is NaN"):
        fidelity.kl(np.array([[0.0, 0.0], [0.0, np.nan]]), np.zeros((2, 2)))
    with pytest.raises(ConfigError, match="must know the same actions"):
        fidelity.kl(np.zeros((1, 3)), np.zeros((1, 2)))
    with pytest.raises(ConfigError, match="no admissible action"):
        fidelity.chosen(np.zeros((1, 2)), np.zeros((1, 2), dtype=bool))


# --- tools -----------------------------------------------------------------------------------------------------------


def test_tool_choice_by_hand() -> None:
    """The teacher: search twice, book once, words once. The student: search once, book three times."""
    search, book = [call("search")], [call("book")]
    found = fidelity.tool_choice([search, search, book, []], [search, book, book, book])
    assert found.distance == pytest.approx((abs(0.5 - 0.25) + abs(0.25 - 0.75) + abs(0.25 - 0)) / 2)
    assert found.distance == pytest.approx(0.5)
    assert [tool.tool for tool in found.tools] == ["search", "", "book"]
    first, words, last = found.tools
    assert (first.teacher.value, first.student.value, first.kept.value, first.kept.n) == (0.5, 0.25, 0.5, 2)
    assert (words.kept.value, last.kept.value, last.kept.n) == (0.0, 1.0, 1)
    low, high = found.distance_ci
    assert 0 <= low <= 0.5 <= high <= 1


def test_a_teacher_against_itself_is_at_distance_zero() -> None:
    sides = [[call("search"), call("book")], []]
    found = fidelity.tool_choice(sides, sides)
    assert (found.distance, found.distance_ci) == (0.0, (0.0, 0.0))
    assert fidelity.tool_choice([], []).distance is None


def test_arguments_by_hand() -> None:
    teacher = [
        [call("book", '{"to": "Oslo", "seats": 2}')],
        [call("book", '{"to": "Rome", "seats": 1}')],
        [call("book", '{"to": "Kyiv"}'), call("pay")],
        [call("search", '{"q": "x"}')],
    ]
    student = [
        [call("book", '{"seats": 2.0, "to": " Oslo "}')],
        [call("book", '{"to": "Roma", "seats": 1, "class": "first"}')],
        [call("pay"), call("book", '{"to": ')],
        [call("book", '{"to": "x"}')],
    ]
    found = fidelity.arguments(teacher, student)
    assert found.n == 4, "two bookings, one unreadable one, one payment; the search has no counterpart"
    assert (found.calls.value, found.names.value) == (0.5, 0.5)
    assert (found.values.hits, found.values.n) == (3, 5)
    assert (found.added, found.unreadable, found.unreadable_teacher) == (1, 1, 0)
    assert found.calls.clusters == 3


def test_true_is_not_one_and_a_teacher_s_broken_call_is_left_out() -> None:
    found = fidelity.arguments([[call("f", '{"a": 1}')], [call("f", "[1]")]], [[call("f", '{"a": true}')], [call("f")]])
    assert (found.values.value, found.names.value, found.n, found.unreadable_teacher) == (0.0, 1.0, 1, 1)


# --- episodes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("teacher", "student", "step"),
    [("abc", "abc", None), ("abc", "axc", 1), ("abc", "ab", 2), ("", "a", 0), ("", "", None), ("abc", "xbc", 0)],
)
def test_first_divergence_by_hand(teacher: str, student: str, step: int | None) -> None:
    assert fidelity.first_divergence(teacher, student) == step
    assert fidelity.first_divergence(student, teacher) == step


def test_parting_by_hand() -> None:
    found = fidelity.parting(["abc", "abc", "abc", "abc"], ["abc", "axc", "abx", "abc"])
    assert (found.n, found.never.value, found.median_step) == (4, 0.5, 2)
    assert fidelity.parting(["a", "a", "a"], ["a", "a", "b"]).median_step is None
    assert fidelity.parting([], []).never.value is None


@pytest.mark.parametrize(
    ("walked", "expected"),
    [
        ("abcd", None),
        ("aba", None),
        ("abab", Cycle(0, 2, 4)),
        ("xababay", Cycle(1, 2, 5)),
        ("aab", Cycle(0, 1, 2)),
        ("aaaa", Cycle(0, 1, 4)),
        ("aabcabc", Cycle(1, 3, 6)),
        ("", None),
        ("a", None),
    ],
)
def test_cycles_by_hand(walked: str, expected: Cycle | None) -> None:
    assert fidelity.cycle(walked) == expected


@given(st.lists(st.integers(0, 2), max_size=14))
def test_a_cycle_is_the_longest_that_a_plain_search_finds(walked: list[int]) -> None:
    best = 0
    for start in range(len(walked)):
        for period in range(1, len(walked) // 2 + 1):
            stop = start + period
            while stop < len(walked) and walked[stop] == walked[stop - period]:
                stop += 1
            if stop - start >= 2 * period:
                best = max(best, stop - start)
    found = fidelity.cycle(walked)
    assert (0 if found is None else found.steps) == best
    if found is not None:
        block = walked[found.start : found.start + found.period]
        assert walked[found.start : found.start + 2 * found.period] == 2 * block


def test_loops_by_hand() -> None:
    """Ten steps in all: a cycle of four in the first episode, a return to ``a`` in the second."""
    found = fidelity.loops(["xabab", "abac", "q"])
    assert (found.n, found.cycling.value) == (3, pytest.approx(1 / 3))
    assert (found.in_cycles.hits, found.repeated.hits, found.repeated.n) == (4, 3, 10)


@pytest.mark.parametrize(
    ("plan", "actions", "kept"),
    [
        ("abcd", "acbd", 3),
        ("abc", "xaybzc", 3),
        ("abc", "cba", 1),
        ("aab", "ab", 2),
        ("abc", "", 0),
        ("xabc", "abc", 3),
    ],
)
def test_steps_kept_in_order_by_hand(plan: str, actions: str, kept: int) -> None:
    assert fidelity.kept_in_order(plan, actions) == kept


@given(st.text("abc", max_size=8), st.text("abc", max_size=8))
def test_steps_kept_in_order_are_bounded_and_never_fewer_with_more_actions(plan: str, actions: str) -> None:
    kept = fidelity.kept_in_order(plan, actions)
    assert 0 <= kept <= min(len(plan), len(actions))
    assert fidelity.kept_in_order(plan, actions + "a") >= kept
    assert fidelity.kept_in_order(plan, plan) == len(plan)


def test_plan_adherence_by_hand_with_a_match_of_words() -> None:
    plans = [["find mug", "clean mug"], ["find key"], []]
    episodes = [["go to shelf 1 to find mug", "put mug"], ["find key"], ["wait"]]
    found = fidelity.plan_adherence(plans, episodes, matches=lambda step, action: step in action)
    assert (found.hits, found.n, found.value) == (2, 3, pytest.approx(2 / 3))
    assert found.clusters == 2, "an empty plan counts for nothing"
