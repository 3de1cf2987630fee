"""Makes a language-model student: episodes out of the store, prompts as ``run`` writes them, training, folder, lineage.

What it knows: where the parts of a training lie. What it does not do: parse or print (``lm_options``), learn.
"""

from __future__ import annotations

import asyncio
import importlib.util
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from potstill.cli.output import note
from potstill.cli.run_plan import pairs
from potstill.cli.training.checkpointed import checkpointed
from potstill.cli.training.data import HELD_OUT, LEARN, decisions_of, lineage_of
from potstill.cli.training.making import CHECKPOINT, Watch
from potstill.cli.training.plan import TRAINING, environments_of, filters_of, key_of, named_as, place_of, to_resume
from potstill.cli.training.reasoned import Given, given, learnt, reasoned_by
from potstill.distill.weights.data import Labelled, digest_of
from potstill.distill.weights.data.manifest import Manifest as DataManifest
from potstill.distill.weights.lineage import in_full
from potstill.distill.weights.lm.chats import Chat, Shown, chats
from potstill.distill.weights.lm.recipe import LmRecipe
from potstill.distill.weights.losses.spans import SpanKind
from potstill.distill.weights.rationales.learning import Reasoned, datasets_of
from potstill.distill.weights.train.config import TrainConfig
from potstill.envs.registry import describe
from potstill.errors import ConfigError, MissingExtra, one_of
from potstill.models.tuned_file import Voice
from potstill.trajectories.opening import read_store

if TYPE_CHECKING:
    from potstill.distill.weights.lm.student import Prepared
    from potstill.distill.weights.train.loop import Trained

PACKAGES = ("torch", "transformers", "peft")


class LmPlan(NamedTuple):
    """A student that is ready to be made."""

    out: Path
    recipe: LmRecipe
    db: str
    filters: dict[str, Any]
    environment: str
    held_out: float
    resume: bool
    key: Path | None
    merged: bool
    rationales: Given

    @property
    def folder(self) -> Path:
        return self.out.with_name(self.out.name + TRAINING)


class Made(NamedTuple):
    """What was trained and written."""

    folder: str
    base: str
    size_bytes: int
    parameters: int
    """Of the adapters."""
    episodes: int
    decisions: int
    passes: int
    """In which these are learnt once: as many, or one for an episode."""
    held_out: int
    steps: int
    best_step: int
    agreement_before: float
    """Of the base with the same prompts, on the held-out decisions."""
    agreement: float
    ended: str
    cpu_s: float
    data: str
    manifest_sha256: str
    parity: dict[str, Any]
    reasoning: dict[str, int] | None = None
    """Decisions that were learnt, by whose reasoning it was; None: the student learnt none."""


class Read(NamedTuple):
    """What the store gave."""

    data: DataManifest
    learn: list[Chat]
    held_out: list[Chat]
    instructions: str
    shown: Shown | None
    """Of demonstrations, where the student is tuned with some."""
    reasoned: Reasoned | None = None
    """What became of the rationales; None: there were none."""

    @property
    def told(self) -> dict[str, Any]:
        """What a lineage says of the rationales."""
        return {} if self.reasoned is None else {"rationales": msgspec.to_builtins(self.reasoned)}


def planned(options: dict[str, Any]) -> LmPlan:
    """Everything that can be refused without reading an episode. Raises ``ConfigError``, ``MissingExtra``."""
    refuse_missing()
    if options["play"]:
        raise ConfigError("--play is for rankers: a language model is judged by held-out decisions. Leave it away.")
    names = ("seed", "epochs", "steps", "batch", "learning_rate", "schedule", "patience", "threads")
    given = {name: options[name] for name in names}
    if options["loss_options"]:
        raise ConfigError(
            "--loss is for rankers: a language model learns the teacher's tokens. Weigh them with --span."
        )
    config = TrainConfig(**given, warmup=10, weight_decay=0.0, evaluate_every=options["look_every"])
    spans = _spans(options["span_options"])
    return plan_of(options, spans=spans, whole_episodes=options["whole_episodes"], train=config)


