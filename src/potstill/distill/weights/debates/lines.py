"""Debates as a file of JSON lines, one ``graph.Debate`` a line (docs/guides/ways-to-learn.md shows one).

Knows the file. Does not know what is learnt from it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from potstill.distill.weights.debates.graph import Debate
from potstill.durable import replacing
from potstill.errors import ConfigError


class Read(NamedTuple):
    debates: tuple[Debate, ...]
    sha256: str
    """Of the file's bytes."""


def read_debates(path: Path) -> Read:
    """Every debate of a file. Raises ``ConfigError`` that names the line which holds none, and for an id that is there
    twice, for no file, and for an empty one."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"Cannot read the debates {path}: {error.strerror}.") from None
    found: dict[str, Debate] = {}
    decoder = msgspec.json.Decoder(Debate)
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            debate = decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ConfigError(f"Line {number} of {path} is no debate: {error}") from None
        if debate.id in found:
            raise ConfigError(f"Line {number} of {path} has the id '{debate.id}', as a line before. Give each its own.")
        found[debate.id] = debate
    if not found:
        raise ConfigError(f"{path} holds no debate. Make some: potstill distill debates --out {path}")
    return Read(tuple(found.values()), hashlib.sha256(content).hexdigest())


def write_debates(path: Path, debates: Iterable[Debate]) -> None:
    """All of them, or nothing of the name changes. Raises ``StoreError`` where the disk fails."""
    with replacing(path) as file:
        for debate in debates:
            file.write(msgspec.json.encode(debate) + b"\n")
