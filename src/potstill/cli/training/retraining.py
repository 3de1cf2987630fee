"""Retrains a policy from its own weights: new episodes out of the store, old decisions from its data, gate, promotion.

What it knows: where the parts of a retraining lie, and their order. What it does not do: parse or print
(``distill_retrain``), mix, compare or replace files (``distill.weights.continual``).
"""

from __future__ import annotations

import contextlib
import datetime
import importlib.util
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import msgspec

from potstill.cli.output import note, progress
from potstill.cli.run_plan import pairs
from potstill.cli.training import debates
from potstill.cli.training.data import HELD_OUT, LEARN
from potstill.cli.training.making import CHECKPOINT, Watch, player_of
from potstill.cli.training.plan import WeightsPlan, playing_of
from potstill.distill.weights import gate
from potstill.distill.weights.continual import judging, versions
from potstill.distill.weights.continual.replay import Replay, mixed
from potstill.distill.weights.data import Equal, Labelled, digest_of, read, read_manifest, write
from potstill.distill.weights.lineage import Dataset, Manifest, Parent, Teacher, created
from potstill.distill.weights.lineage import read as read_lineage
from potstill.distill.weights.losses.config import build
from potstill.distill.weights.train.config import TrainConfig
from potstill.distill.weights.train.recipe import RankerRecipe
from potstill.edge.policy import Policy, open_policy
from potstill.errors import BadModelFile, ConfigError, MissingExtra
from potstill.trajectories.opening import read_store, shown
from potstill.types import Trajectory

if TYPE_CHECKING:
    from potstill.distill.weights.data.manifest import Manifest as DataManifest
    from potstill.distill.weights.train.playing import Player
    from potstill.distill.weights.train.ranker import Prepared
    from potstill.measure.comparison_result import Comparison

RETRAINING = "retraining"
"""Within the folder of the training: what is made of the new episodes, and the checkpoint."""


class RetrainPlan(NamedTuple):
    """A retraining that is ready to be made. ``made`` is what a first training of it would be."""

    made: WeightsPlan
    policy: Policy
    lineage: Manifest
    share: float
    margin: float

    @property
    def folder(self) -> Path:
        return self.made.folder / RETRAINING


class Retrained(NamedTuple):
    """What was made of it."""

    file: str
    promoted: bool
    why: str
    version: str
    before: str
    judged_by: str
    n: int
    new_success: float
    success: float
    """Of the policy that acted, on the same."""
    difference: float
    difference_ci: tuple[float, float]
    margin: float
    episodes: int
    new_decisions: int
    old_decisions: int
    overruled: int
    steps: int
    cpu_s: float


def planned(path: Path, options: dict[str, Any]) -> RetrainPlan:
    """Everything that can be refused without reading an episode. Raises ``ConfigError``, ``MissingExtra``,
    ``BadModelFile``."""
    if importlib.util.find_spec("torch") is None:
        raise MissingExtra("Retraining a policy", "weights")
    lineage = read_lineage(path).manifest
    try:
        policy = open_policy(path)
    except ValueError as error:
        raise BadModelFile(str(error)) from None
    if not lineage.datasets:
        raise ConfigError(f"{path} does not say what it was trained on, so nothing can be mixed with what is new.")
    if not 0 < options["new_share"] <= 1:
        raise ConfigError(f"--new-share is {options['new_share']:g}. Allowed: above 0, up to 1.")
    names = ("seed", "epochs", "steps", "batch", "learning_rate", "schedule", "patience", "threads")
    given = {name: options[name] for name in names}
    if options["loss_options"]:
        given["loss"] = build(pairs(options["loss_options"], "--loss temperature=2"))
    environment = options["environment"] or lineage.datasets[0].name
    made = WeightsPlan(
        out=path,
        recipe=RankerRecipe(width=int(policy.config.get("width", 64)), train=TrainConfig(**given)),
        db=options["db"],
        filters={
            "split": options["split"],
            "namespace": options["namespace"],
            "run_id": options["run_id"],
            "success": True,
            "environment": environment,
        },
        environment=environment,
        held_out=0.0,
        resume=options["resume"],
        key=options["key"],
        play=options["play"],
        playing=playing_of(options),
    )
    return RetrainPlan(made, policy, lineage, options["new_share"], options["margin"])


