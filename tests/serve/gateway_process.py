"""``potstill serve`` as a process of its own, and the rows that it finds when it starts."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import msgspec

from potstill.serve import settings_file
from potstill.serve.rollout.rows import StageRow
from potstill.serve.rollout.stages import plain
from potstill.serve.rollout.trust import trust_of
from potstill.trajectories import Store

ADMIN_KEY = "oX7-2kfLqP9zR4tVbN8wAa"


class GatewayProcess:
    """A started gateway; ``stop`` ends it as Ctrl-C does, ``kill`` as a crash."""

    def __init__(self, config: Path) -> None:
        command = [sys.executable, "-m", "potstill", "serve", "--config", str(config), "--port", "0"]
        environment = {**os.environ, "POTSTILL_ADMIN_KEY": ADMIN_KEY}
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        assert self._process.stderr is not None
        said = []
        for line in self._process.stderr:
            said.append(line)
            if "listens on " in line:
                self.url = line.split("listens on ")[1].split(":  ")[0].split(": give")[0]
                return
        raise AssertionError("".join(said))

    def __enter__(self) -> GatewayProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        self._process.terminate()
        self._process.communicate(timeout=300)

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=300)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=300)
        named = {"content-type": "application/json"}
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, None if body is None else json.dumps(body), named)
        answered = connection.getresponse()
        told = json.loads(answered.read())
        assert answered.status < 300, told
        return told, {name.lower(): value for name, value in answered.getheaders()}

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        told, _ = self.ask(method, f"/v1/potstill/{path}", body, authorization=f"Bearer {ADMIN_KEY}")
        return told

    def rollout(self, route: str) -> Any:
        (row,) = [row for row in self.admin("GET", "routes")["routes"] if row["name"] == route]
        return row["rollout"]

    def episode(self, route: str, episode: str, words: str = "go on") -> str:
        """One request of an episode; who answered it."""
        body = {"model": route, "messages": [{"role": "user", "content": words}]}
        _, headers = self.ask("POST", "/v1/chat/completions", body, x_potstill_episode=episode)
        return headers["x-potstill-answerer"]

    def outcome(self, episode: str, success: bool | None) -> None:
        self.ask("POST", f"/v1/episodes/{episode}/outcome", {"success": success})

    def until(self, route: str, wanted: Callable[[Any], bool], within_s: float = 30.0) -> Any:
        """The route's rollout as soon as it is as wanted; the last one seen if that never happens."""
        until = time.monotonic() + within_s
        while True:
            found = self.rollout(route)
            if wanted(found) or time.monotonic() > until:
                return found
            time.sleep(0.1)


def begin_at(config: Path, rows: dict[str, StageRow]) -> None:
    """Put the rollouts of routes as if the gateway had been there for a while."""
    settings = settings_file.read(config)
    with Store.open(settings.db) as store:
        for route in settings.routes:
            if route.name in rows:
                row = msgspec.structs.replace(rows[route.name], calibration=trust_of(route, settings).calibration)
                assert store.put_state("rollout", route.name, plain(row), 0)
