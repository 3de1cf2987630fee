"""Rationales as a file of JSON lines: the first says how they were made, each of the others is one decision's.

The file grows line by line while models are asked, so that a killed making loses the line that was being written, at
most. Knows the file. Does not know how rationales are made (``hindsight``, ``sampling``) or learnt (``learning``).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec

from potstill.distill.weights.data.labelled import Labelled, decision_key, state_key
from potstill.durable import telling
from potstill.errors import ConfigError
from potstill.locks import exclusive
from potstill.types import Struct

FORMAT = "potstill/rationales-1"
Key = tuple[str, int]
"""An episode's id and a step's index."""


class Source(StrEnum):
    """Where a rationale comes from."""

    TEMPLATED = "templated"
    """Written by a template, out of the teacher's own next steps."""
    SAMPLED = "sampled"
    """Written by a model, which then chose the teacher's action."""
    HINTED = "hinted"
    """As sampled, but the model was told the action (rationalisation, arXiv 2203.14465 section 3.2)."""


class Origin(Struct, frozen=True, kw_only=True):
    """How the rationales of a file were made, and for which episodes."""

    format: str
    namespace: str
    environment: str
    split: str
    source: str
    """``templated`` or ``sampled``; of the latter some may be ``hinted``."""
    model: str = ""
    """Who was asked; of templates nobody."""
    options: dict[str, Any] = msgspec.field(default_factory=dict)


class Rationale(Struct, frozen=True, kw_only=True):
    """What might have been said before one decision."""

    trajectory_id: str
    step_index: int
    decision: str
    """What was decided (``decision_of``), so that no other decision gets the rationale."""
    source: Source
    model: str = ""
    text: str = ""
    """Empty: none of the samples was right, or the template found nothing to name. The decision stands here so that it
    is not asked again."""
    samples: int = 0
    right: int = 0

    @property
    def key(self) -> Key:
        return self.trajectory_id, self.step_index


class Read(NamedTuple):
    origin: Origin
    rationales: dict[Key, Rationale]
    sha256: str
    """Of the file's bytes."""


def decision_of(decision: Labelled) -> str:
    """A hash (hex) of situation, admissible actions and action."""
    return decision_key(state_key(decision), decision.action).hex()


def read_rationales(path: Path) -> Read:
    """All lines of a file. Raises ``ConfigError`` that names the line which is none, or comes twice."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"Cannot read the rationales {path}: {error.strerror}.") from None
    return _parsed(path, content)


def _parsed(path: Path, content: bytes) -> Read:
    first, *rest = content.split(b"\n")
    try:
        origin = msgspec.json.decode(first, type=Origin)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        origin = None
    if origin is None or origin.format != FORMAT:
        raise ConfigError(
            f"{path} holds no rationales: its first line does not say '{FORMAT}'. Make some: potstill distill "
            "rationales --from subgoals --out rationales.jsonl"
        )
    found: dict[Key, Rationale] = {}
    decoder = msgspec.json.Decoder(Rationale)
    for number, line in enumerate(rest, 2):
        if not line.strip():
            continue
        try:
            rationale = decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"Line {number} of {path} is no rationale: {error}. If it was cut off, go on with the same command and "
                "--resume"
            ) from None
        if rationale.key in found:
            raise ConfigError(f"Line {number} of {path} is about a step that another line is about. Leave one.")
        found[rationale.key] = rationale
    return Read(origin, found, hashlib.sha256(content).hexdigest())


class Growing:
    """A file that lines are added to."""

    def __init__(self, path: Path, file: BinaryIO, known: dict[Key, Rationale]) -> None:
        self._path, self._file = path, file
        self.known = known
        """What it holds."""
        self.texts = {key: one.text for key, one in known.items()}

    def add(self, rationale: Rationale) -> None:
        """On its way to the disk when this returns: a killed process does not lose it."""
        with telling(self._path):
            self._file.write(msgspec.json.encode(rationale) + b"\n")
            self._file.flush()
        self.known[rationale.key] = rationale
        self.texts[rationale.key] = rationale.text


@contextmanager
def growing(path: Path, origin: Origin, *, resume: bool) -> Iterator[Growing]:
    """The file, new, or with ``resume`` as it was left, without a line that was cut off. One without a rationale is
    taken away again.

    Raises ``ConfigError`` for a file that is there and is not to be resumed, was made otherwise, or grows in another
    process; ``StoreError``.
    """
    known: dict[Key, Rationale] = {}
    if path.exists() and not resume:
        raise ConfigError(f"{path} is there already. To go on with it, type --resume; else name another file.")
    if resume and path.exists():
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole:
            read = _parsed(path, whole)
            _must_be_same(path, read.origin, origin)
            known = read.rationales
    else:
        whole = b""
    with contextlib.ExitStack() as stack:
        with telling(path):
            file = stack.enter_context(path.open("r+b" if path.exists() else "w+b"))
            _alone(path, stack)
            file.truncate(len(whole))
            file.seek(len(whole))
            if not whole:
                file.write(msgspec.json.encode(origin) + b"\n")
                file.flush()
        try:
            yield Growing(path, file, known)
        finally:
            with telling(path):
                file.flush()
                os.fsync(file.fileno())
                if not known:
                    path.unlink()


def _alone(path: Path, stack: contextlib.ExitStack) -> None:
    try:
        stack.enter_context(exclusive(path, wait=False))
    except BlockingIOError:
        raise ConfigError(f"{path} grows in another process. Wait for it, or name another file.") from None


def _must_be_same(path: Path, old: Origin, new: Origin) -> None:
    for name in Origin.__struct_fields__:
        was, now = getattr(old, name), getattr(new, name)
        if was != now:
            raise ConfigError(
                f"{path} was made with {name} {was!r}, and this is {now!r}. Type the options of then, or name another "
                "file."
            )