def refuse_missing() -> None:
    """Raises ``MissingExtra`` where a package is absent that tuning needs."""
    if any(importlib.util.find_spec(package) is None for package in PACKAGES):
        raise MissingExtra("Tuning a language model", "lm")


def plan_of(options: dict[str, Any], **recipe: Any) -> LmPlan:
    """What every way to tune a language model has of the options. Raises ``ConfigError``."""
    if len(options["environment"]) > 1:
        raise ConfigError("A language model learns one environment. Name it once: --env NAME")
    if not options["base"]:
        raise ConfigError("Nothing says what is tuned. Type for example: --base smollm2-135m")
    out = named_as(place_of(options["out"], "--out student-lm"), "")
    _refuse_used(out)
    filters = filters_of(options)
    (environment,) = environments_of(options["db"], filters, options["environment"])
    filters["environment"] = environment
    return LmPlan(
        out=out,
        recipe=LmRecipe(
            base=options["base"],
            rank=options["rank"],
            alpha=2.0 * options["rank"],
            voice=Voice(
                reasoning=options["reasoning"],
                history_turns=options["history_turns"],
                list_admissible=options["list_admissible"],
            ),
            demonstrations=options["demonstrations"],
            **recipe,
        ),
        db=options["db"],
        filters=filters,
        rationales=given(options["rationales"], options["reasoning"], filters),
        environment=environment,
        held_out=options["held_out"],
        resume=options["resume"],
        key=key_of(options["key"]),
        merged=options["merged"],
    )


def _refuse_used(out: Path) -> None:
    from potstill.distill.weights.lm.folder import refuse_used

    refuse_used(out)


def _spans(given: tuple[str, ...]) -> dict[SpanKind, float]:
    weights = {SpanKind.TEXT: 1.0, SpanKind.REASONING: 0.3}
    for name, weight in pairs(given, "--span reasoning=0.3").items():
        one_of("part of an answer", name, [kind.value for kind in weights])
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            raise ConfigError(f"--span {name}={weight} is no number. Type for example: --span reasoning=0.3")
        weights[SpanKind(name)] = float(weight)
    return weights


# --- data -----------------------------------------------------------------------------------------------------------


def read_chats(plan: LmPlan, folder: Path) -> Read:
    """What is learnt and what is held out; the decisions are kept in the folder."""
    manifest, decisions = decisions_of(plan.db, plan.filters, plan.held_out, folder)
    instructions = describe(plan.environment).instructions
    learn, held_out = decisions[LEARN], decisions[HELD_OUT]
    shown = demonstrations_for(plan, learn)
    learn, reasoned = learnt(plan.rationales, learn)
    told = (plan.recipe.agent, instructions, shown)
    with read_store(plan.db) as store:
        to_learn = chats(store.select(**plan.filters), learn, *told, plan.rationales.thoughts)
        # Without what was made in hindsight: in the past turns of a prompt it would tell the answer.
        asked = chats(store.select(**plan.filters), held_out, *told, held_out=True)
    return Read(manifest, to_learn, asked, instructions, shown, reasoned)


def demonstrations_for(plan: LmPlan, learn: list[Labelled]) -> Shown | None:
    """What ``run`` would show at the beginning of a task, out of the episodes that are learnt from; None: nothing."""
    if not plan.recipe.demonstrations:
        return None
    from potstill.distill.context.config import ContextConfig
    from potstill.distill.context.context import RetrievedDemonstrations
    from potstill.distill.context.library import build_library
    from potstill.protocols import ContextQuery

    config = ContextConfig(k=plan.recipe.demonstrations)
    ids = {decision.trajectory_id for decision in learn}
    with read_store(plan.db) as store:
        library = build_library((one for one in store.select(**plan.filters) if one.id in ids), config)
    context = RetrievedDemonstrations(library, config)

    def shown(trajectory: Any) -> str:
        query = ContextQuery(
            task=trajectory.task,
            goal=trajectory.goal or trajectory.task.goal,
            observation=trajectory.steps[0].observation.text.strip(),
            namespace=trajectory.namespace,
            episode=trajectory.id,
        )
        return asyncio.run(context.for_task(query)).text

    return shown


# --- making ---------------------------------------------------------------------------------------------------------


