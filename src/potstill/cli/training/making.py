"""Makes a policy: data into a folder, training with progress, gate, file with its lineage."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from potstill.cli.training import dagger_plan, debates
from potstill.cli.training.checkpointed import checkpointed
from potstill.cli.training.data import HELD_OUT, agreed, decisions_of, lineage_of, past_of, told_of
from potstill.cli.training.plan import WeightsPlan, to_resume
from potstill.cli.training.several import by_environment, with_success
from potstill.distill.weights import gate
from potstill.distill.weights.data import Labelled, digest_of
from potstill.distill.weights.data.environments import names_of
from potstill.distill.weights.data.manifest import Manifest as DataManifest
from potstill.distill.weights.gate_success import Outcomes
from potstill.distill.weights.lineage import in_full
from potstill.distill.weights.teachers.fusing import Judged

if TYPE_CHECKING:
    from potstill.distill.weights.train.loop import Trained
    from potstill.distill.weights.train.several import Plays
    from potstill.distill.weights.train.teaching import Prepared
    from potstill.edge.policy import Policy

CHECKPOINT = "checkpoint.pt"


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
    """In the held-out tasks that were played; of several environments the mean of their shares."""
    ended: str
    cpu_s: float
    data: str
    manifest_sha256: str
    parity: dict[str, Any]
    reliability: dict[str, float]
    """Of several teachers, each's; empty where their labels were not weighed."""
    rounds: list[dict[str, Any]] | None = None
    """Of DAgger."""
    search: dict[str, Any] | None = None
    """Trials and frontier of a search over recipes."""
    environments: dict[str, dict[str, Any]] | None = None
    """Of several ones, each by its name."""


def estimate(plan: WeightsPlan) -> dict[str, Any]:
    """What would be trained, and the CPU seconds that a few steps of it say it takes. Leaves nothing behind."""
    from potstill.distill.weights.train import students, teaching

    with tempfile.TemporaryDirectory(prefix="potstill-") as folder:
        where = (plan.db, plan.filters, plan.held_out, Path(folder))
        manifest, decisions = decisions_of(*where, plan.teachers, past=past_of(plan.recipe))
    decisions, _ = agreed(plan.teachers, manifest, decisions)
    learn, _ = debates.added(plan.debates, decisions, plan.filters)
    prepared = students.prepare(learn, decisions[HELD_OUT], plan.recipe)
    steps = plan.recipe.train.total(len(prepared.data))
    row = {
        "environment": plan.environment,
        "episodes": manifest.report.episodes,
        "decisions": len(prepared.data),
        "held_out": len(prepared.held_out),
        "vocabulary": len(prepared.network.shape.config().get("vocabulary", ())),
        "parameters": prepared.parameters,
        "steps": steps,
        "cpu_s": steps * teaching.seconds_a_step(prepared, plan.recipe),
    }
    return row if plan.dagger is None else row | dagger_plan.estimate(plan.dagger)


class Gathered(NamedTuple):
    """What a training learns from, and is judged by."""

    manifest: DataManifest
    decisions: dict[str, list[Labelled]]
    judged: Judged | None


def gathered(plan: WeightsPlan) -> Gathered:
    """Read the episodes. Raises ``ConfigError``, ``StoreError``."""
    where = (plan.db, plan.filters, plan.held_out, plan.folder)
    manifest, decisions = decisions_of(*where, plan.teachers, past=past_of(plan.recipe))
    return Gathered(manifest, *agreed(plan.teachers, manifest, decisions))


def make(plan: WeightsPlan) -> Made:
    """Train and write the policy. Raises ``ConfigError``, ``Diverged``, ``GateFailed``, ``StoreError``."""
    to_resume(plan.folder / CHECKPOINT, plan.resume)
    return made_of(plan, gathered(plan))


