"""What an arm is expected to read and write: hand-worked numbers for each way an agent speaks."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.decide.policy import Policy
from potstill.run.arms import Agent, Arm, Reasoning, build_arms
from potstill.run.estimate import ArmEstimate, Assumptions, calls_of, estimate_arm, expected_steps

FEW = Assumptions(
    system_tokens=100,
    turn_tokens=10,
    tail_tokens=30,
    context_tokens=1000,
    output_tokens=5,
    reasoning_tokens=20,
    plan_tokens=40,
    first_thought_tokens=70,
    steps=3,
    escalation=0.5,
)
"""Prompts of three steps: 140, 150 and 160 tokens, 450 in all; answers of 5, 15 in all."""
PLAIN, WITH, SEPARATE = Agent(), Agent(reasoning=Reasoning.WITH_ACTION), Agent(reasoning=Reasoning.SEPARATE)


def arm(name: str, student: Agent = PLAIN, teacher: Agent = PLAIN, **policy: Any) -> Arm:
    return build_arms([name], Policy(**policy), student, teacher)[0]


def tokens(found: ArmEstimate) -> tuple[int, int, int, int]:
    return (
        found.student_input_tokens,
        found.student_output_tokens,
        found.teacher_input_tokens,
        found.teacher_output_tokens,
    )


@pytest.mark.parametrize(
    ("agent", "read", "written"),
    [
        (PLAIN, 450, 15),
        # the second prompt has one past reasoning and the third two: 3 * 20 more to read, and 3 * 20 to write
        (WITH, 450 + 60, 15 + 60),
        # the same prompts twice, and each acting one quotes its reasoning: 2 * 510 + 3 * 20
        (SEPARATE, 1080, 15 + 60),
        # one call with the instructions and the first observation (110), and the plan in each of three prompts
        (Agent(plan=True), 450 + 110 + 3 * 40, 15 + 40),
        # one call with the goal and the first observation (10), of which all is billed
        (Agent(reasoning=Reasoning.WITH_ACTION, first_thought=True), 510 + 10, 75 + 70),
        # no past: three prompts of 140
        (Agent(history_turns=0), 420, 15),
        # one past turn, with its reasoning: 140 + 2 * (150 + 20)
        (Agent(history_turns=1, reasoning=Reasoning.WITH_ACTION), 480, 75),
    ],
)
def test_a_side_that_acts_alone_reads_and_writes_as_it_speaks(agent: Agent, read: int, written: int) -> None:
    assert tokens(estimate_arm(arm("teacher", teacher=agent), 2, FEW)) == (0, 0, 2 * read, 2 * written)
    assert tokens(estimate_arm(arm("zero-shot", student=agent), 2, FEW)) == (2 * read, 2 * written, 0, 0)


def test_each_side_of_a_cascade_speaks_as_its_own_agent_does() -> None:
    """Five samples write the student's reasoning five times, a separate one is written once; half of it escalates."""
    named = {"samples": 5}
    assert tokens(estimate_arm(arm("cascade", WITH, PLAIN, **named), 2, FEW)) == (1020, 2 * 5 * 75, 450, 15)
    assert tokens(estimate_arm(arm("cascade", SEPARATE, PLAIN, **named), 2, FEW)) == (2160, 2 * 135, 450, 15)
    assert tokens(estimate_arm(arm("cascade", PLAIN, SEPARATE, **named), 2, FEW)) == (900, 2 * 75, 1080, 75)


def test_a_plan_is_the_students_where_there_is_one_and_both_read_it() -> None:
    planning = Agent(plan=True)
    both = estimate_arm(arm("cascade", planning, planning, samples=1), 2, FEW)
    assert tokens(both) == (2 * (450 + 110 + 120), 2 * (15 + 40), 450 + 120, 15)
    tuned = estimate_arm(arm("cascade", PLAIN, planning, samples=1), 2, FEW)  # a tuned student writes none
    assert tokens(tuned) == (900, 30, 450, 15)
    assert tokens(estimate_arm(arm("copy-nearest", planning, planning), 2, FEW)) == (0, 0, 0, 0)


def test_demonstrations_are_read_at_each_call_and_by_the_plan() -> None:
    speaking = Agent(plan=True, reasoning=Reasoning.SEPARATE)
    shown = estimate_arm(arm("context", speaking), 1, FEW).student_input_tokens
    assert shown - estimate_arm(arm("zero-shot", speaking), 1, FEW).student_input_tokens == (2 * 3 + 1) * 1000


def test_calls_of_an_episode() -> None:
    told = [PLAIN, WITH, SEPARATE, Agent(plan=True), Agent(reasoning=Reasoning.WITH_ACTION, first_thought=True)]
    assert [calls_of(agent, 3) for agent in told] == [3, 3, 6, 4, 4]


@given(limit=st.integers(1, 2000), usual=st.integers(1, 2000))
def test_expected_steps_are_half_of_the_larger_limit_or_all_that_may_be_taken(limit: int, usual: int) -> None:
    steps = expected_steps(limit, usual)
    assert 1 <= steps <= limit
    assert expected_steps(limit + 1, usual) >= steps
    assert expected_steps(usual, usual) == (usual + 1) // 2


def test_a_short_limit_is_reached() -> None:
    assert [expected_steps(limit, 30) for limit in (1, 3, 15, 16, 30, 60)] == [1, 3, 15, 15, 15, 30]
