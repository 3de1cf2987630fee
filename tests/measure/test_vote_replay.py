"""Samples out of attempts, and the replay of a vote: by hand, and against a slow, obvious one."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import ConfigError, UnknownName
from potstill.logs.records import Attempt, LogCall
from potstill.measure.replay import area, replay, sweep
from potstill.measure.samples import Recorded, collect
from potstill.measure.statistics import wilson


def attempt(task: str, model: str, answer: str | None, success: bool | None, usd: float | None, **more: Any) -> Attempt:
    return Attempt(task_id=task, model=model, answer=answer, success=success, cost_usd=usd, **more)


def collected(records: list[Any], student: str = "s", teacher: str = "t") -> Recorded:
    return collect(records, [student], teacher, lambda one: one.cost_usd)[0]


BY_HAND = [
    attempt("1", "s", "a", True, 1, sample=0),
    attempt("1", "s", "a", True, 1, sample=1),
    attempt("1", "s", "b", False, 1, sample=2),
    attempt("1", "t", "a", True, 10),
    attempt("2", "s", "x", False, 1, sample=0),
    attempt("2", "s", "y", True, 1, sample=1),
    attempt("2", "s", "z", False, 1, sample=2),
    attempt("2", "t", "y", True, 20),
    attempt("3", "s", "q", False, 1, sample=0),
    attempt("3", "s", "q", False, 1, sample=1),
    attempt("3", "s", "q", False, 1, sample=2),
    attempt("3", "t", "p", True, 40),
    attempt("4", "s", "m", True, 1, sample=0),
    attempt("4", "s", "m", True, 1, sample=1),
    attempt("4", "t", "n", False, 80),
]
"""Votes of three: 1 has 2/3 for a right answer, 2 is split, 3 is unanimous and wrong, 4 has two samples, both right."""


def test_by_hand() -> None:
    """At 0.6: 1 right by the student, 2 right by the teacher, 3 wrong, 4 right where the teacher is wrong."""
    row = replay(collected(BY_HAND).units, 3, 0.6)
    assert (row.n, row.accuracy, row.escalation_share) == (4, 0.75, 0.25)
    assert row.accuracy_ci == wilson(3, 4)
    assert (row.student_cost_usd, row.teacher_cost_usd, row.cost_usd) == (11, 20, 31)
    assert (row.always_teacher_cost_usd, row.teacher_accuracy, row.kept_observed) == (150, 0.75, 1.0)
    assert (row.lost, row.gained, row.tasks_with_fewer_samples, row.unknown_outcomes) == (1, 1, 1, 0)
    strict = replay(collected(BY_HAND).units, 3, 1.0)
    assert (strict.accuracy, strict.escalation_share, strict.cost_usd) == (0.75, 0.5, 11 + 30)
    always = replay(collected(BY_HAND).units, 3, 0.0)
    assert (always.escalation_share, always.teacher_cost_usd, always.accuracy) == (0.0, 0.0, 0.5)


def test_a_tie_goes_to_the_answer_seen_first_and_two_thirds_reach_two_thirds() -> None:
    tie = [attempt("1", "s", name, name == "b", 0) for name in ("b", "a", "a", "b")] + [
        attempt("1", "t", "z", False, 0)
    ]
    assert replay(collected(tie).units, 4, 0.5).accuracy == 1.0
    assert replay(collected(BY_HAND).units, 3, 2 / 3).escalation_share == 0.25


def test_the_number_of_a_sample_goes_before_the_order_of_the_file() -> None:
    rows = [
        attempt("1", "s", "late", False, 5, sample=1),
        attempt("1", "s", "early", True, 3, sample=0),
        attempt("1", "t", "wrong", False, 1, sample=1),
        attempt("1", "t", "right", True, 9, sample=0),
    ]
    one = replay(collected(rows).units, 1, 1.0)
    assert (one.accuracy, one.student_cost_usd, one.always_teacher_cost_usd) == (1.0, 3, 9)


def test_an_empty_answer_is_an_answer_of_its_own() -> None:
    rows = [attempt("1", "s", answer, False, 1) for answer in ("", None, "a")] + [attempt("1", "t", "a", True, 1)]
    row = replay(collected(rows).units, 3, 0.6)
    assert (row.escalation_share, row.accuracy) == (0.0, 0.0)


def test_what_is_not_known_is_none() -> None:
    rows = [
        attempt("1", "s", "a", None, None),
        attempt("1", "s", "a", True, 1),
        attempt("1", "t", "a", True, 1),
        attempt("2", "s", "b", None, 1),
        attempt("2", "s", "b", None, 1),
        attempt("2", "t", "b", True, 1),
    ]
    row = replay(collected(rows).units, 2, 1.0)
    assert (row.accuracy, row.accuracy_ci, row.unknown_outcomes, row.accuracy_of_known) == (None, None, 1, 1.0)
    assert (row.student_cost_usd, row.cost_usd, row.teacher_cost_usd) == (None, None, 0.0)


def test_broken_and_repeated_attempts_are_no_samples() -> None:
    rows = [
        attempt("1", "s", None, None, 0, error="KeyRefused", sample=0),
        attempt("1", "s", "a", True, 1, sample=1),
        attempt("1", "s", "a", True, 1, sample=1),
        attempt("1", "s", "b", False, 1, episode_id="e"),
        attempt("1", "s", "b", False, 1, episode_id="e"),
        attempt("1", "s", "b", False, 1),
        attempt("1", "s", "b", False, 1),
        attempt("1", "t", None, None, 0, error="KeyRefused"),
        attempt("1", "t", "a", True, 7),
        attempt("2", "s", "a", True, 1),
        attempt("3", "t", "a", True, 1),
        attempt("4", "other", "a", True, 1),
    ]
    found = collected(rows).found
    assert (found.errors, found.duplicates, found.student_samples) == (2, 2, 5)
    assert (found.decisions, found.without_teacher, found.without_student) == (1, 1, 1)
    row = replay(collected(rows).units, 5, 1.0)
    assert (row.student_cost_usd, row.teacher_cost_usd, row.accuracy) == (4, 7, 1.0)
    told = " ".join(found.notes())
    assert "2 attempts broke" in told
    assert "2 attempts come twice" in told


def test_the_same_episode_in_two_runs_is_one_sample_and_equal_numbers_are_two() -> None:
    same = [attempt("1", "s", "a", True, 0.5, run=run, episode_id="e7") for run in ("r1", "r2")]
    numbered = [attempt("1", "s", "a", True, None, run=run, sample=0) for run in ("r1", "r2")]
    teacher = [attempt("1", "t", "a", True, 1)]
    assert collected(same + teacher).found.duplicates == 1
    found = collected(numbered + teacher).found
    assert (found.duplicates, found.student_samples) == (0, 2)
    assert "2 runs" in found.notes()[0]


def test_a_run_is_named_behind_an_at() -> None:
    rows = [attempt("1", "s", "a", True, 1, run="hot"), attempt("1", "s", "b", False, 1, run="cold")]
    rows += [attempt("1", "vendor@2026", "b", True, 1)]
    assert collected(rows, "s@cold", "vendor@2026").found.student_samples == 1
    assert replay(collected(rows, "s@cold", "vendor@2026").units, 1, 1.0).accuracy == 0.0
    with pytest.raises(UnknownName, match="Did you mean 's'"):
        collected(rows, "s1")


def test_what_cannot_be_replayed() -> None:
    apart = [attempt("1", "s", "a", True, 1), attempt("2", "t", "a", True, 1)]
    with pytest.raises(ConfigError, match="no task in common"):
        collected(apart)
    with pytest.raises(ConfigError, match="1 single calls and no attempt"):
        collected([LogCall(model="s")])
    with pytest.raises(ConfigError, match="--samples is 0"):
        replay(collected(BY_HAND).units, 0, 1.0)
    with pytest.raises(ConfigError, match="--threshold is 1"):
        replay(collected(BY_HAND).units, 1, 1.5)


def test_steps_are_decisions_of_their_task() -> None:
    rows = [attempt("1", "s", "a", True, 1, step=n) for n in range(3)]
    rows += [attempt("1", "t", "a", True, 1, step=n) for n in range(3)]
    row = replay(collected(rows).units, 1, 1.0)
    assert (row.n, row.tasks) == (3, 1)
    assert row.accuracy_ci == wilson(1, 1), "three steps of one task are no three trials"


def test_a_sweep_marks_the_frontier() -> None:
    rows = sweep(collected(BY_HAND).units, [1, 3], [0.6, 1.0])
    assert [(row.samples, row.threshold) for row in rows] == [(1, 0.6), (1, 1.0), (3, 0.6), (3, 1.0)]
    # One sample: $4 and half right. Three: $31 and $41 for three quarters.
    assert [(row.cost_usd, row.accuracy) for row in rows] == [(4, 0.5), (4, 0.5), (31, 0.75), (41, 0.75)]
    assert [row.on_frontier for row in rows] == [True, True, True, False]
    assert len(sweep(collected(BY_HAND).units, [1, 2, 3])) == 6


def test_the_frontier_as_a_whole_by_hand() -> None:
    """Arms ($4, 0.5), ($31, 0.75), ($41, 0.75); the teacher alone succeeds at 0.75 for $150.

    From $4 to $31 the frontier rises from 0.5 to 0.75, 0.625 on average; from there to $150 it stays at 0.75.
    """
    whole = area(sweep(collected(BY_HAND).units, [1, 3], [0.6, 1.0]))
    assert whole.aiq_cost_range_usd == (4.0, 150.0)
    assert whole.aiq == pytest.approx((27 * 0.625 + 119 * 0.75) / 146)
    assert whole.iso_quality_saving == pytest.approx(1 - 31 / 150)
    assert whole.iso_cost_gain == pytest.approx(0.0)


def test_a_frontier_that_never_reaches_the_teacher_saves_nothing_at_its_success() -> None:
    """One sample for $1 is right at 1 of 2; the teacher is right at both for $20."""
    rows = [attempt("1", "s", "a", True, 0.5), attempt("2", "s", "b", False, 0.5)]
    rows += [attempt("1", "t", "a", True, 10), attempt("2", "t", "a", True, 10)]
    whole = area(sweep(collected(rows).units, [1]))
    assert (whole.aiq, whole.aiq_cost_range_usd) == (0.5, (1.0, 20.0))
    assert (whole.iso_quality_saving, whole.iso_cost_gain) == (None, -0.5)


def test_the_frontier_of_what_is_not_known_is_not_known() -> None:
    unpriced = [attempt("1", "s", "a", True, None), attempt("1", "t", "a", True, 1)]
    whole = area(sweep(collected(unpriced).units, [1]))
    assert (whole.aiq, whole.aiq_cost_range_usd, whole.iso_quality_saving, whole.iso_cost_gain) == (None,) * 4
    teacher_unknown = [attempt("1", "s", "a", True, 1), attempt("1", "t", "a", None, 5)]
    whole = area(sweep(collected(teacher_unknown).units, [1]))
    assert (whole.aiq, whole.aiq_cost_range_usd, whole.iso_quality_saving) == (None, (1.0, 1.0), None), "no width"


def test_agreement_with_the_teacher_counts_what_it_answers_itself() -> None:
    """At 0.6: 1 and 2 (escalated) end with the teacher's answer, 3 and 4 do not."""
    units = collected(BY_HAND).units
    assert replay(units, 3, 0.6).agreement_with_teacher == 0.5
    assert replay(units, 3, 1.0).agreement_with_teacher == 0.5
    assert replay(units, 3, 0.0).agreement_with_teacher == 0.25
    assert collected(BY_HAND).found.teacher_said == 4


