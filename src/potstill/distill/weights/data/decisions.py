"""Episodes in, labelled decisions out, one at a time, with a report of what was left out and why.

What it knows: one tenant, whose answers are wanted. What it does not do: merge equal decisions (``merging``), split by
task and write (``build``, ``dataset``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator

import msgspec

from potstill.distill.weights.data.evidence import distribution_of
from potstill.distill.weights.data.labelled import Labelled, Said
from potstill.errors import ConfigError
from potstill.trajectories.choices import Choice, LeftOut, all_choices
from potstill.types import Answerer, Situation, Struct, Trajectory

TEACHER = frozenset({Answerer.TEACHER})


class Report(Struct, frozen=True, kw_only=True):
    """What became of the episodes that were given. Counts of decisions are of all splits together."""

    episodes: int = 0
    steps: int = 0
    left_out: dict[str, int] = msgspec.field(default_factory=dict)
    """By reason (``trajectories.choices.LeftOut``): episodes for its first ones, else steps."""
    met: int = 0
    """Decisions that were found, each time that they were met."""
    distinct: int = 0
    conflicts: int = 0
    """Situations in which different actions were chosen; all are kept."""
    dropped: int = 0
    """Distinct decisions that were taken out of a split because a later split has them."""
    evidence: dict[str, int] = msgspec.field(default_factory=dict)
    """Distinct decisions by ``Evidence``."""


class Counting:
    """What the report says while episodes go by."""

    def __init__(self) -> None:
        self.episodes = self.steps = self.met = 0
        self.left_out: Counter[LeftOut] = Counter()

    @property
    def report(self) -> Report:
        """Of what has gone by."""
        told = {reason.value: count for reason, count in sorted(self.left_out.items())}
        return Report(episodes=self.episodes, steps=self.steps, met=self.met, left_out=told)


def labelled(
    trajectories: Iterable[Trajectory],
    wanted: Collection[Answerer] = TEACHER,
    *,
    only_successes: bool = True,
    by_teacher: bool = False,
    counting: Counting | None = None,
    listen: Callable[[Trajectory], object] | None = None,
    past: int | None = None,
) -> Iterator[Labelled]:
    """Every decision of the ``wanted`` answerers, in the order of episodes and steps; weights and counts are 1.

    ``by_teacher``: with who chose it (``Labelled.said``). ``listen`` is told each episode before it is read. ``past``:
    turns that a situation keeps, the newest; None: all. A student that reads no past takes 0: with all of it, an
    episode's data grow with the square of its steps. Raises
    ``ConfigError`` for episodes of two tenants.
    """
    counts = counting or Counting()
    seen = _of_one_tenant(trajectories, counts, listen)
    for trajectory, choice in all_choices(seen, wanted, only_successes=only_successes, left_out=counts.left_out):
        counts.met += 1
        yield _labelled(trajectory, choice, _said(trajectory) if by_teacher else (), past)


def _of_one_tenant(
    trajectories: Iterable[Trajectory], counts: Counting, listen: Callable[[Trajectory], object] | None
) -> Iterator[Trajectory]:
    namespace: str | None = None
    for trajectory in trajectories:
        if namespace not in (None, trajectory.namespace):
            raise ConfigError(
                f"The episodes belong to two tenants, '{namespace}' and '{trajectory.namespace}', and no model may "
                "learn from both. Choose one: --namespace NAME"
            )
        namespace = trajectory.namespace
        counts.episodes += 1
        counts.steps += len(trajectory.steps)
        if listen is not None:
            listen(trajectory)
        yield trajectory


def _said(trajectory: Trajectory) -> tuple[Said, ...]:
    known = None if trajectory.outcome is None else trajectory.outcome.success
    return (Said(teacher=trajectory.teacher or "", times=1, won=int(known is True), lost=int(known is False)),)


def _labelled(trajectory: Trajectory, choice: Choice, said: tuple[Said, ...], past: int | None) -> Labelled:
    known = distribution_of(choice.step, choice.admissible)
    return Labelled(
        environment=trajectory.task.environment,
        task_id=trajectory.task.id,
        kind=trajectory.task.kind,
        namespace=trajectory.namespace,
        trajectory_id=trajectory.id,
        step_index=choice.step.index,
        situation=choice.situation if past is None else _newest(choice.situation, past),
        admissible=choice.admissible,
        action=choice.action,
        evidence=known.evidence,
        votes=known.votes,
        log_probabilities=known.log_probabilities,
        reasoning=choice.step.reasoning,
        said=said,
    )


def _newest(situation: Situation, past: int) -> Situation:
    if past < 0:
        raise ConfigError(f"past is {past}. Allowed: 0 or more turns, or None for all.")
    return msgspec.structs.replace(situation, past=situation.past[-past:] if past else ())
