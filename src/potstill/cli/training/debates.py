"""Debates for a training: those of a file as pairs beside the teacher's decisions, and new ones held by policies.

What it knows: files, the store, how a held-out task is told. What it does not do: parse or print (``distill_debates``,
``distill_weights``), which pairs there are (``distill.weights.debates``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from potstill.cli.output import note
from potstill.cli.training.data import HELD_OUT, LEARN
from potstill.distill.weights.data.labelled import Labelled
from potstill.distill.weights.debates.contrast import Contrast, LeftOut, contrast, mixed, weighing
from potstill.distill.weights.debates.graph import Debate, Pairing
from potstill.distill.weights.debates.lines import Read, read_debates
from potstill.distill.weights.lineage import Dataset
from potstill.durable import replacing
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

    sha256: str
    """Of their file."""
    debates: int
    """That gave a pair."""
    pairs: int
    share: float
    pairing: str
    left_out: dict[str, int]


class Debated(NamedTuple):
    told: Told
    dataset: Dataset
    """The pairs, by the hash of ``lines``."""
    lines: bytes
    """What is kept beside the data, for a retraining to replay: each pair with its weight."""


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
    learn = mixed(decisions[LEARN], found.decisions, plan.share)
    return learn, _debated(plan, found, sum(one.weight for one in decisions[LEARN]))


def keep(debated: Debated | None, folder: Path) -> None:
    """Put the pairs beside the data that they were learnt with. Raises ``StoreError``."""
    if debated is not None:
        with replacing(folder / _name(debated.dataset)) as file:
            file.write(debated.lines)


def kept(dataset: Dataset, folders: Sequence[Path]) -> list[Labelled] | None:
    """The pairs that a lineage names; None where it names no pairs that are in these folders.

    Raises ``ConfigError`` for pairs that were changed.
    """
    for folder in folders:
        file = folder / _name(dataset)
        if not file.is_file():
            continue
        lines = file.read_bytes()
        if hashlib.sha256(lines).hexdigest() != dataset.sha256:
            raise ConfigError(f"{file} was changed after it was learnt from. Put the file of the training back.")
        return [msgspec.json.decode(line, type=Labelled) for line in lines.splitlines()]
    return None


def _name(dataset: Dataset) -> str:
    return f"pairs-{dataset.sha256[:12]}.jsonl"


def told_of(debated: Debated | None) -> dict[str, Any]:
    return {} if debated is None else {"debates": msgspec.to_builtins(debated.told)}


def _debated(plan: DebatesPlan, found: Contrast, total: float) -> Debated:
    """``total``: the weight of the teacher's decisions as they are kept, to which that of the kept pairs is told."""
    pairs = weighing(found.decisions, total * plan.share / (1 - plan.share))
    told = Told(
        sha256=plan.read.sha256,
        debates=found.debates,
        pairs=len(pairs),
        share=plan.share,
        pairing=plan.pairing.value,
        left_out={reason.value: count for reason, count in found.left_out.items()},
    )
    lines = b"".join(msgspec.json.encode(pair) + b"\n" for pair in pairs)
    sha256 = hashlib.sha256(lines).hexdigest()
    return Debated(told, Dataset(name=plan.file.name, sha256=sha256, decisions=len(pairs)), lines)


def _must_belong(debate: Debate, file: Path, filters: Mapping[str, Any]) -> None:
    for name in ("namespace", "environment", "split"):
        if getattr(debate, name) != filters[name]:
            raise ConfigError(
                f"The debate '{debate.id}' in {file} has the {name} '{getattr(debate, name)}', and what is learnt from "
                f"has '{filters[name]}'. Take debates of that {name} only."
            )


def _reasons(left_out: Mapping[LeftOut, int]) -> str:
    return "; ".join(f"{count} {reason.value}" for reason, count in left_out.items()) or "none"
