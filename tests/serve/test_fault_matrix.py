"""Rows of ``docs/reference/gateway-faults.md`` that no other test has: upstreams, the student, the store, the process.

The last test holds the page to the tests: each of its rows names those that show it.
"""

from __future__ import annotations

import ast
import http.client
import re
import socket
import sqlite3
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from gateway_process import GatewayProcess
from test_gateway_faults import CHAT, wait_for
from test_gateway_translation import MESSAGES, RESPONSES
from upstream_double import CLOSE, RESET, Upstream, chat_answer, reply

from potstill.serve.settings import Cascade, Gateway, Mode, Recording
from potstill.serve.settings_file import from_flags
from potstill.trajectories.store import Store

ASKED = {"/v1/chat/completions": CHAT, "/v1/responses": RESPONSES, "/v1/messages": MESSAGES}


def before(url: str, **changes: Any) -> Gateway:
    """A gateway in record mode before one upstream with these settings."""
    settings = from_flags(f"{url}#m")
    return msgspec.structs.replace(settings, upstreams=(msgspec.structs.replace(settings.upstreams[0], **changes),))


# --- upstreams --------------------------------------------------------------------------------------------------------


OWN_WORDS = {("/v1/responses", 402): 429, ("/v1/responses", 529): 503, ("/v1/messages", 503): 529}
"""Statuses that SDKs of another dialect than the upstream's know under another number."""


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 429, 500, 503, 529])
def test_an_upstreams_refusal_is_told_in_every_dialect_with_its_status(start, path: str, status: int) -> None:
    said = {"error": {"message": "so it is", "type": "x", "code": None}}
    with Upstream(lambda request: reply(said, status, headers="retry-after: 60\r\n")) as upstream:
        gateway = start(before(upstream.url))
        answered = gateway.post(path, ASKED[path])
        told = OWN_WORDS.get((path, status), status)
        assert answered.status == told
        assert answered.json["error"]["message"] == "so it is"
        assert (answered.json.get("type") == "error") is (path == "/v1/messages")
        assert len(upstream.requests) == 1
    (exchange,) = gateway.exchanges()
    assert (exchange.status, exchange.calls[0].status) == (told, status)
    assert exchange.error is not None


@pytest.mark.parametrize("end", [RESET, CLOSE], ids=["reset", "closed"])
@pytest.mark.parametrize("after", [0.0, 0.3], ids=["at once", "later"])
def test_a_new_connection_that_is_lost_is_a_502_and_never_asked_again(start, end: float, after: float) -> None:
    with Upstream(lambda request: [after, end]) as upstream:
        gateway = start(before(upstream.url))
        answered = gateway.post("/v1/chat/completions", CHAT)
        assert (answered.status, answered.json["error"]["code"]) == (502, "connection_lost")
        assert len(upstream.requests) == 1, "what was sent on a new connection may have been executed"
    assert gateway.exchanges()[0].calls[0].status == 0


def test_half_a_head_is_a_502_and_never_asked_again(start) -> None:
    whole = reply(chat_answer())
    with Upstream(lambda request: [whole[:30], CLOSE] if request.number else whole) as upstream:
        gateway = start(before(upstream.url))
        assert gateway.post("/v1/chat/completions", CHAT).status == 200
        assert gateway.post("/v1/chat/completions", CHAT).status == 502
        assert len(upstream.requests) == 2, "the upstream had begun to answer"
    assert gateway.exchanges()[1].calls[0].status == 0


@pytest.mark.parametrize("path", ASKED)
def test_an_upstream_that_drips_is_a_timeout(start, path: str) -> None:
    drops = [reply(chat_answer())[:40], *[0.1, b" "] * 100]
    with Upstream(lambda request: iter(drops)) as upstream:
        gateway = start(before(upstream.url, timeout_s=1.5, idle_timeout_s=60.0))
        answered = gateway.post(path, ASKED[path])
        assert answered.status == 504
        assert "timeout_s" in answered.json["error"]["message"]
        wait_for(lambda: upstream.requests and upstream.requests[0].gone.is_set())
    assert gateway.exchanges()[0].error.kind == "timeout"


