"""How a language-model student is made, as a value: what a lineage writes down. Needs no PyTorch."""

from __future__ import annotations

import math

import msgspec

from potstill.distill.weights.losses.config import Kind, Loss
from potstill.distill.weights.losses.spans import SpanKind
from potstill.distill.weights.train.config import TrainConfig
from potstill.errors import ConfigError, one_of
from potstill.models.tuned_file import Voice
from potstill.run.arms import Agent, Reasoning
from potstill.run.voice import agent_of
from potstill.types import Struct

TAUGHT = (SpanKind.TEXT, SpanKind.REASONING)
"""Parts of an answer that can be weighted."""
REASONINGS = (Reasoning.NONE, Reasoning.WITH_ACTION)


def train_config() -> TrainConfig:
    """The defaults of a language model: few steps, and a rate that suits an adapter."""
    return TrainConfig(epochs=2, batch=8, learning_rate=5e-4, warmup=10, weight_decay=0.0, patience=3)


class LmRecipe(Struct, frozen=True, kw_only=True):
    """Low-rank adapters (arXiv 2106.09685) on every linear layer. Raises ``ConfigError`` for what means nothing."""

    base: str
    rank: int = 16
    """The ``r`` of the paper's section 4.1: the adapters' inner width."""
    alpha: float = 32.0
    """Adapters are scaled by ``alpha / rank``."""
    dropout: float = 0.05
    """Of the adapters' inputs."""
    voice: Voice = Voice()
    demonstrations: int = 0
    """How many stand in each prompt, found as ``run`` finds them for a task."""
    spans: dict[SpanKind, float] = msgspec.field(default_factory=lambda: {SpanKind.TEXT: 1.0, SpanKind.REASONING: 0.3})
    """The weight of each token of a kind in the loss; prompts have none."""
    whole_episodes: bool = False
    """Decisions whose prompts go on from one another are learnt in one pass, which is then what ``batch`` counts."""
    train: TrainConfig = msgspec.field(default_factory=train_config)

    def __post_init__(self) -> None:
        if not 1 <= self.rank <= 256:
            raise ConfigError(
                f"rank is {self.rank}. Allowed: 1 to 256; 16 makes some 5 million weights of 135 million."
            )
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise ConfigError(f"alpha is {self.alpha}. Allowed: any number above 0; twice the rank is usual.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout is {self.dropout}. Allowed: 0 and more, below 1.")
        one_of("way to reason that a student can be tuned to", self.voice.reasoning, REASONINGS)
        for kind, weight in self.spans.items():
            one_of("part of an answer", kind, TAUGHT)
            if not (math.isfinite(weight) and weight >= 0):
                raise ConfigError(f"The weight of '{kind}' is {weight}. Allowed: 0 and more.")
        if not self.spans.get(SpanKind.TEXT):
            raise ConfigError("The action's weight is 0, so nothing would be learnt to be done. Type: --span text=1")
        voice = self.voice
        begun = voice.history_turns is None and not voice.list_admissible and voice.reasoning == Reasoning.NONE
        if self.whole_episodes and not begun:
            raise ConfigError(
                "Whole episodes are learnt in one pass where each prompt is the one before and what followed. Leave "
                "--history, --list-admissible and --reasoning away, or --whole-episodes."
            )
        if self.train.loss != Loss(kind=Kind.HARD):
            raise ConfigError("A language model learns the teacher's tokens: of losses it takes kind=hard alone.")

    @property
    def reasons(self) -> bool:
        """Whether the student writes its reasoning before it acts."""
        return self.voice.reasoning != Reasoning.NONE

    @property
    def agent(self) -> Agent:
        """As the episode loop speaks to the student."""
        return agent_of(self.voice)
