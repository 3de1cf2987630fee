"""Where an artefact comes from: who taught it, on what data, by which code, with which result, from which parents.

A manifest holds the hashes of the file that it belongs to and those of its parents' manifests, so that it stands for
all that came before (a hash chain, as in a Merkle DAG). A policy carries its manifest inside; of other files it lies
beside them as ``FILE.lineage.json``. Knows how a manifest is written and read. Checking is ``lineage_verify``'s,
signatures are ``lineage_sign``'s.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from potstill import __version__
from potstill.distill.weights import lineage_sign
from potstill.durable import replacing
from potstill.edge import seal, tensors
from potstill.errors import NOT_JSON, ConfigError
from potstill.models.tuned_file import STUDENT
from potstill.types import Struct

VERSION = 1
BESIDE = seal.BESIDE
VERSIONS = ".versions"
"""Behind a policy's name: the folder with those that it was before (``continual.versions``)."""


class Teacher(Struct, frozen=True, kw_only=True):
    """Whose decisions were learnt. ``prompts_sha256``: of the texts that it was asked with."""

    model: str
    decisions: int = 0
    prompts_sha256: tuple[str, ...] = ()


class Dataset(Struct, frozen=True, kw_only=True):
    """Data that were learnt from, by the hash of their manifest."""

    name: str
    sha256: str
    decisions: int = 0


class Parent(Struct, frozen=True, kw_only=True):
    """An artefact that this one was made from: its file's name, and the hash that stands for its whole past."""

    name: str
    manifest_sha256: str


class Manifest(Struct, frozen=True, kw_only=True):
    """What is said of an artefact. The hashes are filled in where it is written."""

    kind: str = ""
    created: str = ""
    """ISO 8601, where the caller says it (``created``); no part of what an artefact is, so empty unless asked for."""
    code: str = f"potstill {__version__}"
    """Version, and the commit where one is known."""
    teachers: tuple[Teacher, ...] = ()
    datasets: tuple[Dataset, ...] = ()
    configuration: dict[str, Any] = msgspec.field(default_factory=dict)
    """Of the training: what makes the same numbers again."""
    metrics: dict[str, Any] = msgspec.field(default_factory=dict)
    parents: tuple[Parent, ...] = ()
    signer: str = ""
    """Public key (hexadecimal) of who signed it, where somebody did."""
    arrays_sha256: str = ""
    config_sha256: str = ""
    file_sha256: str = ""
    """Of a file that has its manifest beside it."""


class Lineage(Struct, frozen=True, kw_only=True):
    """A manifest as it was found. ``texts``: byte for byte, as hashes and signatures are of it."""

    manifest: Manifest
    texts: dict[str, str]

    @property
    def sha256(self) -> str:
        """What children call this artefact by."""
        return seal.text_sha256(self.texts[seal.MANIFEST])


def in_full(value: Any) -> Any:
    """A configuration as plain values with its defaults, which encodings leave out and later versions may change."""
    match value:
        case msgspec.Struct():
            return {name: in_full(getattr(value, name)) for name in value.__struct_fields__}
        case dict():
            return {msgspec.to_builtins(name): in_full(one) for name, one in value.items()}
        case tuple() | list():
            return [in_full(one) for one in value]
        case _:
            return msgspec.to_builtins(value)


def sealed(manifest: Manifest, key: Path | None = None) -> dict[str, str]:
    """The manifest as texts with its hash, and a signature where a private key (PEM, Ed25519) is given.

    Raises ``ConfigError`` for values that are not JSON (NaN among the metrics) or a key that is none, ``MissingExtra``.
    """
    signer = lineage_sign.Signer(key) if key is not None else None
    if signer is not None:
        manifest = msgspec.structs.replace(manifest, signer=signer.public_key)
    try:
        text = seal.canonical({"version": VERSION, **msgspec.to_builtins(manifest)})
    except (TypeError, ValueError) as error:
        raise ConfigError(f"The manifest cannot be written as JSON: {error}.") from None
    texts = {seal.MANIFEST: text, seal.SEAL: seal.text_sha256(text)}
    if signer is not None:
        texts[seal.SIGNATURE] = signer.sign(text)
    return texts


