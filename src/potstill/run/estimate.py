"""What a run will cost, before it spends anything: prompt growth times prices, stated as an estimate.

The estimate is deliberately plain: prompts grow by one observation and one action a step, nothing is cached, and every
student step of a cascade is sampled ``samples`` times and escalated at ``escalation``. It errs to the dear side.
"""

from __future__ import annotations

from potstill.decide.policy import PolicyKind
from potstill.run.arms import Arm
from potstill.types import Struct


class Assumptions(Struct, frozen=True, kw_only=True):
    """Tokens per part of a prompt, and steps per episode; measured on recorded episodes where there are any."""

    system_tokens: int = 120
    turn_tokens: int = 60
    tail_tokens: int = 150
    context_tokens: int = 1200
    playbook_tokens: int = 2000
    output_tokens: int = 12
    steps: int = 25
    escalation: float = 0.5


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


def estimate_arm(arm: Arm, episodes: int, given: Assumptions) -> ArmEstimate:
    """Tokens of ``episodes`` episodes of one arm, uncached.

    A prompt at step t has ``system + tail + t * turn`` tokens, so an episode of T steps reads
    ``T * (system + tail) + turn * T * (T + 1) / 2``: quadratic in T, which is why caching decides the bill.
    """
    base = given.steps * (given.system_tokens + given.tail_tokens)
    base += given.turn_tokens * given.steps * (given.steps + 1) // 2
    context = given.steps * given.context_tokens if arm.needs_demonstrations and not arm.control else 0
    context += given.steps * given.playbook_tokens if arm.playbook else 0
    student_share, teacher_share = _shares(arm, given)
    outputs = given.steps * given.output_tokens
    return ArmEstimate(
        arm=arm.name,
        episodes=episodes,
        student_input_tokens=round(episodes * student_share * (base + context)),
        student_output_tokens=round(episodes * student_share * outputs * arm.policy.samples),
        teacher_input_tokens=round(episodes * teacher_share * base),
        teacher_output_tokens=round(episodes * teacher_share * outputs),
    )


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