# --- against a slow one -----------------------------------------------------------------------------------------------

outcomes = st.sampled_from([True, False, None])
dollars = st.one_of(st.none(), st.integers(0, 9).map(float))
samples = st.lists(st.tuples(st.sampled_from(["a", "b", "c", "", None]), outcomes, dollars), max_size=5)
worlds = st.lists(st.tuples(samples, st.lists(st.tuples(st.sampled_from("abd"), outcomes, dollars), max_size=2)))


def slow(world: list[Any], k: int, threshold: float) -> dict[str, Any]:
    taken: list[bool | None] = []
    agreed = 0
    student: list[float | None] = []
    teacher: list[float | None] = []
    escalated = 0
    for rows, said in world:
        if not rows or not said:
            continue
        voting = rows[:k]
        student += [usd for _, _, usd in voting]
        answers = [answer or "" for answer, _, _ in voting]
        best = max(answers, key=lambda answer: (answers.count(answer), -answers.index(answer)))
        if answers.count(best) / len(answers) >= threshold - 1e-9:
            known = [ok for answer, ok, _ in rows if (answer or "") == best and ok is not None]
            taken.append(known[0] if known else None)
            agreed += best == (said[0][0] or "")
        else:
            escalated += 1
            agreed += 1
            taken.append(said[0][1])
            teacher.append(said[0][2])
    return {
        "n": len(taken),
        "accuracy": None if None in taken else sum(map(bool, taken)) / len(taken),
        "escalation_share": escalated / len(taken),
        "agreement_with_teacher": agreed / len(taken),
        "student_cost_usd": None if None in student else sum(usd or 0 for usd in student),
        "teacher_cost_usd": None if None in teacher else sum(usd or 0 for usd in teacher),
    }


