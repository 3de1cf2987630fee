"""Arms: the named configurations that a run compares on the same tasks and seeds.

An arm is a policy (who acts), a kind of context (what the student is shown) and how the agent speaks. It is data: it
can be written into the store, hashed, and built again.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum

import msgspec

from potstill.decide.policy import Policy, PolicyKind
from potstill.errors import ConfigError, UnknownName
from potstill.types import EscalationMode, Struct, TrajectoryKind


class ContextKind(StrEnum):
    NONE = "none"
    RANDOM = "random"
    RETRIEVED = "retrieved"


class Reasoning(StrEnum):
    """Whether a language model writes its reasoning before it acts."""

    NONE = "none"
    WITH_ACTION = "with-action"
    """Reasoning and action in one answer."""
    SEPARATE = "separate"
    """One call reasons, a second acts; only the action is sampled n times."""


class Placement(StrEnum):
    """Where demonstrations stand in the prompt.

    First, in the system message: the prefix cache stays warm if they are frozen for the task, and breaks at every
    step if they are retrieved per step. Last, before the present observation: the history stays cached either way.
    """

    FIRST = "first"
    LAST = "last"


class Agent(Struct, frozen=True, kw_only=True):
    """How the agent speaks with its model."""

    plan: bool = False
    reasoning: Reasoning = Reasoning.NONE
    first_thought: bool = False
    """With ``Reasoning.WITH_ACTION``: an episode's first reasoning begins as the model thinks when it is asked to think
    step by step about the goal and not to act (the first-thought prefix of arXiv 2505.17612, section 4.1)."""
    placement: Placement = Placement.FIRST
    list_admissible: bool = True
    """Write the admissible actions into the prompt. Needless where the model is constrained to them."""
    history_turns: int | None = None
    """How many past turns the prompt shows; None: all of them, which is what prefix caches reward. Small models copy
    their own loops from a long history."""
    max_tokens: int = 48
    """Per action; reasoning and plans get ``reasoning_tokens`` more."""
    reasoning_tokens: int = 256
    compact_observations: int = 3
    """How many last observations the teacher sees in the compact view."""


class Arm(Struct, frozen=True, kw_only=True):
    name: str
    policy: Policy
    context: ContextKind = ContextKind.NONE
    playbook: bool = False
    """The student is shown the run's playbook; beside demonstrations, if the context has some."""
    student_agent: Agent = Agent()
    teacher_agent: Agent = Agent()
    control: bool = False
    """Act without a language model, by copying the nearest demonstration."""
    share_from: str | None = None
    """``random-mix``: the arm whose measured teacher share it takes."""

    @property
    def kind(self) -> TrajectoryKind:
        if self.control:
            return TrajectoryKind.CONTROL
        if self.policy.kind is PolicyKind.TEACHER:
            return TrajectoryKind.TEACHER
        return TrajectoryKind.STUDENT if self.policy.kind is PolicyKind.STUDENT else TrajectoryKind.CASCADE

    @property
    def needs_teacher(self) -> bool:
        return not self.control and self.policy.kind is not PolicyKind.STUDENT

    @property
    def needs_student(self) -> bool:
        return not self.control and self.policy.kind is not PolicyKind.TEACHER

    @property
    def needs_demonstrations(self) -> bool:
        return self.control or self.context is not ContextKind.NONE

    @property
    def plans(self) -> bool:
        """Whether an episode begins with a plan. The student writes it where there is one, else the teacher."""
        return self.student_agent.plan if self.needs_student else self.needs_teacher and self.teacher_agent.plan


_PLAYBOOK = "playbook"
"""What the names of arms that show a playbook begin with."""
_BASE: dict[str, tuple[PolicyKind, ContextKind]] = {
    "teacher": (PolicyKind.TEACHER, ContextKind.NONE),
    "zero-shot": (PolicyKind.STUDENT, ContextKind.NONE),
    "random-demos": (PolicyKind.STUDENT, ContextKind.RANDOM),
    "context": (PolicyKind.STUDENT, ContextKind.RETRIEVED),
    "cascade": (PolicyKind.CASCADE, ContextKind.NONE),
    "context+cascade": (PolicyKind.CASCADE, ContextKind.RETRIEVED),
    "playbook": (PolicyKind.STUDENT, ContextKind.NONE),
    "playbook+context": (PolicyKind.STUDENT, ContextKind.RETRIEVED),
    "playbook+cascade": (PolicyKind.CASCADE, ContextKind.NONE),
    "playbook+context+cascade": (PolicyKind.CASCADE, ContextKind.RETRIEVED),
    "random-mix": (PolicyKind.RANDOM_MIX, ContextKind.RETRIEVED),
    "copy-nearest": (PolicyKind.STUDENT, ContextKind.RETRIEVED),
}


def build_arms(names: list[str], policy: Policy, student: Agent, teacher: Agent) -> list[Arm]:
    """Arms by name, in an order in which each finds what it needs (``random-mix`` after the cascade it mirrors).

    ``NAME@MODE`` sets the escalation mode of a cascade, such as ``context+cascade@sticky``; ``random-mix@sticky``
    mirrors that arm. Raises ``UnknownName``, or ``ConfigError`` for a name given twice or a mirror without its cascade.
    """
    if not names:
        raise ConfigError(f"No arm was named. Allowed: {', '.join(_BASE)}. Type for example: --arm zero-shot,context")
    if len(set(names)) != len(names):
        raise ConfigError(f"An arm is named twice in {', '.join(names)}. Name each once.")
    arms = [_build(name, names, policy, student, teacher) for name in names]
    return sorted(arms, key=lambda arm: arm.share_from is not None)


def _build(name: str, names: list[str], policy: Policy, student: Agent, teacher: Agent) -> Arm:
    base, _, mode_name = name.partition("@")
    if base not in _BASE:
        raise UnknownName("arm", base, _BASE)
    kind, context = _BASE[base]
    if mode_name and kind not in (PolicyKind.CASCADE, PolicyKind.RANDOM_MIX):
        raise ConfigError(f"'{name}': only cascades escalate, '{base}' does not. Type: --arm {base}")
    mode = _mode(mode_name) if mode_name else policy.mode
    samples = policy.samples if kind is PolicyKind.CASCADE else 1
    return Arm(
        name=name,
        policy=msgspec.structs.replace(policy, kind=kind, mode=mode, samples=samples),
        context=context,
        playbook=base.startswith(_PLAYBOOK),
        student_agent=student,
        teacher_agent=teacher,
        control=base == "copy-nearest",
        share_from=_mirrored(mode_name, names, policy) if kind is PolicyKind.RANDOM_MIX else None,
    )


def _mode(name: str) -> EscalationMode:
    try:
        return EscalationMode(name)
    except ValueError:
        raise UnknownName("escalation mode", name, [mode.value for mode in EscalationMode]) from None


def _mirrored(mode_name: str, names: list[str], policy: Policy) -> str | None:
    suffix = f"@{mode_name}" if mode_name else ""
    for base in ("context+cascade", "cascade"):
        if base + suffix in names:
            return base + suffix
    if policy.teacher_share > 0:
        return None
    raise ConfigError(
        f"random-mix{suffix} takes its teacher share from a cascade in the same run, and none is named. "
        f"Type: --arm context+cascade{suffix},random-mix{suffix}, or give --teacher-share 0.25"
    )


def digest(value: object) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a struct's canonical JSON: names a configuration in the records."""
    return hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()[:16]
