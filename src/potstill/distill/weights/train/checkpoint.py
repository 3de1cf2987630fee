"""What a killed run goes on from: one file that is always whole, and that says which run it belongs to.

It holds weights, the optimizer's moments, the generator of random numbers, the position and the best weights so far.
Written beside and renamed, after an fsync: a kill leaves the earlier one. Read without running any code in it.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from potstill.distill.weights.policies.pytorch import load_torch
from potstill.errors import ConfigError

FORMAT = 1


def write_checkpoint(path: Path, identity: Mapping[str, str], state: Mapping[str, Any]) -> None:
    """Replace the file as a whole. ``identity``: everything that must be equal in the run that goes on from it."""
    content = {"format": FORMAT, "identity": dict(identity), **state}
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            load_torch().save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
    _sync_folder(path.parent)


def read_checkpoint(path: Path, identity: Mapping[str, str]) -> dict[str, Any]:
    """What ``write_checkpoint`` wrote. Raises ``ConfigError`` for another run's, or something that is no checkpoint."""
    try:
        content = load_torch().load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ConfigError(f"There is no checkpoint {path} to resume. Leave --resume away to begin anew.") from None
    except Exception as error:
        raise ConfigError(
            f"{path} is not a checkpoint that can be read ({type(error).__name__}). Remove it to begin anew."
        ) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ConfigError(f"{path} is no checkpoint of this version (format {FORMAT}). Remove it to begin anew.")
    _must_be_equal(path, content["identity"], identity)
    return content


def _must_be_equal(path: Path, written: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    for name in sorted({*written, *wanted}):
        if written.get(name) != wanted.get(name):
            raise ConfigError(
                f"The checkpoint {path} belongs to another training: its {name} is {_short(written.get(name))}, this "
                f"one's is {_short(wanted.get(name))}. Give the same options and data, or remove it to begin anew."
            )


def _short(value: str | None) -> str:
    text = "absent" if value is None else value
    return text if len(text) <= 40 else f"{text[:12]}..."


def _sync_folder(folder: Path) -> None:
    """Make the new name durable where the system has folders that can be synchronised."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
