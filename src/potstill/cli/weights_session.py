"""Makes a policy: episodes out of the store, data into a folder, training with progress, gate, file with its lineage.

What it knows: where the parts of a training lie. What it does not do: parse or print (``distill_weights``), learn.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import msgspec

from potstill.cli import weights_dagger_plan
from potstill.cli.output import note, progress
from potstill.cli.run_plan import pairs
from potstill.distill.weights import gate
from potstill.distill.weights.data import Equal, Labelled, digest_of, read, write
from potstill.distill.weights.data.manifest import Manifest as DataManifest
from potstill.distill.weights.lineage import Dataset, Manifest, Teacher, created
from potstill.distill.weights.losses.balance import Part
from potstill.distill.weights.losses.config import build
from potstill.distill.weights.teachers.fusing import Judged, Teachers, fused, judge
from potstill.distill.weights.train.adaptive import parsed
from potstill.distill.weights.train.config import TrainConfig
from potstill.distill.weights.train.recipe import STUDENTS, FilmRecipe, MlpRecipe, RankerRecipe, Recipe
from potstill.errors import ConfigError, MissingExtra, one_of
from potstill.trajectories.opening import read_store, shown
from potstill.types import TrajectoryKind

if TYPE_CHECKING:
    from potstill.distill.weights.train.loop import Trained
    from potstill.distill.weights.train.playing import Player
    from potstill.distill.weights.train.ranker import Prepared

TRAINING = ".training"
"""Behind the file's name: the folder with the data and the checkpoint."""
CHECKPOINT = "checkpoint.pt"
LEARN, HELD_OUT = "train", "valid"


class WeightsPlan(NamedTuple):
    """A policy that is ready to be made."""

    out: Path
    recipe: Recipe
    db: str
    filters: dict[str, Any]
    environment: str
    held_out: float
    resume: bool
    key: Path | None
    play: int
    """Held-out tasks to play at each look; 0: none."""
    playing: dict[str, Any]
    """How: the environment's options, steps, episodes at a time."""
    dagger: weights_dagger_plan.DaggerPlan | None = None
    teachers: Teachers = Teachers.POOLED

    @property
    def folder(self) -> Path:
        return self.out.with_name(self.out.name + TRAINING)


class Made(NamedTuple):
    """What was trained and written."""

    file: str
    size_bytes: int
    parameters: int
    episodes: int
    decisions: int
    held_out: int
    steps: int
    best_step: int
    agreement: float
    success: float | None
    """In the held-out tasks that were played."""
    ended: str
    cpu_s: float
    data: str
    manifest_sha256: str
    parity: dict[str, Any]
    reliability: dict[str, float]
    """Of several teachers, each's; empty where their labels were not weighed."""
    rounds: list[dict[str, Any]] | None = None
    """Of DAgger."""


def planned(options: dict[str, Any]) -> WeightsPlan:
    """Everything that can be refused without reading an episode. Raises ``ConfigError``, ``MissingExtra``."""
    if importlib.util.find_spec("torch") is None:
        raise MissingExtra("Training a policy", "weights")
    one_of("kind of student", options["student"], STUDENTS)
    out = place_of(options["out"], "--out student.policy")
    names = ("seed", "epochs", "steps", "batch", "learning_rate", "schedule", "patience", "threads")
    given = {name: options[name] for name in names}
    if options["loss_options"]:
        given["loss"] = build(pairs(options["loss_options"], "--loss temperature=2"))
    given |= {"adaptive": parsed(options["adaptive_rules"]), "mix": _mix(options), "balanced": options["balanced"]}
    recipe = _recipe(options, TrainConfig(**given, evaluate_every=options["look_every"]))
    one_of("way to take several teachers", options["teachers"], list(Teachers))
    teachers = Teachers(options["teachers"])
    filters = filters_of(options)
    if teachers is not Teachers.POOLED:
        filters["success"] = None
    environment = environment_of(options["db"], filters, options["environment"])
    return WeightsPlan(
        out=out,
        recipe=recipe,
        db=options["db"],
        filters={**filters, "environment": environment},
        environment=environment,
        teachers=teachers,
        held_out=options["held_out"],
        resume=options["resume"],
        key=options["key"],
        play=options["play"],
        playing=playing_of(options),
        dagger=weights_dagger_plan.planned(options, environment) if options["dagger"] else None,
    )


