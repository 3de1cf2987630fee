"""Which steps are choices among listed actions that can be learnt from, and why the others are not.

What it knows: a step's answerer, what was admissible, what was done. What it does not do: chats (``finetuning``),
distributions over actions, splits and weights (``distill.weights.data``), files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple

from potstill.trajectories.situations import done, situations
from potstill.types import Answerer, Situation, Step, Trajectory


class LeftOut(StrEnum):
    """Why an episode (the first three) or a step is nothing to learn from."""

    FAILED = "episodes that did not succeed"
    REPEATED_EPISODE = "episodes that came twice"
    NO_STEPS = "episodes without steps"
    OTHER_ANSWERER = "steps that somebody else answered"
    BROKEN = "steps that failed"
    NO_ADMISSIBLE = "steps without a list of admissible actions"
    NO_CHOICE = "steps with one admissible action only"
    TOOL_CALL = "steps that call a tool"
    NOT_ADMISSIBLE = "steps whose action is not admissible"


class Choice(NamedTuple):
    """An action chosen among others: ``action`` is one of ``admissible``, which holds each action once."""

    step: Step
    situation: Situation
    admissible: tuple[str, ...]
    action: str


def choices(
    trajectory: Trajectory,
    answerers: Collection[Answerer],
    *,
    only_successes: bool = True,
    left_out: Counter[LeftOut] | None = None,
) -> Iterator[Choice]:
    """What these answerers chose, step by step; ``left_out`` counts the rest by reason."""
    reasons: Counter[LeftOut] = Counter() if left_out is None else left_out
    if only_successes and not trajectory.succeeded:
        reasons[LeftOut.FAILED] += 1
        return
    if not trajectory.steps:
        reasons[LeftOut.NO_STEPS] += 1
    for step, situation in situations(trajectory):
        reason = why_not(step, answerers)
        if reason is None:
            yield Choice(step, situation, admissible_of(step), chosen(step))
        else:
            reasons[reason] += 1


def why_not(step: Step, answerers: Collection[Answerer]) -> LeftOut | None:
    """Why the step is no choice of theirs; None: it is one. A step whose context failed was decided all the same."""
    if step.answerer not in answerers:
        return LeftOut.OTHER_ANSWERER
    if step.answerer is Answerer.NOBODY:
        return LeftOut.BROKEN
    if step.action.tool_calls and not step.action.listed:
        return LeftOut.TOOL_CALL
    if not step.observation.admissible:
        return LeftOut.NO_ADMISSIBLE
    if chosen(step) not in step.observation.admissible:
        return LeftOut.NOT_ADMISSIBLE
    return LeftOut.NO_CHOICE if len(set(step.observation.admissible)) == 1 else None


def admissible_of(step: Step) -> tuple[str, ...]:
    """In the environment's order, each once."""
    return tuple(dict.fromkeys(step.observation.admissible or ()))


def chosen(step: Step) -> str:
    """The action as it is listed, whatever white space its writer left around it."""
    text, listed = done(step.action), step.observation.admissible or ()
    return text if text in listed else text.strip()


def all_choices(
    trajectories: Iterable[Trajectory],
    answerers: Collection[Answerer],
    *,
    only_successes: bool = True,
    left_out: Counter[LeftOut] | None = None,
) -> Iterator[tuple[Trajectory, Choice]]:
    """Of many episodes; one whose id came before is left out."""
    reasons: Counter[LeftOut] = Counter() if left_out is None else left_out
    known: set[str] = set()
    for trajectory in trajectories:
        if trajectory.id in known:
            reasons[LeftOut.REPEATED_EPISODE] += 1
            continue
        known.add(trajectory.id)
        for choice in choices(trajectory, answerers, only_successes=only_successes, left_out=reasons):
            yield trajectory, choice
