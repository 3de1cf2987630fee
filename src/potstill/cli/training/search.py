"""What ``distill weights --search`` does: try recipes on some of the tasks to learn from, then train the best on all.

No trial sees the held-out tasks: the recipe is chosen on others, so that what they say of the policy stays honest.
What it knows: where things lie, what cannot go together. What it does not do: choose (``distill.weights.search``),
print.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import msgspec

from potstill.cli.output import ProgressBar, note, progress
from potstill.cli.training import making
from potstill.cli.training.data import LEARN
from potstill.cli.training.plan import WeightsPlan, to_resume
from potstill.cli.training.search_told import best_line, lasting, told
from potstill.distill.weights.search import smaller
from potstill.distill.weights.search.aim import Aim, Goal, chosen
from potstill.distill.weights.search.labels import within
from potstill.distill.weights.search.proposing import check_installed
from potstill.distill.weights.search.space import recipe_at
from potstill.distill.weights.search.trials import Trial
from potstill.distill.weights.train.recipe import Recipe
from potstill.errors import ConfigError, one_of

if TYPE_CHECKING:
    from potstill.distill.weights.data import Labelled
    from potstill.distill.weights.search.searching import Found
    from potstill.distill.weights.search.trying import Data

TRIALS = "search.json"
_CHOSEN = ("loss_options", "width", "learning_rate", "adaptive_rules", "mixed", "balanced")


class SearchPlan(NamedTuple):
    """A search that is ready to begin."""

    weights: WeightsPlan
    """What is trained at the end; its recipe is where the search begins."""
    trials: int
    cpu_s: float | None
    aim: Aim
    labels: int | None
    """Of the teacher, that a trial and the training at the end learn at most; None: all there are."""


def planned(plan: WeightsPlan, options: Mapping[str, Any], typed: Mapping[str, str]) -> SearchPlan:
    """Everything that can be refused without reading an episode. Raises ``ConfigError``, ``MissingExtra``."""
    for name in _CHOSEN:
        if name in typed:
            raise ConfigError(f"{typed[name]} is what --search chooses. Leave one of them away.")
    if plan.dagger is not None:
        raise ConfigError(
            "--search tries recipes on recorded labels, and --dagger asks for new ones. Type one of both."
        )
    check_installed()
    one_of("goal of a search", options["search_for"], list(Goal))
    aim = Aim(goal=Goal(options["search_for"]), within=options["search_within"])
    if aim.goal is Goal.SUCCESS and "search_within" in typed:
        raise ConfigError(
            f"--search-within {aim.within:g} gives up some of the best value for a lower cost, and "
            "--search-for success knows no cost. Type for example: --search-for bytes"
        )
    return SearchPlan(plan, options["search"], options["search_cpu_s"], aim, options["search_labels"])


def estimate(plan: SearchPlan) -> dict[str, Any]:
    """Of the training at the end, and what the trials take at most, were none stopped and all of its size."""
    row = making.estimate(plan.weights)
    trial_cpu_s = row["cpu_s"] * (1 + 1 / smaller.TUNING)
    search_cpu_s = plan.trials * trial_cpu_s
    if plan.cpu_s is not None:
        search_cpu_s = min(search_cpu_s, plan.cpu_s + trial_cpu_s)
    row = row if plan.labels is None else row | {"labels_at_most": plan.labels}
    return row | {"trials": plan.trials, "search_cpu_s": search_cpu_s}


def make(plan: SearchPlan) -> making.Made:
    """Search, then train the best recipe and write it. Raises as ``making.make`` and ``searching.search`` do."""
    from potstill.distill.weights.search.trying import shared_out

    weights = plan.weights
    to_resume(weights.folder / TRIALS, weights.resume)
    gathered = making.gathered(weights)
    found = _searched(plan, shared_out(gathered.decisions[LEARN], weights.held_out, plan.labels))
    recipe, learn = final_of(weights.recipe, found.best, gathered.decisions[LEARN], plan.labels)
    learns = (recipe, found.best.point, plan.labels)
    checkpoint = f"checkpoint-{hashlib.sha256(msgspec.json.encode(learns)).hexdigest()[:12]}.pt"
    if len(found.trials) < plan.trials:
        note(f"--search-cpu-s {plan.cpu_s:g} went into {len(found.trials)} of {plan.trials} trials.")
    note(best_line(found, plan.aim))
    resume = weights.resume and (weights.folder / checkpoint).exists()
    final = weights._replace(recipe=recipe, resume=resume)
    learnt = gathered._replace(decisions={**gathered.decisions, LEARN: learn})
    row = told(found, plan.aim, seed=recipe.train.seed, played=bool(weights.play))
    made = making.made_of(final, learnt, checkpoint=checkpoint, metrics={"search": lasting(found, row, learn)})
    command = smaller.command(weights.out, found.variant, smaller.compression(recipe, len(learn)))
    if command is not None:
        note(f"What was chosen is smaller than this file, which a command makes of it: {command}")
    return made._replace(search=row | {"smaller": command})


def final_of(
    base: Recipe, best: Trial, decisions: Sequence[Labelled], most_labels: int | None
) -> tuple[Recipe, list[Labelled]]:
    """What is trained at the end, and on which decisions: as many steps and looks, however few these are."""
    from potstill.distill.weights.search.trying import learnt

    allowed = within(decisions, most_labels)
    learn = learnt(allowed, best.point)
    recipe = recipe_at(base, best.point)
    if len(learn) < len(decisions):
        train, many = recipe.train, len(allowed)
        train = msgspec.structs.replace(train, steps=train.total(many), evaluate_every=train.looks_every(many))
        recipe = msgspec.structs.replace(recipe, train=train)
    return recipe, learn


def _searched(plan: SearchPlan, data: Data) -> Found:
    """Ctrl-C aborts with a line that says how to go on."""
    from potstill.distill.weights.search.searching import search

    weights, path = plan.weights, plan.weights.folder / TRIALS
    if path.exists() and not weights.resume:
        note(f"{path} is there and is replaced. To go on from it instead, stop and type --resume.")
    with contextlib.ExitStack() as stack:
        player = making.player_of(weights, list(data.judge))
        if player is not None:
            stack.enter_context(player)
        bar = stack.enter_context(progress("trials", plan.trials, unit="trials"))
        watch = _Watch(bar)
        try:
            return search(
                weights.recipe,
                data,
                count=plan.trials,
                path=path,
                resume=weights.resume,
                cpu_s=plan.cpu_s,
                aim=plan.aim,
                evaluate=player,
                step=watch.stepped,
                ended=watch.ended,
            )
        except KeyboardInterrupt:
            raise click.Abort from InterruptedError(
                f"{watch.done} of {plan.trials} trials are kept in {path}. To go on, type the same command with "
                "--resume"
            )


class _Watch:
    """What the progress bar shows: trials, the best so far, and how far the one is that runs."""

    def __init__(self, bar: ProgressBar) -> None:
        self._bar, self.done = bar, 0

    def stepped(self, step: int, steps: int) -> None:
        self._bar.update(0, step=f"{step}/{steps}")

    def ended(self, trials: Sequence[Trial]) -> None:
        best = chosen(trials)
        shown = {} if best is None else {"best": best.variant.value, "of_trial": best.trial.number}
        self._bar.update(len(trials) - self.done, **shown)
        self.done = len(trials)
