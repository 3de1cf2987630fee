"""Two real ``potstill serve`` processes on one PostgreSQL, an upstream that both ask, and a client of either."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ADMIN_KEY = "Rk3-vQ8w_2Zt6.pLm9sX4yB7"
"""Of these tests."""

SETTINGS = """
[gateway]
port = 0
keys_required = true

[upstreams.up]
base_url = "{upstream}"
n_shares_prompt = true

[models.big]
upstream = "up"
model = "big"
price_as = "gpt-4.1"

[models.small]
upstream = "up"
model = "small"
price_as = "gpt-4.1-mini"

[routes.recorded]
teacher = "big"

[routes.staged]
teacher = "big"
student = "small"
mode = "cascade"

[routes.taught]
teacher = "big"
student = "small"
mode = "student"
context = {{ k = 1, deadline_s = 30 }}

[tenants.limited]
requests_per_minute = 20

[tenants.poor]
budget_tokens_per_day = 2000

[limits]
idle_episode_s = {idle_s}

[recording]
strict = true
"""


class Gateway:
    """A process."""

    def __init__(self, folder: Path, db: str, upstream: str, name: str, idle_s: float = 600.0) -> None:
        file = folder / f"{name}.toml"
        file.write_text(SETTINGS.format(upstream=upstream, idle_s=idle_s))
        words = [sys.executable, "-m", "potstill", "serve", "--config", str(file), "--db", db]
        told = {**os.environ, "POTSTILL_ADMIN_KEY": ADMIN_KEY}
        self.said: list[str] = []
        self.process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=told)
        self._ready = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()
        assert self._ready.wait(60), self.said

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            if "base URL" in line:
                self.url = line.split("base URL ")[1].strip().removesuffix("/v1")
                self._ready.set()

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], Any]:
        status, told, text = self.raw(method, path, body, **headers)
        return status, told, json.loads(text) if text else None

    def raw(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], str]:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=300)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        data = None if body is None else json.dumps(body).encode()
        connection.request(method, path, data, {"content-type": "application/json", **named})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, text

    def chat(self, key: str, messages: list[Any], model: str = "recorded", **headers: str) -> tuple[int, Any, Any]:
        body = {"model": model, "messages": messages}
        return self.call("POST", "/v1/chat/completions", body, authorization=f"Bearer {key}", **headers)

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        status, _, answer = self.call(method, f"/v1/potstill/{path}", body, authorization=f"Bearer {ADMIN_KEY}")
        assert status in (200, 201), (status, answer)
        return answer

    def key(self, tenant: str) -> str:
        return str(self.admin("POST", "keys", {"tenant": tenant})["text"])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(answer: Any) -> dict[str, Any]:
    found: dict[str, Any] = answer["choices"][0]["message"]
    return found


def until(holds: Callable[[], Any], within_s: float = 60.0) -> Any:
    """What ``holds`` gives once it gives something."""
    end = time.monotonic() + within_s
    while not (found := holds()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)
    return found
