"""Where the data lie that a policy was made from: folders that their hashes name, beside the policy. Reads, checks."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from potstill.distill.weights.data import Labelled, digest_of, read, read_manifest
from potstill.distill.weights.data.decisions import labelled
from potstill.distill.weights.data.environments import names_of
from potstill.distill.weights.data.labelled import decision_key, state_key
from potstill.distill.weights.lineage import read as read_lineage
from potstill.errors import ConfigError
from potstill.types import Trajectory

LEARN, HELD_OUT = "train", "valid"
POLICY = "policy:"


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


class Known(NamedTuple):
    """What a policy learnt from or was chosen by, those decisions included that its training held out."""

    tasks: set[tuple[str, str]]
    """Environment and id."""
    decisions: dict[int | None, set[bytes]]
    """Their keys, by how many past turns they keep: of equal decisions of several tasks the data name one task."""
    missing: list[str]
    """Data that are not beside the policy, by the beginnings of their names."""

    def has(self, episode: Trajectory) -> bool:
        """Whether the policy was trained on the episode's task, or each of its decisions stands in the data."""
        return (episode.task.environment, episode.task.id) in self.tasks or any(
            own <= keys for past, keys in self.decisions.items() if (own := _keys(labelled([episode], past=past)))
        )


def known_to(policy: Path, named: str | None = None) -> Known:
    """By the data that the lineage of a policy or a tuned student names, or by those of this name alone.

    Raises as ``found`` does for data that were changed.
    """
    known = Known(set(), {}, [])
    for dataset in read_lineage(policy).manifest.datasets:
        if named not in (None, dataset.name):
            continue
        name = dataset.sha256[:12]
        folder = next(iter(sorted(policy.parent.glob(f"*.training/**/data-{name}"))), None)
        if folder is None:
            known.missing.append(name)
            continue
        data = _read(folder, {dataset.sha256})
        decisions = [*data.learn, *data.held_out]
        known.tasks.update((one.environment, one.task_id) for one in decisions)
        known.decisions.setdefault(read_manifest(folder).recipe.past, set()).update(_keys(decisions))
    return known


def stranger(student: str | None, environment: str) -> str | None:
    """What to tell of a policy that is to act where it learnt nothing, by its lineage; None where there is nothing."""
    if student is None or not student.startswith(POLICY):
        return None
    try:
        datasets = read_lineage(Path(student.removeprefix(POLICY)).expanduser()).manifest.datasets
    except ConfigError:  # which opening it says
        return None
    learnt = {name for dataset in datasets for name in names_of(dataset.name)}
    if not learnt or environment in learnt:
        return None
    return f"{student} learnt {', '.join(sorted(learnt))}, and acts in {environment}, of which it knows nothing."


def _keys(decisions: Iterable[Labelled]) -> set[bytes]:
    return {decision_key(state_key(one), one.action) for one in decisions}


def _read(folder: Path, wanted: set[str]) -> PolicyData:
    sha256 = digest_of(read_manifest(folder))
    if sha256 not in wanted:
        told = ", ".join(sorted(one[:12] for one in wanted)) or "no data"
        raise ConfigError(f"{folder} holds the data {sha256[:12]}, and the policy's lineage names {told}.")
    return PolicyData(folder, sha256, list(read(folder, LEARN)), list(read(folder, HELD_OUT)))
