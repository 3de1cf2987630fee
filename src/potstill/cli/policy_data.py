"""Where the data lie that a policy was made from: folders that their hashes name, beside the policy. Reads, checks."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from potstill.distill.weights.data import Labelled, digest_of, read, read_manifest
from potstill.distill.weights.lineage import read as read_lineage
from potstill.errors import ConfigError

LEARN, HELD_OUT = "train", "valid"


class PolicyData(NamedTuple):
    """Decisions as a training split them."""

    folder: Path
    sha256: str
    learn: list[Labelled]
    held_out: list[Labelled]


def found(policy: Path, folder: Path | None = None) -> PolicyData | None:
    """The data that the policy's lineage names: in ``folder``, else in a ``*.training`` folder beside it; None where
    they are not there. Raises ``ConfigError`` for a folder with other data than the policy was made from.
    """
    wanted = {dataset.sha256 for dataset in read_lineage(policy).manifest.datasets}
    if folder is None:
        beside = [path for sha in sorted(wanted) for path in sorted(policy.parent.glob(f"*.training/data-{sha[:12]}"))]
        return _read(beside[0], wanted) if beside else None
    return _read(folder, wanted)


def needed(policy: Path, folder: Path | None, purpose: str) -> PolicyData:
    """As ``found``. Raises ``ConfigError`` where there are none."""
    data = found(policy, folder)
    if data is None:
        raise ConfigError(
            f"The decisions that {policy.name} was made from are not beside it, and {purpose} needs them. Type: "
            f"--data FOLDER (potstill distill weights keeps it as {policy.name}.training/data-...)"
        )
    return data


def _read(folder: Path, wanted: set[str]) -> PolicyData:
    sha256 = digest_of(read_manifest(folder))
    if sha256 not in wanted:
        told = ", ".join(sorted(one[:12] for one in wanted)) or "no data"
        raise ConfigError(f"{folder} holds the data {sha256[:12]}, and the policy's lineage names {told}.")
    return PolicyData(folder, sha256, list(read(folder, LEARN)), list(read(folder, HELD_OUT)))