def test_tls_that_fails_is_a_502(start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:
        port = plain.getsockname()[1]

        def refuse() -> None:
            connection, _ = plain.accept()
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
            connection.recv(1000)
            connection.close()

        threading.Thread(target=refuse, daemon=True).start()
        gateway = start(before(f"https://127.0.0.1:{port}/v1", retries=0))
        answered = gateway.post("/v1/chat/completions", CHAT)
        assert (answered.status, answered.json["error"]["code"]) == (502, "unreachable")
    assert gateway.exchanges()[0].calls[0].status == 0


def test_a_name_that_nobody_knows_is_a_502(start, monkeypatch) -> None:
    from aiohttp.resolver import ThreadedResolver

    async def unknown(self: Any, host: str, *_: Any, **__: Any) -> Any:
        raise OSError(None, f"{host}: Name or service not known")

    monkeypatch.setattr(ThreadedResolver, "resolve", unknown)
    gateway = start(before("http://models.example/v1", retries=0))
    answered = gateway.post("/v1/chat/completions", CHAT)
    assert (answered.status, answered.json["error"]["code"]) == (502, "unreachable")
    assert gateway.exchanges()[0].calls[0].status == 0


# --- the student ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("student", "deadline_s", "said"),
    [
        ([30.0, reply(chat_answer("late"))], 1.0, "no answer within"),
        (reply({"error": {"message": "oops"}}, 500), 60.0, "student"),
        (reply(b"<html>"), 60.0, "student"),
        ([RESET], 60.0, "student"),
    ],
    ids=["slow", "500", "no JSON", "reset"],
)
def test_a_student_that_fails_over_http_is_the_teachers_turn(start, student: Any, deadline_s: float, said: str) -> None:
    with Upstream(lambda request: reply(chat_answer("taught"))) as teacher, Upstream(lambda request: student) as small:
        settings = from_flags(f"{teacher.url}#big", f"{small.url}#small", mode=Mode.STUDENT)
        route = msgspec.structs.replace(settings.routes[0], cascade=Cascade(deadline_s=deadline_s))
        gateway = start(msgspec.structs.replace(settings, routes=(route,)))
        answered = gateway.post("/v1/chat/completions", CHAT)
        assert answered.json["choices"][0]["message"]["content"] == "taught"
        assert answered.headers["x-potstill-answerer"] == "teacher"
        assert small.requests
    (exchange,) = gateway.exchanges()
    assert any(said in note for note in exchange.notes), exchange.notes
    assert exchange.answerer == "teacher"


# --- the store --------------------------------------------------------------------------------------------------------


