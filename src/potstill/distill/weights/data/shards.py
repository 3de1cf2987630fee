"""A folder of data: shards of JSON lines under Zstandard whose names are their hashes, and a manifest beside them.

What it knows: the files, and how to find a changed one. What it does not do: make decisions (``build``), collect them
from episodes without holding them all (``dataset``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from potstill import zstandard
from potstill.distill.weights.data.labelled import Labelled
from potstill.distill.weights.data.manifest import FORMAT, VERSION, Manifest, Shard, Split, encode
from potstill.errors import NOT_JSON, ConfigError, one_of

MANIFEST = "manifest.json"
SHARD_BYTES = 8 * 2**20
"""A shard ends with the first decision that reaches this many bytes of lines: what a reader holds at once."""
LEVEL = 9


class BadData(ConfigError):
    """A folder that holds no data, or data that were changed; the message names the file."""


class ShardWriter:
    """Decisions of one split in, shards out. ``finish`` says what was written."""

    def __init__(self, folder: Path, shard_bytes: int = SHARD_BYTES) -> None:
        self._folder, self._limit = folder, shard_bytes
        self._lines: list[bytes] = []
        self._bytes = 0
        self._shards: list[Shard] = []
        self._met = 0
        self._kinds: dict[str, int] = {}
        self._tasks: set[str] = set()
        self._episodes: set[str] = set()
        self._actions: set[bytes] = set()

    def add(self, decision: Labelled) -> None:
        line = msgspec.json.encode(decision) + b"\n"
        self._lines.append(line)
        self._bytes += len(line)
        self._met += decision.count
        self._kinds[decision.kind] = self._kinds.get(decision.kind, 0) + 1
        self._tasks.add(f"{decision.environment}\0{decision.task_id}")
        self._episodes.add(decision.trajectory_id)
        self._actions.add(hashlib.blake2b(decision.action.encode(), digest_size=8).digest())
        if self._bytes >= self._limit:
            self._flush()

    def finish(self) -> Split:
        self._flush()
        return Split(
            decisions=sum(shard.decisions for shard in self._shards),
            met=self._met,
            tasks=len(self._tasks),
            episodes=len(self._episodes),
            kinds=dict(sorted(self._kinds.items())),
            actions=len(self._actions),
            shards=tuple(self._shards),
        )

    def _flush(self) -> None:
        if not self._lines:
            return
        text = b"".join(self._lines)
        digest = hashlib.sha256(text).hexdigest()
        file = f"{digest}.jsonl.zst"
        (self._folder / file).write_bytes(zstandard.compress(text, LEVEL))
        self._shards.append(Shard(file=file, sha256=digest, decisions=len(self._lines), bytes=len(text)))
        self._lines, self._bytes = [], 0


def write_manifest(folder: Path, manifest: Manifest) -> None:
    (folder / MANIFEST).write_bytes(encode(manifest))


# --- reading --------------------------------------------------------------------------------------------------------


class _Head(msgspec.Struct):
    format: str = ""
    version: int = 0


_head_decoder = msgspec.json.Decoder(_Head)
_manifest_decoder = msgspec.json.Decoder(Manifest)
_decoder = msgspec.json.Decoder(Labelled)


def read_manifest(folder: Path | str) -> Manifest:
    """What a folder says of itself. Raises ``BadData`` for one without data, or of a version that is not known."""
    path = Path(folder) / MANIFEST
    try:
        text = path.read_bytes()
    except OSError as error:
        raise BadData(
            f"'{folder}' holds no data to learn from ({MANIFEST}: {error.strerror}). Name the folder that they were "
            "written into."
        ) from None
    try:
        head = _head_decoder.decode(text)
        if head.format != FORMAT or not 1 <= head.version <= VERSION:
            raise BadData(
                f"'{path}' is '{head.format}' version {head.version}; this potstill reads '{FORMAT}' version "
                f"1 to {VERSION}."
            )
        manifest = _manifest_decoder.decode(text)
    except NOT_JSON as error:
        raise BadData(f"'{path}' is damaged: {error}.") from None
    if encode(manifest) != text:
        raise BadData(f"'{path}' was changed: it is not as it was written.")
    return manifest


def read(folder: Path | str, split: str | None = None) -> Iterator[Labelled]:
    """Every decision of a split (None: of all), a shard in memory at a time, each verified before it is read.

    Raises ``BadData`` that names the file which was changed or is missing, ``UnknownName`` for another split.
    """
    manifest = read_manifest(folder)
    if split is not None:
        one_of(f"split in {folder}", split, manifest.splits)
    for name, found in manifest.splits.items():
        if split in (None, name):
            for shard in found.shards:
                yield from _shard(Path(folder) / shard.file, shard)


def verify(folder: Path | str) -> Manifest:
    """The manifest, once every shard was found to be as it was written. Raises as ``read``."""
    for _ in read(folder):
        continue
    return read_manifest(folder)


def _shard(path: Path, shard: Shard) -> list[Labelled]:
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise BadData(f"The shard '{path}' cannot be read: {error.strerror}.") from None
    try:
        text = zstandard.decompress(packed)
    except (zstandard.ZstdError, MemoryError):
        text = b""
    if hashlib.sha256(text).hexdigest() != shard.sha256:
        raise BadData(f"The shard '{path}' was changed: its lines have another SHA-256 than its manifest says.")
    try:
        decisions = [_decoder.decode(line) for line in text.splitlines()]
    except NOT_JSON as error:
        raise BadData(f"The shard '{path}' holds a line that is no decision: {error}.") from None
    if len(decisions) != shard.decisions:
        raise BadData(f"The shard '{path}' holds {len(decisions)} decisions, its manifest says {shard.decisions}.")
    return decisions
