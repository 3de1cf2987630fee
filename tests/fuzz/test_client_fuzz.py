"""Clients that send anything, read slowly or leave anywhere: they are answered or cut off, and nobody else notices."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, seed, settings
from hypothesis import strategies as st
from pair_samples import BODIES, CASES, CHAT, NAMES, STREAMS
from test_stream_fuzz import EXAMPLES, MANY
from upstream_double import END, STREAM, Request, chunk, reply
from watched_gateway import PATHS, Watched, question

from potstill.serve.settings import Limits

fuzz = settings(database=None, deadline=None, suppress_health_check=list(HealthCheck))
REFUSED = {400, 404, 413, 415}


def healthy(watched: Watched) -> Any:
    """Upstreams that take anything and answer in their dialect."""
    dialects = {f":{one.url.rpartition(':')[2].partition('/')[0]}": name for name, one in watched.upstreams.items()}

    def answer(request: Request) -> Any:
        name = next(name for port, name in dialects.items() if request.headers["host"].endswith(port))
        asked = json.loads(request.body.decode(errors="replace"))
        if isinstance(asked, dict) and asked.get("stream") is True:
            return [STREAM, *(chunk(frame) for frame in STREAMS[name](CASES["text"])), END]
        return reply(BODIES[name](CASES["text"]))

    return answer


# --- bodies -----------------------------------------------------------------------------------------------------------

ODD = [
    *(b"", b"{}", b"[]", b"null", b"NaN", b"7", b'"x"', b"\xff\xfe{}", b"\xef\xbb\xbf{}", b"{" * 9000, b"[" * 9000),
    *(b'{"model":NaN}', b'{"model":"a","model":"to-openai-chat"}', b'{"model":"\\ud800"}', b'{"model":"\xff"}'),
    *(b'{"a":' * 9000, b'{"model":"to-anthropic","n":1e999}', b'{"model":"to-openai-chat","stream":1}', b'{"model":'),
]
values = st.one_of(
    st.none() | st.booleans() | st.text(max_size=9),
    st.integers() | st.floats(),
    st.sampled_from([[], {}, [[]], "\ud800", "\x00", 2**64, [None], {"type": "x"}, [{"type": 7}]]),
)


@st.composite
def bodies(draw: st.DrawFn, client: str, upstream: str) -> bytes:
    """A request of the client's dialect with values replaced, members twice, or bytes taken out; or no request."""
    if draw(st.integers(0, 5)) == 0:
        return draw(st.sampled_from(ODD) | st.binary(max_size=60))
    asked = question(client, upstream, stream=draw(st.booleans()))
    extra = st.sampled_from(["tools", "metadata", "stop", "n", "temperature", "messages", "input", "system", "user"])
    for name in draw(st.lists(st.sampled_from(sorted(asked)) | extra, max_size=3)):
        asked[name] = draw(values)
    deep = draw(st.sampled_from([0, 0, 0, 200, 2000]))
    text = json.dumps(asked)
    if deep:
        text = text[:-1] + ', "metadata": ' + '{"a":' * deep + "1" + "}" * deep + "}"
    if draw(st.booleans()):
        text = text[:-1] + ', "model": "to-%s"}' % upstream  # noqa: UP031
    data = text.encode()
    if draw(st.integers(0, 4)) == 0:
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.binary(max_size=3)) + data[at + draw(st.integers(0, 3)) :]
    return data


def ask_anything(watched: Watched, client: str, upstream: str, examples: int) -> None:
    watched.begin()
    watched.answer = healthy(watched)

    @seed(7)
    @settings(fuzz, max_examples=examples)
    @given(body=bodies(client, upstream))
    def one(body: bytes) -> None:
        seen = watched.ask(PATHS[client], body)
        note(f"the client got {seen.status} {seen.body[:300]!r}")
        assert seen.status == 200 or seen.status in REFUSED
        if seen.status != 200:
            assert isinstance(seen.json["error"]["message"], str)
            assert (seen.json.get("type") == "error") is (client == "anthropic")

    one()
    watched.settled()


PAIRS = [(client, upstream) for client in NAMES for upstream in NAMES]


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
def test_any_body_is_answered(watched: Watched, client: str, upstream: str) -> None:
    ask_anything(watched, client, upstream, EXAMPLES)


@pytest.mark.slow
@pytest.mark.full
@pytest.mark.parametrize(("client", "upstream"), PAIRS)
def test_any_of_many_bodies_is_answered(watched: Watched, client: str, upstream: str) -> None:
    ask_anything(watched, client, upstream, MANY)


# --- connections ------------------------------------------------------------------------------------------------------

