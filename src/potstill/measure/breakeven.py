"""When demonstrations have paid for themselves.

What it knows: arXiv 2512.02543's amortisation, n* = C_demonstrations / (c_teacher - c_student), the variant in which
the demonstration tasks were work that had to be served anyway, and ``payback``: all that a student costs before and
while it serves. What it does not do: decide whether the student is good enough. That is an argument of ``payback``,
from a non-inferiority test; without it a break-even between arms of different success says nothing about quality.
"""

from __future__ import annotations

from enum import StrEnum
from math import ceil

import msgspec

from potstill.errors import ConfigError


class BreakEven(msgspec.Struct, frozen=True, kw_only=True):
    """Episodes served after which the saving has paid for the demonstrations.

    ``episodes``: demonstrations are pure overhead. ``episodes_if_served``: their tasks counted as served work, so that
    only what they cost beyond serving them with the teacher is overhead. ``None``: never (the student arm is not
    cheaper, or it never succeeded, so that its episodes replace nothing).
    """

    arm: str
    reference_arm: str
    demonstrations_usd: float
    demonstration_episodes: int | None
    saving_per_episode_usd: float
    episodes: float | None
    episodes_if_served: float | None


def break_even_episodes(
    demonstrations_usd: float,
    teacher_usd: float,
    student_usd: float,
    *,
    demonstration_episodes: int | None = None,
) -> float | None:
    """Episodes to serve until the demonstrations are paid for; ``None`` if the student arm does not cost less.

    ``demonstration_episodes`` counts the demonstration tasks as served work. Costs are dollars: of all demonstrations,
    and per episode of each arm.

    >>> round(break_even_episodes(29.50, 0.059, 0.024))
    843
    """
    saving = teacher_usd - student_usd
    if saving <= 0:
        return None
    overhead = demonstrations_usd
    if demonstration_episodes is not None:
        overhead = max(0.0, demonstrations_usd - demonstration_episodes * teacher_usd)
    return overhead / saving


def break_even(
    arm: str,
    reference_arm: str,
    *,
    demonstrations_usd: float,
    demonstration_episodes: int | None,
    teacher_usd: float,
    student_usd: float,
    succeeds: bool = True,
) -> BreakEven:
    """Both variants of ``break_even_episodes`` for one arm; ``succeeds`` False: it never did, and never pays."""
    if_served = None
    if succeeds and demonstration_episodes is not None:
        if_served = break_even_episodes(
            demonstrations_usd, teacher_usd, student_usd, demonstration_episodes=demonstration_episodes
        )
    return BreakEven(
        arm=arm,
        reference_arm=reference_arm,
        demonstrations_usd=demonstrations_usd,
        demonstration_episodes=demonstration_episodes,
        saving_per_episode_usd=teacher_usd - student_usd,
        episodes=break_even_episodes(demonstrations_usd, teacher_usd, student_usd) if succeeds else None,
        episodes_if_served=if_served,
    )


def why_never(even: BreakEven, arm: str, reference: str) -> str:
    """Why demonstrations are never paid for, as a clause; ``arm`` and ``reference`` as they are to be written."""
    if even.saving_per_episode_usd > 0:
        return f"{arm} never succeeded"
    return f"{arm} does not cost less than {reference}"


def net_saving_usd(demonstrations_usd: float, teacher_usd: float, student_usd: float, episodes: float) -> float:
    """What has been saved after ``episodes`` served episodes; negative before the break-even."""
    return episodes * (teacher_usd - student_usd) - demonstrations_usd


class Investment(msgspec.Struct, frozen=True, kw_only=True):
    """What has to be paid once before the student serves, in US dollars."""

    collection_usd: float = 0.0
    """The teacher's episodes that the student learns from."""
    labelling_usd: float = 0.0
    """People or judges who say which of them succeeded."""
    training_usd: float = 0.0
    """Training and the search for its settings."""
    evaluation_usd: float = 0.0
    """Playing both arms on held-out tasks."""

    @property
    def total_usd(self) -> float:
        return self.collection_usd + self.labelling_usd + self.training_usd + self.evaluation_usd


class Upkeep(msgspec.Struct, frozen=True, kw_only=True):
    """What goes on being paid while the student serves."""

    maintenance_usd: float = 0.0
    """Per episode: monitoring, shadow answers of the teacher."""
    refresh_usd: float = 0.0
    """Each time the student is renewed because tasks have drifted."""
    refresh_every: int | None = None
    """Episodes between renewals. ``None``: never."""

    @property
    def per_episode_usd(self) -> float:
        every = self.refresh_every
        return self.maintenance_usd + (0.0 if every is None else self.refresh_usd / every)


class WhyNot(StrEnum):
    """Why a student does not pay."""

    INFERIOR = "inferior"
    """It is not shown to be as good as the teacher: compare dollars per success instead."""
    NO_SAVING = "no-saving"
    """An episode costs as much as the teacher's, or more."""


class Payback(msgspec.Struct, frozen=True, kw_only=True):
    """After how many episodes an investment is paid back. ``episodes`` None: never, or not a valid question."""

    episodes: int | None
    why_not: WhyNot | None
    investment_usd: float
    saving_per_episode_usd: float
    """Upkeep taken off; negative where the student costs more."""


def payback(
    investment: Investment,
    *,
    base_usd: float,
    new_usd: float,
    non_inferior: bool,
    upkeep: Upkeep | None = None,
) -> Payback:
    """N* = ceil((C_collect + C_label + C_train + C_eval) / (c_base - c_new - c_maintain - C_refresh / D)).

    ``base_usd`` and ``new_usd``: per episode, both with their caches. ``non_inferior``: a test with a margin fixed
    before showed that the new arm keeps the base's success. Raises ``ConfigError`` for amounts that cannot be.

    >>> spent = Investment(collection_usd=29.5)
    >>> payback(spent, base_usd=0.059, new_usd=0.024, non_inferior=True).episodes
    843
    """
    keep = upkeep or Upkeep()
    _check(investment, keep, base_usd, new_usd)
    saving = base_usd - new_usd - keep.per_episode_usd
    episodes, why_not = None, None
    if not non_inferior:
        why_not = WhyNot.INFERIOR
    elif saving <= 0:
        why_not = WhyNot.NO_SAVING
    else:
        # 10 / (0.3 - 0.2) comes out as 100.00000000000001, which is no 101st episode.
        episodes = ceil(investment.total_usd / saving * (1 - 1e-12))
    return Payback(
        episodes=episodes, why_not=why_not, investment_usd=investment.total_usd, saving_per_episode_usd=saving
    )


def _check(investment: Investment, upkeep: Upkeep, base_usd: float, new_usd: float) -> None:
    amounts = {
        **msgspec.structs.asdict(investment),
        "maintenance_usd": upkeep.maintenance_usd,
        "refresh_usd": upkeep.refresh_usd,
        "base_usd": base_usd,
        "new_usd": new_usd,
    }
    for name, value in amounts.items():
        if not 0 <= value < float("inf"):
            raise ConfigError(f"{name} is {value}; allowed: 0 dollars or more.")
    if upkeep.refresh_every is not None and upkeep.refresh_every < 1:
        raise ConfigError(f"refresh_every is {upkeep.refresh_every}; allowed: 1 episode or more, or None for never.")
