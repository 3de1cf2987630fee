"""The next point to try, by Optuna's tree-structured Parzen estimator (Bergstra et al., NIPS 2011).

A function of the trials so far and the seed: nothing is remembered between two calls, so a search that was killed
proposes what it would have proposed. Where a cost is the goal beside the value, the estimator is that of several goals
(Ozaki et al., JAIR 73, 2022): good are the undominated trials, and of these, those that add most hypervolume.
"""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from potstill.distill.weights.search.aim import Goal, cost_of
from potstill.distill.weights.search.space import Among, Point, Range, Space, Value, drawn, parts_of
from potstill.distill.weights.search.trials import State, Trial
from potstill.errors import MissingExtra

if TYPE_CHECKING:
    import optuna

RANDOM = 6
"""Trials that are drawn at random, before the estimator is asked."""


def check_installed() -> None:
    """Raises ``MissingExtra``."""
    if importlib.util.find_spec("optuna") is None:
        raise MissingExtra("A search over recipes", "search")


def propose(space: Space, trials: Sequence[Trial], seed: int, goal: Goal = Goal.SUCCESS) -> Point:
    """A point for trial number ``len(trials)``. Raises ``MissingExtra``."""
    check_installed()
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(n_startup_trials=RANDOM, seed=(seed * 1_000_003 + len(trials)) % 2**32)
    up, down = optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE
    study = optuna.create_study(directions=[up] if goal is Goal.SUCCESS else [up, down], sampler=sampler)
    with warnings.catch_warnings():
        # The recipe by hand may lie outside of the space; Optuna says so of each trial, and leaves it out by itself.
        warnings.simplefilter("ignore")
        for trial in trials:
            study.add_trial(_frozen(space, trial, goal))
        asked = study.ask()

        def choose(name: str, of: Range | Among) -> Value:
            if isinstance(of, Among):
                chosen = asked.suggest_categorical(name, list(of.values))
                return cast(Value, chosen)
            return float(asked.suggest_float(name, of.low, of.high, log=True))

        return drawn(space, choose)


def _frozen(space: Space, trial: Trial, goal: Goal) -> optuna.trial.FrozenTrial:
    """A trial as Optuna knows it. What diverged is a stopped one without a value: worse than all others.

    With several goals Optuna has no place for looks: a stopped trial then counts with what it had reached.
    """
    import optuna

    parts = parts_of(space, trial.point)
    inside = {name: of for name, of in parts.items() if _contains(of, trial.point[name])}
    alone = goal is Goal.SUCCESS
    counts = trial.state is State.FINISHED or (not alone and trial.state is State.STOPPED)
    reached = [look.value for look in trial.looks[-1:]]
    values = reached if alone else [*reached, math.log(cost_of(goal, trial))]
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState.COMPLETE if counts else optuna.trial.TrialState.PRUNED,
        values=values if counts else None,
        params={name: trial.point[name] for name in inside},
        distributions={name: _distribution(of) for name, of in inside.items()},
        intermediate_values={look.step: look.value for look in trial.looks} if alone else None,
    )


def _contains(of: Range | Among, value: Value) -> bool:
    if isinstance(of, Among):
        return value in of.values
    return isinstance(value, int | float) and of.low <= value <= of.high


def _distribution(of: Range | Among) -> Any:
    import optuna

    if isinstance(of, Among):
        return optuna.distributions.CategoricalDistribution(list(of.values))
    return optuna.distributions.FloatDistribution(of.low, of.high, log=True)