def retrain(plan: RetrainPlan) -> Retrained:
    """Train on, judge, and let the new version act or not. Raises ``ConfigError``, ``Diverged``, ``GateFailed``,
    ``StoreError``; whatever is raised, what acted before acts."""
    old, fractions, seed = _old(plan)
    fresh, decisions = _new(plan, {one.trajectory_id for one in old[LEARN] + old[HELD_OUT]}, fractions, seed)
    held = decisions[HELD_OUT]
    replay = mixed(old[LEARN], decisions[LEARN], plan.share, held_out=[*held, *old[HELD_OUT]])
    if replay.overruled:
        note(f"{replay.overruled} old decisions are overruled by new ones in the same situation.")
    started = time.process_time()
    with contextlib.ExitStack() as stack:
        player = player_of(plan.made, held)
        if player is not None:
            stack.enter_context(player)
        parent = versions.keep(plan.made.out)
        prepared, steps = _train(plan, replay, held, parent)
        candidate = _candidate(plan, prepared, replay, fresh, held, parent)
        found = _judged(plan, open_policy(candidate), held, player)
    return _settled(plan, candidate, parent, found, replay, fresh, steps, time.process_time() - started)


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
        ids = [one for one in store.ids(**plan.made.filters) if one not in known]
        if not ids:
            raise ConfigError(
                f"The store {shown(plan.made.db)} holds no successful episode of '{plan.made.environment}' that "
                f"{plan.made.out} has not learnt from. Record more, or name where they are: --db FILE, --split, --env"
            )
        manifest = write(
            _unknown(store.select(**plan.made.filters), known), new, fractions=fractions, seed=seed, equal=Equal.DROP
        )
    kept = plan.folder / f"data-{digest_of(manifest)[:12]}"
    if kept.exists():
        shutil.rmtree(new)
    else:
        new.rename(kept)
    decisions = {name: list(read(kept, name)) for name in (LEARN, HELD_OUT)}
    if not decisions[HELD_OUT]:
        raise ConfigError(
            f"None of the {manifest.splits[LEARN].tasks} tasks of the new episodes is held out, so nothing could judge "
            "the retrained policy. Record episodes of more tasks."
        )
    return manifest, decisions


def _unknown(trajectories: Iterator[Trajectory], known: set[str]) -> Iterator[Trajectory]:
    return (trajectory for trajectory in trajectories if trajectory.id not in known)


def _train(plan: RetrainPlan, replay: Replay, held: list[Labelled], parent: Parent) -> tuple[Prepared, int]:
    from potstill.distill.weights.train import ranker
    from potstill.distill.weights.train.loop import Keeping

    prepared = ranker.continued(plan.policy, replay.decisions, held, plan.made.recipe)
    keeping = Keeping(plan.folder / CHECKPOINT, resume=plan.made.resume)
    try:
        with progress(plan.made.out.name, plan.made.recipe.train.total(len(prepared.data)), unit="steps") as bar:
            trained = ranker.teach(
                prepared, plan.made.recipe, keeping=keeping, watch=Watch(bar).told, parent=parent.manifest_sha256
            )
    except KeyboardInterrupt:
        raise click.Abort from InterruptedError(
            f"the checkpoint {keeping.path} is kept. To go on, type the same command with --resume"
        )
    return prepared, trained.steps


def _candidate(
    plan: RetrainPlan, prepared: Prepared, replay: Replay, fresh: DataManifest, held: list[Labelled], parent: Parent
) -> Path:
    """The retrained policy among the versions, proved to act as what was trained."""
    from potstill.distill.weights.policies.ranker import arrays_of
    from potstill.distill.weights.train import ranker

    draft = versions.folder_of(plan.made.out) / "candidate.partial"
    teachers = tuple(
        Teacher(model=name, decisions=fresh.splits[LEARN].decisions, prompts_sha256=tuple(fresh.sources.prompts))
        for name in fresh.sources.teachers
    )
    data = Dataset(name=plan.made.environment, sha256=digest_of(fresh), decisions=fresh.splits[LEARN].decisions)
    manifest = Manifest(
        created=created(os.environ),
        teachers=(*plan.lineage.teachers, *teachers),
        datasets=(*(plan.lineage.datasets if plan.share < 1 else ()), data),
        configuration={"student": "ranker", "new_share": plan.share, **msgspec.to_builtins(plan.made.recipe)},
        metrics={"old_decisions": replay.old, "new_decisions": replay.new, "overruled": replay.overruled},
        parents=(parent,),
    )
    written, _ = gate.export(
        draft,
        arrays_of(prepared.network),
        prepared.network.shape.config(),
        manifest,
        trained=ranker.trained_side(prepared.network),
        questions=ranker.questions_of(held),
        key=plan.made.key,
    )
    return draft.replace(versions.file_of(plan.made.out, written.manifest_sha256))


def _judged(plan: RetrainPlan, new: Policy, held: list[Labelled], player: Player | None) -> Comparison:
    seed = plan.made.recipe.train.seed
    if player is None:
        return judging.by_decisions(new, plan.policy, held, margin=plan.margin, seed=seed)
    return judging.by_episodes(player.outcomes(new), player.outcomes(plan.policy), margin=plan.margin, seed=seed)


def _settled(
    plan: RetrainPlan,
    candidate: Path,
    parent: Parent,
    found: Comparison,
    replay: Replay,
    fresh: DataManifest,
    steps: int,
    cpu_s: float,
) -> Retrained:
    told = {name: value for name, value in found.to_json().items() if name not in ("baselines", "a", "b")}
    if found.non_inferior:
        version = versions.promote(plan.made.out, candidate, at=_now(), comparison=told)
    else:
        version = versions.version_of(candidate)
        versions.reject(plan.made.out, candidate, at=_now(), comparison=told)
    return Retrained(
        file=str(plan.made.out),
        promoted=found.non_inferior,
        why=found.advice,
        version=version,
        before=parent.manifest_sha256,
        judged_by="episodes" if plan.made.play else "held-out decisions",
        n=found.n,
        new_success=found.success_a,
        success=found.success_b,
        difference=found.difference,
        difference_ci=found.difference_ci,
        margin=plan.margin,
        episodes=fresh.report.episodes,
        new_decisions=replay.new,
        old_decisions=replay.old,
        overruled=replay.overruled,
        steps=steps,
        cpu_s=cpu_s,
    )


def _now() -> str:
    return datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds")
