"""``potstill serve`` as a user starts it, before a scripted teacher or a real local model, and what it recorded."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from local_model import LocalModel
from scripted_teacher import Teacher

from potstill.record.fold import trajectory_of
from potstill.trajectories.exchange import Exchange
from potstill.trajectories.store import Store
from potstill.types import Trajectory

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "gateway"


class Gateway:
    """A running ``potstill serve`` and the episodes that came since the last look."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.db = folder / "gateway.db"
        command = [sys.executable, "-m", "potstill", "serve", "--port", "0", "--db", str(self.db), *arguments]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        said = []
        for line in self._process.stderr:
            said.append(line)
            if "listens on" in line:
                self.url = line.split("listens on ")[1].split(": give")[0]
                break
        else:
            raise RuntimeError("".join(said))
        threading.Thread(target=self._process.stderr.read, daemon=True).start()
        self._seen = 0

    def close(self) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait(60)

    def environment(self) -> dict[str, str]:
        """What a user exports: every framework's own names for the address, and a key that means nothing."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "ANTHROPIC_"))}
        return {
            **kept,
            "OPENAI_BASE_URL": f"{self.url}/v1",
            "OPENAI_API_KEY": "no-key",
            "ANTHROPIC_BASE_URL": self.url,
            "ANTHROPIC_API_KEY": "no-key",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it asks another host for prices, and waits where it cannot
        }

    def run(self, *command: str, may_fail: bool = False) -> str:
        """Run a program against this gateway; returns what it printed."""
        done = subprocess.run(command, env=self.environment(), capture_output=True, text=True, timeout=900)
        assert may_fail or done.returncode == 0, done.stderr + done.stdout
        return done.stdout.strip()

    def episodes(self) -> list[tuple[Trajectory, list[Exchange]]]:
        """Those that began since the last look, in order, folded."""
        self._wait_for_all()
        with Store.read(self.db) as store:
            rows = store.recent(None, self._seen)
            self._seen = max([self._seen, *(row.seq for row in rows)])
            named = dict.fromkeys((row.exchange.namespace, row.exchange.episode_id) for row in rows)
            found = []
            for namespace, name in named:
                episode = store.episode(namespace, name)
                trajectory = trajectory_of(
                    episode.exchanges, namespace=namespace, episode_id=name, outcome=episode.outcome
                )
                found.append((trajectory, [one.exchange for one in episode.exchanges]))
        return found

    def only_episode(self) -> tuple[Trajectory, list[Exchange]]:
        (found,) = self.episodes()
        return found

    def _wait_for_all(self) -> None:
        """Until nothing that was answered waits to be written."""
        pause = threading.Event()
        while True:
            with urllib.request.urlopen(f"{self.url}/v1/potstill/acknowledged", timeout=120) as response:
                told: dict[str, Any] = json.load(response)
            if not told["waiting"]:
                return
            pause.wait(0.02)


@pytest.fixture(scope="session")
def teacher() -> Iterator[tuple[Teacher, str]]:
    """The scripted teacher and its base URL."""
    script, loop = Teacher(), asyncio.new_event_loop()
    urls: list[str] = []

    async def start() -> web.AppRunner:
        runner = web.AppRunner(script.app())
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        urls.append(f"http://127.0.0.1:{runner.addresses[0][1]}/v1")
        return runner

    async def stop(runner: web.AppRunner) -> None:
        await runner.cleanup()

    runner = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield script, urls[0]
    asyncio.run_coroutine_threadsafe(stop(runner), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(scope="session")
def gateway_with() -> type[Gateway]:
    """``gateway_with(folder, *arguments)``: one of a test's own; close it."""
    return Gateway


@pytest.fixture(scope="session")
def gateway_to(
    teacher: tuple[Teacher, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Gateway]]:
    """``gateway_to(dialect)``: the gateway before the scripted teacher that speaks it; one for all tests."""
    running: dict[str, Gateway] = {}

    def gateway(dialect: str) -> Gateway:
        if dialect not in running:
            url = teacher[1].removesuffix("/v1") if dialect == "anthropic" else teacher[1]
            flags = ("--teacher", f"{url}#big-1", "--dialect", dialect)
            running[dialect] = Gateway(tmp_path_factory.mktemp(dialect), *flags)
        return running[dialect]

    yield gateway
    for one in running.values():
        one.close()


@pytest.fixture(scope="session")
def local_model(smollm2: Path) -> Iterator[LocalModel]:
    """A llama.cpp server with the tests' small model, which speaks all three dialects."""
    model = LocalModel(smollm2)
    yield model
    model.close()


@pytest.fixture(scope="session")
def gateway_to_local(
    local_model: LocalModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Gateway]]:
    """``gateway_to_local(dialect)``: the gateway before the local model, which it asks in that dialect."""
    running: dict[str, Gateway] = {}

    def gateway(dialect: str) -> Gateway:
        if dialect not in running:
            url = local_model.url if dialect == "anthropic" else f"{local_model.url}/v1"
            flags = ("--teacher", f"{url}#smollm2", "--dialect", dialect)
            running[dialect] = Gateway(tmp_path_factory.mktemp(f"local-{dialect}"), *flags)
        return running[dialect]

    yield gateway
    for one in running.values():
        one.close()
