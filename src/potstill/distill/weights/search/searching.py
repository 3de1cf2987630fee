"""A search from its first trial, or from those that a file keeps, to its last: propose, try, keep."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import msgspec

from potstill.distill.weights.data.labelled import Evidence, Labelled
from potstill.distill.weights.search import trials as files
from potstill.distill.weights.search.aim import Aim, Goal, chosen
from potstill.distill.weights.search.halving import ETA, LEVELS
from potstill.distill.weights.search.labels import shares_of
from potstill.distill.weights.search.proposing import propose
from potstill.distill.weights.search.space import Space, first_point, space_of
from potstill.distill.weights.search.trials import Trial, Variant
from potstill.distill.weights.search.trying import Data, attempt, warm_up
from potstill.distill.weights.search.weighing import mixes_of
from potstill.distill.weights.train.loop import Diverged, Evaluator
from potstill.distill.weights.train.recipe import FilmRecipe, Recipe


class Ended(StrEnum):
    ALL_TRIALS = "all-trials"
    CPU = "cpu"
    """The budget of CPU seconds was spent."""


class Found(NamedTuple):
    """How it went."""

    trials: tuple[Trial, ...]
    best: Trial
    variant: Variant
    """Of the best trial: how many bits of it are meant."""
    ended: Ended


def search(
    base: Recipe,
    data: Data,
    *,
    count: int,
    path: Path,
    resume: bool = False,
    cpu_s: float | None = None,
    aim: Aim | None = None,
    evaluate: Evaluator | None = None,
    step: Callable[[int, int], None] = lambda step, steps: None,
    ended: Callable[[Sequence[Trial]], None] = lambda trials: None,
) -> Found:
    """``count`` trials, those in the file included; the first is ``base`` with hard labels, as set by hand.

    Once ``cpu_s`` CPU seconds went into trials no new one starts. ``evaluate``: successes as the value, instead of
    agreement with the teacher on ``data.judge``. ``aim``: which of them is best. ``ended`` is told all trials, at the
    start and after each. Raises ``ConfigError`` for data that teach nothing and another search's file, ``Diverged``
    where every trial did.
    """
    space = space_of(
        base,
        soft=any(one.evidence is not Evidence.ONE_HOT for one in data.learn),
        shares=shares_of(data.learn, data.judge, fixed_actions=isinstance(base, FilmRecipe)),
        mixes=mixes_of(data.learn),
    )
    aim = aim or Aim()
    identity = _identity(base, space, data, aim.goal, evaluate)
    done = files.read(path, identity)[:count] if resume else []
    if not resume:
        files.keep(path, identity, done)
    ended(done)
    if len(done) < count:
        warm_up(base, data)
    reason = Ended.ALL_TRIALS
    while len(done) < count:
        if cpu_s is not None and sum(trial.cpu_s + trial.smaller_cpu_s for trial in done) >= cpu_s:
            reason = Ended.CPU
            break
        point = propose(space, done, base.train.seed, aim.goal) if done else first_point(base, space)
        done.append(attempt(point, done, base, data, evaluate, step, aim.goal))
        files.keep(path, identity, done)
        ended(done)
    best = chosen(done, aim)
    if best is None:
        raise Diverged(
            f"None of the {len(done)} trials ended with numbers: their losses diverged. Look for values in the data "
            "that are no numbers."
        )
    return Found(tuple(done), best.trial, best.variant, reason)


def _identity(base: Recipe, space: Space, data: Data, goal: Goal, evaluate: Evaluator | None) -> dict[str, str]:
    """All that the trials depend on, beside their number and the budget."""
    return {
        "student": base.student,
        "recipe": msgspec.json.encode(base).decode(),
        "space": msgspec.json.encode(space).decode(),
        "goal": goal.value,
        "halving": f"1/{ETA}, {LEVELS} rungs",
        "data": _digest(data.learn),
        "judging data": _digest(data.judge),
        "evaluator": "agreement" if evaluate is None else getattr(evaluate, "name", "success"),
    }


def _digest(decisions: Sequence[Labelled]) -> str:
    hashed = hashlib.sha256()
    for decision in decisions:
        hashed.update(msgspec.json.encode(decision) + b"\n")
    return hashed.hexdigest()
