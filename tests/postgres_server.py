"""A PostgreSQL of the tests' own: made in a temporary folder, run as an ordinary user, gone afterwards.

Over its socket anybody may come in; over TCP it asks user ``potstill`` for ``PASSWORD``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

PASSWORD = "b0il'd & d0wn"
ROOM_BYTES = 4 << 30
_HBA = """
local all all trust
host all all 127.0.0.1/32 scram-sha-256
"""


def with_vectors() -> Path | None:
    """The programs of a server that has pgvector: this machine's, else those of the package ``pgserver``."""
    found = [binaries()]
    if (package := importlib.util.find_spec("pgserver")) is not None and package.origin is not None:
        found.append(Path(package.origin).parent / "pginstall" / "bin")
    for programs in found:
        if programs is not None and _has_vector(programs):
            return programs
    return None


def _has_vector(programs: Path) -> bool:
    share = subprocess.run([programs / "pg_config", "--sharedir"], capture_output=True, text=True, check=False)
    return (Path(share.stdout.strip()) / "extension" / "vector.control").exists()


def binaries() -> Path | None:
    """Where Debian and others put the server's programs."""
    if (found := shutil.which("initdb")) is not None:
        return Path(found).resolve().parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[4]))
    return installed[-1].parent if installed else None


def skip_without() -> None:
    if binaries() is None:
        pytest.skip("no PostgreSQL server here. Type: apt-get install postgresql (or brew install postgresql)")
    pytest.importorskip("psycopg_pool", reason="no psycopg. Type: pip install 'potstill[postgres]'")


class Server:
    """``durable`` False: commits do not wait for the disk; a machine that goes down would lose some, tests do not."""

    def __init__(self, *, durable: bool = False, programs: Path | None = None) -> None:
        self._durable = durable
        found = programs or binaries()
        assert found is not None
        self._programs = found
        self.folder = Path(tempfile.mkdtemp(prefix="potstill-pg-", dir=None if durable else _in_memory()))
        self._user = self._ordinary_user()
        self.port = _free_port()
        self._run("initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8")
        (self.folder / "data" / "pg_hba.conf").write_text(_HBA)
        self.start()
        self.sql(f"CREATE ROLE potstill LOGIN PASSWORD '{PASSWORD.replace(chr(39), chr(39) * 2)}'")
        self.sql("GRANT CREATE ON DATABASE postgres TO potstill")

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def url(self, schema: str = "", user: str = "postgres") -> str:
        """Over the socket; ``schema``: a store of its own."""
        named = f"&schema={schema}" if schema else ""
        return f"postgresql://{user}@/postgres?host={self.folder}&port={self.port}{named}"

    def url_for(self, path: Path | str) -> str:
        """The store that stands for a file in tests that run on both engines."""
        return self.url(f"s_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}")

    def start(self) -> None:
        options = f"-k {self.folder} -p {self.port} -c listen_addresses=127.0.0.1 -c max_connections=200"
        options += "" if self._durable else " -c fsync=off"
        self._run("pg_ctl", "start", "-w", "-D", self._data, "-l", str(self.folder / "log"), "-o", options)

    def stop(self, mode: str = "fast") -> None:
        """``immediate``: as a crash, without a checkpoint; the next start recovers from the log."""
        self._run("pg_ctl", "stop", "-w", "-D", self._data, "-m", mode)

    def running(self) -> bool:
        return (self.folder / "data" / "postmaster.pid").exists()

    def remove(self) -> None:
        if self.running():
            self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def sql(self, statement: str) -> list[tuple[object, ...]]:
        import psycopg

        with psycopg.connect(self.url(), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def _ordinary_user(self) -> str | None:
        """The server refuses to run as root."""
        if os.getuid() != 0:
            return None
        names = {one.pw_name for one in pwd.getpwall()}
        user = "postgres" if "postgres" in names else "nobody"
        shutil.chown(self.folder, user)
        return user

    def _run(self, program: str, *words: str) -> None:
        done = subprocess.run(
            [self._programs / program, *words],
            user=self._user,
            extra_groups=None if self._user is None else [],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=(self.folder / "said").open("a"),
            stderr=subprocess.STDOUT,
            timeout=120,
        )
        if done.returncode:
            log = self.folder / "log"
            raise RuntimeError(
                f"{program} failed: {(self.folder / 'said').read_text()[-2000:]} "
                f"{log.read_text()[-2000:] if log.exists() else ''}"
            )


def _in_memory() -> str | None:
    """A folder whose thousands of small files cost no disk, where there is room."""
    shared = Path("/dev/shm")
    return str(shared) if shared.is_dir() and shutil.disk_usage(shared).free > ROOM_BYTES else None


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
