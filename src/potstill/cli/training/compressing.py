"""Makes a policy smaller: its file and data found, the stages run with progress, the result through the gate to a file.

What it knows: where things lie. What it does not do: parse or print (``compress``), judge (``distill.weights``).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from potstill.cli.edge import opened
from potstill.cli.output import note
from potstill.cli.policy_data import PolicyData, needed
from potstill.cli.training.held_out_play import player_on
from potstill.cli.training.plan import file_of, key_of, place_of
from potstill.cli.training.several import playing_in
from potstill.distill.weights import gate
from potstill.distill.weights.compress.axes import axes_of
from potstill.distill.weights.compress.quantize import multiplied_out
from potstill.distill.weights.compress.recipe import Compression
from potstill.distill.weights.data.environments import environments_in
from potstill.distill.weights.lineage import Manifest, created, in_full, parent
from potstill.distill.weights.lineage import read as read_lineage
from potstill.edge.policy import Policy
from potstill.errors import ConfigError, MissingExtra, one_of

if TYPE_CHECKING:
    from potstill.distill.weights.compress.chain import State
    from potstill.distill.weights.compress.stages import Compressed, Row
    from potstill.distill.weights.compress.subject import Subject
    from potstill.distill.weights.gate_success import Success

MEASURED = ("decision_ms", "memory_bytes")
"""Columns that differ from run to run: shown, and kept out of the lineage."""


class CompressPlan(NamedTuple):
    file: Path
    out: Path
    policy: Policy
    data: PolicyData
    recipe: Compression
    key: Path | None
    play: int
    playing: dict[str, Any]


class Made(NamedTuple):
    """What was written."""

    file: str
    size_bytes: int
    parent_bytes: int
    share: float
    """Of the parent's bytes."""
    stages: list[dict[str, Any]]
    manifest_sha256: str
    parity: dict[str, Any]
    success: Success | None
    """Of what was written against its parent, in the episodes that both played."""


def planned(options: dict[str, Any]) -> CompressPlan:
    """Everything that can be refused before something is trained. Raises ``ConfigError``, ``MissingExtra``."""
    if importlib.util.find_spec("torch") is None:
        raise MissingExtra("Compressing a policy", "weights")
    recipe, file, out = recipe_of(options), options["file"], file_of(place_of(options["out"], "--out small.policy"))
    key = key_of(options["key"])
    if out.resolve() == file.resolve():
        raise ConfigError(f"{out} is the policy itself, which is the smaller one's parent. Give another name.")
    if options["base"]:
        raise ConfigError(f"--base is for tuned language models, and {file} is no folder of one. Leave it away.")
    policy = opened(file)
    for axis in recipe.axes:
        one_of("axis", axis, axes_of(policy.config))
    data = needed(file, options["data"], "compressing")
    played = options if options["play"] else {**options, "directory": None}
    playing = playing_in(environments_in(data.held_out), played)
    return CompressPlan(file, out, policy, data, recipe, key, options["play"], playing)


def recipe_of(options: dict[str, Any]) -> Compression:
    """Raises ``ConfigError`` for values that mean nothing."""
    floor = msgspec.structs.replace(
        gate.COMPRESSED,
        agreement=options["least_agreement"],
        kl_nats=options["most_kl"],
        success_margin=options["margin"],
    )
    given = {name: options[name] for name in Compression.__struct_fields__ if name in options}
    bits = [width for width, wanted in ((8, options["int8"]), (4, options["int4"])) if wanted]
    return Compression(**given, bits=tuple(bits), floor=floor)


def make(plan: CompressPlan) -> Made:
    """Run the stages and write what passed. Raises ``NothingSmaller``, ``GateFailed``, ``Diverged``, ``StoreError``."""
    from potstill.distill.weights.compress.chain import compress
    from potstill.distill.weights.compress.stages import NothingSmaller
    from potstill.distill.weights.compress.subject import subject_of

    subject = subject_of(plan.policy, plan.data.learn, plan.data.held_out)
    with contextlib.ExitStack() as stack:
        player = player_on(plan.data, plan.play, plan.recipe.seed, plan.playing) if plan.play else None
        play = None if player is None else stack.enter_context(player).outcomes
        done = compress(subject, plan.recipe, play=play, told=told)
    if not done.smaller:
        raise NothingSmaller(done.rows, plan.recipe)
    return _written(plan, subject, done)


def _written(plan: CompressPlan, subject: Subject, done: Compressed[State]) -> Made:
    """Through the exact gate: what is on the disk against the network that passed, in PyTorch."""
    state = done.state
    network = subject.network(multiplied_out(state.written), state.config)
    artefact, parity = gate.export(
        plan.out,
        state.written,
        state.config,
        lineage_of(plan.file, plan.policy.kind, plan.recipe, done.rows),
        trained=subject.side(network),
        questions=subject.questions,
        key=plan.key,
    )
    parent_bytes = plan.file.stat().st_size
    return Made(
        file=str(plan.out),
        size_bytes=artefact.size_bytes,
        parent_bytes=parent_bytes,
        share=artefact.size_bytes / parent_bytes,
        stages=[msgspec.to_builtins(row) for row in done.rows],
        manifest_sha256=artefact.manifest_sha256,
        parity=parity.summary(),
        success=done.success,
    )


def lineage_of(given: Path, kind: str, recipe: Compression, rows: tuple[Row, ...]) -> Manifest:
    """Of what was made of the student ``given``, which has taught and stays."""
    past = read_lineage(given).manifest
    stages = [{k: v for k, v in msgspec.to_builtins(row).items() if k not in MEASURED} for row in rows]
    return Manifest(
        created=created(os.environ),
        teachers=past.teachers,
        datasets=past.datasets,
        configuration={"student": kind, "compression": in_full(recipe)},
        metrics={"stages": stages},
        parents=(parent(given),),
    )


def told(row: Row) -> None:
    """Say what a stage came to."""
    from potstill.distill.weights.compress.stages import Verdict

    success = "" if row.success is None else f", success {row.success:.1%}"
    note(f"{row.stage}: {row.verdict.value}, {row.size_bytes} bytes, agreement {row.agreement:.3f}{success}")
    if row.verdict is Verdict.GIVEN and row.success == 0:
        note(
            "The student did none of the held-out tasks that were played, so they prove nothing of a smaller one: its "
            "stages are judged by held-out decisions alone. Play more, or longer: --play, --max-steps"
        )
