"""Makes a tuned language model smaller: its folder and data found, the stages run with progress, the result written.

What it knows: where things lie. What it does not do: parse or print (``compress``), judge (``distill.weights``).
"""

from __future__ import annotations

import contextlib
import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from potstill.cli.policy_data import PolicyData, needed
from potstill.cli.training.compressing import Made, lineage_of, recipe_of, told
from potstill.cli.training.held_out_play import player_for
from potstill.cli.training.lm import PACKAGES
from potstill.cli.training.plan import key_of, named_as, place_of, playing_of
from potstill.distill.weights.compress.recipe import Compression
from potstill.errors import ConfigError, MissingExtra
from potstill.models.tuned_file import Tuned, read_tuned


class LmCompressPlan(NamedTuple):
    folder: Path
    out: Path
    tuned: Tuned
    data: PolicyData
    recipe: Compression
    base: str | None
    key: Path | None
    play: int
    playing: dict[str, Any]


def planned(options: dict[str, Any]) -> LmCompressPlan:
    """Everything that can be refused before weights are loaded. Raises ``ConfigError``, ``MissingExtra``."""
    if any(importlib.util.find_spec(package) is None for package in PACKAGES):
        raise MissingExtra("Compressing a tuned language model", "lm")
    from potstill.distill.weights.lm.compressing import check_recipe, check_student
    from potstill.distill.weights.lm.folder import refuse_used

    folder, out = options["file"], named_as(place_of(options["out"], "--out small-lm"), "")
    if not any(options[name] for name in ("prune", "width", "sparse", "int8", "int4")):
        raise ConfigError("Nothing says how the student is made smaller. Type for example: --prune 0.34")
    recipe, tuned = recipe_of(options), read_tuned(folder)
    check_recipe(recipe)
    check_student(folder, tuned)
    if out.resolve() == folder.resolve():
        raise ConfigError(f"{out} is the student itself, which is the smaller one's parent. Give another name.")
    refuse_used(out)
    data = needed(folder, options["data"], "compressing")
    key, playing = key_of(options["key"]), playing_of(options)
    return LmCompressPlan(folder, out, tuned, data, recipe, options["base"], key, options["play"], playing)


def make(plan: LmCompressPlan) -> Made:
    """Run the stages and write what passed. Raises ``NothingSmaller``, ``GateFailed``, ``Diverged``, ``StoreError``."""
    from potstill.distill.weights.compress.stages import NothingSmaller
    from potstill.distill.weights.lm.compressing import compress, subject_of, write

    recipe = plan.recipe
    subject = subject_of(plan.folder, plan.data.learn, plan.data.held_out, threads=recipe.threads, base=plan.base)
    with contextlib.ExitStack() as stack:
        player = player_for(plan.tuned, plan.data, plan.play, recipe.seed, plan.playing) if plan.play else None
        play = None if player is None else stack.enter_context(player).outcomes_by
        done = compress(subject, recipe, play=play, told=told)
    if not done.smaller:
        raise NothingSmaller(done.rows, recipe)
    manifest = lineage_of(plan.folder, "lm", recipe, done.rows)
    written, parity = write(subject, done.state, plan.out, manifest, key=plan.key)
    parent_bytes = done.rows[0].size_bytes
    return Made(
        file=written.path,
        size_bytes=written.size_bytes,
        parent_bytes=parent_bytes,
        share=written.size_bytes / parent_bytes,
        stages=[msgspec.to_builtins(row) for row in done.rows],
        manifest_sha256=written.manifest_sha256,
        parity=dict(parity),
        success=done.success,
    )