@given(worlds, st.integers(1, 6), st.sampled_from([0.0, 1 / 3, 0.4, 0.5, 0.6, 2 / 3, 0.75, 1.0]), st.booleans())
def test_it_is_the_slow_one(world: list[Any], k: int, threshold: float, shuffled: bool) -> None:
    if not any(rows and said for rows, said in world):
        return
    records = []
    for task, (rows, said) in enumerate(world):
        for who, attempts in (("s", rows), ("t", said)):
            records += [
                attempt(str(task), who, answer, ok, usd, sample=n) for n, (answer, ok, usd) in enumerate(attempts)
            ]
    if not {"s", "t"} <= {one.model for one in records}:
        return
    if shuffled:
        random.Random(0).shuffle(records)
    found = replay(collected(records).units, k, threshold)
    expected = slow(world, k, threshold)
    assert {name: getattr(found, name) for name in expected} == pytest.approx(expected)


def test_a_number_that_comes_again_with_another_answer_is_a_sample_of_its_own() -> None:
    """As an audit counts: the same number and content twice is one attempt, another answer or price is another."""
    rows = [
        attempt("1", "s", "x", True, 1, sample=0),
        attempt("1", "s", "x", True, 1, sample=0),
        attempt("1", "s", "y", False, 5, sample=0),
        attempt("1", "t", "x", True, 10),
    ]
    found = collected(rows)
    row = replay(found.units, 2, 1.0)
    assert (found.found.duplicates, row.escalation_share, row.student_cost_usd) == (1, 1.0, 6)
