"""What a training learns from: decisions out of the store, what several teachers agree on, and where all came from."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from potstill.cli.output import note
from potstill.distill.weights.data import Equal, Labelled, digest_of, read, write
from potstill.distill.weights.data.checks import EmptySplit, unseen_actions
from potstill.distill.weights.data.environments import look_alikes, must_be_in_each, names_of
from potstill.distill.weights.data.manifest import Manifest as DataManifest
from potstill.distill.weights.lineage import Dataset, Manifest, Teacher, created
from potstill.distill.weights.teachers.fusing import Judged, Teachers, fused, judge
from potstill.distill.weights.train.recipe import MlpRecipe, Recipe
from potstill.errors import ConfigError
from potstill.trajectories.opening import read_store

LEARN, HELD_OUT = "train", "valid"


def decisions_of(
    db: str,
    filters: dict[str, Any],
    held_out: float,
    folder: Path,
    teachers: Teachers = Teachers.POOLED,
    more: Sequence[dict[str, Any]] = (),
    past: int | None = None,
) -> tuple[DataManifest, dict[str, list[Labelled]]]:
    """The decisions, kept in a folder that is named by what is in it; ``filters`` may name several environments.

    ``more``: which other episodes count besides, however they ended: a label is right where a student failed, too.
    """
    new = folder / "data.new"
    shutil.rmtree(new, ignore_errors=True)
    environments = names_of(filters["environment"])
    chosen = ({**filters, "environment": name} for name in environments)
    fractions = {LEARN: 1.0 - held_out, HELD_OUT: held_out}
    several = teachers is not Teachers.POOLED
    with read_store(db) as store:
        episodes = itertools.chain.from_iterable(store.select(**one) for one in (*chosen, *more))
        try:
            manifest = write(
                *(episodes, new),
                fractions=fractions,
                equal=Equal.DROP,
                only_successes=not (several or more),
                by_teacher=several,
                past=past,
            )
        except EmptySplit as error:
            raise ConfigError(_none_of(error.split, held_out)) from None
    kept = folder / f"data-{digest_of(manifest)[:12]}"
    if kept.exists():
        shutil.rmtree(new)
    else:
        new.rename(kept)
    decisions = {name: list(read(kept, name)) for name in fractions}
    must_be_in_each(environments, decisions)
    if alike := look_alikes(itertools.chain.from_iterable(decisions.values())):
        note(
            f"{alike} situations look the same in two environments and are answered differently. One student cannot "
            "tell them apart: train one for each, or let the environments' texts say which they are."
        )
    if unseen := unseen_actions(decisions[LEARN], decisions[HELD_OUT]):
        note(
            f"{sum(unseen.values())} of {sum(one.count for one in decisions[HELD_OUT])} held-out decisions are for an "
            f"action that no decision to learn is for (most often '{next(iter(unseen))[:60]}'): such an action is "
            "known by its words alone. Record more episodes to learn from, so that each is among them."
        )
    if manifest.report.dropped:
        note(f"{manifest.report.dropped} decisions are held out and not learnt: both sides had them.")
    return manifest, decisions


def _none_of(split: str, held_out: float) -> str:
    if split == LEARN:
        return (
            f"All tasks are held out by --held-out {held_out:g}, so nothing is left to learn from. Record episodes of "
            "more tasks, or type a smaller share: --held-out 0.1"
        )
    return (
        f"None of the tasks is held out by --held-out {held_out:g}: they are drawn by a hash of their names, and these "
        f"are too few. Record episodes of more tasks, or type a larger share: --held-out {min(0.5, 2 * held_out):g}"
    )


def past_of(recipe: Recipe) -> int | None:
    """Past turns that the student reads; None: all."""
    return 0 if isinstance(recipe, MlpRecipe) else None


def agreed(
    teachers: Teachers, data: DataManifest, decisions: dict[str, list[Labelled]]
) -> tuple[dict[str, list[Labelled]], Judged | None]:
    """What several teachers' labels come to, and how reliable each is by the decisions to learn from alone."""
    if teachers is Teachers.POOLED:
        return decisions, None
    judged = judge(decisions[LEARN], outcome_share=min(1.0, data.report.episodes / data.report.met))
    told = ", ".join(f"{name} {right:.2f}" for name, right in zip(judged.teachers, judged.reliability, strict=True))
    note(f"Reliability of the teachers, told from agreement and outcomes: {told}.")
    return {name: fused(some, judged, teachers) for name, some in decisions.items()}, judged


def told_of(judged: Judged | None) -> dict[str, Any]:
    return {} if judged is None else {"teachers": msgspec.to_builtins(judged)}


def lineage_of(
    environment: str,
    data: DataManifest,
    configuration: dict[str, Any],
    metrics: dict[str, Any],
    more: Sequence[Dataset] = (),
) -> Manifest:
    """``more``: other data that were learnt from."""
    prompts = tuple(data.sources.prompts)
    return Manifest(
        created=created(os.environ),
        teachers=tuple(
            Teacher(model=name, decisions=data.splits[LEARN].decisions, prompts_sha256=prompts)
            for name in data.sources.teachers
        ),
        datasets=(Dataset(name=environment, sha256=digest_of(data), decisions=data.splits[LEARN].decisions), *more),
        configuration=configuration,
        metrics=metrics,
    )
