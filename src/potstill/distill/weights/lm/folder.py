"""Writes a tuned student as a folder, whole or not at all: weights, tokenizer, and what it learnt with.

Nothing takes its name before it was loaded from the disk as it will be to act, and approved. The lineage lies beside
``student.json``, which holds the hash of every other file. Knows files. Does not know what a good student is.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from potstill.distill.weights import lineage
from potstill.distill.weights.lm.network import LmNetwork
from potstill.distill.weights.lm.recipe import LmRecipe
from potstill.distill.weights.lm.student import Prepared
from potstill.durable import partial_of, sync_folder, telling
from potstill.errors import ConfigError
from potstill.models.torch_engine import load_model
from potstill.models.tuned import with_adapter
from potstill.models.tuned_file import STUDENT, Base, Tuned, file_sha256
from potstill.types import Struct

KIND = "tuned-lm"
Approval = Callable[[Path], Mapping[str, Any]]
"""Looks at a folder as it was written; raises to refuse it, or returns metrics for the manifest."""


class Written(Struct, frozen=True, kw_only=True):
    """A student that was written."""

    path: str
    size_bytes: int
    tuned: Tuned
    manifest_sha256: str


def refuse_used(path: Path) -> None:
    """Raises ``ConfigError`` for a name that is taken by something else than a student."""
    if path.exists() and not (path / STUDENT).is_file():
        raise ConfigError(f"{path} is there already and is no tuned student. Name another folder: --out student-lm")


def write(
    path: Path,
    prepared: Prepared,
    recipe: LmRecipe,
    manifest: lineage.Manifest,
    *,
    environment: str,
    instructions: str,
    approve: Approval,
    merged: bool = False,
    reasoned_by: Mapping[str, int] | None = None,
    key: Path | None = None,
) -> Written:
    """Write what was trained. ``merged``: whole weights, which need no base; ``reasoned_by``: see ``Tuned``.

    Raises as ``write_student``.
    """

    def save(partial: Path) -> None:
        _weights(partial, prepared.network, prepared.base if merged else None)
        prepared.texts.tokenizer.save_pretrained(str(partial))

    tuned = Tuned(
        base=Base(name=recipe.base, sha256=prepared.base_sha256),
        merged=merged,
        template=prepared.texts.template,
        environment=environment,
        instructions=instructions,
        voice=recipe.voice,
        demonstrations=recipe.demonstrations,
        reasoned_by=dict(reasoned_by or {}),
        files={},
    )
    return write_student(path, tuned, save, manifest, approve=approve, key=key)


def write_student(
    path: Path,
    tuned: Tuned,
    save: Callable[[Path], None],
    manifest: lineage.Manifest,
    *,
    approve: Approval,
    key: Path | None = None,
) -> Written:
    """Write a student in the place of whatever student has this name. ``tuned``: what it says of itself, but for its
    files; ``save`` puts weights and tokenizer into a folder.

    Raises ``ConfigError`` for another thing of this name, ``StoreError`` where the disk fails, and what ``approve``
    raises; then the old folder is intact.
    """
    refuse_used(path)
    partial = partial_of(path)
    try:
        with telling(path):
            partial.mkdir()
            save(partial)
            files = {found.name: file_sha256(found) for found in sorted(partial.iterdir())}
            tuned = msgspec.structs.replace(tuned, files=files)
            (partial / STUDENT).write_bytes(msgspec.json.format(msgspec.json.encode(tuned), indent=1) + b"\n")
            metrics = {**manifest.metrics, **approve(partial)}
            told = msgspec.structs.replace(manifest, kind=KIND, metrics=metrics)
            lineage.write_beside(partial / STUDENT, told, key)
            sha256 = lineage.read(partial / STUDENT).sha256
            size = sum(found.stat().st_size for found in partial.iterdir())
            put_folder(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Written(path=str(path), size_bytes=size, tuned=tuned, manifest_sha256=sha256)


def _weights(folder: Path, network: LmNetwork, base: Path | None) -> None:
    network.save(folder)
    if base is not None:
        whole = with_adapter(load_model(base), folder)
        for left in folder.iterdir():
            left.unlink()
        whole.save_pretrained(str(folder))


def put_folder(partial: Path, path: Path) -> None:
    """Durable first, then named. A kill between the two renames leaves the old folder whole, as ``.NAME.before``."""
    for found in partial.iterdir():
        with found.open("rb") as file:
            os.fsync(file.fileno())
    before = path.with_name(f".{path.name}.before")
    shutil.rmtree(before, ignore_errors=True)
    if path.exists():
        path.rename(before)
    partial.rename(path)
    sync_folder(path.parent)
    shutil.rmtree(before, ignore_errors=True)
