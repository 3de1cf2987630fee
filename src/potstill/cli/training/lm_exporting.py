"""Exports a tuned language model: its held-out decisions found, its tasks played, the result through the gate.

What it knows: where the parts lie. What it does not do: parse or print (``export_lm``), judge (``distill.weights``).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from potstill.cli.policy_data import PolicyData, needed
from potstill.cli.training.held_out_play import player_for
from potstill.cli.training.plan import key_of, named_as, place_of, playing_of
from potstill.distill.weights import gate
from potstill.distill.weights.gate_shapes import questions_of
from potstill.distill.weights.lineage import created
from potstill.errors import ConfigError, MissingExtra
from potstill.models.tuned_file import Engine, Tuned, read_tuned

if TYPE_CHECKING:
    from potstill.distill.weights.lm.exporting import Exported, Form

DEFAULTS = {Engine.LLAMA_CPP: "q8_0", Engine.CTRANSLATE2: "int8"}
PACKAGES = ("torch", "transformers", "peft", "gguf")


class LmExportPlan(NamedTuple):
    folder: Path
    out: Path
    form: Form
    tuned: Tuned
    data: PolicyData
    floor: gate.Floor
    questions: int
    threads: int
    base: str | None
    key: Path | None
    play: int
    playing: dict[str, Any]

    @property
    def environment(self) -> str:
        return self.tuned.environment


def planned(folder: Path, options: dict[str, Any]) -> LmExportPlan:
    """Everything that can be refused before weights are loaded. Raises ``ConfigError``, ``MissingExtra``."""
    if any(importlib.util.find_spec(package) is None for package in PACKAGES):
        raise MissingExtra("Exporting a tuned language model", "lm")
    from potstill.distill.weights.lm.exporting import FLOOR, Form, check_form

    engines = {Engine.LLAMA_CPP: options["gguf"], Engine.CTRANSLATE2: options["ctranslate2"]}
    named = [(engine, out) for engine, out in engines.items() if out is not None]
    if len(named) != 1:
        said = "both --gguf and --ctranslate2 are" if named else "nothing is"
        raise ConfigError(f"One thing is written at a time, and {said} named. Type for example: --gguf student.gguf")
    engine, out = named[0]
    form = Form(engine=engine, quantization=options["quantize"] or DEFAULTS[engine])
    if engine is Engine.CTRANSLATE2:
        named_as(out, "", "--ctranslate2")
    check_form(form, place_of(out, "--gguf student.gguf"))
    return LmExportPlan(
        folder=folder,
        out=out,
        form=form,
        tuned=read_tuned(folder),
        data=needed(folder, options["data"], "an export"),
        floor=msgspec.structs.replace(
            FLOOR,
            agreement=options["least_agreement"],
            kl_nats=options["most_kl"],
            success_margin=options["margin"],
        ),
        questions=options["questions"],
        threads=options["threads"],
        base=options["base"],
        key=key_of(options["key"]),
        play=options["play"],
        playing=playing_of(options),
    )


def make(plan: LmExportPlan) -> Exported:
    """Write what passes. Raises as ``exporting.export`` does."""
    from potstill.distill.weights.lm.exporting import export

    with contextlib.ExitStack() as stack:
        player = player_for(plan.tuned, plan.data, plan.play, 0, plan.playing) if plan.play else None
        return export(
            plan.folder,
            plan.out,
            plan.form,
            questions_of(plan.data.held_out, plan.questions),
            floor=plan.floor,
            threads=plan.threads,
            base=plan.base,
            play=None if player is None else stack.enter_context(player).outcomes_by,
            key=plan.key,
            created=created(os.environ),
        )
