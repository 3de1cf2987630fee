"""Debates for a training: those of a file as pairs beside the teacher's decisions, and new ones held by policies.

What it knows: files, the store, how a held-out task is told. What it does not do: parse or print (``distill_debates``,
``distill_weights``), which pairs there are (``distill.weights.debates``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from potstill.cli.output import note
from potstill.cli.training.data import HELD_OUT, LEARN
from potstill.distill.weights.data.labelled import Labelled
from potstill.distill.weights.debates.contrast import Contrast, LeftOut, contrast, mixed
from potstill.distill.weights.debates.graph import Debate, Pairing
from potstill.distill.weights.debates.lines import Read, read_debates
from potstill.distill.weights.lineage import Dataset
from potstill.errors import ConfigError, one_of
from potstill.trajectories.splits import split_of
from potstill.types import Struct, Task


class DebatesPlan(NamedTuple):
    file: Path
    read: Read
    share: float
    pairing: Pairing
    held_out: float
    """Share of the tasks, as the training holds them out."""


class Told(Struct, frozen=True, kw_only=True):
    """What became of the debates: a part of a student's lineage."""

    debates: int
    """That gave a pair."""
    pairs: int
    share: float
    pairing: str
    left_out: dict[str, int]


class Debated(NamedTuple):
    told: Told
    dataset: Dataset


def planned(options: Mapping[str, Any]) -> DebatesPlan | None:
    """None where no debates are given. Raises ``ConfigError`` for a file, a share or a student that does not fit."""
    file = options["debates"]
    if file is None:
        return None
    if options["dagger"]:
        raise ConfigError("--debates does not go with --dagger, whose rounds make their own data. Leave one away.")
    if options["student"] == "mlp":
        raise ConfigError(
            "--debates holds decisions between two actions, and an mlp has one fixed list. Type: --student ranker"
        )
    one_of("way to make pairs of debates", options["debate_pairs"], list(Pairing))
    if not 0 < options["debate_share"] < 1:
        raise ConfigError(f"--debate-share is {options['debate_share']}. Allowed: above 0 and below 1, such as 0.3.")
    return DebatesPlan(
        file=file,
        read=read_debates(file),
        share=options["debate_share"],
        pairing=Pairing(options["debate_pairs"]),
        held_out=options["held_out"],
    )


def added(
    plan: DebatesPlan | None, decisions: Mapping[str, list[Labelled]], filters: Mapping[str, Any]
) -> tuple[list[Labelled], Debated | None]:
    """What is learnt from: the teacher's decisions, and the pairs of debates about tasks that are not held out.

    Raises ``ConfigError`` for debates of another tenant, environment or split, and where no pair is left.
    """
    if plan is None:
        return decisions[LEARN], None
    for debate in plan.read.debates:
        _must_belong(debate, plan.file, filters)
    fractions = {LEARN: 1.0 - plan.held_out, HELD_OUT: plan.held_out}

    def is_held_out(debate: Debate) -> bool:
        return split_of(Task(id=debate.task_id, environment=debate.environment), fractions) == HELD_OUT

    found = contrast(plan.read.debates, pairing=plan.pairing, held_out=decisions[HELD_OUT], is_held_out=is_held_out)
    if not found.decisions:
        raise ConfigError(
            f"None of the {len(plan.read.debates)} debates in {plan.file} tells a right action from a wrong one: "
            f"{_reasons(found.left_out)}. Let speakers debate that err in different places, or about more tasks."
        )
    note(f"{len(found.decisions)} pairs of {found.debates} debates are learnt. Left out: {_reasons(found.left_out)}.")
    return mixed(decisions[LEARN], found.decisions, plan.share), _debated(plan, found)


def told_of(debated: Debated | None) -> dict[str, Any]:
    return {} if debated is None else {"debates": msgspec.to_builtins(debated.told)}


def _debated(plan: DebatesPlan, found: Contrast) -> Debated:
    told = Told(
        debates=found.debates,
        pairs=len(found.decisions),
        share=plan.share,
        pairing=plan.pairing.value,
        left_out={reason.value: count for reason, count in found.left_out.items()},
    )
    return Debated(told, Dataset(name=plan.file.name, sha256=plan.read.sha256, decisions=len(found.decisions)))


def _must_belong(debate: Debate, file: Path, filters: Mapping[str, Any]) -> None:
    for name in ("namespace", "environment", "split"):
        if getattr(debate, name) != filters[name]:
            raise ConfigError(
                f"The debate '{debate.id}' in {file} has the {name} '{getattr(debate, name)}', and what is learnt from "
                f"has '{filters[name]}'. Take debates of that {name} only."
            )


def _reasons(left_out: Mapping[LeftOut, int]) -> str:
    return "; ".join(f"{count} {reason.value}" for reason, count in left_out.items()) or "none"
