"""Writes data into a folder from episodes that go by one at a time: memory holds keys (``merging``), never decisions.

What it knows: a temporary file of decisions, one compressed block an episode, read again in the order of episodes' ids.
What it does not do: the shards (``shards``), which decisions stay (``build.Gathering``).

The same episodes give the same bytes, in whatever order they come.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from potstill import zstandard
from potstill.distill.weights.data.balance import LIMIT
from potstill.distill.weights.data.build import FRACTIONS, Gathering, Recipe
from potstill.distill.weights.data.decisions import TEACHER
from potstill.distill.weights.data.labelled import Labelled
from potstill.distill.weights.data.leakage import Equal
from potstill.distill.weights.data.manifest import FORMAT, VERSION, Collecting, Manifest, encode
from potstill.distill.weights.data.shards import MANIFEST, SHARD_BYTES, ShardWriter, write_manifest
from potstill.errors import ConfigError, StoreError
from potstill.types import Answerer, Trajectory

_SPOOL_LEVEL = 1


def write(
    trajectories: Iterable[Trajectory],
    folder: Path | str,
    wanted: Collection[Answerer] = TEACHER,
    *,
    only_successes: bool = True,
    by_teacher: bool = False,
    fractions: Mapping[str, float] = FRACTIONS,
    seed: int = 0,
    equal: Equal | str = Equal.REFUSE,
    balanced: bool = True,
    limit: float = LIMIT,
    shard_bytes: int = SHARD_BYTES,
    past: int | None = None,
) -> Manifest:
    """Write the decisions of episodes into a new folder, whole or not at all; ``build`` says what the options mean.

    ``shard_bytes``: size of a shard's lines. A folder that holds the very same data is left as it is. Raises
    ``ConfigError`` as ``build`` does and for a folder that holds something else, ``StoreError`` where the disk fails.
    """
    recipe = Recipe(
        wanted=tuple(sorted(wanted)),
        only_successes=only_successes,
        by_teacher=by_teacher,
        fractions=dict(fractions),
        seed=seed,
        equal=Equal(equal),
        balanced=balanced,
        limit=limit,
        past=past,
    )
    target = Path(folder).absolute()
    _refuse_used(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent))
        try:
            manifest = _write(trajectories, made, recipe, shard_bytes)
            _put(made, target, manifest)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise StoreError(f"Cannot write {target}: {error.strerror}.") from error
    return manifest


def _write(trajectories: Iterable[Trajectory], folder: Path, recipe: Recipe, shard_bytes: int) -> Manifest:
    gathering, collecting = Gathering(recipe), Collecting()
    writers = {name: ShardWriter(folder, shard_bytes) for name in recipe.fractions}
    with tempfile.TemporaryFile(dir=folder) as file:
        spool = _Spool(file)
        for decision in gathering.first(trajectories, listen=collecting.hear):
            spool.add(decision)
        for name, decision in gathering.second(spool.read()):
            writers[name].add(decision)
    manifest = Manifest(
        format=FORMAT,
        version=VERSION,
        recipe=recipe,
        splits={name: writer.finish() for name, writer in writers.items()},
        report=gathering.report(),
        sources=collecting.sources(),
    )
    write_manifest(folder, manifest)
    return manifest


def _refuse_used(target: Path) -> None:
    if target.exists() and (not target.is_dir() or (any(target.iterdir()) and not (target / MANIFEST).exists())):
        raise ConfigError(f"'{target}' is there already and holds no data of ours. Name a new folder.")


def _put(made: Path, target: Path, manifest: Manifest) -> None:
    """Give the finished folder its name. A crash before that leaves a hidden folder beside it, and no half one."""
    there = target / MANIFEST
    if there.exists():
        if there.read_bytes() != encode(manifest):
            raise ConfigError(f"'{target}' holds other data already. Name a new folder.")
        return
    made.chmod(0o777 & ~_umask())
    os.replace(made, target)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# --- between the passes ---------------------------------------------------------------------------------------------


class _Block(NamedTuple):
    trajectory_id: str
    offset: int
    length: int


_decoder = msgspec.json.Decoder(list[Labelled])


class _Spool:
    """Decisions as they were found, an episode's together, given back in the order of the episodes' ids."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._blocks: list[_Block] = []
        self._episode: list[Labelled] = []

    def add(self, decision: Labelled) -> None:
        if self._episode and self._episode[0].trajectory_id != decision.trajectory_id:
            self._flush()
        self._episode.append(decision)

    def read(self) -> Iterator[Labelled]:
        self._flush()
        for block in sorted(self._blocks):
            self._file.seek(block.offset)
            yield from _decoder.decode(zstandard.decompress(self._file.read(block.length)))

    def _flush(self) -> None:
        if self._episode:
            packed = zstandard.compress(msgspec.json.encode(self._episode), _SPOOL_LEVEL)
            self._blocks.append(_Block(self._episode[0].trajectory_id, self._file.tell(), len(packed)))
            self._file.write(packed)
            self._episode = []
