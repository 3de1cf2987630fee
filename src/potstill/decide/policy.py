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
    LABELLING = "labelling"
    """The student acts and the teacher is asked for labels to learn from (``labelling``, arXiv 1011.0686)."""


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


class Certainty(StrEnum):
    """How sure a student is of its best action, in [0, 1], from its probabilities over the admissible ones."""

    LIKELIHOOD = "likelihood"
    """The best one's probability."""
    MARGIN = "margin"
    """How far the second is behind it."""
    ENTROPY = "entropy"
    """1 minus the entropy in units of its greatest value, the logarithm of the number of actions."""


class Labelling(Struct, frozen=True, kw_only=True):
    """Where a student in training asks its teacher, and who acts there. Raises ``ConfigError`` for what means nothing.

    Asked at every step (``below=1``) this is DAgger (arXiv 1011.0686, algorithm 3.1).
    """

    beta: float = 0.0
    """Probability that the teacher's answer is also executed; otherwise the student acts and keeps it as a label."""
    certainty: Certainty = Certainty.LIKELIHOOD
    below: float = 1.0
    """The teacher is asked where the student is less sure, and where it repeats itself. 1: at every step."""
    share: float = 0.0
    """Of the other steps, the share at which it is asked too, drawn by the seed."""
    most: int | None = None
    """Answers of the teacher in an episode; after them the student acts without it."""

    def __post_init__(self) -> None:
        for name in ("beta", "below", "share"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise ConfigError(f"{name} is {value}; allowed: 0 to 1. Type for example: --ask-below 0.6")
        if self.most is not None and self.most < 0:
            raise ConfigError(f"An episode's most labels is {self.most}; allowed: 0 or more.")


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
    labelling: Labelling = Labelling()
    """``labelling`` only."""
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
    asked: int = 0
    """``labelling``: answers that the teacher gave."""