def write_beside(path: Path, manifest: Manifest, key: Path | None = None) -> Path:
    """Give a file that cannot carry a manifest (ONNX, GGUF) one beside it. Returns where.

    Raises as ``sealed`` does, and ``StoreError``.
    """
    manifest = msgspec.structs.replace(manifest, file_sha256=file_sha256(path))
    target = beside(path)
    text = json.dumps(sealed(manifest, key), indent=2, sort_keys=True) + "\n"
    with replacing(target) as file:
        file.write(text.encode())
    return target


def beside(path: Path) -> Path:
    """Where the manifest of a file lies that does not carry it."""
    return path.with_name(path.name + BESIDE)


def created(environment: Mapping[str, str]) -> str:
    """The time that ``SOURCE_DATE_EPOCH`` (seconds since 1970, reproducible-builds.org) gives, else nothing.

    Equal trainings give equal bytes, so no clock is read. Raises ``ConfigError`` for a variable that is no time.
    """
    said = environment.get("SOURCE_DATE_EPOCH", "")
    try:
        return datetime.datetime.fromtimestamp(int(said), datetime.UTC).isoformat(timespec="seconds") if said else ""
    except (ValueError, OverflowError, OSError):
        raise ConfigError(
            f"SOURCE_DATE_EPOCH is {said[:40]!r}. Allowed: whole seconds since 1970, such as $(date +%s); or unset it."
        ) from None


def told_by(path: Path) -> Path:
    """The file that stands for an artefact: itself, or what a tuned student's folder says of itself."""
    return path / STUDENT if (path / STUDENT).is_file() else path


def parent(path: Path) -> Parent:
    """What a child says of the artefact at ``path``. Raises ``ConfigError`` where it has no lineage."""
    return Parent(name=path.name, manifest_sha256=read(path).sha256)


def read(path: Path) -> Lineage:
    """The manifest of an artefact, unchecked. Raises ``ConfigError`` where there is none."""
    path = told_by(path)
    texts = texts_of(path)
    if seal.MANIFEST not in texts:
        raise ConfigError(f"{path} has no manifest: potstill did not write it, or somebody took it out.")
    try:
        said = json.loads(texts[seal.MANIFEST])
        version = said.pop("version", None) if isinstance(said, dict) else None
        if not isinstance(version, int) or version > VERSION:
            raise ConfigError(f"The manifest of {path} has version {version}; this potstill reads {VERSION}.")
        return Lineage(manifest=msgspec.convert(said, Manifest), texts=texts)
    except (*NOT_JSON, ValueError) as error:
        raise ConfigError(f"The manifest of {path} is not one: {error}.") from None


def texts_of(path: Path) -> dict[str, str]:
    """The metadata of a policy, or the file beside another. Raises ``ConfigError`` where neither can be read."""
    try:
        if not beside(path).exists():
            return tensors.read(path)[1]
        found = json.loads(beside(path).read_bytes())
        if isinstance(found, dict) and all(isinstance(text, str) for text in found.values()):
            return found
        raise ConfigError(f"{beside(path)} is not a manifest as potstill writes it.")
    except tensors.BadFile as error:
        raise ConfigError(f"{error} It has no {path.name}{BESIDE} beside it either.") from None
    except OSError as error:
        raise ConfigError(f"Cannot read {error.filename or path}: {error.strerror}.") from None
    except (ValueError, RecursionError):
        raise ConfigError(f"{beside(path)} is not JSON.") from None


def file_sha256(path: Path) -> str:
    """Of a file's bytes, however large. Raises ``ConfigError`` where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror}.") from None