def made_of(
    plan: WeightsPlan, data: Gathered, *, checkpoint: str = CHECKPOINT, metrics: Mapping[str, Any] | None = None
) -> Made:
    """The same of data that were read. ``metrics``: more of them, for the lineage."""
    from potstill.distill.weights.train import students

    held_out = data.decisions[HELD_OUT]
    learn, debated = debates.added(plan.debates, data.decisions, plan.filters)
    debates.keep(debated, plan.folder)
    prepared = students.prepare(learn, held_out, plan.recipe)
    with contextlib.ExitStack() as stack:
        player = player_of(plan, held_out)
        if player is not None:
            stack.enter_context(player)
        trained, cpu_s = train(plan, prepared, player, checkpoint)
        told = {**(metrics or {}), **debates.told_of(debated)}
        return exported(
            plan, data.manifest, held_out, prepared, trained, cpu_s, player, data.judged, debated, told, learn
        )


def train(
    plan: WeightsPlan, prepared: Prepared, player: Plays | None, checkpoint: str = CHECKPOINT, *, begun: bool = False
) -> tuple[Trained, float]:
    """Train with progress; also the CPU seconds that it took, of all processes. Ctrl-C aborts with a line that says
    how to go on. ``begun``: as ``checkpointed`` has it."""
    from potstill.distill.weights.train import teaching

    started, total = time.process_time(), plan.recipe.train.total(len(prepared.data))
    place = plan.folder / checkpoint
    with checkpointed(place, plan.out.name, total, resume=plan.resume, begun=begun) as (keeping, bar):
        trained = teaching.teach(prepared, plan.recipe, evaluate=player, keeping=keeping, watch=Watch(bar).told)
    return trained, time.process_time() - started + trained.others_cpu_s


def exported(
    plan: WeightsPlan,
    data: DataManifest,
    held_out: list[Labelled],
    prepared: Prepared,
    trained: Trained,
    cpu_s: float,
    player: Plays | None,
    judged: Judged | None = None,
    debated: debates.Debated | None = None,
    metrics: Mapping[str, Any] | None = None,
    learnt: Sequence[Labelled] = (),
) -> Made:
    """``learnt``: of several environments, what is told apart by them."""
    from potstill.distill.weights.policies.ranker import arrays_of
    from potstill.distill.weights.train import students
    from potstill.distill.weights.train.loop import agreement_of

    side = students.trained_side(prepared.network)
    played: list[Outcomes] = []

    def play(policy: Policy) -> tuple[Outcomes, Outcomes]:
        assert player is not None, "asked only where there is one"
        played.append(player.outcomes(policy))
        return player.outcomes_of(side, policy), played[-1]

    agreement = agreement_of(prepared.network, prepared.held_out)
    apart = by_environment(learnt, held_out, prepared) if len(names_of(plan.environment)) > 1 else None
    artefact, parity = gate.export(
        plan.out,
        arrays_of(prepared.network),
        prepared.network.shape.config(),
        lineage_of(
            plan.environment,
            data,
            _configuration(plan),
            {
                "agreement": agreement,
                "steps": trained.steps,
                "best_step": trained.best_step,
                **told_of(judged),
                **(metrics or {}),
                **({} if apart is None else {"environments": apart}),
            },
            () if debated is None else (debated.dataset,),
        ),
        trained=side,
        questions=students.questions_of(prepared.network, held_out),
        key=plan.key,
        play=None if player is None else play,
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
        success=None if player is None or not played else player.success(played[-1]),
        ended=trained.ended.value,
        cpu_s=cpu_s,
        data=digest_of(data),
        manifest_sha256=artefact.manifest_sha256,
        parity=parity.summary(),
        reliability={} if judged is None else dict(zip(judged.teachers, judged.reliability, strict=True)),
        environments=None if apart is None else with_success(apart, played),
    )


def player_of(plan: WeightsPlan, held_out: list[Labelled]) -> Plays | None:
    """Plays held-out tasks, drawn by the seed, of several environments as many of each; None where none are played."""
    if not plan.play:
        return None
    from potstill.cli.training.held_out_play import player_in

    splits, seed = [plan.filters["split"]], plan.recipe.train.seed
    return player_in(names_of(plan.environment), splits, held_out, plan.play, seed, plan.playing)


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


def _configuration(plan: WeightsPlan) -> dict[str, Any]:
    """What makes the same numbers again, with all that nobody typed."""
    told = {"student": plan.recipe.student, **in_full(plan.recipe)}
    if plan.recipe.train.mix:
        del told["train"]["loss"]  # several others took its place
    return told if plan.dagger is None else {**told, "dagger": in_full(plan.dagger.recipe)}
