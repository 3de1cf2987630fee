"""What all tests share: where real data lie, and freedom from the developer's own settings."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import engines
from command_line import Here, Said, call
from postgres_server import Server, skip_without
from potstill.models.packages import get

# libgomp reads this once, when it is loaded. Without it two threads that wait for each other spin, and a busy machine
# answers from a local model forty times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# A shell starts background jobs with Ctrl-C ignored, and every process that a test starts would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent

# Properties are checked, never speed: a loaded machine must not fail a test. The same examples each time, so that a red
# run is about what was changed; POTSTILL_EXAMPLES=1000 looks longer, and elsewhere each time.
EXAMPLES = os.environ.get("POTSTILL_EXAMPLES")
settings.register_profile(
    "potstill",
    deadline=None,
    derandomize=EXAMPLES is None,
    print_blob=True,
    max_examples=int(EXAMPLES or "50"),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("potstill")


@pytest.fixture(autouse=True)
def _no_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's POTSTILL_* settings do not reach the tests; the folder with test data does."""
    for name in [name for name in os.environ if name.startswith("POTSTILL_")]:
        if name not in {"POTSTILL_TEST_DATA", "POTSTILL_CACHE"}:
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture
def here(capfd: pytest.CaptureFixture[str]) -> Here:
    """The command line in this process: exit code and what it wrote."""

    def called(*words: object) -> Said:
        capfd.readouterr()
        return Said(call(*words), *capfd.readouterr())

    return called


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The weights of the real model, fetched if need be.

    A failure and not a skip where they cannot be had: tests of a language model say nothing without one. Where there
    is no network, leave them out: pytest -m "not llm".
    """
    return get("smollm2-135m")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server of the tests' own; skips where its programs or psycopg are absent."""
    skip_without()
    server = Server()
    yield server
    server.remove()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The store's tests, and those of what stands on it, run on both engines, but for what only a file has."""
    if metafunc.module.__name__ not in engines.BOTH or metafunc.function.__name__ in engines.OF_FILES:
        return
    if {"tmp_path", "tmp_path_factory"} & set(metafunc.fixturenames):
        both = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
        metafunc.parametrize("_engine", both, indirect=True)


@pytest.fixture(autouse=True)
def _engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if getattr(request, "param", "sqlite") == "postgres":
        engines.use(monkeypatch, request.getfixturevalue("postgres").url_for)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with real data (ALFWorld games, recorded episodes); skips where it is absent."""
    folder = Path(os.environ.get("POTSTILL_TEST_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no test data: set POTSTILL_TEST_DATA to a folder with alfworld/*.tar.zst and tau2_retail/")
    return folder


@pytest.fixture(scope="session")
def alfworld_games(data_dir: Path) -> Callable[[str], Path]:
    """Call it with a split (``valid_seen``, ``train``): the folder of its games, unpacked once into ``data/``."""

    def unpacked(split: str) -> Path:
        archive = data_dir / "alfworld" / f"{split}.tar.zst"
        if not archive.exists():
            pytest.skip(f"no {split}.tar.zst in the ALFWorld folder of POTSTILL_TEST_DATA")
        return _unpack(archive, ROOT / "data" / "alfworld" / split)

    return unpacked


@pytest.fixture(scope="session")
def tau2_retail(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,262 recorded episodes of tau2-bench's retail tasks, one a line, with their real dirt."""
    archive = data_dir / "tau2_retail" / "episodes.jsonl.zst"
    if not archive.exists():
        pytest.skip("no tau2_retail/episodes.jsonl.zst in the folder of POTSTILL_TEST_DATA")
    if shutil.which("zstd") is None:
        pytest.skip("zstd is not installed. Type: apt-get install zstd (or brew install zstd)")
    path = tmp_path_factory.mktemp("tau2") / "episodes.jsonl"
    subprocess.run(["zstd", "-dqo", str(path), str(archive)], check=True)
    return path


def _unpack(archive: Path, target: Path) -> Path:
    """Unpack whole or not at all; several test processes may ask at once."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.is_dir():
            return target
        if shutil.which("zstd") is None:
            pytest.skip("zstd is not installed. Type: apt-get install zstd (or brew install zstd)")
        partial = target.with_name(f".{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        with subprocess.Popen(["zstd", "-dc", str(archive)], stdout=subprocess.PIPE) as zstd:
            subprocess.run(["tar", "xf", "-", "-C", str(partial)], stdin=zstd.stdout, check=True)
        partial.rename(target)
    return target


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 2 MB."""
    where = tmp_path / "disk"
    where.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(where)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("needs root and mount(8) to make a small disk: type sudo make test-all")
    yield where
    subprocess.run(["umount", "-l", str(where)], check=True)
