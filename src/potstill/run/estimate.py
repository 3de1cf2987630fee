"""What a run will cost, before it spends anything: prompt growth times prices, stated as an estimate.

The estimate is deliberately plain: prompts grow by one observation, one action and what was reasoned a step, nothing is
cached, and every student step of a cascade is sampled ``samples`` times and escalated at ``escalation``. It errs to the
dear side, but for texts that are written freely: there it takes a length to expect, since the limit is rarely reached.
"""

from __future__ import annotations

from typing import NamedTuple

from potstill.decide.policy import PolicyKind
from potstill.run.arms import Agent, Arm, Reasoning
from potstill.types import Struct


class Assumptions(Struct, frozen=True, kw_only=True):
    """Tokens per part of a prompt and of an answer, and steps per episode: what is to be expected, not the limits."""

    system_tokens: int = 120
    turn_tokens: int = 60
    tail_tokens: int = 150
    context_tokens: int = 1200
    playbook_tokens: int = 2000
    output_tokens: int = 12
    """Of an action."""
    reasoning_tokens: int = 60
    """Of one step's reasoning: a sentence or two."""
    plan_tokens: int = 80
    """Of an episode's plan: a few numbered lines."""
    first_thought_tokens: int = 200
    """Of the thinking step by step that begins an episode: longer, and cut off by nothing but the limit."""
    steps: int = 25
    escalation: float = 0.5


def expected_steps(limit: int, usual: int) -> int:
    """Steps of an episode that may take ``limit``, where the environment's own limit is ``usual``.

    Half of the larger limit, rounded up, and never more than may be taken: a limit far below the usual one is reached.

    >>> expected_steps(30, 30), expected_steps(3, 30), expected_steps(60, 30)
    (15, 3, 30)
    """
    return min(limit, -(-max(limit, usual) // 2))


def calls_of(agent: Agent, steps: int) -> int:
    """Calls of a side that acts ``steps`` steps of an episode alone: one a step, and those that write no action."""
    return steps * (2 if agent.reasoning is Reasoning.SEPARATE else 1) + agent.plan + agent.first_thought


class ArmEstimate(Struct, frozen=True, kw_only=True):
    arm: str
    episodes: int
    student_input_tokens: int
    student_output_tokens: int
    teacher_input_tokens: int
    teacher_output_tokens: int

    def cost_usd(self, student: tuple[float, float] | None, teacher: tuple[float, float] | None) -> float | None:
        """Dollars at (input, output) prices per token; None where a needed price is not known."""
        total = 0.0
        for tokens, price in (
            ((self.student_input_tokens, self.student_output_tokens), student),
            ((self.teacher_input_tokens, self.teacher_output_tokens), teacher),
        ):
            if sum(tokens) and price is None:
                return None
            if price is not None:
                total += tokens[0] * price[0] + tokens[1] * price[1]
        return total


class _Tokens(NamedTuple):
    read: int
    written: int


def estimate_arm(arm: Arm, episodes: int, given: Assumptions) -> ArmEstimate:
    """Tokens of ``episodes`` episodes of one arm, uncached: of each side's share of the steps, as its agent speaks.

    The plan is written once an episode, by the student where there is one, and both sides read it at every step.
    """
    context = given.context_tokens if arm.needs_demonstrations else 0
    context += given.playbook_tokens if arm.playbook else 0
    asked = given.system_tokens + given.turn_tokens + (context if arm.needs_student else 0)
    plan = _Tokens(asked, given.plan_tokens) if arm.plans else _Tokens(0, 0)
    student = _acting(arm.student_agent, given, context + plan.written, arm.policy.samples)
    teacher = _acting(arm.teacher_agent, given, plan.written, 1)
    student_share, teacher_share = _shares(arm, given)
    student_plans, teacher_plans = int(arm.needs_student), int(not arm.needs_student)
    return ArmEstimate(
        arm=arm.name,
        episodes=episodes,
        student_input_tokens=round(episodes * (student_share * student.read + student_plans * plan.read)),
        student_output_tokens=round(episodes * (student_share * student.written + student_plans * plan.written)),
        teacher_input_tokens=round(episodes * (teacher_share * teacher.read + teacher_plans * plan.read)),
        teacher_output_tokens=round(episodes * (teacher_share * teacher.written + teacher_plans * plan.written)),
    )


def _acting(agent: Agent, given: Assumptions, beside: int, samples: int) -> _Tokens:
    """Of one side that acts at every step of an episode. ``beside``: tokens of each prompt that are no turns.

    A prompt at step t has ``system + tail + beside + t * turn`` tokens, so an episode of T steps reads
    ``T * (system + tail + beside) + turn * T * (T + 1) / 2``: quadratic in T, which is why caching decides the bill.
    An agent that reasons reads what was reasoned at the past steps, too. Reasoning with the action is written by each
    sample; separate reasoning is a call of its own with the same prompt, whose answer the acting prompt quotes.
    """
    steps, most = given.steps, agent.history_turns
    past = sum(t if most is None else min(t, most) for t in range(steps))
    thought = 0 if agent.reasoning is Reasoning.NONE else given.reasoning_tokens
    read = steps * (given.system_tokens + given.tail_tokens + beside + given.turn_tokens)
    read += past * (given.turn_tokens + thought)
    written = samples * steps * given.output_tokens
    if agent.reasoning is Reasoning.WITH_ACTION:
        written += samples * steps * thought
    if agent.reasoning is Reasoning.SEPARATE:
        read += read + steps * thought
        written += steps * thought
    if agent.first_thought:  # asked about the goal and the first observation alone
        read += given.turn_tokens
        written += given.first_thought_tokens
    return _Tokens(read, written)


def _shares(arm: Arm, given: Assumptions) -> tuple[float, float]:
    """Share of steps at which the student and the teacher are asked."""
    if arm.control:
        return 0.0, 0.0
    match arm.policy.kind:
        case PolicyKind.STUDENT:
            return 1.0, 0.0
        case PolicyKind.TEACHER:
            return 0.0, 1.0
        case PolicyKind.RANDOM_MIX:
            share = arm.policy.teacher_share or given.escalation
            return 1.0 - share, share
        case PolicyKind.CASCADE | PolicyKind.LABELLING:
            return 1.0, given.escalation
