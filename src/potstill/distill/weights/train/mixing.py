"""How often a teacher acts in the rounds of DAgger, and how a budget of labels is shared out: pure functions.

What it knows: numbers of rounds, labels and episodes. What it does not do: play episodes (``dagger``) or decide a step
(``decide.labelling``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from potstill.decide.policy import Certainty
from potstill.errors import ConfigError, UnknownName, one_of
from potstill.types import Struct

WAVE = 8
"""Episodes that are planned together: the labels of the others are known before the next ones begin."""


def constant(start: float, index: int, rounds: int) -> float:
    """The same in every round."""
    return start


def linear(start: float, index: int, rounds: int) -> float:
    """Evenly down to 0 in the last round; a single round has the start."""
    return start if rounds == 1 else start * (1 - index / (rounds - 1))


def exponential(start: float, index: int, rounds: int) -> float:
    """``start ** (index + 1)``, as in arXiv 1011.0686, section 3.1, where cloning comes before the first round."""
    return float(start ** (index + 1))


SCHEDULES: dict[str, Callable[[float, int, int], float]] = {
    "constant": constant,
    "linear": linear,
    "exponential": exponential,
}


class Beta(Struct, frozen=True, kw_only=True):
    """How probable it is that the teacher acts where it is asked, by round. Raises ``ConfigError``, ``UnknownName``."""

    schedule: str = "linear"
    start: float = 0.5

    def __post_init__(self) -> None:
        one_of("schedule of beta", self.schedule, SCHEDULES)
        if not 0 <= self.start <= 1:
            raise ConfigError(f"beta starts at {self.start}. Allowed: 0 to 1. Type for example: --beta linear:0.5")

    def at(self, index: int, rounds: int) -> float:
        """Beta of the round ``index`` (from 0) of ``rounds``.

        >>> [Beta(schedule="linear", start=0.8).at(index, 3) for index in range(3)]
        [0.8, 0.4, 0.0]
        >>> [Beta(schedule="exponential", start=0.5).at(index, 3) for index in range(3)]
        [0.5, 0.25, 0.125]
        """
        return SCHEDULES[self.schedule](self.start, index, rounds)


def beta_of(text: str) -> Beta:
    """A schedule as it is typed. Raises ``ConfigError``, ``UnknownName``.

    >>> beta_of("constant:0.3")
    Beta(schedule='constant', start=0.3)
    """
    name, _, number = text.partition(":")
    if name not in SCHEDULES:
        raise UnknownName("schedule of beta", name, list(SCHEDULES))
    try:
        start = float(number)
    except ValueError:
        raise ConfigError(f"--beta is '{text}', without a number. Type for example: --beta {name}:0.5") from None
    return Beta(schedule=name, start=start)


class Dagger(Struct, frozen=True, kw_only=True):
    """How a student is taught on its own episodes. Raises ``ConfigError`` for values that mean nothing."""

    rounds: int
    labels: int
    """Answers of the teacher in all rounds together."""
    beta: Beta = Beta()
    certainty: Certainty = Certainty.LIKELIHOOD
    below: float = 0.7
    share: float = 0.0
    """See ``decide.policy.Labelling``, also for the two above."""
    episodes: int | None = None
    """Most episodes of a round; None: as many as the labels or the tasks allow."""

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ConfigError(f"--dagger is {self.rounds}. Allowed: 1 or more rounds.")
        if self.labels < self.rounds:
            raise ConfigError(
                f"--labels is {self.labels} for {self.rounds} rounds. Allowed: at least one for each round."
            )


def part_of(total: int, parts: int, index: int) -> int:
    """The share of part ``index`` (from 0) when ``total`` is split as evenly as whole numbers allow, the first most.

    >>> [part_of(10, 4, index) for index in range(4)]
    [3, 3, 2, 2]
    """
    return total // parts + (index < total % parts)


class Wave(NamedTuple):
    episodes: int
    most: int
    """Labels of each."""


def wave_of(left: int, max_steps: int, *, episodes: int = WAVE) -> Wave:
    """The next episodes of a round that has ``left`` labels (at least 1): never more than these, whatever they ask.

    Their number depends on nothing but what was asked before, so any number of workers records the same labels. An
    episode can ask at each of its steps, unless the last labels of the round are fewer than its steps.

    >>> wave_of(1000, 50), wave_of(170, 50), wave_of(20, 50)
    (Wave(episodes=8, most=50), Wave(episodes=3, most=50), Wave(episodes=1, most=20))
    """
    return Wave(max(1, min(episodes, left // max_steps)), min(left, max_steps))
