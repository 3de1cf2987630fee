"""Makes a policy in rounds: learn, play with a teacher at hand, learn on with what it said (``--dagger``).

What it knows: the order of rounds, and how one goes on after a kill: episodes and checkpoints that are there are taken,
not made again. What it does not do: parse or print (``distill_weights``), play (``train.dagger``), train (``loop``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

from potstill.cli.output import note, progress
from potstill.cli.run_plan import LABELLING
from potstill.cli.training.dagger_plan import DaggerPlan
from potstill.cli.training.data import HELD_OUT, LEARN, decisions_of
from potstill.cli.training.making import Made, exported, player_of, train
from potstill.cli.training.plan import WeightsPlan, to_resume
from potstill.cli.wiring import pricer
from potstill.distill.weights.data.labelled import Labelled
from potstill.distill.weights.data.manifest import Manifest
from potstill.distill.weights.train.mixing import part_of
from potstill.distill.weights.train.recipe import RankerRecipe
from potstill.envs.registry import open_source
from potstill.errors import ConfigError
from potstill.models.expert import EstimateCounter, ExpertModel
from potstill.models.registry import open_model
from potstill.protocols import Model
from potstill.run.runner import RunConfig
from potstill.trajectories import Store
from potstill.trajectories.opening import open_store, shown
from potstill.trajectories.splits import split_of
from potstill.types import Task

if TYPE_CHECKING:
    from potstill.distill.weights.train.dagger import Collector, Round
    from potstill.distill.weights.train.several import Plays
    from potstill.distill.weights.train.teaching import Prepared


def make(plan: WeightsPlan, dagger: DaggerPlan) -> Made:
    """Learn, then in each round play, ask and learn on; write the policy. Raises as ``making.make``."""
    from potstill.distill.weights.train import ranker

    assert isinstance(plan.recipe, RankerRecipe), "dagger_plan refuses others"
    to_resume(plan.folder / _checkpoint(0), plan.resume)
    with open_store(plan.db) as store, _alone(dagger.run, store):
        run = _registered(plan, dagger, store)
        manifest, decisions = _data(plan)
        prepared = ranker.prepare(decisions[LEARN], decisions[HELD_OUT], plan.recipe)
        with contextlib.ExitStack() as stack:
            player = _entered(stack, player_of(plan, decisions[HELD_OUT]))
            collector = _collector(plan, dagger, run, store)
            stack.enter_context(collector)
            trained, cpu_s = _learn(plan, dagger, prepared, player, 0)
            steps = trained.steps
            rounds: list[Round] = []
            for index in range(dagger.recipe.rounds):
                rounds.append(_ask(collector, plan, dagger, prepared, index))
                manifest, decisions = _data(plan, _labelled(run, index))
                prepared = ranker.prepare_more(prepared.network, decisions[LEARN], decisions[HELD_OUT])
                trained, more_s = _learn(plan, dagger, prepared, player, index + 1)
                steps, cpu_s = steps + trained.steps, cpu_s + more_s
            made = exported(plan, manifest, decisions[HELD_OUT], prepared, trained, cpu_s, player)
    return made._replace(steps=steps, rounds=[_told(one) for one in rounds])


def _data(plan: WeightsPlan, more: Sequence[dict[str, Any]] = ()) -> tuple[Manifest, dict[str, list[Labelled]]]:
    return decisions_of(plan.db, plan.filters, plan.held_out, plan.folder, more=more)


# --- rounds ---------------------------------------------------------------------------------------------------------


def _learn(plan: WeightsPlan, dagger: DaggerPlan, prepared: Prepared, player: Plays | None, index: int) -> Any:
    """Train with the steps of this part of the training, from the weights that the network has."""
    config = plan.recipe.train
    if config.steps is not None:
        config = msgspec.structs.replace(config, steps=part_of(config.steps, dagger.recipe.rounds + 1, index))
    checkpoint = _checkpoint(index)
    part = plan._replace(
        recipe=msgspec.structs.replace(plan.recipe, train=config),
        resume=plan.resume and (index == 0 or (plan.folder / checkpoint).exists()),
    )
    return train(part, prepared, player, checkpoint, begun=index > 0)


def _ask(collector: Collector, plan: WeightsPlan, dagger: DaggerPlan, prepared: Prepared, index: int) -> Round:
    from potstill.distill.weights.train.playing import acting
    from potstill.edge.ranker import Ranker
    from potstill.models.policy import PolicyModel

    policy = acting(prepared.network)
    assert isinstance(policy.network, Ranker)
    student = PolicyModel(dagger.run.student or "", policy, policy.network)
    budget = part_of(dagger.recipe.labels, dagger.recipe.rounds, index)
    try:
        with progress(f"{plan.out.name}, round {index + 1}", budget, unit="labels") as bar:
            done = collector.collect(student, index, _Watch(bar).told)
    except KeyboardInterrupt:
        raise click.Abort from InterruptedError(
            "every finished episode is kept with its labels. To go on, type the same command with --resume"
        )
    if done.labels < budget:
        note(
            f"Round {index + 1} asked for {done.labels} of {budget} labels in {done.episodes} episodes: there were no "
            "more, or the student was sure. A higher --ask-below or --ask-share asks more."
        )
    return done


def _labelled(run: RunConfig, index: int) -> list[dict[str, Any]]:
    """What is learnt besides the teacher's own episodes: the rounds so far."""
    return [{"run_id": run.run_id, "arm": arm.name, "namespace": run.namespace} for arm in run.arms[: index + 1]]


