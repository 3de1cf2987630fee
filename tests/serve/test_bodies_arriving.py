"""Requests that are still being sent: who has no key holds nothing, and who has one keeps nobody else waiting."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from test_gateway_faults import wait_for
from test_tenants_http import MESSAGES, gateway_with
from upstream_double import Upstream, chat_answer, reply

from potstill.serve.settings import Limits

PATHS = ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/embeddings", "/v1/messages/count_tokens"]


def start_with(start: Any, limits: Limits) -> Any:
    return lambda settings, **more: start(msgspec.structs.replace(settings, limits=limits), **more)


@contextmanager
def begun(gateway: Any, path: str, sent: bytes = b"{", count: int = 1, **headers: str) -> Iterator[list[socket.socket]]:
    """Connections that send a head and the beginning of a body."""
    address = urlsplit(gateway.url)
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST {path} HTTP/1.1\r\nhost: {address.netloc}\r\ncontent-length: 500000\r\n{more}\r\n"
    with ExitStack() as stack:
        made = []
        for _ in range(count):
            one = stack.enter_context(socket.create_connection((address.hostname, address.port), timeout=120))
            one.sendall(head.encode() + sent)
            made.append(one)
        yield made


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("key", ["", "psk_" + "a" * 12 + "_" + "b" * 43, "sk-theirs"], ids=["none", "wrong", "foreign"])
def test_without_a_key_nothing_of_a_body_is_read(start, tmp_path: Path, path: str, key: str) -> None:
    with Upstream(lambda request: reply(chat_answer())) as upstream:
        limited = start_with(start, Limits(max_inflight=1))
        gateway, own = gateway_with(limited, upstream.url, tmp_path / "g.db")
        named = {"authorization": f"Bearer {key}"} if key else {}
        with begun(gateway, path, count=3, **named) as sockets:
            for one in sockets:
                assert b" 401 " in one.recv(1000).split(b"\r\n")[0]
            assert gateway.post("/v1/chat/completions", MESSAGES, **own).status == 200


def test_slow_bodies_take_no_place_among_the_requests_that_are_served(start, tmp_path: Path) -> None:
    with Upstream(lambda request: reply(chat_answer())) as upstream:
        limited = start_with(start, Limits(max_inflight=2))
        gateway, own = gateway_with(limited, upstream.url, tmp_path / "g.db")
        with begun(gateway, "/v1/chat/completions", count=2, **own):
            wait_for(lambda: b"\npotstill_reading 2\n" in gateway.get("/metrics").body)
            assert [gateway.post("/v1/chat/completions", MESSAGES, **own).status for _ in range(3)] == [200] * 3
            with begun(gateway, "/v1/chat/completions", **own) as (third,):
                assert b" 503 " in third.recv(1000).split(b"\r\n")[0]
        wait_for(lambda: b"\npotstill_reading 0\n" in gateway.get("/metrics").body)


def test_what_is_being_sent_is_bounded_in_all(start, tmp_path: Path) -> None:
    with Upstream(lambda request: reply(chat_answer())) as upstream:
        limited = start_with(start, Limits(max_queue_bytes=300_000))
        gateway, own = gateway_with(limited, upstream.url, tmp_path / "g.db")
        part = b"{" + b" " * 200_000
        with begun(gateway, "/v1/chat/completions", part, **own) as (first,):
            wait_for(lambda: b"\npotstill_reading_bytes 200001\n" in gateway.get("/metrics").body)
            with begun(gateway, "/v1/chat/completions", part, **own) as (second,):
                assert b" 503 " in second.recv(1000).split(b"\r\n")[0]
            body = msgspec.json.encode(MESSAGES)
            first.sendall(b" " * (500_000 - len(part) - len(body)) + body[1:] + b" ")
            assert b" 200 " in first.recv(1000).split(b"\r\n")[0]
