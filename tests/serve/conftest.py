"""A real gateway on a free port, and a client that sees every byte."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from potstill.serve import settings_file
from potstill.serve.rollout import stages
from potstill.serve.server import GatewayServer
from potstill.serve.settings import Gateway
from potstill.trajectories.store import Store

Start = Callable[..., "Running"]


class Answered:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Running:
    """A started gateway."""

    def __init__(self, server: GatewayServer) -> None:
        self.server = server
        self.settings = server.settings
        self.url = server.url

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=120)

    def post(self, path: str, body: Any, **headers: str) -> Answered:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection = self.connect()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", path, data, {"content-type": "application/json", **named})
        answered = Answered(connection.getresponse())
        connection.close()
        return answered

    def get(self, path: str, **headers: str) -> Answered:
        connection = self.connect()
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answered = Answered(connection.getresponse())
        connection.close()
        return answered

    def stop(self) -> Store:
        """Stop it and open what it recorded."""
        self.server.stop()
        return Store.open(self.settings.db)

    def exchanges(self) -> list[Any]:
        """All that was recorded, after a stop."""
        with self.stop() as store:
            return [row.exchange for row in store.recent(None, 0, 1000)]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """``start(teacher=URL#MODEL, ...)`` or ``start(Gateway(...))``; further names replace settings.

    A machine that stands still for seconds makes a state stale, and then the teacher answers: not what a test that
    counts answers of the student is about. What a stale state does is tested with a clock of its own (``test_stages``).
    """
    monkeypatch.setattr(stages, "STALE_S", 120.0)
    with ExitStack() as stack:

        def started(settings: Gateway | None = None, *, admin_key: str | None = None, **more: Any) -> Running:
            if settings is None:
                flags = {name: more.pop(name) for name in ("teacher", "student", "dialect", "mode") if name in more}
                settings = settings_file.from_flags(**flags)
            changed = {"port": 0, "db": str(tmp_path / "gateway.db"), **more}
            settings = msgspec.structs.replace(settings, **changed)
            server = stack.enter_context(GatewayServer(settings, admin_key=admin_key))
            return Running(server)

        yield started
