"""``potstill serve`` as a process: it says where it listens, serves, drains on a signal, and refuses in one line."""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from potstill.trajectories.store import Store

ANSWER = {"id": "1", "object": "chat.completion", "model": "big", "choices": [], "usage": {"prompt_tokens": 1}}


class Upstream(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps(ANSWER).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        """Tests say enough."""


@pytest.fixture
def upstream() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "potstill", "serve", *arguments]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    told = {**os.environ, **environment}
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=60, env=told, check=False)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_records_and_stops_on_a_signal(upstream: str, tmp_path: Path, sent: signal.Signals) -> None:
    db = tmp_path / "s.db"
    flags = ["--teacher", f"{upstream}#big", "--port", "0", "--db", str(db)]
    process = subprocess.Popen(command(*flags), stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        url = line.split("base URL ")[1].strip()
        body = json.dumps({"model": "any", "messages": []}).encode()
        asked = urllib.request.Request(f"{url}/chat/completions", body, {"content-type": "application/json"})
        with urllib.request.urlopen(asked, timeout=30) as answer:
            assert json.load(answer) == ANSWER
    finally:
        process.send_signal(sent)
        process.wait(30)
    with Store.read(db) as store:
        assert store.open_episodes() == []
        (trajectory,) = store.select()
        assert (trajectory.metadata["routes"], len(trajectory.steps)) == (["any"], 1)


@pytest.mark.llm
def test_a_student_on_this_machine(upstream: str, tmp_path: Path, smollm2: Path) -> None:
    flags = ["--teacher", f"{upstream}#big", "--student", "local:smollm2-135m", "--mode", "student"]
    more = ["--port", "0", "--db", str(tmp_path / "s.db")]
    process = subprocess.Popen(command(*flags, *more), stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = next(line for line in iter(process.stderr.readline, "") if "base URL" in line)
        url = line.split("base URL ")[1].strip()
        body = json.dumps({"model": "any", "max_tokens": 8, "messages": [{"role": "user", "content": "hi"}]}).encode()
        asked = urllib.request.Request(f"{url}/chat/completions", body, {"content-type": "application/json"})
        with urllib.request.urlopen(asked, timeout=60) as answer:
            assert answer.headers["x-potstill-answerer"] == "student"
            assert json.load(answer)["choices"][0]["message"]["content"]
    finally:
        process.terminate()
        process.wait(30)


def test_check_prints_the_routes() -> None:
    done = run("--teacher", "http://h/v1#big", "--student", "local:smollm2-135m", "--check", "--json")
    assert done.returncode == 0, done.stderr
    (route,) = json.loads(done.stdout)
    assert (route["route"], route["mode"], route["teacher"]) == ("any", "shadow", "big")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((), "Type: potstill serve --teacher"),
        (("--teacher", "big"), "is no address"),
        (("--teacher", "http://h/v1#m", "--mode", "cascade"), "has no student"),
        (("--teacher", "http://h/v1#m", "--host", "0.0.0.0"), "--key-env NAME"),
        (("--config", "/nowhere.toml"), "cannot be read"),
        (("--config", "/nowhere.toml", "--teacher", "http://h/v1#m"), "exclude each other"),
    ],
)
def test_what_cannot_be_served_is_one_line(arguments: tuple[str, ...], word: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert word in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_weak_admin_key_is_refused(tmp_path: Path) -> None:
    flags = ("--teacher", "http://h/v1#m", "--port", "0", "--db", str(tmp_path / "s.db"))
    done = run(*flags, POTSTILL_ADMIN_KEY="sk-1234")
    assert done.returncode == 2
    assert "sk-1234" not in done.stderr
    assert "too weak" in done.stderr


def test_a_taken_port_is_told(upstream: str, tmp_path: Path) -> None:
    port = upstream.rpartition(":")[2].partition("/")[0]
    done = run("--teacher", f"{upstream}#m", "--port", port, "--db", str(tmp_path / "s.db"))
    assert done.returncode == 1
    assert "port is taken" in done.stderr