def _recipe(options: dict[str, Any], train: TrainConfig) -> Recipe:
    if options["student"] == "mlp":
        return MlpRecipe(width=options["width"], layers=options["layers"], train=train)
    kind: type[FilmRecipe] | type[RankerRecipe] = FilmRecipe if options["student"] == "film" else RankerRecipe
    return kind(width=options["width"], train=train)


def place_of(out: Path | None, example: str) -> Path:
    """Where the student goes. Raises ``ConfigError`` where that is not said or cannot be."""
    if out is None:
        raise ConfigError(f"Nothing says where the student goes. Type for example: {example}")
    if not out.parent.is_dir():
        raise ConfigError(f"There is no folder {out.parent} to write {out.name} into. Make it first.")
    return out


def filters_of(options: dict[str, Any]) -> dict[str, Any]:
    """Which episodes are learnt from, as a store selects them."""
    return {
        "kind": TrajectoryKind.TEACHER,
        "split": options["split"],
        "namespace": options["namespace"],
        "run_id": options["run_id"],
        "success": True,
    }


def _mix(options: dict[str, Any]) -> tuple[Part, ...]:
    if options["mixed"] and options["loss_options"]:
        raise ConfigError("--mix takes the place of --loss. Give one of both, such as --mix kind=hard --mix kind=soft")
    parts = []
    for text in options["mixed"]:
        given = pairs(text.split(","), "--mix kind=soft,share=0.5")
        share = given.pop("share", 1.0)
        if not isinstance(share, int | float):
            raise ConfigError(f"share={share} of a loss in a mix is not a number. Type for example: share=0.5")
        parts.append(Part(loss=build(given), share=float(share)))
    return tuple(parts)


def playing_of(options: dict[str, Any]) -> dict[str, Any]:
    world = pairs(options["environment_options"], "--option level=GoToLocal")
    if options["directory"]:
        world["directory"] = options["directory"]
    if not (options["play"] or options.get("dagger")) and (world or options["max_steps"]):
        raise ConfigError("--tasks, --option and --max-steps are for --play, which is 0. Type for example: --play 20")
    return {**world, "max_steps": options["max_steps"], "jobs": options["jobs"]}


def environment_of(db: str, filters: dict[str, Any], named: str | None) -> str:
    """The environment to learn: the named one, or the only one of which there are episodes."""
    with read_store(db) as store:
        counts = Counter(one.environment for one in store.summaries(**filters))
    found = {named: counts[named]} if named is not None else counts
    if not any(found.values()):
        of = f" of '{named}'" if named is not None else ""
        raise ConfigError(
            f"The store {shown(db)} holds no successful teacher episode{of} in the split '{filters['split']}'. Type: "
            f"potstill distill context --env {named or 'minigrid'} --split {filters['split']} --n 300 "
            f"--teacher expert --db {shown(db)}"
        )
    if len(found) > 1:
        told = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items()))
        raise ConfigError(f"The store holds episodes of several environments: {told}. Name one: --env NAME")
    return next(iter(found))


# --- making ---------------------------------------------------------------------------------------------------------


def estimate(plan: WeightsPlan) -> dict[str, Any]:
    """What would be trained, and the CPU seconds that a few steps of it say it takes. Leaves nothing behind."""
    from potstill.distill.weights.train import ranker, students

    with tempfile.TemporaryDirectory(prefix="potstill-") as folder:
        where = (plan.db, plan.filters, plan.held_out, Path(folder))
        manifest, decisions = decisions_of(*where, plan.teachers, past=_past(plan.recipe))
    decisions, _ = _agreed(plan, manifest, decisions)
    prepared = students.prepare(decisions[LEARN], decisions[HELD_OUT], plan.recipe)
    steps = plan.recipe.train.total(len(prepared.data))
    row = {
        "environment": plan.environment,
        "episodes": manifest.report.episodes,
        "decisions": len(prepared.data),
        "held_out": len(prepared.held_out),
        "vocabulary": len(prepared.network.shape.config().get("vocabulary", ())),
        "parameters": prepared.parameters,
        "steps": steps,
        "cpu_s": steps * ranker.seconds_a_step(prepared, plan.recipe),
    }
    return row if plan.dagger is None else row | weights_dagger_plan.estimate(plan.dagger)