GOOD = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
POST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
GARBLED = [
    *(b"\x00\xff\x01 \r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    *(GOOD * 5, GOOD + b"garbage\r\n\r\n", b"\r\n\r\n" + GOOD, b"GET /healthz\r\n\r\n"),
    b"GET /healthz HTTP/1.1\r\n" + b"".join(b"x-%d: y\r\n" % number for number in range(10_000)) + b"\r\n",
    b"GET /healthz HTTP/1.1\r\nno colon\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: a\x00b\r\n\r\n",
    b"GET /%ff%00%zz HTTP/1.1\r\nhost: localhost\r\n\r\n",
    b"GET /\xff\xfe HTTP/1.1\r\nhost: localhost\r\n\r\n",
    b"GET http://other.example/healthz HTTP/1.1\r\nhost: localhost\r\n\r\n",
    b"CONNECT other.example:443 HTTP/1.1\r\nhost: localhost\r\n\r\n",
    b"GET /v1/potstill/live?wait_s=0&wait_s=%ff&\xff=1 HTTP/1.1\r\nhost: localhost\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
    POST + b"content-length: -1\r\n\r\n",
    POST + b"content-length: 99999999999999999999\r\n\r\n{}",
    POST + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}",
    POST + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    POST + b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    POST + b"transfer-encoding: chunked\r\n\r\nffffffffffffffff1\r\n{}",
    POST + b"transfer-encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    POST + b"expect: 100-continue\r\ncontent-length: 2\r\n\r\n{}",
    POST + b"content-encoding: gzip\r\ncontent-length: 2\r\n\r\n\x1f\x8b",
    POST + b"x-potstill-episode: \xe9\xff\r\ncontent-length: 26\r\n\r\n" + b'{"model":"to-openai-chat"}',
]


def _harmless(watched: Watched, sent: bytes, *, reset: bool) -> None:
    with socket.create_connection(watched.address, timeout=120) as client:
        with suppress(OSError):
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            while not reset and client.recv(65536):
                continue
        if reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with socket.create_connection(watched.address, timeout=120) as other:
        other.sendall(GOOD)
        assert other.recv(1000).startswith(b"HTTP/1.1 200")


@seed(5)
@settings(fuzz, max_examples=40)
@given(sent=st.sampled_from(GARBLED) | st.binary(max_size=99), cut=st.integers(0, 300) | st.none(), reset=st.booleans())
def _anything(watched: Watched, sent: bytes, cut: int | None, reset: bool) -> None:
    _harmless(watched, sent[:cut], reset=reset)


def test_any_bytes_on_a_connection_harm_nobody(watched: Watched) -> None:
    watched.begin()
    watched.answer = healthy(watched)
    for sent in GARBLED:
        _harmless(watched, sent, reset=False)
    _anything(watched)
    watched.settled()


# --- leaving and lingering --------------------------------------------------------------------------------------------


def test_clients_that_leave_anywhere_leave_nothing_behind(watched: Watched) -> None:
    """After each number of bytes of their request, and after each number of bytes of the answer."""
    watched.begin()
    frames = [chunk(frame) for frame in STREAMS[CHAT](CASES["text"])]
    watched.answer = lambda request: iter([STREAM, *(piece for frame in frames for piece in (frame, 0.003)), 20.0])
    body = json.dumps(question(CHAT, CHAT)).encode()
    sent = POST + b"content-length: %d\r\n\r\n" % len(body) + body
    asked = len(watched.upstreams[CHAT].requests)
    for wanted in [*range(0, len(sent), 17), *range(-600, 0, 60)]:
        with socket.create_connection(watched.address, timeout=120) as client:
            client.sendall(sent[:wanted] if wanted >= 0 else sent)
            received = 0
            while wanted < 0 and received < -wanted:
                received += len(client.recv(50))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    watched.settled()
    requests = watched.upstreams[CHAT].requests[asked:]
    assert len(requests) == 10
    until = time.monotonic() + 120
    while not all(request.gone.is_set() for request in requests):
        assert time.monotonic() < until, "work upstream goes on for nobody"
        time.sleep(0.01)
    left = [one for one in watched.recorded().values() if one.error is not None and one.error.kind == "ClientLeft"]
    assert len(left) >= 10
    assert not any(one.complete for one in left)


@pytest.fixture
def roomy(tmp_path: Path) -> Iterator[Watched]:
    with Watched(tmp_path / "g.db", limits=Limits(drain_s=2.0)) as gateway:
        yield gateway


def test_a_client_that_reads_slowly_holds_the_upstream_up(roomy: Watched) -> None:
    """Nothing is read from an upstream that could not be written to the client, but for what the kernel buffers."""
    roomy.begin()
    total, sent = 24 << 20, 0
    filler = b": " + b"x" * 65_533 + b"\n\n"

    def answer(request: Request) -> Iterator[bytes]:
        nonlocal sent
        yield STREAM
        while sent < total:
            yield chunk(filler)
            sent += len(filler)
        for frame in STREAMS[CHAT](CASES["text"]):
            yield chunk(frame)
        yield END

    roomy.answer = answer
    body = json.dumps(question(CHAT, CHAT)).encode()
    with socket.create_connection(roomy.address, timeout=120) as client:
        client.sendall(POST + b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body) + body)
        before = -1
        while before != sent or not sent:
            before = sent
            time.sleep(0.2)
        assert sent < total * 2 // 3, "the upstream's answer gathers in the gateway"
        received = b""
        while piece := client.recv(1 << 20):
            received = (received + piece)[-2000:]
    assert b"[DONE]" in received
    assert sent >= total
    roomy.settled()
