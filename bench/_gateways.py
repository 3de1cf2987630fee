"""Gateways as running processes for the benches: potstill, and others in virtual environments of their own.

A peer is fetched as a wheel first, and looked through for what Python would run unasked (``.pth``, ``sitecustomize``)
before anything of it is installed. What it does not do: load, rows.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
import venv
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from _gateway_load import GATEWAY_CORE, Target, pinned

LITELLM, TENSORZERO = "1.106.2", "2026.6.0"
START_S = 180.0
_RUNS_UNASKED = re.compile(r"(?:^|/)(?:[^/]+\.pth|(?:site|user)customize(?:\.py|/))")


class Running(NamedTuple):
    """A gateway that takes requests."""

    name: str
    target: Target
    pid: int
    stored_bytes: Callable[[], int] = int
    """What it has on disk by now; 0 for one that stores nothing."""

    @contextlib.contextmanager
    def awake(self) -> Iterator[Running]:
        """It runs within the block only: a gateway that is not measured takes nothing from the others."""
        os.kill(self.pid, signal.SIGCONT)
        try:
            yield self
        finally:
            os.kill(self.pid, signal.SIGSTOP)


# --- potstill ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def potstill(upstream: int, folder: Path) -> Iterator[Running]:
    """A gateway in record mode with a new store."""
    db = folder / f"bench-{time.time_ns()}.db"
    flags = ["--teacher", f"http://127.0.0.1:{upstream}/v1#fake", "--port", "0", "--db", str(db)]
    with pinned([sys.executable, "-m", "potstill", "serve", *flags], GATEWAY_CORE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        line = process.stderr.readline().decode()
        target = Target(int(line.split(": ")[0].rpartition(":")[2]))
        size = lambda: sum(one.stat().st_size for one in db.parent.glob(db.name + "*"))  # noqa: E731
        yield Running("potstill, record mode", target, process.pid, size)


def metrics(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
        rows = [line.rpartition(" ") for line in page.read().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in rows if "{" not in name}


def recorded(port: int, wanted: int) -> dict[str, float]:
    """The counters once everything is durable."""
    for _ in range(200):
        found = metrics(port)
        if found["potstill_recorded_total"] + found["potstill_dropped_total"] >= wanted:
            return found
        time.sleep(0.1)
    return found


# --- peers ------------------------------------------------------------------------------------------------------------


def environment(folder: Path, name: str, version: str, extra: str = "") -> Path:
    """The Python of a virtual environment with this package; made where it is not there. Raises ``RuntimeError`` for a
    wheel that would run code whenever Python starts."""
    home = folder / f"{name}-{version}"
    python = home / "bin" / "python"
    done = home / "installed"
    if done.exists():
        return python
    venv.create(home, with_pip=True)
    pip = [str(python), "-m", "pip", "-q"]
    subprocess.run([*pip, "download", "--no-deps", "-d", str(home), f"{name}=={version}"], check=True)
    (wheel,) = home.glob("*.whl")
    unasked = [member for member in zipfile.ZipFile(wheel).namelist() if _RUNS_UNASKED.search(member)]
    if unasked:
        raise RuntimeError(f"{wheel.name} holds {unasked}: it is not installed.")
    wanted = f"{name}{extra} @ {wheel.as_uri()}"
    subprocess.run([*pip, "install", "--only-binary", ":all:", wanted], check=True)
    done.touch()
    return python


@contextlib.contextmanager
def litellm(python: Path, upstream: int, folder: Path) -> Iterator[Running]:
    """Its proxy with one worker and a master key, without a database: it stores nothing."""
    config, port, key = folder / "litellm.yaml", _free_port(), f"sk-{os.urandom(16).hex()}"
    config.write_text(
        "model_list:\n- model_name: fake\n  litellm_params:\n    model: openai/fake\n"
        f"    api_base: http://127.0.0.1:{upstream}/v1\n    api_key: none\n"
        f"general_settings:\n  master_key: {key}\n"
    )
    told = {"LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    flags = ["--config", str(config), "--port", str(port), "--host", "127.0.0.1", "--num_workers", "1"]
    command, log = [str(python.with_name("litellm")), *flags, "--telemetry", "False"], _log(folder)
    with pinned(command, GATEWAY_CORE, env=_environment(told), stdout=log, stderr=log) as one:
        _wait_until(lambda: _answers(port, "/health/liveliness"), one)
        target = Target(port, headers=f"authorization: Bearer {key}\r\n")
        yield Running(f"LiteLLM proxy {LITELLM}", target, one.pid)


_EMBEDDED = """
import pathlib, sys, time, types
import tensorzero
client = tensorzero.patch_openai_client(types.SimpleNamespace(), config_file=sys.argv[1], async_setup=False)
pathlib.Path(sys.argv[2]).write_text(str(client.base_url))
time.sleep(10**6)
"""
"""The client is there for its ``base_url`` only: requests come over HTTP."""


@contextlib.contextmanager
def tensorzero(python: Path, upstream: int, folder: Path) -> Iterator[Running]:
    """Its gateway, embedded in a client process as the wheel has it. Its observability needs ClickHouse or Postgres and
    is off: it stores nothing."""
    config = folder / "tensorzero.toml"
    config.write_text(
        "[gateway]\nobservability.enabled = false\n[models.fake]\nrouting = ['fake']\n[models.fake.providers.fake]\n"
        f"type = 'openai'\nmodel_name = 'fake'\napi_base = 'http://127.0.0.1:{upstream}/v1/'\n"
        "api_key_location = 'none'\n"
    )
    address, log = folder / "address", _log(folder)
    command = [str(python), "-c", _EMBEDDED, str(config), str(address)]
    with pinned(command, GATEWAY_CORE, env=_environment({}), stdout=log, stderr=log) as process:
        _wait_until(lambda: address.exists() and address.read_text() != "", process)
        port, _, path = address.read_text().removeprefix("http://").partition(":")[2].partition("/")
        target = Target(int(port), f"/{path.strip('/')}/chat/completions", model="tensorzero::model_name::fake")
        yield Running(f"TensorZero {TENSORZERO}, embedded", target, process.pid)


def _environment(told: dict[str, str]) -> dict[str, str]:
    """Without keys or settings of whoever runs the bench."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ} | told


def _log(folder: Path) -> int:
    return os.open(folder / "peer.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def _free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _answers(port: int, path: str) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5).close()
    except OSError:
        return False
    return True


def _wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_S
    while not ready():
        if process.poll() is not None:
            raise RuntimeError(f"{process.args} ended with {process.returncode}: see its log")
        if time.monotonic() > until:
            raise RuntimeError(f"{process.args} was not ready within {START_S:.0f} s")
        time.sleep(0.2)