def estimate(plan: LmPlan) -> dict[str, Any]:
    """What would be trained, and the CPU seconds that a step says it takes. Leaves nothing behind."""
    from potstill.distill.weights.lm import student

    with tempfile.TemporaryDirectory(prefix="potstill-") as folder:
        read = read_chats(plan, Path(folder))
    prepared = _prepared(plan, read)
    steps = plan.recipe.train.total(len(prepared.data))
    return {
        "environment": plan.environment,
        "base": plan.recipe.base,
        "episodes": read.data.report.episodes,
        "decisions": len(read.learn),
        "passes": len(prepared.data),
        "held_out": len(prepared.held_out),
        "longest_prompt": prepared.held_out.longest,
        "parameters": prepared.parameters,
        "steps": steps,
        "cpu_s": steps * student.seconds_a_step(prepared, plan.recipe),
    }


def make(plan: LmPlan) -> Made:
    """Train and write the student. Raises ``ConfigError``, ``Diverged``, ``GateFailed``, ``StoreError``."""
    from potstill.distill.weights.lm import folder, student
    from potstill.distill.weights.train.loop import agreement_of
    from potstill.models.tuned import open_tuned

    to_resume(plan.folder / CHECKPOINT, plan.resume)
    read = read_chats(plan, plan.folder)
    prepared = _prepared(plan, read)
    before = agreement_of(prepared.network, prepared.held_out)
    trained, cpu_s = _train(plan, prepared)
    agreement = trained.best if trained.best is not None else agreement_of(prepared.network, prepared.held_out)
    tables: list[dict[str, Any]] = []

    def approve(partial: Path) -> dict[str, Any]:
        model = open_tuned(partial, threads=plan.recipe.train.threads)
        found = student.parity(student.trained_side(prepared), model, student.questions_of(read.held_out)).summary()
        asyncio.run(model.aclose())
        tables.append(found)
        return {"parity": found}

    metrics = {
        "agreement": agreement,
        "agreement_before": before,
        "steps": trained.steps,
        "best_step": trained.best_step,
        **read.told,
    }
    configuration = {"student": "lm", "base_sha256": prepared.base_sha256, **in_full(plan.recipe)}
    whose = reasoned_by(plan.recipe.reasons, read.reasoned, len(read.learn))
    written = folder.write(
        plan.out,
        prepared,
        plan.recipe,
        lineage_of(plan.environment, read.data, configuration, metrics, datasets_of(read.reasoned)),
        reasoned_by=whose,
        environment=plan.environment,
        instructions=read.instructions,
        approve=approve,
        merged=plan.merged,
        key=plan.key,
    )
    return Made(
        folder=str(plan.out),
        base=plan.recipe.base,
        size_bytes=written.size_bytes,
        parameters=prepared.parameters,
        episodes=read.data.report.episodes,
        decisions=len(read.learn),
        passes=len(prepared.data),
        held_out=len(prepared.held_out),
        steps=trained.steps,
        best_step=trained.best_step,
        agreement_before=before,
        agreement=agreement,
        ended=trained.ended.value,
        cpu_s=cpu_s,
        data=digest_of(read.data),
        manifest_sha256=written.manifest_sha256,
        parity=tables[0],
        reasoning=whose or None,
    )


def _prepared(plan: LmPlan, read: Read) -> Prepared:
    from potstill.distill.weights.lm import student
    from potstill.models.torch_engine import set_threads
    from potstill.models.torch_lm import find_checkpoint

    set_threads(plan.recipe.train.threads)
    base = find_checkpoint(plan.recipe.base, progress=note)
    return student.prepare(base, read.learn, read.held_out, plan.recipe)


def _train(plan: LmPlan, prepared: Prepared) -> tuple[Trained, float]:
    from potstill.distill.weights.lm import student

    started, total = time.process_time(), plan.recipe.train.total(len(prepared.data))
    with checkpointed(plan.folder / CHECKPOINT, plan.out.name, total, resume=plan.resume) as (keeping, bar):
        trained = student.teach(prepared, plan.recipe, keeping=keeping, watch=Watch(bar).told)
    return trained, time.process_time() - started
