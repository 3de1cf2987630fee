"""Finds any change of an artefact, of its manifest, or of what it was made from.

Everything that is at hand is looked at: a parent is searched among the given files, then beside its child, then among
its child's former versions. Knows what
must be equal. Does not know whether the manifest told the truth when it was written; a signature says who vouches.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from potstill.distill.weights import lineage_sign
from potstill.distill.weights.lineage import (
    BESIDE,
    VERSIONS,
    Lineage,
    Parent,
    beside,
    file_sha256,
    read,
    texts_of,
    told_by,
)
from potstill.distill.weights.lineage_rules import looks_like_rules, problem_of
from potstill.edge import seal, tensors
from potstill.errors import BadModelFile, ConfigError
from potstill.models.tuned_file import STUDENT, check_files, read_tuned
from potstill.types import Struct


class Status(StrEnum):
    OK = "ok"
    CHANGED = "changed"
    ABSENT = "absent"
    """Not at hand, so nothing can be said."""


class Finding(Struct, frozen=True, kw_only=True):
    """What was found of one part of one file."""

    file: str
    part: str
    status: Status
    detail: str = ""


class Verification(Struct, frozen=True, kw_only=True):
    """All findings. ``passed``: nothing was changed; ``complete``: nothing was absent either."""

    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        return all(finding.status is not Status.CHANGED for finding in self.findings)

    @property
    def complete(self) -> bool:
        return all(finding.status is Status.OK for finding in self.findings)


def verify(paths: Sequence[Path], *, keys: Sequence[str] = ()) -> Verification:
    """Check artefacts and all of their past that is at hand.

    ``keys``: public keys (hexadecimal) of which one must have signed each given file. Raises ``ConfigError`` for a file
    that cannot be read, ``MissingExtra`` for a signature without ``cryptography``.
    """
    paths = [told_by(path) for path in paths]
    for path in paths:
        if not path.is_file():
            raise ConfigError(f"There is no file {path}. Give policies, or files with a {BESIDE} beside them.")
    walk = _Walk(paths, frozenset(keys))
    walk.go(paths)
    return Verification(findings=tuple(walk.findings))


class _Walk:
    """Goes from children to parents, each file once."""

    def __init__(self, paths: Sequence[Path], keys: frozenset[str]) -> None:
        self.findings: list[Finding] = []
        self._keys, self._given = keys, {path.resolve() for path in paths}
        self._next: list[Path] = []
        self._by_hash = {sha256: path for path in paths if (sha256 := _manifest_sha256(path)) is not None}
        self._by_name = {path.name: path for path in paths}

    def go(self, paths: Sequence[Path]) -> None:
        self._next, seen = list(reversed(paths)), set[Path]()
        while self._next:
            path = self._next.pop()
            if path.resolve() not in seen:
                seen.add(path.resolve())
                self._visit(path)

    def _visit(self, path: Path) -> None:
        if looks_like_rules(path):
            self._rules(path)
            return
        try:
            parts = _parts(path)
            lineage = read(path)
        except ConfigError as error:
            self._say(path, "file", Status.CHANGED, str(error))
            return
        for part, problem in parts.items():
            self._say(path, part, Status.CHANGED if problem else Status.OK, problem)
        self._signature(path, lineage, trusted=bool(self._keys) and path.resolve() in self._given)
        for parent in lineage.manifest.parents:
            self._parent(path, parent)

    def _rules(self, path: Path) -> None:
        problem = problem_of(path)
        sealed = "as they were certified; nothing seals the certificate's own numbers"
        self._say(path, "rules", Status.CHANGED if problem else Status.OK, problem or sealed)
        if self._keys and path.resolve() in self._given:
            self._say(path, "signature", Status.CHANGED, "Rules have none, though a key was given.")

    def _signature(self, path: Path, lineage: Lineage, trusted: bool) -> None:
        signature, signer = lineage.texts.get(seal.SIGNATURE), lineage.manifest.signer
        if signature is None:
            if signer or trusted:
                why = f"{signer[:16]} signed it" if signer else "a key was given"
                self._say(path, "signature", Status.CHANGED, f"There is none, though {why}.")
            return
        by = lineage_sign.signed_by(lineage.texts[seal.MANIFEST], signature)
        if by is None or by != signer:
            self._say(path, "signature", Status.CHANGED, "It is not the one of this manifest.")
        elif trusted and by not in self._keys:
            self._say(path, "signature", Status.CHANGED, f"It is by {by[:16]}, not by a key that was given.")
        else:
            self._say(path, "signature", Status.OK, f"by {by[:16]}" + ("" if trusted else ", whom nothing vouches for"))

    def _parent(self, child: Path, parent: Parent) -> None:
        part = f"parent {parent.name}"
        found = self._by_hash.get(parent.manifest_sha256) or self._named(child, parent.name)
        if found is None:
            self._say(child, part, Status.ABSENT, "It is neither given, nor beside its child or among its versions.")
            return
        same = _manifest_sha256(found) == parent.manifest_sha256
        self._say(child, part, Status.OK if same else Status.CHANGED, "" if same else f"{found} has another manifest.")
        self._next.append(found)

    def _named(self, child: Path, name: str) -> Path | None:
        """A file, or a tuned student's folder, by its name, which is somebody's text: never one that lies elsewhere."""
        if name != Path(name).name or name in ("", ".", ".."):
            return None
        whole = child.parent if child.name == STUDENT else child  # a tuned student is its folder
        versions = whole.with_name(whole.name + VERSIONS)  # where a policy that was promoted keeps the one before it
        for path in (self._by_name.get(name), told_by(whole.with_name(name)), versions / name):
            if path is not None and path.exists() and path.resolve() != child.resolve():
                return path
        return None

    def _say(self, path: Path, part: str, status: Status, detail: str | None = None) -> None:
        self.findings.append(Finding(file=str(path), part=part, status=status, detail=detail or ""))


def _parts(path: Path) -> dict[str, str]:
    """The parts of one file, each with what is wrong with it; empty: nothing."""
    if beside(path).exists():
        return _beside_parts(path)
    try:
        data = path.read_bytes()
        arrays, texts = tensors.from_bytes(data)
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror}.") from None
    except tensors.BadFile as error:
        raise ConfigError(f"It is not as potstill wrote it: {error}") from None
    found = dict.fromkeys(("arrays", "configuration", "manifest"), "") | seal.differences(arrays, texts)
    if tensors.to_bytes(arrays, texts) != data:
        found["layout"] = "Its header is not as potstill writes it: another program wrote the file anew."
    strangers = set(texts) - {seal.CONFIG, seal.MANIFEST, seal.SEAL, seal.SIGNATURE}
    if strangers:
        found["metadata"] = f"It holds what nobody vouches for: {', '.join(sorted(strangers))[:100]}."
    return found


def _beside_parts(path: Path) -> dict[str, str]:
    texts = texts_of(path)
    found = {"file": "", "manifest": ""} | seal.differences_beside(file_sha256(path), texts)
    if path.name == STUDENT and not found["file"]:
        found["folder"] = _changed_file(path.parent)
    return found


def _changed_file(folder: Path) -> str:
    """What is wrong with the files of a tuned student, which ``student.json`` names with their hashes."""
    try:
        check_files(folder, read_tuned(folder))
    except (BadModelFile, ConfigError) as error:
        return str(error)
    return ""


def _manifest_sha256(path: Path) -> str | None:
    """What children call the artefact by, computed from the manifest's text; None where there is none to read."""
    try:
        text = texts_of(path).get(seal.MANIFEST)
    except ConfigError:
        return None
    return None if text is None else seal.text_sha256(text)