def make(plan: WeightsPlan) -> Made:
    """Train and write the policy. Raises ``ConfigError``, ``Diverged``, ``GateFailed``, ``StoreError``."""
    from potstill.distill.weights.train import students

    where = (plan.db, plan.filters, plan.held_out, plan.folder)
    manifest, decisions = decisions_of(*where, plan.teachers, past=_past(plan.recipe))
    decisions, judged = _agreed(plan, manifest, decisions)
    prepared = students.prepare(decisions[LEARN], decisions[HELD_OUT], plan.recipe)
    with contextlib.ExitStack() as stack:
        player = player_of(plan, decisions[HELD_OUT])
        if player is not None:
            stack.enter_context(player)
        trained, cpu_s = _train(plan, prepared, player)
        return _exported(plan, manifest, decisions[HELD_OUT], prepared, trained, cpu_s, player, judged)


def _train(
    plan: WeightsPlan, prepared: Prepared, player: Player | None, checkpoint: str = CHECKPOINT
) -> tuple[Trained, float]:
    """Train with progress; also the CPU seconds that it took. Ctrl-C aborts with a line that says how to go on."""
    from potstill.distill.weights.train import ranker
    from potstill.distill.weights.train.loop import Keeping

    keeping = Keeping(plan.folder / checkpoint, resume=plan.resume)
    if keeping.path.exists() and not plan.resume:
        note(f"{keeping.path} is there and is replaced. To go on from it instead, stop and type --resume.")
    started = time.process_time()
    try:
        with progress(plan.out.name, plan.recipe.train.total(len(prepared.data)), unit="steps") as bar:
            trained = ranker.teach(prepared, plan.recipe, evaluate=player, keeping=keeping, watch=Watch(bar).told)
    except KeyboardInterrupt:
        raise click.Abort from InterruptedError(
            f"the checkpoint {keeping.path} is kept. To go on, type the same command with --resume"
        )
    return trained, time.process_time() - started


def _exported(
    plan: WeightsPlan,
    data: DataManifest,
    held_out: list[Labelled],
    prepared: Prepared,
    trained: Trained,
    cpu_s: float,
    player: Player | None,
    judged: Judged | None = None,
) -> Made:
    from potstill.distill.weights.policies.ranker import arrays_of
    from potstill.distill.weights.train import students
    from potstill.distill.weights.train.loop import agreement_of

    side = students.trained_side(prepared.network)
    play = None if player is None else lambda policy: (player.outcomes_of(side, policy), player.outcomes(policy))
    agreement = agreement_of(prepared.network, prepared.held_out)
    artefact, parity = gate.export(
        plan.out,
        arrays_of(prepared.network),
        prepared.network.shape.config(),
        lineage_of(
            plan.environment,
            data,
            {"student": plan.recipe.student, **msgspec.to_builtins(plan.recipe), **_on_policy(plan)},
            {"agreement": agreement, "steps": trained.steps, "best_step": trained.best_step, **_told(judged)},
        ),
        trained=side,
        questions=students.questions_of(prepared.network, held_out),
        key=plan.key,
        play=play,
    )
    return Made(
        file=str(plan.out),
        size_bytes=artefact.size_bytes,
        parameters=prepared.parameters,
        episodes=data.report.episodes,
        decisions=len(prepared.data),
        held_out=len(prepared.held_out),
        steps=trained.steps,
        best_step=trained.best_step,
        agreement=agreement,
        success=None if parity.success is None else parity.success.exported,
        ended=trained.ended.value,
        cpu_s=cpu_s,
        data=digest_of(data),
        manifest_sha256=artefact.manifest_sha256,
        parity=parity.summary(),
        reliability={} if judged is None else dict(zip(judged.teachers, judged.reliability, strict=True)),
    )


def player_of(plan: WeightsPlan, held_out: list[Labelled]) -> Player | None:
    """Plays held-out tasks, drawn by the seed; None where none are to be played."""
    if not plan.play:
        return None
    from potstill.cli.held_out_play import player_of

    return player_of(
        plan.environment, [plan.filters["split"]], held_out, plan.play, plan.recipe.train.seed, plan.playing
    )


