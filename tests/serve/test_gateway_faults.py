"""What clients see and what is recorded when something goes wrong, against a real gateway and a real socket."""

from __future__ import annotations

import json
import socket
import threading
import time
from urllib.parse import urlsplit

import pytest
from upstream_double import (
    CLOSE,
    DONE,
    END,
    RESET,
    STREAM,
    Upstream,
    chat_answer,
    chat_event,
    chat_stream,
    chunk,
    reply,
)

from potstill.serve.settings import Limits, Overflow, Recording
from potstill.serve.settings_file import from_flags

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
STREAMED = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}


def wait_for(true, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


def test_429_with_a_short_wait_is_asked_again(start) -> None:
    def answer(request):
        if request.number == 0:
            return reply({"error": {"message": "slow down"}}, 429, headers="retry-after: 0\r\n")
        return reply(chat_answer())

    with Upstream(answer) as upstream:
        gateway = start(teacher=f"{upstream.url}#m")
        assert gateway.post("/v1/chat/completions", CHAT).status == 200
        assert len(upstream.requests) == 2


@pytest.mark.parametrize("retry_after", ["3600", "0"])
def test_429_that_does_not_pass_is_told_as_it_came(start, retry_after: str) -> None:
    said = {"error": {"message": "slow down", "type": "rate_limit_error", "code": "insufficient_quota"}}
    with Upstream(lambda request: reply(said, 429, headers=f"retry-after: {retry_after}\r\n")) as upstream:
        gateway = start(teacher=f"{upstream.url}#m")
        answered = gateway.post("/v1/chat/completions", CHAT)
        assert (answered.status, answered.json) == (429, said)
        assert answered.headers["retry-after"] == retry_after
        assert len(upstream.requests) == 1
    (exchange,) = gateway.exchanges()
    assert exchange.status == 429
    assert exchange.calls[0].status == 429
    assert exchange.error is not None


@pytest.mark.parametrize("status", [302, 600, 999])
def test_a_status_that_no_client_understands_is_a_502(start, status: int) -> None:
    with Upstream(lambda request: reply({}, status, headers="location: http://169.254.169.254/\r\n")) as upstream:
        gateway = start(teacher=f"{upstream.url}#m")
        assert gateway.post("/v1/chat/completions", CHAT).status == 502
        assert len(upstream.requests) == 1


def test_any_name_of_an_episode_fits_into_a_header(start) -> None:
    with Upstream(lambda request: reply(chat_answer())) as upstream:
        gateway = start(teacher=f"{upstream.url}#m")
        answered = gateway.post("/v1/chat/completions", {**CHAT, "metadata": {"session_id": "a\r\nb: \u00e9"}})
        assert answered.status == 200
        assert "b" not in answered.headers


def test_500_is_told_and_never_asked_again(start) -> None:
    with Upstream(lambda request: reply({"error": {"message": "oops"}}, 500)) as upstream:
        gateway = start(teacher=f"{upstream.url}#m")
        answered = gateway.post("/v1/chat/completions", CHAT)
        assert (answered.status, answered.json["error"]["message"]) == (500, "oops")
        assert len(upstream.requests) == 1


def test_a_connection_found_closed_is_opened_again(start) -> None:
    with Upstream(lambda request: [RESET] if request.number == 1 else reply(chat_answer())) as upstream:
        gateway = start(teacher=f"{upstream.url}#m")
        assert [gateway.post("/v1/chat/completions", CHAT).status for _ in range(2)] == [200, 200]
        assert len(upstream.requests) == 3


def test_an_upstream_that_is_not_there(start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    gateway = start(teacher=f"http://127.0.0.1:{port}/v1#m")
    answered = gateway.post("/v1/chat/completions", CHAT)
    assert answered.status == 502
    assert "No connection to the upstream 'teacher'" in answered.json["error"]["message"]
    (exchange,) = gateway.exchanges()
    assert exchange.calls[0].status == 0
    assert exchange.calls[0].error is not None


@pytest.mark.parametrize("body", [b"<html>bad gateway</html>", b'{"id": "x"', b"[]", b""])
def test_an_answer_that_is_not_json_is_a_502(start, body: bytes) -> None:
    with Upstream(lambda request: reply(body)) as upstream:
        gateway = start(teacher=f"{upstream.url}#m")
        answered = gateway.post("/v1/chat/completions", CHAT)
        assert answered.status == 502
        assert "not JSON" in answered.json["error"]["message"]
    assert gateway.exchanges()[0].calls[0].response in (body, None)


def test_a_whole_answer_that_breaks_off_is_a_502(start) -> None:
    half = reply(chat_answer())[:-10]
    with Upstream(lambda request: [half, CLOSE]) as upstream:
        gateway = start(teacher=f"{upstream.url}#m")
        answered = gateway.post("/v1/chat/completions", CHAT)
        assert answered.status == 502
        assert answered.json["error"]["code"] == "cut_off"


@pytest.mark.parametrize("how", [RESET, CLOSE])
def test_half_a_stream_ends_with_an_error_that_clients_understand(start, how: float) -> None:
    first = chat_event({"content": "hel"})
    with Upstream(lambda request: [STREAM, chunk(first), chunk(b'data: {"id": "ch'), 0.05, how]) as upstream:
        gateway = start(teacher=f"{upstream.url}#m")
        answered = gateway.post("/v1/chat/completions", STREAMED)
        assert answered.status == 200
        assert answered.body.startswith(first + b"data: ")
        assert json.loads(answered.body.removeprefix(first + b"data: "))["error"]["message"]
    (exchange,) = gateway.exchanges()
    assert not exchange.complete
    assert exchange.response == answered.body
    assert exchange.error is not None


def test_a_stream_that_ends_well_formed_but_unfinished_is_told_too(start) -> None:
    with Upstream(lambda request: [STREAM, chunk(chat_event({"content": "hel"})), END]) as upstream:
        gateway = start(teacher=f"{upstream.url}#m")
        assert b'"error"' in gateway.post("/v1/chat/completions", STREAMED).body
    assert not gateway.exchanges()[0].complete


def test_a_stream_that_breaks_before_its_first_event_is_a_status(start) -> None:
    with Upstream(lambda request: [STREAM, 0.05, RESET]) as upstream:
        gateway = start(teacher=f"{upstream.url}#m")
        assert gateway.post("/v1/chat/completions", STREAMED).status == 502


def test_silence_is_a_timeout(start) -> None:
    import msgspec

    with Upstream(lambda request: [5.0, reply(chat_answer())]) as upstream:
        settings = from_flags(f"{upstream.url}#m")
        slow = msgspec.structs.replace(settings.upstreams[0], idle_timeout_s=0.2)
        gateway = start(msgspec.structs.replace(settings, upstreams=(slow,)))
        answered = gateway.post("/v1/chat/completions", CHAT)
        assert answered.status == 504
        assert "silent" in answered.json["error"]["message"]
        wait_for(lambda: upstream.requests and upstream.requests[0].gone.is_set())


@pytest.mark.parametrize("body", [CHAT, STREAMED])
def test_a_client_that_leaves_ends_the_work_upstream(start, body) -> None:
    def answer(request):
        if request.json.get("stream"):
            yield STREAM
            yield chunk(chat_event({"content": "a"}))
        yield 20.0
        yield reply(chat_answer())

    with Upstream(answer) as upstream:
        gateway = start(teacher=f"{upstream.url}#m")
        connection = gateway.connect()
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
        wait_for(lambda: upstream.requests)
        time.sleep(0.1)
        connection.sock.close()
        wait_for(upstream.requests[0].gone.is_set)
        wait_for(lambda: b'potstill_cut_answers_total{route="any",by="client"} 1' in gateway.get("/metrics").body)
    (exchange,) = gateway.exchanges()
    assert not exchange.complete
    assert exchange.error is not None
    assert exchange.error.kind == "ClientLeft"


def test_a_body_beyond_the_limit_is_refused_while_it_is_read(start) -> None:
    gateway = start(teacher="http://127.0.0.1:9/v1#m", limits=Limits(max_request_bytes=1000))
    answered = gateway.post("/v1/chat/completions", {**CHAT, "x": "y" * 2000})
    assert answered.status == 413
    with socket.create_connection((urlsplit(gateway.url).hostname, urlsplit(gateway.url).port)) as raw:
        raw.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n")
        raw.sendall(chunk(b" " * 900))
        raw.sendall(chunk(b" " * 900))
        assert b" 413 " in raw.recv(1000).split(b"\r\n")[0]


def test_slow_heads_and_bodies_are_cut(start) -> None:
    limits = Limits(header_timeout_s=1.5, body_timeout_s=1.0)
    gateway = start(teacher="http://127.0.0.1:9/v1#m", limits=limits)
    address = (urlsplit(gateway.url).hostname, urlsplit(gateway.url).port)
    with socket.create_connection(address, timeout=120) as head:
        head.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nx-a: ")
        assert head.recv(100) == b""
    with socket.create_connection(address, timeout=120) as body:
        body.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{")
        assert b" 408 " in body.recv(1000).split(b"\r\n")[0]
    with socket.create_connection(address, timeout=120) as large:
        large.sendall(b"GET /healthz HTTP/1.1\r\nx-a: " + b"a" * 70_000)
        assert b" 431 " in large.recv(1000).split(b"\r\n")[0]


def endless(size: int):
    """A stream that goes on for as long as somebody takes it, up to ``size`` bytes."""
    event = chunk(chat_event({"content": "x" * 50_000}))
    yield STREAM
    for _ in range(size // len(event)):
        yield event
    yield from (chunk(event) for event in chat_stream("end"))
    yield END


def asking_to_stream(gateway) -> socket.socket:
    body = json.dumps(STREAMED).encode()
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    client.settimeout(30)
    client.connect((urlsplit(gateway.url).hostname, urlsplit(gateway.url).port))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(body)}\r\n\r\n"
    client.sendall(head.encode() + body)
    return client


def test_a_client_that_never_reads_is_cut_off(start) -> None:
    with Upstream(lambda request: reply(chat_answer()) if request.number else endless(60 << 20)) as upstream:
        gateway = start(teacher=f"{upstream.url}#m", limits=Limits(max_inflight=1, write_timeout_s=0.3))
        with asking_to_stream(gateway):
            wait_for(lambda: upstream.requests and upstream.requests[0].gone.is_set())
            wait_for(lambda: gateway.post("/v1/chat/completions", CHAT).status == 200)
        exchange, *_ = (one for one in gateway.exchanges() if one.status == 200 and one.streamed)
    assert (exchange.complete, exchange.error.kind) == (False, "ClientLeft")


def test_a_client_that_reads_slowly_is_not_cut_off(start) -> None:
    with Upstream(lambda request: endless(8 << 20)) as upstream:
        gateway = start(teacher=f"{upstream.url}#m", limits=Limits(write_timeout_s=2.0))
        with asking_to_stream(gateway) as client:
            received, until = b"", time.monotonic() + 4.0
            while time.monotonic() < until:  # some, and some more, and never as much as there is
                received = client.recv(1 << 17)
                time.sleep(0.05)
            while b"[DONE]" not in received and (piece := client.recv(1 << 20)):
                received = received[-100:] + piece
        assert b"[DONE]" in received
        (exchange,) = gateway.exchanges()
    assert exchange.complete


def test_too_many_at_a_time_are_told_to_wait(start) -> None:
    refused = threading.Event()

    def answer(request):
        refused.wait(60)
        yield reply(chat_answer())

    with Upstream(answer) as upstream:
        gateway = start(teacher=f"{upstream.url}#m", limits=Limits(max_inflight=1))
        first = gateway.connect()
        first.request("POST", "/v1/chat/completions", json.dumps(CHAT), {"content-type": "application/json"})
        wait_for(lambda: upstream.requests)
        answered = gateway.post("/v1/chat/completions", CHAT)
        assert answered.status == 503
        assert answered.headers["retry-after"] == "1"
        refused.set()
        assert first.getresponse().status == 200


def test_a_full_queue_drops_what_it_was_told_to_drop_and_says_so(start, monkeypatch) -> None:
    from potstill.serve.recording import recorder

    asked, write = threading.Event(), recorder.Recorder._write

    def late(self, jobs):
        asked.wait(60)
        return write(self, jobs)

    monkeypatch.setattr(recorder.Recorder, "_write", late)
    with Upstream(lambda request: reply(chat_answer())) as upstream:
        gateway = start(
            teacher=f"{upstream.url}#m",
            limits=Limits(max_queue_bytes=400),
            recording=Recording(overflow=Overflow.DROP),
        )
        told = [gateway.post("/v1/chat/completions", CHAT).headers.get("x-potstill-recording") for _ in range(4)]
        asked.set()
        dropped = told.count("dropped")
        assert dropped >= 1
        assert f"potstill_dropped_total {dropped}".encode() in gateway.get("/metrics").body
    assert len(gateway.exchanges()) == 4 - dropped


def test_a_full_queue_that_waits_loses_nothing(start, monkeypatch) -> None:
    from potstill.serve.recording import recorder

    monkeypatch.setattr(recorder.Recorder, "_write", slow(recorder.Recorder._write))
    with Upstream(lambda request: reply(chat_answer())) as upstream:
        gateway = start(teacher=f"{upstream.url}#m", limits=Limits(max_queue_bytes=400))
        assert [gateway.post("/v1/chat/completions", CHAT).status for _ in range(4)] == [200] * 4
    assert len(gateway.exchanges()) == 4


def slow(write):
    def slowly(self, jobs):
        time.sleep(0.2)
        return write(self, jobs)

    return slowly


@pytest.mark.parametrize("strict", [False, True])
def test_a_store_that_fails_costs_the_record_and_not_the_answer(start, monkeypatch, strict: bool) -> None:
    from potstill.errors import DiskFull
    from potstill.trajectories.store import Store

    def full(self, exchanges):
        raise DiskFull("no space")

    monkeypatch.setattr(Store, "record_nowait", full)
    with Upstream(lambda request: reply(chat_answer())) as upstream:
        gateway = start(teacher=f"{upstream.url}#m", recording=Recording(strict=strict))
        answered = gateway.post("/v1/chat/completions", CHAT)
        assert answered.status == 200
        assert "x-potstill-seq" not in answered.headers
        assert (answered.headers.get("x-potstill-recording") == "failed") is strict
        wait_for(lambda: b"potstill_record_failures_total 1" in gateway.get("/metrics").body)


def test_shutdown_lets_streams_end(start) -> None:
    events = chat_stream("a", "b")

    def answer(request):
        yield STREAM
        for event in events:
            yield chunk(event)
            yield 0.1
        yield END

    with Upstream(answer) as upstream:
        gateway = start(teacher=f"{upstream.url}#m")
        connection = gateway.connect()
        connection.request("POST", "/v1/chat/completions", json.dumps(STREAMED), {"content-type": "application/json"})
        wait_for(lambda: upstream.requests)
        gateway.server._server.should_exit = True
        assert connection.getresponse().read().endswith(DONE)
    assert gateway.exchanges()[0].complete


def test_shutdown_cuts_what_outlasts_the_drain_time_and_records_it(start) -> None:
    def answer(request):
        yield STREAM
        yield chunk(chat_event({"content": "a"}))
        yield 30.0

    with Upstream(answer) as upstream:
        gateway = start(teacher=f"{upstream.url}#m", limits=Limits(drain_s=1.0))
        connection = gateway.connect()
        connection.request("POST", "/v1/chat/completions", json.dumps(STREAMED), {"content-type": "application/json"})
        wait_for(lambda: upstream.requests)
        answered = connection.getresponse()
        (exchange,) = gateway.exchanges()
        told = answered.read()
        connection.close()
    assert exchange.error is not None
    assert exchange.error.kind == "Shutdown"
    assert not exchange.complete
    last = json.loads(told.strip().rpartition(b"\n\n")[2].removeprefix(b"data: "))
    assert last["error"]["code"] == "shutdown"
    assert exchange.response == told


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_shutdown_tells_who_still_waits_for_a_first_byte(start, path) -> None:
    with Upstream(lambda request: iter((30.0,))) as upstream:
        gateway = start(teacher=f"{upstream.url}#m", limits=Limits(drain_s=1.0))
        connection = gateway.connect()
        connection.request("POST", path, json.dumps({**CHAT, "max_tokens": 5}), {"content-type": "application/json"})
        wait_for(lambda: upstream.requests)
        (exchange,) = gateway.exchanges()
        answered = connection.getresponse()
        assert answered.status == (529 if "messages" in path else 503)
        assert "stopped" in json.loads(answered.read())["error"]["message"]
        connection.close()
    assert (exchange.complete, exchange.status) == (False, answered.status)


def test_keys_and_cookies_are_nowhere(start, tmp_path, monkeypatch, capfd) -> None:
    import msgspec

    monkeypatch.setenv("TEST_UPSTREAM_KEY", "sk-upstream-hidden-1")
    bad = {"error": {"message": "Incorrect API key provided: sk-upstream-hidden-1"}}

    def answer(request):
        status = 401 if request.number else 400
        return reply(bad, status)

    with Upstream(answer) as upstream:
        settings = from_flags(f"{upstream.url}#m", key_env="TEST_UPSTREAM_KEY")
        gateway = start(msgspec.structs.replace(settings))
        secrets = {"authorization": "Bearer sk-client-hidden-2", "cookie": "session=hidden-3"}
        told = [gateway.post("/v1/chat/completions", CHAT, **secrets) for _ in range(2)]
        assert upstream.requests[0].headers["authorization"] == "Bearer sk-upstream-hidden-1"
        assert "cookie" not in upstream.requests[0].headers
        assert [answered.status for answered in told] == [400, 401]
        assert "TEST_UPSTREAM_KEY" in told[1].json["error"]["message"]
        seen = b"".join(answered.body for answered in told) + gateway.get("/metrics").body
    with gateway.stop() as store:
        kept = repr(store.recent(None, 0)).encode()
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    out = capfd.readouterr()
    assert b"hidden" not in seen + kept + files + (out.out + out.err).encode()


def test_pages_in_a_browser_may_not_use_an_open_gateway(start) -> None:
    gateway = start(teacher="http://127.0.0.1:9/v1#m")
    assert gateway.post("/v1/chat/completions", CHAT, origin="https://evil.example").status == 403
    assert gateway.post("/v1/chat/completions", CHAT, origin="http://localhost:3000").status == 502