def _told(one: Round) -> dict[str, Any]:
    return {**one._asdict(), "success": one.successes / one.episodes if one.episodes else None}


class _Watch:
    """What the bar of a round shows: its unit is a label."""

    def __init__(self, bar: Any) -> None:
        self._bar, self._labels = bar, 0

    def told(self, now: Round) -> None:
        shown = {"success": f"{now.successes}/{now.episodes}", "asked": f"{now.labels / max(1, now.steps):.0%}"}
        self._bar.update(now.labels - self._labels, **shown)
        self._labels = now.labels


# --- before ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _alone(run: RunConfig, store: Store) -> Iterator[None]:
    """Two trainings that write one run would pay for the same labels twice."""
    with store.alone(f"run/{run.run_id}") as mine:
        if not mine:
            raise ConfigError(
                f"Another process is recording the run {run.run_id}. Wait until it ends, or name another: --label-run"
            )
        yield


def _registered(plan: WeightsPlan, dagger: DaggerPlan, store: Store) -> RunConfig:
    """The run with an arm a round, written into the store. An earlier one of that name is gone on with, or refused."""
    from potstill.distill.weights.train.dagger import arm_of

    rounds = range(dagger.recipe.rounds)
    arms = tuple(arm_of(dagger.recipe, index, rule=dagger.rule, seed=dagger.run.seed) for index in rounds)
    run = msgspec.structs.replace(dagger.run, arms=arms)
    held = bool(store.summaries(run_id=run.run_id, namespace=run.namespace))
    if held and not plan.resume:
        raise ConfigError(
            f"{shown(plan.db)} holds episodes of the run {run.run_id} already. To go on with it, type --resume; for "
            "new labels name another: --label-run NAME"
        )
    kept = msgspec.to_builtins(msgspec.structs.replace(run, max_cost_usd=None))
    store.put_run(run.run_id, {**kept, LABELLING: msgspec.to_builtins(dagger.recipe)}, replace=not held)
    if not plan.resume:
        for index in range(dagger.recipe.rounds + 1):
            (plan.folder / _checkpoint(index)).unlink(missing_ok=True)
    return run


def _checkpoint(index: int) -> str:
    return f"checkpoint-{index}.pt"


def _collector(plan: WeightsPlan, dagger: DaggerPlan, run: RunConfig, store: Store) -> Collector:
    from potstill.distill.weights.train.dagger import Collector

    return Collector(
        run,
        dagger.recipe,
        _tasks(plan, run),
        store,
        _teacher(run),
        rule=dagger.rule,
        jobs=dagger.jobs,
        price=pricer(dagger.prices, dagger.pricing),
    )


def _teacher(run: RunConfig) -> Model:
    if run.teacher == "expert":
        return ExpertModel(EstimateCounter(), priced_as=run.price_teacher_as)
    return open_model(run.teacher or "", **run.teacher_options)


def _tasks(plan: WeightsPlan, run: RunConfig) -> list[Task]:
    """Those of the split that are not held out."""
    fractions = {LEARN: 1.0 - plan.held_out, HELD_OUT: plan.held_out}
    world: dict[str, Any] = dict(run.environment_options)
    tasks = open_source(run.environment, **world).tasks(run.split)
    return [task for task in tasks if split_of(task, fractions) == LEARN]


def _entered(stack: contextlib.ExitStack, player: Plays | None) -> Plays | None:
    return None if player is None else stack.enter_context(player)