class Watch:
    """What the progress bar shows: the loss at every step, the agreement once it is measured."""

    def __init__(self, bar: Any) -> None:
        self._bar, self._shown = bar, 0

    def told(self, now: Any, total: int) -> None:
        looked = now.history[-1] if now.history else None
        beside: dict[str, object] = {}
        if looked is not None:
            beside = {"agreement": looked.agreement, "success": looked.success, "best": now.best}
        loss = {} if now.loss is None else {"loss": now.loss}
        self._bar.update(now.step - self._shown, **loss, **{name: v for name, v in beside.items() if v is not None})
        self._shown = now.step


def decisions_of(
    db: str,
    filters: dict[str, Any],
    held_out: float,
    folder: Path,
    teachers: Teachers = Teachers.POOLED,
    more: Sequence[dict[str, Any]] = (),
    past: int | None = None,
) -> tuple[DataManifest, dict[str, list[Labelled]]]:
    """The decisions, kept in a folder that is named by what is in it.

    ``more``: which other episodes count besides, however they ended: a label is right where a student failed, too.
    """
    new = folder / "data.new"
    shutil.rmtree(new, ignore_errors=True)
    fractions = {LEARN: 1.0 - held_out, HELD_OUT: held_out}
    several = teachers is not Teachers.POOLED
    with read_store(db) as store:
        episodes = itertools.chain.from_iterable(store.select(**one) for one in (filters, *more))
        manifest = write(
            *(episodes, new),
            fractions=fractions,
            equal=Equal.DROP,
            only_successes=not (several or more),
            by_teacher=several,
            past=past,
        )
    kept = folder / f"data-{digest_of(manifest)[:12]}"
    if kept.exists():
        shutil.rmtree(new)
    else:
        new.rename(kept)
    decisions = {name: list(read(kept, name)) for name in fractions}
    if not decisions[HELD_OUT]:
        raise ConfigError(
            f"None of the {manifest.splits[LEARN].tasks} tasks is held out by --held-out {held_out}, so nothing "
            "could judge the policy. Record more tasks, or type a larger share."
        )
    if manifest.report.dropped:
        note(f"{manifest.report.dropped} decisions are held out and not learnt: both sides had them.")
    return manifest, decisions


def _past(recipe: Recipe) -> int | None:
    """Past turns that the student reads; None: all."""
    return 0 if isinstance(recipe, MlpRecipe) else None


def _agreed(
    plan: WeightsPlan, data: DataManifest, decisions: dict[str, list[Labelled]]
) -> tuple[dict[str, list[Labelled]], Judged | None]:
    """What several teachers' labels come to, and how reliable each is by the decisions to learn from alone."""
    if plan.teachers is Teachers.POOLED:
        return decisions, None
    judged = judge(decisions[LEARN], outcome_share=min(1.0, data.report.episodes / data.report.met))
    told = ", ".join(f"{name} {right:.2f}" for name, right in zip(judged.teachers, judged.reliability, strict=True))
    note(f"Reliability of the teachers, told from agreement and outcomes: {told}.")
    return {name: fused(some, judged, plan.teachers) for name, some in decisions.items()}, judged


def _told(judged: Judged | None) -> dict[str, Any]:
    return {} if judged is None else {"teachers": msgspec.to_builtins(judged)}


def lineage_of(
    environment: str, data: DataManifest, configuration: dict[str, Any], metrics: dict[str, Any]
) -> Manifest:
    prompts = tuple(data.sources.prompts)
    return Manifest(
        created=created(os.environ),
        teachers=tuple(
            Teacher(model=name, decisions=data.splits[LEARN].decisions, prompts_sha256=prompts)
            for name in data.sources.teachers
        ),
        datasets=(Dataset(name=environment, sha256=digest_of(data), decisions=data.splits[LEARN].decisions),),
        configuration=configuration,
        metrics=metrics,
    )


def _on_policy(plan: WeightsPlan) -> dict[str, Any]:
    return {} if plan.dagger is None else {"dagger": msgspec.to_builtins(plan.dagger.recipe)}


# The parts, for trainings that are made of several (``weights_dagger``).
train_it, exported = _train, _exported
