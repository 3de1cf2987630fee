"""Data of a retraining: old decisions from the policy's own data, new ones out of the store, and what each is for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from potstill.cli.output import note
from potstill.cli.training import debates
from potstill.cli.training.data import HELD_OUT, LEARN
from potstill.cli.training.plan import must_have_run
from potstill.cli.training.retrain_plan import RetrainPlan
from potstill.distill.weights.continual.holding import parted, provable, upheld
from potstill.distill.weights.continual.replay import Replay, mixed
from potstill.distill.weights.data import Equal, Labelled, digest_of, read, read_manifest, write
from potstill.distill.weights.data.checks import EmptySplit
from potstill.errors import ConfigError
from potstill.trajectories.opening import read_store, shown
from potstill.types import Trajectory

if TYPE_CHECKING:
    from potstill.distill.weights.data.manifest import Manifest as DataManifest


class Gathered(NamedTuple):
    """What is learnt from, and the held-out decisions: each task says when to stop, or judges, never both."""

    replay: Replay
    fresh: DataManifest
    stopping: list[Labelled]
    new: list[Labelled]
    """Of the new episodes, to judge by."""
    old: list[Labelled]
    """Of the policy's own data, where no new decision overrules them; empty where they may be forgotten."""

    @property
    def held_out(self) -> list[Labelled]:
        return self.stopping + self.new + self.old


def gathered(plan: RetrainPlan) -> Gathered:
    """Raises ``ConfigError`` where nothing new is there, or nothing is held out that could judge."""
    old, fractions, seed = _old(plan)
    fresh, decisions = _new(plan, {one.trajectory_id for one in old[LEARN] + old[HELD_OUT]}, fractions, seed)
    held = decisions[HELD_OUT]
    replay = mixed(old[LEARN], decisions[LEARN], plan.share, held_out=[*held, *old[HELD_OUT]])
    if replay.overruled:
        note(f"{replay.overruled} old decisions are overruled by new ones in the same situation.")
    kept = [] if plan.forget_old else upheld(old[HELD_OUT], [*decisions[LEARN], *held])
    both = {(one.environment, one.task_id) for one in held}
    parts = parted(held)
    stopping = {(one.environment, one.task_id) for one in parts.stopping}
    alone = [one for one in kept if (one.environment, one.task_id) not in both]
    apart = parted(alone) if _tasks(alone) > 1 else None
    stopping |= {(one.environment, one.task_id) for one in apart.stopping} if apart else set()
    judging = [one for one in kept if (one.environment, one.task_id) not in stopping]
    if not (judging or plan.forget_old):
        raise ConfigError(
            f"The data that {plan.made.out} was trained on hold out no decision that still holds, so nothing could "
            "tell whether what was known is forgotten. Type --forget-old if it may be."
        )
    _warn(plan, "new", parts.judging)
    _warn(plan, "old", judging)
    return Gathered(
        replay=replay,
        fresh=fresh,
        stopping=[one for one in [*held, *kept] if (one.environment, one.task_id) in stopping],
        new=parts.judging,
        old=judging,
    )


def _tasks(decisions: list[Labelled]) -> int:
    return len({(one.environment, one.task_id) for one in decisions})


def _warn(plan: RetrainPlan, which: str, judging: list[Labelled]) -> None:
    """Before hours are spent: with too few tasks even policies that do not differ cannot pass."""
    tasks = _tasks(judging)
    if tasks and provable(tasks) >= plan.margin:
        what = "" if which == "new" else ", or --forget-old if what was known may be forgotten"
        note(
            f"{tasks} {which} held-out tasks cannot show a margin of {plan.margin:g} where both policies do equally "
            f"well (the least is {provable(tasks):.3f}). Record more tasks, or type a larger --margin{what}."
        )


def _old(plan: RetrainPlan) -> tuple[dict[str, list[Labelled]], dict[str, float], int]:
    """What the policy was trained on, by split, and how tasks were split."""
    found: dict[str, list[Labelled]] = {LEARN: [], HELD_OUT: []}
    recipe = None
    for dataset in plan.lineage.datasets:
        debated = debates.kept(dataset, (plan.made.folder, plan.folder))
        if debated is not None:
            found[LEARN] += debated
            continue
        for folder in (plan.made.folder, plan.folder):
            kept = folder / f"data-{dataset.sha256[:12]}"
            if kept.is_dir():
                break
        else:
            raise ConfigError(
                f"The data {dataset.sha256[:12]} that {plan.made.out} was trained on are not in {plan.made.folder}. "
                "Put the folder of its training beside it."
            )
        manifest = read_manifest(kept)
        recipe = recipe or manifest.recipe
        for name in found:
            found[name] += read(kept, name)
    assert recipe is not None, "there is a dataset"
    return found, recipe.fractions, recipe.seed


def _new(
    plan: RetrainPlan, known: set[str], fractions: dict[str, float], seed: int
) -> tuple[DataManifest, dict[str, list[Labelled]]]:
    """Decisions of episodes that the policy has not learnt from, split by task as the old ones were."""
    new = plan.folder / "data.new"
    shutil.rmtree(new, ignore_errors=True)
    with read_store(plan.made.db) as store:
        must_have_run(store, plan.made.db, plan.made.filters)
        ids = [one for one in store.ids(**plan.made.filters) if one not in known]
        if not ids:
            raise ConfigError(
                f"The store {shown(plan.made.db)} holds no successful episode of '{plan.made.environment}' that "
                f"{plan.made.out} has not learnt from. Record more, or name where they are: --db FILE, --split, --env"
            )
        episodes = _unknown(store.select(**plan.made.filters), known)
        try:
            manifest = write(episodes, new, fractions=fractions, seed=seed, equal=Equal.DROP)
        except EmptySplit as error:
            what = "judge the retrained policy" if error.split == HELD_OUT else "be learnt from"
            raise ConfigError(
                f"The {len(ids)} new episodes have too few tasks: none of them falls to those that could {what} (they "
                "are dealt out by a hash of their names, as the old ones were). Record episodes of more tasks."
            ) from None
    kept = plan.folder / f"data-{digest_of(manifest)[:12]}"
    if kept.exists():
        shutil.rmtree(new)
    else:
        new.rename(kept)
    decisions = {name: list(read(kept, name)) for name in (LEARN, HELD_OUT)}
    return manifest, decisions


def _unknown(trajectories: Iterator[Trajectory], known: set[str]) -> Iterator[Trajectory]:
    return (trajectory for trajectory in trajectories if trajectory.id not in known)
