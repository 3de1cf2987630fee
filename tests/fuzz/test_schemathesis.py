"""Schemathesis against a running ``potstill serve``: requests by the description and against it, and what it promises.

The process is the command that users type, with keys off, an admin key, a student in shadow and scripted upstreams. For
each operation: no status that is not described, bodies as described, no 5xx that the upstream did not cause, no
connection that breaks. What the process wrote to stderr must hold no traceback.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from upstream_double import END, STREAM, Request, Upstream, chat_answer, chat_stream, chunk, reply

from potstill.serve.app import described

ADMIN_KEY = "fuzzers-admin-key-7f31c2d9a4"
ADMIN = re.compile(r"/v1/potstill/(?!acknowledged|openapi)")
CONFIG = """
[gateway]
default_route = "potstill/auto"

[upstreams.up]
base_url = "{url}"
retries = 0
idle_timeout_s = 5

[models.big]
upstream = "up"
model = "big"

[models.small]
upstream = "up"
model = "small"

[routes."potstill/auto"]
teacher = "big"
student = "small"
mode = "shadow"
"""
DOCUMENT = json.loads(described())
OPERATIONS = [(method, path) for path, item in DOCUMENT["paths"].items() for method in item]
FEW, MANY = 3, 25
CLI_EXAMPLES = 8


@pytest.fixture(scope="module")
def schema() -> Any:
    """Made when a test needs it: schemathesis takes seconds to be imported."""
    schemathesis = pytest.importorskip("schemathesis", reason="pip install 'potstill[test]' brings schemathesis")
    return schemathesis.openapi.from_dict(DOCUMENT)


def healthy(request: Request) -> Any:
    """An upstream that takes anything."""
    if request.path.endswith("/embeddings"):
        return reply({"object": "list", "data": [], "model": "big", "usage": {"prompt_tokens": 1, "total_tokens": 1}})
    if not request.path.endswith("/completions"):  # what it keeps, by its id
        return reply(chat_answer())
    if request.json.get("stream"):
        return [STREAM, *(chunk(event) for event in chat_stream("hel", "lo")), END]
    return reply(chat_answer())


class Served:
    """The command, running."""

    def __init__(self, folder: Path) -> None:
        self.upstream = Upstream(healthy)
        config = folder / "gateway.toml"
        config.write_text(CONFIG.format(url=self.upstream.url))
        self._stderr = folder / "stderr"
        with self._stderr.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "potstill", "serve", "--config", str(config), "--port", "0", "--db", "g.db"],
                cwd=folder,
                env={**os.environ, "POTSTILL_ADMIN_KEY": ADMIN_KEY},
                stderr=file,
            )
        self.url = self._wait()

    def _wait(self) -> str:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if found := re.search(r"listens on (http://\S+):", self.said()):
                return found[1]
            assert self.process.poll() is None, self.said()
            time.sleep(0.05)
        raise AssertionError(self.said())

    def said(self) -> str:
        return self._stderr.read_text()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) in (0, -signal.SIGTERM), self.said()
        self.upstream.close()
        assert "Traceback" not in self.said()
        assert ADMIN_KEY not in self.said()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    running = Served(tmp_path_factory.mktemp("served"))
    yield running
    running.stop()


def aimed(case: Any) -> dict[str, str]:
    """Who asks; and values without which nothing but a 404, a 429 or a wait of seconds would be seen."""
    query, path = case.query or {}, case.path_parameters or {}
    if case.path.endswith("/live"):
        case.query = {**query, "wait_s": 0.01} if _is_wait(query.get("wait_s", 25)) else query
    if case.path.endswith("/outcome"):
        case.path_parameters = {**path, "episode": "known"} | ({"tenant": "default"} if "tenant" in path else {})
    if "routes/{name}" in case.path:
        case.path_parameters = {**path, "name": "potstill/auto"}
    return {"Authorization": f"Bearer {ADMIN_KEY}"} if ADMIN.match(case.path) else {}


def _is_wait(value: Any) -> bool:
    try:
        return 0 <= float(value) <= 60
    except (TypeError, ValueError):
        return False


def ask(case: Any, served: Served) -> None:
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    held = [
        not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_headers_conformance,
        checks.response_schema_conformance,
    ]
    response = case.call(base_url=served.url, headers=aimed(case), timeout=120)
    case.validate_response(response, checks=held)
    assert ADMIN_KEY not in response.text


@pytest.fixture(scope="module", autouse=True)
def _known_episode(served: Served) -> None:
    import urllib.request

    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
    sent = {"content-type": "application/json", "x-potstill-episode": "known"}
    with urllib.request.urlopen(urllib.request.Request(f"{served.url}/v1/chat/completions", body, sent)) as answered:
        assert answered.status == 200


def ask_many(method: str, path: str, schema: Any, served: Served, examples: int) -> None:
    """Requests by the description, and such as break it where there is something to break."""
    from schemathesis import GenerationMode

    operation = schema[path][method]
    told = DOCUMENT["paths"][path][method]
    modes = [GenerationMode.POSITIVE]
    if "requestBody" in told or any(one.get("in") == "query" for one in told.get("parameters", ())):
        modes.append(GenerationMode.NEGATIVE)
    for mode in modes:

        @seed(1)
        @settings(max_examples=examples, database=None, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def one(case: Any) -> None:
            ask(case, served)

        one()


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_operation_answers_as_described(method: str, path: str, schema: Any, served: Served) -> None:
    ask_many(method, path, schema, served, FEW)


@pytest.mark.slow
@pytest.mark.full
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_operation_answers_many_requests(method: str, path: str, schema: Any, served: Served) -> None:
    ask_many(method, path, schema, served, MANY)


@pytest.mark.slow
@pytest.mark.full
def test_the_command_of_schemathesis_finds_nothing(schema: Any, served: Served) -> None:
    """With its own phases: borders of every parameter, other methods, and links from one answer to the next request."""
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{served.url}/v1/potstill/openapi.json"]
    flags = [
        *("--url", served.url, "--checks", checks, "--max-examples", str(CLI_EXAMPLES), "--seed", "1"),
        *("--exclude-path-regex", "live|outcome", "--header", f"Authorization: Bearer {ADMIN_KEY}"),
        *("--request-timeout", "30", "--no-color", "--generation-database", "none", "--workers", "1"),
    ]
    done = subprocess.run([*command, *flags], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
