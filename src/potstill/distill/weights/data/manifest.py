"""What a folder of data says about itself: format, counts, hashes, and where the episodes came from.

What it knows: the manifest's shape and its digest, which names the data in a lineage. What it does not do: read or
write folders (``shards``).
"""

from __future__ import annotations

import hashlib
from collections import Counter

import msgspec

from potstill.distill.weights.data.build import Recipe
from potstill.distill.weights.data.decisions import Report
from potstill.types import Purpose, Struct, Trajectory

FORMAT = "potstill/decisions"
VERSION = 1


class Shard(Struct, frozen=True, kw_only=True):
    """One file: JSON lines, compressed by Zstandard."""

    file: str
    sha256: str
    """Of the lines before they are compressed, so that another release of the compressor changes no name."""
    decisions: int
    bytes: int
    """Of the lines."""


class Split(Struct, frozen=True, kw_only=True):
    decisions: int
    met: int
    tasks: int
    episodes: int
    kinds: dict[str, int]
    """Distinct decisions by kind of task."""
    actions: int
    """How many different actions were chosen."""
    shards: tuple[Shard, ...]


class Sources(Struct, frozen=True, kw_only=True):
    """Where the episodes came from, all that were given; counts are of episodes but for ``prompts``."""

    namespace: str = ""
    episodes_sha256: str = ""
    """Of the sorted ids, a line each."""
    environments: dict[str, int] = msgspec.field(default_factory=dict)
    splits: dict[str, int] = msgspec.field(default_factory=dict)
    """The environments' own."""
    teachers: dict[str, int] = msgspec.field(default_factory=dict)
    students: dict[str, int] = msgspec.field(default_factory=dict)
    runs: dict[str, int] = msgspec.field(default_factory=dict)
    arms: dict[str, int] = msgspec.field(default_factory=dict)
    prompts: dict[str, int] = msgspec.field(default_factory=dict)
    """SHA-256 of each system message that somebody who acted was given, with the number of steps."""


class Manifest(Struct, frozen=True, kw_only=True):
    format: str
    version: int
    recipe: Recipe
    splits: dict[str, Split]
    report: Report
    sources: Sources


def encode(manifest: Manifest) -> bytes:
    """The file's bytes: the same for equal manifests."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def digest_of(manifest: Manifest) -> str:
    """SHA-256 of the manifest, and through its hashes of every decision: the name of the data."""
    return hashlib.sha256(encode(manifest)).hexdigest()


class Collecting:
    """Sources while episodes go by; remembers the ids."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._namespace = ""
        self._counts: dict[str, Counter[str]] = {
            name: Counter() for name in ("environments", "splits", "teachers", "students", "runs", "arms", "prompts")
        }

    def hear(self, trajectory: Trajectory) -> None:
        self._ids.append(trajectory.id)
        self._namespace = trajectory.namespace
        for name, value in (
            ("environments", trajectory.task.environment),
            ("splits", trajectory.task.split),
            ("teachers", trajectory.teacher),
            ("students", trajectory.student),
            ("runs", trajectory.run_id),
            ("arms", trajectory.arm),
        ):
            if value:
                self._counts[name][value] += 1
        for step in trajectory.steps:
            shown = {
                call.prompt[0].content
                for call in step.calls
                if call.prompt
                and call.prompt[0].role == "system"
                and (call.answerer, call.purpose) == (step.answerer, Purpose.ACT)
            }
            for text in shown:
                self._counts["prompts"][hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()] += 1

    def sources(self) -> Sources:
        ids = "".join(f"{one}\n" for one in sorted(self._ids)).encode("utf-8", "surrogatepass")
        return Sources(
            namespace=self._namespace,
            episodes_sha256=hashlib.sha256(ids).hexdigest(),
            **{name: dict(sorted(counts.items())) for name, counts in self._counts.items()},
        )
