"""What decides who acts: frozen policies and the small state that a policy carries from step to step."""

from __future__ import annotations

from enum import StrEnum

from potstill.errors import ConfigError
from potstill.types import Answerer, EscalationMode, Struct


class PolicyKind(StrEnum):
    STUDENT = "student"
    TEACHER = "teacher"
    CASCADE = "cascade"
    RANDOM_MIX = "random-mix"
    """The teacher takes each step with probability ``teacher_share``: the control that a cascade must beat."""


class Signal(StrEnum):
    """What makes the student trusted."""

    VOTES = "votes"
    """The share of its samples that fell on one action (arXiv 2512.02543: all of them)."""
    LIKELIHOOD = "likelihood"
    """The probability of its best action among the admissible ones."""


class Sampling(StrEnum):
    TOGETHER = "together"
    """All samples at once."""
    SEQUENTIAL = "sequential"
    """Two, and the rest only if they agree: the same decisions under unanimity, other costs."""


class TeacherView(StrEnum):
    """What the teacher sees when it takes over."""

    FULL = "full"
    COMPACT = "compact"
    """Plan, the last observations and a summary in place of the whole history (arXiv 2608.24358)."""


class Policy(Struct, frozen=True, kw_only=True):
    """One arm's way to decide. Temperature and number of samples are explicit: together they are the threshold."""

    kind: PolicyKind = PolicyKind.STUDENT
    mode: EscalationMode = EscalationMode.STEP
    signal: Signal = Signal.VOTES
    samples: int = 3
    threshold: float = 1.0
    """Votes: the least share of samples on one action. Likelihood: the least probability of the best action."""
    temperature: float = 0.7
    """Of the samples that vote."""
    alone_temperature: float = 0.1
    """Of the student's answer where no vote is taken (arXiv 2512.02543 acts at 0.1)."""
    rule: str = "exact"
    escalate_repeats: bool = True
    """Do not trust an action that was already taken after the same observation: samples that agree on going round in
    a circle are the failure that agreement cannot see (progress signals: arXiv 2603.26034)."""
    sampling: Sampling = Sampling.TOGETHER
    keep_steps: int = 5
    """``sticky``: how many steps the teacher keeps; ``teacher-first``: how many it takes at the start."""
    patience: int = 3
    """``restart``: how many untrusted steps before the episode starts again with the teacher alone."""
    teacher_share: float = 0.0
    """``random-mix`` only: the probability that the teacher takes a step."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ConfigError(f"samples is {self.samples}; allowed: 1 or more. Type for example: --samples 3")
        if not 0.0 <= self.threshold <= 1.0:
            raise ConfigError(f"threshold is {self.threshold}; allowed: 0 to 1. Type for example: --threshold 1.0")
        if min(self.temperature, self.alone_temperature) < 0.0:
            raise ConfigError(f"temperature is {self.temperature}; allowed: 0 or more. Type for example: 0.7")
        if not 0.0 <= self.teacher_share <= 1.0:
            raise ConfigError(f"teacher share is {self.teacher_share}; allowed: 0 to 1. Type for example: 0.25")
        for name, value in (("keep_steps", self.keep_steps), ("patience", self.patience)):
            if value < 1:
                option = "--" + name.replace("_", "-")
                raise ConfigError(f"{name} is {value}; allowed: 1 or more. Type for example: {option} 3")


class CascadeState(Struct, frozen=True, kw_only=True):
    """What the cascade remembers within one episode."""

    step: int = 0
    teacher_left: int = 0
    """Steps that the teacher still keeps."""
    untrusted: int = 0
    holder: Answerer | None = None
    """Set once one side has the whole task (``task``, ``restart``)."""
