"""Writes a policy as one file, whole or not at all: its arrays, its configuration and where it comes from.

Equal contents are equal bytes. Nothing takes its name before it was read back from the disk by the runtime that will
run it, and approved. Knows files. Does not know PyTorch, nor what a good policy is (``gate``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from potstill.distill.weights.lineage import Manifest, sealed
from potstill.durable import partial_of, sync_folder, telling
from potstill.edge import seal, tensors
from potstill.edge.policy import Policy, network, open_policy
from potstill.errors import ConfigError
from potstill.types import Struct

Approval = Callable[[Policy], Mapping[str, Any]]
"""Looks at what was read back; raises to refuse it, or returns metrics for the manifest."""


class Artefact(Struct, frozen=True, kw_only=True):
    """A policy that was written."""

    path: str
    size_bytes: int
    manifest: Manifest
    manifest_sha256: str


def write(
    path: Path,
    arrays: Mapping[str, tensors.Array],
    config: Mapping[str, Any],
    manifest: Manifest,
    *,
    key: Path | None = None,
    approve: Approval | None = None,
) -> Artefact:
    """Write a policy over whatever has this name.

    ``key``: an Ed25519 key that signs the manifest. Raises ``ConfigError`` where arrays and configuration are no
    policy, ``StoreError`` where the file cannot be written, and what ``approve`` raises; then the old file is intact.
    """
    arrays = {name: _stored(np.asarray(array)) for name, array in arrays.items()}
    try:
        network(arrays, config)
    except tensors.BadFile as error:
        raise ConfigError(f"These arrays and this configuration are no policy. {error}") from None
    partial = partial_of(path)
    try:
        manifest, data = _contents(arrays, config, manifest, key)
        policy = _saved(partial, data)
        if approve is not None:
            metrics = {**manifest.metrics, **approve(policy)}
            manifest, data = _contents(arrays, config, msgspec.structs.replace(manifest, metrics=metrics), key)
            _saved(partial, data)
        with telling(path):
            os.replace(partial, path)
            sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)
    texts = tensors.from_bytes(data)[1]
    return Artefact(path=str(path), size_bytes=len(data), manifest=manifest, manifest_sha256=texts[seal.SEAL])


def _contents(
    arrays: Mapping[str, tensors.Array], config: Mapping[str, Any], manifest: Manifest, key: Path | None
) -> tuple[Manifest, bytes]:
    try:
        said = seal.canonical(dict(config))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"The configuration cannot be written as JSON: {error}.") from None
    manifest = msgspec.structs.replace(
        manifest,
        kind=str(config["kind"]),
        arrays_sha256=seal.arrays_sha256(arrays),
        config_sha256=seal.text_sha256(said),
    )
    return manifest, tensors.to_bytes(arrays, {seal.CONFIG: said, **sealed(manifest, key)})


def _stored(array: tensors.Array) -> tensors.Array:
    """Double precision is written as single: what the runtime computes in."""
    return array.astype(np.float32) if array.dtype == np.float64 else array


def _saved(path: Path, data: bytes) -> Policy:
    """Write and flush to the disk, then read back what is there."""
    with telling(path):
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return open_policy(path)
