"""When demonstrations have paid for themselves.

What it knows: arXiv 2512.02543's amortisation, n* = C_demonstrations / (c_teacher - c_student), and the variant in
which the demonstration tasks were work that had to be served anyway. What it does not do: decide whether the student is
good enough; a break-even between arms of different success says nothing about quality.
"""

from __future__ import annotations

import msgspec


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
