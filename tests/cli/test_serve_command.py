"""``potstill serve`` as a process: it says where it listens, serves, drains on a signal, and refuses in one line."""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
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
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=300, env=told, check=False)


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
        with urllib.request.urlopen(asked, timeout=120) as answer:
            assert json.load(answer) == ANSWER
    finally:
        process.send_signal(sent)
        process.wait(30)
    with Store.read(db) as store:
        assert store.open_episodes() == []
        (trajectory,) = store.select()
        assert (trajectory.metadata["routes"], len(trajectory.steps)) == (["any"], 1)


@pytest.mark.llm
@pytest.mark.parametrize("both", [False, True])
def test_a_model_on_this_machine(upstream: str, tmp_path: Path, smollm2: Path, both: bool) -> None:
    """Its answers tell its name, not where its file lies, and cost no money."""
    teacher = "local:smollm2-135m" if both else f"{upstream}#big"
    flags = ["--teacher", teacher, "--student", "local:smollm2-135m", "--mode", "student"]
    more = ["--port", "0", "--db", str(tmp_path / "s.db")]
    process = subprocess.Popen(command(*flags, *more), stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = next(line for line in iter(process.stderr.readline, "") if "base URL" in line)
        url = line.split("base URL ")[1].strip()
        body = json.dumps({"model": "any", "max_tokens": 8, "messages": [{"role": "user", "content": "hi"}]}).encode()
        asked = urllib.request.Request(f"{url}/chat/completions", body, {"content-type": "application/json"})
        with urllib.request.urlopen(asked, timeout=300) as answer:
            assert answer.headers["x-potstill-answerer"] == "student"
            told = json.load(answer)
            assert told["choices"][0]["message"]["content"]
            assert told["model"] == "smollm2-135m"
    finally:
        process.terminate()
        process.wait(30)
    shown = [sys.executable, "-m", "potstill", "measure", "--db", str(tmp_path / "s.db"), "--json"]
    (row,) = json.loads(subprocess.run(shown, capture_output=True, text=True, check=True).stdout)["arms"]
    assert row["cost_per_episode_usd"] in (0.0, None)


@pytest.mark.parametrize(("spec", "word"), [("local:smollm", "Did you mean"), ("local:no.gguf", "There is no file")])
@pytest.mark.parametrize("role", ["teacher", "student"])
def test_check_refuses_a_local_model_that_is_not_there(role: str, spec: str, word: str) -> None:
    flags = {"teacher": "http://h/v1#big"} | {role: spec}
    done = run(*(part for name, value in flags.items() for part in (f"--{name}", value)), "--check")
    assert (done.returncode, word in done.stderr) == (2, True), done.stderr


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
    assert done.returncode == 2
    assert "port is taken" in done.stderr
    assert "unexpected" not in done.stderr


def test_ctrl_c_says_what_is_waited_for(tmp_path: Path) -> None:
    asked = threading.Event()

    class Slow(Upstream):
        def do_POST(self) -> None:
            asked.set()
            time.sleep(1.0)
            super().do_POST()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    flags = ["--teacher", f"http://127.0.0.1:{server.server_address[1]}/v1#big", "--port", "0"]
    process = subprocess.Popen(command(*flags, "--db", str(tmp_path / "s.db")), stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        url = process.stderr.readline().split("base URL ")[1].strip()
        body = json.dumps({"model": "any", "messages": []}).encode()
        request = urllib.request.Request(f"{url}/chat/completions", body, {"content-type": "application/json"})
        threading.Thread(target=lambda: urllib.request.urlopen(request, timeout=120).read(), daemon=True).start()
        assert asked.wait(30)
        process.send_signal(signal.SIGINT)
        told = process.stderr.read()
    finally:
        process.terminate()
        process.wait(30)
        server.shutdown()
        server.server_close()
    assert "draining, 1 request, for up to 30 s; Ctrl-C again to stop at once" in told


KEYED = """
[upstreams.u]
base_url = "http://127.0.0.1:1/v1"
key_env = "POTSTILL_NO_SUCH_KEY"
[models.m]
upstream = "u"
model = "m"
[routes.auto]
teacher = "m"
"""
STUDENT = """
[upstreams.u]
base_url = "http://127.0.0.1:1/v1"
[models.m]
upstream = "u"
model = "m"
[routes.auto]
teacher = "m"
student = "m"
mode = "cascade"
[routes.auto.cascade]
calibration = "/nowhere/calibration.json"
"""
COLLECTOR = """
[upstreams.u]
base_url = "http://127.0.0.1:1/v1"
[models.m]
upstream = "u"
model = "m"
[routes.auto]
teacher = "m"
[otel]
endpoint = "http://127.0.0.1:1"
headers_env = { authorization = "POTSTILL_NO_SUCH_KEY" }
"""


@pytest.mark.parametrize("check", [(), ("--check",)], ids=["served", "checked"])
@pytest.mark.parametrize(
    ("text", "word"),
    [
        (KEYED, "POTSTILL_NO_SUCH_KEY, which is not set"),
        (STUDENT, "Cannot read the calibration"),
        (COLLECTOR, "'authorization' is taken from POTSTILL_NO_SUCH_KEY"),
    ],
    ids=["key", "calibration", "collector"],
)
def test_check_refuses_what_serve_refuses(tmp_path: Path, text: str, word: str, check: tuple[str, ...]) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(text)
    done = run("--config", str(file), "--port", "0", "--db", str(tmp_path / "s.db"), *check)
    assert done.returncode == 2
    assert word in done.stderr


@pytest.mark.parametrize("check", [(), ("--check",)], ids=["served", "checked"])
def test_check_refuses_keys_and_stores_that_serve_refuses(tmp_path: Path, check: tuple[str, ...]) -> None:
    flags = ("--teacher", "http://127.0.0.1:1/v1#m", "--port", "0")
    weak = run(*flags, "--db", str(tmp_path / "s.db"), *check, POTSTILL_ADMIN_KEY="sk-1234")
    assert weak.returncode == 2
    assert "too weak" in weak.stderr
    nowhere = run(*flags, "--db", "/proc/x.db", *check)
    assert nowhere.returncode != 0
    assert "/proc" in nowhere.stderr
    assert "No space left" not in nowhere.stderr
    other = tmp_path / "other.db"
    other.write_text("no store, but quite a long text " * 40)
    assert run(*flags, "--db", str(other), *check).returncode != 0
    assert not (tmp_path / "s.db").exists()


def test_a_missing_extra_is_told_by_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from potstill.errors import MissingExtra
    from potstill.serve import preflight, settings_file

    settings = settings_file.from_flags("http://127.0.0.1:1/v1#m", db=str(tmp_path / "s.db"))
    preflight.check(settings, None)
    monkeypatch.setitem(sys.modules, "httptools", None)
    with pytest.raises(MissingExtra, match="serve"):
        preflight.check(settings, None)
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", None)
    import msgspec

    otel = msgspec.structs.replace(settings.otel, endpoint="http://127.0.0.1:1")
    with pytest.raises(MissingExtra, match="otel"):
        preflight.check(msgspec.structs.replace(settings, otel=otel), None)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtra, match="postgres"):
        preflight.check(msgspec.structs.replace(settings, db="postgresql://h/d"), None)


def test_the_modes_say_at_the_start_what_the_student_is_asked() -> None:
    flags = ("--teacher", "http://h/v1#big", "--student", "http://h/v1#small", "--check")
    assert "at 10 % of the requests" in run(*flags).stderr
    cascade = run(*flags, "--mode", "cascade").stderr
    assert "begins in shadow" in cascade
    assert "rollout = false" in cascade


def test_a_pattern_of_names_is_taken_and_one_that_matches_nothing_is_told(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    routes = '[upstreams.u]\nbase_url = "http://h/v1"\n[models.m]\nupstream = "u"\nmodel = "m"\n'
    routes += '[routes."potstill/auto"]\nteacher = "m"\n'
    file.write_text(routes + '[tenants.team-a]\nmodels = ["potstill/auto", "gpt-6-*"]\n')
    done = run("--config", str(file), "--db", str(tmp_path / "s.db"), "--check")
    assert done.returncode == 0, done.stderr
    assert "no route matches 'gpt-6-*' of the tenant 'team-a'" in done.stderr
    file.write_text('[gateway]\npassthrough = "u"\n' + routes + '[tenants.team-a]\nmodels = ["gpt-6-*"]\n')
    passed = run("--config", str(file), "--db", str(tmp_path / "s.db"), "--check")
    assert (passed.returncode, "matches" in passed.stderr) == (0, False), passed.stderr
