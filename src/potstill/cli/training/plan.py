"""What is to be trained, from the words of a command: everything that can be refused before an episode is read."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from potstill.cli.output import note
from potstill.cli.run_plan import pairs
from potstill.cli.training import dagger_plan, debates
from potstill.cli.training.several import playing_in, refuse_what_is_for_one
from potstill.distill.weights.data.environments import BETWEEN
from potstill.distill.weights.lineage_sign import Signer
from potstill.distill.weights.losses.balance import Part
from potstill.distill.weights.losses.config import build
from potstill.distill.weights.teachers.fusing import Teachers
from potstill.distill.weights.train.adaptive import parsed
from potstill.distill.weights.train.config import TrainConfig
from potstill.distill.weights.train.recipe import STUDENTS, Augment, FilmRecipe, MlpRecipe, RankerRecipe, Recipe
from potstill.errors import ConfigError, MissingExtra, one_of
from potstill.trajectories.opening import read_store, shown
from potstill.types import TrajectoryKind

if TYPE_CHECKING:
    from potstill.trajectories.store import Store

TRAINING = ".training"
"""Behind the file's name: the folder with the data and the checkpoint."""


POLICY = ".policy"


class WeightsPlan(NamedTuple):
    """A policy that is ready to be made."""

    out: Path
    recipe: Recipe
    db: str
    filters: dict[str, Any]
    environment: str
    """Several ones with commas."""
    held_out: float
    resume: bool
    key: Path | None
    play: int
    """Held-out tasks to play at each look; 0: none."""
    playing: dict[str, Any]
    """How: the environment's options, steps, episodes at a time; of several ones, by their names."""
    dagger: dagger_plan.DaggerPlan | None = None
    teachers: Teachers = Teachers.POOLED
    debates: debates.DebatesPlan | None = None

    @property
    def folder(self) -> Path:
        return self.out.with_name(self.out.name + TRAINING)


def planned(options: dict[str, Any]) -> WeightsPlan:
    """Everything that can be refused without reading an episode. Raises ``ConfigError``, ``MissingExtra``."""
    if importlib.util.find_spec("torch") is None:
        raise MissingExtra("Training a policy", "weights")
    one_of("kind of student", options["student"], STUDENTS)
    out = file_of(place_of(options["out"], "--out student.policy"))
    names = ("seed", "epochs", "steps", "batch", "learning_rate", "schedule", "patience", "threads", "processes")
    given = {name: options[name] for name in names}
    if options["loss_options"]:
        given["loss"] = build(pairs(options["loss_options"], "--loss temperature=2"))
    given |= {"adaptive": parsed(options["adaptive_rules"]), "mix": _mix(options), "balanced": options["balanced"]}
    recipe = _recipe(options, TrainConfig(**given, evaluate_every=options["look_every"]))
    one_of("way to take several teachers", options["teachers"], list(Teachers))
    teachers = Teachers(options["teachers"])
    debated = debates.planned(options)
    filters = filters_of(options)
    if teachers is not Teachers.POOLED:
        filters["success"] = None
    environments = environments_of(options["db"], filters, options["environment"])
    refuse_what_is_for_one(environments, options)
    environment = BETWEEN.join(environments)
    return WeightsPlan(
        out=out,
        recipe=recipe,
        db=options["db"],
        filters={**filters, "environment": environment},
        environment=environment,
        teachers=teachers,
        debates=debated,
        held_out=options["held_out"],
        resume=options["resume"],
        key=key_of(options["key"]),
        play=options["play"],
        playing=playing_of(options, environments),
        dagger=dagger_plan.planned(options, environment) if options["dagger"] else None,
    )


def _recipe(options: dict[str, Any], train: TrainConfig) -> Recipe:
    if options["student"] == "mlp":
        return MlpRecipe(width=options["width"], layers=options["layers"], train=train)
    if options["student"] == "film":
        for name in options["augment"]:
            one_of("augmentation", name, Augment)
        given = tuple(one for one in Augment if one in options["augment"])
        return FilmRecipe(width=options["width"], augment=given, train=train)
    return RankerRecipe(width=options["width"], train=train)


