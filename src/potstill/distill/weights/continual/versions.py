"""Versions of one policy file: the one that acts, those before it, and how the one took the other's place.

Beside ``student.policy`` lies ``student.policy.versions`` with a file for each version, named by the hash of its
manifest, and ``history.jsonl``. What acts is decided by nothing but the policy's own file, which is replaced as a
whole: a kill leaves the old one or the new one. What it goes back to is in its lineage (its parent), not in the
history, which is for people. Knows files and hashes. Does not know who is better (``judging``).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from potstill import locks
from potstill.distill.weights.lineage import VERSIONS, Parent, read
from potstill.durable import replacing, sync_folder, telling
from potstill.edge.policy import open_policy
from potstill.errors import BadModelFile, ConfigError
from potstill.types import Struct

HISTORY = "history.jsonl"
_LOCK = "lock"


class Event(Struct, frozen=True, kw_only=True):
    """A line of the history."""

    what: str
    """``promoted``, ``rejected`` or ``rolled-back``."""
    at: str
    """ISO 8601."""
    version: str
    """Of which it is said: the hash of its manifest."""
    before: str
    """The version that acted until then."""
    comparison: dict[str, Any] = msgspec.field(default_factory=dict)


def folder_of(path: Path) -> Path:
    return path.with_name(path.name + VERSIONS)


def version_of(path: Path) -> str:
    """The hash of a policy's manifest, once file and manifest are found unchanged. Raises ``ConfigError``,
    ``BadModelFile``."""
    lineage = read(path)
    try:
        open_policy(path)
    except ValueError as error:
        raise BadModelFile(str(error)) from None
    return lineage.sha256


def file_of(path: Path, version: str) -> Path:
    """Where a version lies."""
    return folder_of(path) / f"{version[:16]}{path.suffix or '.policy'}"


def keep(path: Path) -> Parent:
    """Put the version that acts among the versions. Returns what its children call it by."""
    version = version_of(path)
    target = file_of(path, version)
    if not target.exists() or target.read_bytes() != path.read_bytes():
        with replacing(target) as file:
            file.write(path.read_bytes())
    return Parent(name=target.name, manifest_sha256=version)


def promote(path: Path, candidate: Path, *, at: str, comparison: Mapping[str, Any]) -> str:
    """Let a candidate act, if what acts is still its parent. Returns its version.

    Raises ``ConfigError`` where somebody else replaced the policy since the candidate was trained, ``StoreError``.
    """
    lineage = read(candidate)
    with locks.exclusive(_lock(path)):
        before = keep(path)
        if before.manifest_sha256 not in {parent.manifest_sha256 for parent in lineage.manifest.parents}:
            raise ConfigError(
                f"{path} is not what {candidate.name} was trained from: it was replaced meanwhile. Nothing was "
                "changed. Type the same command again to train from what is there."
            )
        version = version_of(candidate)
        _replace(path, candidate)
        _log(
            path,
            Event(what="promoted", at=at, version=version, before=before.manifest_sha256, comparison={**comparison}),
        )
    return version


def reject(path: Path, candidate: Path, *, at: str, comparison: Mapping[str, Any]) -> None:
    """Note that a candidate was not promoted; its file stays among the versions."""
    with locks.exclusive(_lock(path)):
        event = Event(
            what="rejected", at=at, version=read(candidate).sha256, before=read(path).sha256, comparison={**comparison}
        )
        _log(path, event)


def roll_back(path: Path, *, at: str, to: str | None = None) -> str:
    """Let the version act that the present one was trained from, or the one whose hash begins with ``to``.

    Its bytes are those that acted before. Returns its hash. Raises ``ConfigError`` where it is not kept,
    ``BadModelFile`` where it was changed.
    """
    with locks.exclusive(_lock(path)):
        before = keep(path).manifest_sha256
        wanted = to or _parent(path)
        found = [one for one in kept(path) if one.startswith(wanted)]
        if len(found) != 1:
            there = ", ".join(one[:16] for one in kept(path))
            raise ConfigError(
                f"{len(found)} versions of {path} begin with '{wanted[:16]}'. Those that are kept in "
                f"{folder_of(path)}: {there}. Type: --to and one of them"
            )
        source = file_of(path, found[0])
        if version_of(source) != found[0]:
            raise BadModelFile(f"{source} is not the version that it is named after: it was changed.")
        _replace(path, source)
        _log(path, Event(what="rolled-back", at=at, version=found[0], before=before))
    return found[0]


def kept(path: Path) -> list[str]:
    """Hashes of all versions beside the policy, in alphabetical order."""
    files = sorted(folder_of(path).glob(f"[0-9a-f]*{path.suffix or '.policy'}"))
    return [read(file).sha256 for file in files]


def history(path: Path) -> list[Event]:
    """What happened, oldest first; a line that a kill cut off is left out."""
    events = []
    try:
        lines = (folder_of(path) / HISTORY).read_bytes().splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            events.append(msgspec.json.decode(line, type=Event))
        except msgspec.DecodeError:
            continue
    return events


def _parent(path: Path) -> str:
    parents = read(path).manifest.parents
    if not parents:
        raise ConfigError(f"{path} was not trained from another version, so there is nothing to go back to.")
    return parents[0].manifest_sha256


def _replace(path: Path, source: Path) -> None:
    with replacing(path) as file:
        file.write(source.read_bytes())


def _lock(path: Path) -> Path:
    folder = folder_of(path)
    with telling(folder):
        folder.mkdir(exist_ok=True)
    return folder / _LOCK


def _log(path: Path, event: Event) -> None:
    """One line at the end, on the disk."""
    target = folder_of(path) / HISTORY
    with telling(target):
        with target.open("ab") as file:
            file.write(b"\n" * _cut_off(target) + msgspec.json.encode(event) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        sync_folder(target.parent)


def _cut_off(target: Path) -> bool:
    """Whether the last line has no end."""
    content = target.read_bytes() if target.exists() else b""
    return bool(content) and not content.endswith(b"\n")
