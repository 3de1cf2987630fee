"""What an engine trained becomes a student's folder: the adapters are loaded, compared with the engine's own answers,
judged on held-out decisions and written as those of potstill's own loop are."""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from potstill.cli.training.data import lineage_of
from potstill.cli.training.engine_data import Handed
from potstill.cli.training.engine_plan import EnginePlan
from potstill.cli.training.reasoned import reasoned_by
from potstill.distill.weights import gate
from potstill.distill.weights.data import digest_of
from potstill.distill.weights.engines import trl_script
from potstill.distill.weights.gate_shapes import as_recorded
from potstill.distill.weights.lineage import Manifest, Teacher, in_full
from potstill.distill.weights.lm import folder, student
from potstill.distill.weights.rationales.learning import datasets_of
from potstill.distill.weights.train.loop import agreement_of
from potstill.errors import BadModelFile
from potstill.models.torch_engine import set_threads
from potstill.models.tuned import load_peft, open_tuned
from potstill.models.tuned_file import weights_sha256

ROUNDED = gate.Floor(agreement=0.9, kl_nats=0.02, difference=None)
"""Of weights that the engine trained in 16 bits, against the same in 32."""


class Made(NamedTuple):
    """What was trained and written."""

    folder: str
    base: str
    method: str
    size_bytes: int
    rows: int
    held_out: int
    steps: int
    loss: float
    agreement_before: float
    """Of the base with the same prompts, on the held-out decisions."""
    agreement: float
    cpu_s: float
    device: str
    versions: dict[str, str]
    data: str
    manifest_sha256: str
    parity: dict[str, Any]


def write(plan: EnginePlan, handed: Handed) -> Made:
    """Raises ``BadModelFile`` for adapters that do not fit, ``GateFailed``, ``StoreError``."""
    trained = plan.lm.folder / trl_script.TRAINED
    report = json.loads((trained / trl_script.REPORT).read_bytes())
    set_threads(plan.budget.threads)
    prepared = student.prepare(handed.base, handed.read.learn, handed.read.held_out, plan.lm.recipe)
    before = agreement_of(prepared.network, prepared.held_out)
    _load(prepared, trained)
    questions = student.questions_of(handed.read.held_out)
    as_trained = _engine_parity(prepared, questions, report)
    agreement = agreement_of(prepared.network, prepared.held_out)
    tables: list[dict[str, Any]] = []

    def approve(partial: Path) -> dict[str, Any]:
        model = open_tuned(partial, threads=plan.budget.threads)
        tables.append(student.parity(student.trained_side(prepared), model, questions).summary())
        asyncio.run(model.aclose())
        return {"parity": tables[0], "parity_with_engine": as_trained}

    metrics = {
        "agreement": agreement,
        "agreement_before": before,
        "steps": report["steps"],
        "loss": report["loss"],
        "device": report["device"],
        "processes": report["processes"],
        "dtype": report["dtype"],
        **handed.read.told,
    }
    sha256 = {"base_sha256": prepared.base_sha256}
    if handed.job.teacher is not None:
        sha256["teacher_sha256"] = weights_sha256(Path(handed.job.teacher))
    written = folder.write(
        plan.lm.out,
        prepared,
        plan.lm.recipe,
        _lineage(plan, handed, metrics, sha256),
        reasoned_by=reasoned_by(plan.lm.recipe.reasons, handed.read.reasoned, len(handed.read.learn)),
        environment=plan.lm.environment,
        instructions=handed.read.instructions,
        approve=approve,
        merged=plan.lm.merged,
        key=plan.lm.key,
    )
    return Made(
        folder=str(plan.lm.out),
        base=plan.lm.recipe.base,
        method=f"trl-{plan.method.value}",
        size_bytes=written.size_bytes,
        rows=len(handed.rows),
        held_out=len(handed.read.held_out),
        steps=report["steps"],
        loss=report["loss"],
        agreement_before=before,
        agreement=agreement,
        cpu_s=report["cpu_s"],
        device=report["device"],
        versions=report["versions"],
        data=digest_of(handed.read.data),
        manifest_sha256=written.manifest_sha256,
        parity=tables[0],
    )


def _load(prepared: student.Prepared, trained: Path) -> None:
    """The engine's adapters in the place of the fresh ones. Raises ``BadModelFile`` where one is not of this base."""
    peft = load_peft()
    tensors = importlib.import_module("safetensors.torch").load_file(str(trained / "adapter_model.safetensors"))
    try:
        found = peft.set_peft_model_state_dict(prepared.network.peft, tensors)
    except RuntimeError as error:
        raise BadModelFile(f"The adapters in {trained} do not fit the base: {str(error).splitlines()[0]}") from None
    lacking = [name for name in found.missing_keys if "lora_" in name]
    strange = [*found.unexpected_keys, *lacking]
    if strange:
        raise BadModelFile(f"The adapters in {trained} do not fit the base: {strange[0]} is in one of both alone.")


def _engine_parity(prepared: student.Prepared, questions: Sequence[Any], report: dict[str, Any]) -> dict[str, Any]:
    """What the engine's network answered after its last step, against the same adapters here.

    Empty where the engine could not be asked (weights in shards). Raises ``GateFailed``.
    """
    if report["asked"] is None:
        return {}
    answers = {id(question): scores for question, scores in zip(questions, report["asked"], strict=True)}
    found = gate.compare(
        lambda some: [answers[id(question)] for question in some],
        student.trained_side(prepared),
        questions,
        floor=student.FLOOR if report["dtype"] == "float32" else ROUNDED,
        batches=(1,),
        shapes=as_recorded,
    )
    if not found.passed:
        raise gate.GateFailed(found)
    return found.summary()


def _lineage(plan: EnginePlan, handed: Handed, metrics: dict[str, Any], sha256: dict[str, str]) -> Manifest:
    """The manifest. ``sha256``: of the base's weights and, if there is one, the teacher's."""
    configuration = {
        "student": "lm",
        "engine": "trl",
        "versions": plan.versions,
        "launch": list(plan.launch),
        **sha256,
        **in_full(handed.job),
        "recipe": in_full(plan.lm.recipe),
    }
    for place in ("model", "teacher"):  # paths of this machine; the names are in the recipe
        configuration.pop(place)
    read = handed.read
    found = lineage_of(plan.lm.environment, read.data, configuration, metrics, datasets_of(read.reasoned))
    if plan.teacher is None:
        return found
    return msgspec.structs.replace(found, teachers=(Teacher(model=plan.teacher, decisions=len(handed.rows)),))
