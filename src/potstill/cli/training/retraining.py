"""Retrains a policy from its own weights: new episodes out of the store, old decisions from its data, gate, promotion.

What it knows: where the parts of a retraining lie, and their order. What it does not do: parse or print
(``distill_retrain``), mix, compare or replace files (``distill.weights.continual``).
"""

from __future__ import annotations

import contextlib
import datetime
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from potstill.cli.training import retrain_judges as judges
from potstill.cli.training.checkpointed import checkpointed
from potstill.cli.training.data import LEARN
from potstill.cli.training.making import CHECKPOINT, Watch
from potstill.cli.training.plan import to_resume
from potstill.cli.training.retrain_data import Gathered, gathered
from potstill.cli.training.retrain_plan import RetrainPlan
from potstill.distill.weights import gate
from potstill.distill.weights.continual import versions
from potstill.distill.weights.data import digest_of
from potstill.distill.weights.lineage import Dataset, Manifest, Parent, Teacher, created, in_full
from potstill.edge.policy import open_policy

if TYPE_CHECKING:
    from potstill.distill.weights.train.teaching import Prepared


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
    old: list[dict[str, Any]]
    """The same comparison on what was known, by each judge; empty where it may be forgotten."""
    episodes: int
    new_decisions: int
    old_decisions: int
    overruled: int
    steps: int
    cpu_s: float


def retrain(plan: RetrainPlan) -> Retrained:
    """Train on, judge, and let the new version act or not. Raises ``ConfigError``, ``Diverged``, ``GateFailed``,
    ``StoreError``; whatever is raised, what acted before acts."""
    to_resume(plan.folder / CHECKPOINT, plan.made.resume)
    data = gathered(plan)
    started = time.process_time()
    with contextlib.ExitStack() as stack:
        games = judges.games_of(plan, data)
        if games is not None:
            stack.enter_context(games.player)
        parent = versions.keep(plan.made.out)
        prepared, steps = _train(plan, data, parent)
        candidate = _candidate(plan, prepared, data, parent)
        found = judges.judged(plan, open_policy(candidate), data, games)
    return _settled(plan, candidate, parent, found, data, steps, time.process_time() - started)


def _train(plan: RetrainPlan, data: Gathered, parent: Parent) -> tuple[Prepared, int]:
    from potstill.distill.weights.train import ranker
    from potstill.distill.weights.train.teaching import teach

    prepared = ranker.continued(plan.policy, data.replay.decisions, data.stopping, plan.made.recipe)
    made, total = plan.made, plan.made.recipe.train.total(len(prepared.data))
    with checkpointed(plan.folder / CHECKPOINT, made.out.name, total, resume=made.resume) as (keeping, bar):
        trained = teach(prepared, made.recipe, keeping=keeping, watch=Watch(bar).told, parent=parent.manifest_sha256)
    return prepared, trained.steps


def _candidate(plan: RetrainPlan, prepared: Prepared, data: Gathered, parent: Parent) -> Path:
    """The retrained policy among the versions, proved to act as what was trained."""
    from potstill.distill.weights.policies.ranker import arrays_of
    from potstill.distill.weights.train import ranker

    fresh, replay = data.fresh, data.replay
    draft = versions.folder_of(plan.made.out) / "candidate.partial"
    teachers = tuple(
        Teacher(model=name, decisions=fresh.splits[LEARN].decisions, prompts_sha256=tuple(fresh.sources.prompts))
        for name in fresh.sources.teachers
    )
    learnt = Dataset(name=plan.made.environment, sha256=digest_of(fresh), decisions=fresh.splits[LEARN].decisions)
    manifest = Manifest(
        created=created(os.environ),
        teachers=(*plan.lineage.teachers, *teachers),
        datasets=(*(plan.lineage.datasets if plan.share < 1 else ()), learnt),
        configuration={"student": "ranker", "new_share": plan.share, **in_full(plan.made.recipe)},
        metrics={"old_decisions": replay.old, "new_decisions": replay.new, "overruled": replay.overruled},
        parents=(parent,),
    )
    written, _ = gate.export(
        draft,
        arrays_of(prepared.network),
        prepared.network.shape.config(),
        manifest,
        trained=ranker.trained_side(prepared.network),
        questions=ranker.questions_of(data.held_out),
        key=plan.made.key,
    )
    return draft.replace(versions.file_of(plan.made.out, written.manifest_sha256))


def _settled(
    plan: RetrainPlan,
    candidate: Path,
    parent: Parent,
    found: judges.Judged,
    data: Gathered,
    steps: int,
    cpu_s: float,
) -> Retrained:
    if found.promoted:
        version = versions.promote(plan.made.out, candidate, at=_now(), comparison=found.told())
    else:
        version = versions.version_of(candidate)
        versions.reject(plan.made.out, candidate, at=_now(), comparison=found.told())
    new = found.new.comparison
    return Retrained(
        file=str(plan.made.out),
        promoted=found.promoted,
        why=found.why,
        version=version,
        before=parent.manifest_sha256,
        judged_by=found.new.by,
        n=new.n,
        new_success=new.success_a,
        success=new.success_b,
        difference=new.difference,
        difference_ci=new.difference_ci,
        margin=plan.margin,
        old=[one.row() for one in found.old],
        episodes=data.fresh.report.episodes,
        new_decisions=data.replay.new,
        old_decisions=data.replay.old,
        overruled=data.replay.overruled,
        steps=steps,
        cpu_s=cpu_s,
    )


def _now() -> str:
    return datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds")