def place_of(out: Path | None, example: str) -> Path:
    """Where the student goes. Raises ``ConfigError`` where that is not said or cannot be."""
    if out is None:
        raise ConfigError(f"Nothing says where the student goes. Type for example: {example}")
    if not out.parent.is_dir():
        raise ConfigError(f"There is no folder {out.parent} to write {out.name} into. Make it first.")
    return out


FORMS = {
    ".gguf": "files of language models (potstill export --gguf)",
    ".onnx": "files for ONNX Runtime (potstill export --onnx)",
    POLICY: "policies (potstill distill weights)",
}
"""What names end in by which a file is taken for something."""


def named_as(out: Path, suffix: str, flag: str = "--out") -> Path:
    """The same name. Raises ``ConfigError`` where it ends as another form's do, and not in ``suffix``."""
    if out.suffix in FORMS and out.suffix != suffix:
        raise ConfigError(
            f"{flag} {out} ends in {out.suffix}, as {FORMS[out.suffix]} do, and would be taken for one. Type: {flag} "
            f"{out.with_suffix(suffix)}"
        )
    return out


def file_of(out: Path) -> Path:
    """A place that is to hold one policy. Raises ``ConfigError`` for a folder, and the name of something else."""
    named_as(out, POLICY)
    if out.is_dir():
        raise ConfigError(
            f"{out} is a folder, and the student is one file. Type for example: --out {out / 'student.policy'}"
        )
    return out


def to_resume(kept: Path, resume: bool) -> None:
    """Raises ``ConfigError``, before anything is written, where ``--resume`` finds nothing to go on from."""
    if resume and not kept.exists():
        raise ConfigError(
            f"There is nothing to resume, for there is no checkpoint {kept}. Leave --resume away to begin anew."
        )


def to_replace(out: Path, resume: bool) -> None:
    """Says what the new policy will replace, but not once more to who resumes."""
    if out.exists() and not resume:
        note(f"{out} is there, and the new policy takes its place. To keep it, stop and type another --out.")


def key_of(path: Path | None) -> Path | None:
    """A key that can sign, looked at before anything is trained. Raises ``ConfigError``, ``MissingExtra``."""
    if path is not None:
        Signer(path)
    return path


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


def playing_of(options: dict[str, Any], environments: Sequence[str] = ()) -> dict[str, Any]:
    given = options["environment_options"]
    if not (options["play"] or options.get("dagger")) and (given or options["directory"] or options["max_steps"]):
        raise ConfigError("--tasks, --option and --max-steps are for --play, which is 0. Type for example: --play 20")
    return playing_in(environments, options)


def environments_of(db: str, filters: dict[str, Any], named: Sequence[str]) -> tuple[str, ...]:
    """The environments to learn: the named ones, in alphabetical order, or the only one of which there are episodes."""
    if len(set(named)) < len(named):
        raise ConfigError(f"--env names an environment twice: {', '.join(named)}. Name each once.")
    return tuple(environment_of(db, filters, name) for name in sorted(named)) or (environment_of(db, filters, None),)


def must_have_run(store: Store, db: str, filters: Mapping[str, Any]) -> None:
    """Raises ``ConfigError`` where ``--run`` names a run of which the store holds nothing."""
    run = filters.get("run_id")
    if run is not None and not store.ids(run_id=run, namespace=filters["namespace"]):
        raise ConfigError(
            f"The store {shown(db)} holds no episode of a run '{run}'. See which runs there are: potstill "
            f"trajectories list --db {shown(db)}"
        )


def environment_of(db: str, filters: dict[str, Any], named: str | None) -> str:
    """The environment to learn: the named one, or the only one of which there are episodes."""
    with read_store(db) as store:
        must_have_run(store, db, filters)
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
