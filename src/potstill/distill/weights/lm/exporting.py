"""A tuned student becomes one GGUF file, or a folder for CTranslate2, that answers alike; or nothing is written.

What was written is opened from the disk as it will be to act, must read the same tokens, and passes the parity gate:
the student in PyTorch and the export weigh the same held-out actions after prompts of several lengths. Where episodes
are played, it must do as many tasks. Knows students and files. Does not know formats (``gguf_file``, ``ct2_folder``).
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from potstill.distill.weights import gate, lineage
from potstill.distill.weights.compress.cost import Cost, resident_bytes
from potstill.distill.weights.gate_shapes import Question
from potstill.distill.weights.gate_success import Outcomes, success
from potstill.distill.weights.lm.asking import Sitting, at_lengths, differing_text
from potstill.distill.weights.lm.folder import put_folder
from potstill.distill.weights.lm.gguf_file import QUANTIZATIONS, load_gguf, write_gguf
from potstill.durable import partial_of, sync_folder, telling
from potstill.errors import BadModelFile, ConfigError, one_of
from potstill.models.gguf import SUFFIX
from potstill.models.llama_server import needs_llama_cpp
from potstill.models.lm_texts import LmTexts
from potstill.models.torch_engine import TorchEngine, set_threads
from potstill.models.torch_lm import TorchModel
from potstill.models.tuned import TunedModel, open_tuned, whole_model
from potstill.models.tuned_file import STUDENT, Engine, Tuned, check_files, check_sealed, file_sha256, read_tuned
from potstill.types import Struct

TIE_NATS = 0.01
"""A choice that the student found as likely within a hundredth (.5025 against .4975) is the same: rounding turns such a
pair around."""
FLOOR = gate.Floor(agreement=0.95, kl_nats=0.05, difference=None, tie_nats=TIE_NATS)
"""Of weights in fewer bits against those in 32."""
Play = Callable[[TunedModel], Outcomes]
"""Has a student do the same held-out tasks as any other one."""


class Form(Struct, frozen=True, kw_only=True):
    """What a student is exported to. Raises ``ConfigError`` for bits that the engine does not have."""

    engine: Engine
    quantization: str

    def __post_init__(self) -> None:
        known = {Engine.LLAMA_CPP: tuple(QUANTIZATIONS), Engine.CTRANSLATE2: ("int8", "float32")}
        one_of(f"quantization for {self.engine.value}", self.quantization, known.get(self.engine, ()))


class Exported(Struct, frozen=True, kw_only=True):
    """What was written."""

    path: str
    engine: str
    quantization: str
    size_bytes: int
    student_bytes: int
    """What the student needs as it was tuned: its folder, and its base where it has adapters alone."""
    lineage: str
    """Where its manifest lies."""
    parity: gate.Parity
    trained_cost: Cost
    exported_cost: Cost


def check_form(form: Form, out: Path) -> None:
    """What can be refused before weights are loaded. Raises ``ConfigError``, ``MissingExtra``."""
    if form.engine is Engine.LLAMA_CPP:
        if out.suffix != SUFFIX:
            raise ConfigError(f"{out} must end in {SUFFIX}: that is how it is known later. Type: {out}{SUFFIX}")
        if out.is_dir():
            raise ConfigError(f"{out} is a folder, and GGUF is one file. Name another.")
        load_gguf()
        needs_llama_cpp()
        return
    from potstill.distill.weights.lm.ct2_folder import load_converter

    load_converter()
    if out.exists() and not (out.is_dir() and (out / STUDENT).is_file()):
        raise ConfigError(f"{out} is there already and is no tuned student. Name another folder.")


def export(
    source: Path,
    out: Path,
    form: Form,
    questions: Sequence[Question],
    *,
    floor: gate.Floor = FLOOR,
    threads: int = 1,
    base: str | None = None,
    play: Play | None = None,
    key: Path | None = None,
    created: str = "",
) -> Exported:
    """Write the student of a folder in a form, with its lineage; an export of that name is replaced.

    ``base``: as of ``open_tuned``. Raises ``GateFailed`` (nothing is written), ``ConfigError`` for a student that is
    an export itself, a model that the form does not know or tokens that differ, ``BadModelFile``, ``MissingExtra``,
    ``StoreError``.
    """
    tuned = read_tuned(source)
    check_sealed(source)
    if tuned.engine is not Engine.TORCH:
        raise ConfigError(f"{source} is an export itself. Export the student that it was made from, by its folder.")
    if out.resolve() == source.resolve():
        raise ConfigError(f"{out} is the student itself. Give another name.")
    check_form(form, out)
    if not questions:
        raise ConfigError("There is no held-out decision to compare an export by. Give other data: --data FOLDER")
    set_threads(threads)
    check_files(source, tuned)
    before = resident_bytes()
    model = whole_model(source, tuned, base)
    texts = LmTexts(source, "chat" if tuned.template == "chat" else "plain")
    trained = TunedModel(TorchModel(str(source), texts, TorchEngine(model)), tuned, allow=True)
    sitting = Sitting(trained, tuned, questions[0], before)
    partial = partial_of(out)
    try:
        with telling(out):
            partial.mkdir()
            written = partial / out.name
            _write(written, model, texts, _told(tuned, form, model), form)
        parity, cost = _judged(written, sitting, questions, floor, threads, play)
        size = _size(written)
        beside = _put(written, out, _manifest(source, form, parity, created), key)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        asyncio.run(trained.aclose())
    return Exported(
        path=str(out),
        engine=form.engine.value,
        quantization=form.quantization,
        size_bytes=size,
        student_bytes=_size(source) + (0 if tuned.merged else _weights(model)),
        lineage=str(beside),
        parity=parity,
        trained_cost=sitting.cost(),
        exported_cost=cost,
    )


def _told(tuned: Tuned, form: Form, model: Any) -> Tuned:
    """What the export says of itself: as its student, but for the engine; it needs no base."""
    context_tokens = int(model.config.max_position_embeddings)
    return msgspec.structs.replace(tuned, engine=form.engine, merged=True, context_tokens=context_tokens, files={})


def _write(path: Path, model: Any, texts: LmTexts, told: Tuned, form: Form) -> None:
    if form.engine is Engine.LLAMA_CPP:
        student = msgspec.json.encode(told).decode()
        write_gguf(
            path, model, texts.tokenizer, quantization=form.quantization, template=told.template, student=student
        )
        return
    from potstill.distill.weights.lm.ct2_folder import write_ct2

    write_ct2(path, model, texts.tokenizer, form.quantization)
    files = {found.name: file_sha256(found) for found in sorted(path.iterdir())}
    said = msgspec.structs.replace(told, files=files)
    (path / STUDENT).write_bytes(msgspec.json.format(msgspec.json.encode(said), indent=1) + b"\n")


def _judged(
    written: Path,
    trained: Sitting,
    questions: Sequence[Question],
    floor: gate.Floor,
    threads: int,
    play: Play | None,
) -> tuple[gate.Parity, Cost]:
    """The export as it acts against the student in PyTorch. Raises ``GateFailed``, ``ConfigError``."""
    before = resident_bytes()
    opened = open_tuned(written, threads=threads, allow_demonstrations=True)
    try:
        exported = Sitting(opened, trained.tuned, questions[0], before)
        text = differing_text(trained.student, opened, trained.tuned, questions)
        if text is not None:
            raise BadModelFile(f"The export reads other tokens than the student: {text[:200]!r}. Nothing was written.")
        parity = gate.compare(trained.side(), exported.side(), questions, floor=floor, batches=(1,), shapes=at_lengths)
        if parity.passed and play is not None:
            outcomes = success(play(trained.student), play(opened), margin=floor.success_margin)
            parity = msgspec.structs.replace(parity, success=outcomes)
        if not parity.passed:
            raise gate.GateFailed(parity)
        return parity, exported.cost()
    finally:
        asyncio.run(opened.aclose())


def _manifest(source: Path, form: Form, parity: gate.Parity, created: str) -> lineage.Manifest:
    return msgspec.structs.replace(
        lineage.read(source).manifest,
        created=created,
        kind=f"tuned-lm-{form.engine.value}",
        configuration={"export": form.engine.value, "quantization": form.quantization},
        metrics={"parity": parity.summary()},
        parents=(lineage.parent(source),),
        signer="",
        file_sha256="",
    )


def _put(written: Path, out: Path, manifest: lineage.Manifest, key: Path | None) -> Path:
    """Give it its name, durably, its lineage with it."""
    if written.is_dir():
        lineage.write_beside(written / STUDENT, manifest, key)
        put_folder(written, out)
        return lineage.beside(out / STUDENT)
    with telling(out):
        with written.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(written, out)
        sync_folder(out.parent)
    return lineage.write_beside(out, manifest, key)


def _weights(model: Any) -> int:
    """Bytes of a base's weights."""
    return sum(value.numel() * value.element_size() for value in model.parameters())


def _size(path: Path) -> int:
    return sum(one.stat().st_size for one in path.iterdir()) if path.is_dir() else path.stat().st_size