def test_a_store_that_another_process_locks_delays_the_record_and_not_the_answer(start, tmp_path: Path) -> None:
    with Upstream(lambda request: reply(chat_answer())) as upstream:
        gateway = start(before(upstream.url))
        other = sqlite3.connect(gateway.settings.db, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        told = [gateway.post("/v1/chat/completions", CHAT) for _ in range(3)]
        assert [answered.status for answered in told] == [200] * 3
        assert gateway.get("/v1/potstill/acknowledged").json["seq"] == 0
        other.execute("ROLLBACK")
        other.close()
        wait_for(lambda: gateway.get("/v1/potstill/acknowledged").json["seq"] == 3)
    assert len(gateway.exchanges()) == 3


def test_a_full_disk_costs_records_until_there_is_room_again(start, small_disk: Path) -> None:
    with Upstream(lambda request: reply(chat_answer())) as upstream:
        gateway = start(before(upstream.url), db=str(small_disk / "g.db"), recording=Recording(strict=True))
        assert "x-potstill-seq" in gateway.post("/v1/chat/completions", CHAT).headers
        ballast = small_disk / "ballast"
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                continue
        large = {**CHAT, "messages": [{"role": "user", "content": "".join(map(chr, range(0x4E00, 0x9000)))}]}
        answered = gateway.post("/v1/chat/completions", large)
        assert (answered.status, answered.headers.get("x-potstill-recording")) == (200, "failed")
        assert b"potstill_record_failures_total 1" in gateway.get("/metrics").body
        ballast.unlink()
        assert "x-potstill-seq" in gateway.post("/v1/chat/completions", CHAT).headers
    assert len(gateway.exchanges()) == 2


def test_a_store_that_is_damaged_while_it_is_used_costs_records_and_not_answers(start) -> None:
    with Upstream(lambda request: reply(chat_answer())) as upstream:
        gateway = start(before(upstream.url), recording=Recording(strict=True))
        assert gateway.post("/v1/chat/completions", CHAT).status == 200
        for name in (gateway.settings.db, f"{gateway.settings.db}-wal"):
            with open(name, "r+b") as file:
                file.write(b"\xa5" * Path(name).stat().st_size)
        told = [gateway.post("/v1/chat/completions", {**CHAT, "user": "x" * 9000}) for _ in range(3)]
        assert [answered.status for answered in told] == [200] * 3
        assert all(("x-potstill-seq" in one.headers) != ("x-potstill-recording" in one.headers) for one in told)
        assert gateway.get("/healthz").status == 200
        gateway.server.stop()


@pytest.mark.parametrize("broken", ["corrupt", "folder", "read-only"])
def test_a_store_that_cannot_be_used_keeps_the_gateway_from_starting(tmp_path: Path, broken: str, request) -> None:
    place = tmp_path / "g.db"
    if broken == "corrupt":
        place.write_bytes(b"no database at all " * 500)
    elif broken == "folder":
        place.mkdir()
    else:
        disk = request.getfixturevalue("small_disk")
        place = disk / "g.db"
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    command = [sys.executable, "-m", "potstill", "serve", "--teacher", "http://127.0.0.1:9/v1#m", "--port", "0"]
    done = subprocess.run([*command, "--db", str(place)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode != 0
    assert "error:" in done.stderr
    assert place.name in done.stderr
    assert "Traceback" not in done.stderr


# --- the process ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strict", ["true", "false"])
def test_a_sigkill_under_load_loses_nothing_that_was_acknowledged(tmp_path: Path, strict: str) -> None:
    config, told, stop = tmp_path / "g.toml", dict[str, int](), threading.Event()
    with Upstream(lambda request: reply(chat_answer())) as upstream:
        config.write_text(
            f'[gateway]\ndb = "{tmp_path / "g.db"}"\ndefault_route = "a"\n[recording]\nstrict = {strict}\n'
            f'[upstreams.u]\nbase_url = "{upstream.url}"\n[models.m]\nupstream = "u"\nmodel = "m"\n'
            '[routes.a]\nteacher = "m"\n'
        )
        gateway = GatewayProcess(config)
        clients = [threading.Thread(target=load, args=(gateway, number, told, stop)) for number in range(4)]
        for client in clients:
            client.start()
        wait_for(lambda: len(told) >= 60, 60)
        gateway.kill()
        stop.set()
        for client in clients:
            client.join()
    with Store.open(tmp_path / "g.db") as store:
        kept = {row.exchange.request_id: row.seq for row in store.recent(None, 0, 100_000)}
        assert store.check() == []
    assert told.items() <= kept.items()


def load(gateway: GatewayProcess, number: int, told: dict[str, int], stop: threading.Event) -> None:
    """Requests one after the other, until the gateway is gone; ``told`` is what it acknowledged."""
    turn = 0
    while not stop.is_set():
        body = {"model": "m", "messages": [{"role": "user", "content": f"client {number} turn {turn}"}]}
        turn += 1
        try:
            _, headers = gateway.ask("POST", "/v1/chat/completions", body)
            request_id, seq = headers["x-potstill-request-id"], headers.get("x-potstill-seq")
            while seq is None:
                found, _ = gateway.ask("GET", f"/v1/potstill/acknowledged?request_id={request_id}")
                seq = found["request"]["seq"]
        except (OSError, http.client.HTTPException):
            return
        told[request_id] = int(seq)


# --- the page ---------------------------------------------------------------------------------------------------------

NAMED = re.compile(r"`((?:\w+/)+\w+\.py)::(\w+)`")


def test_every_row_of_the_page_names_tests_that_exist(repository: Path) -> None:
    page = (repository / "docs/reference/gateway-faults.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| fault")]
    assert len(rows) > 30
    for row in rows:
        named = NAMED.findall(row)
        assert named, row
        for file, name in named:
            tree = ast.parse((repository / "tests" / file).read_text())
            functions = {one.name for one in ast.walk(tree) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}
            assert name in functions, f"{file}::{name} of the row {row}"
