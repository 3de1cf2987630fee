"""Exchanges share a bound: no number of them, nor a client that does not read, keeps others waiting for ever."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from upstream_double import DONE, END, STREAM, Request, Upstream, chat_answer, chat_event, chunk, reply

from potstill.serve.recording.room import Room, Ticket
from potstill.serve.settings import Limits, Recording

KB, MB = 1000, 1_000_000
MOST = 2 * MB


@dataclass
class One:
    """An exchange, and before which part of its answer its client stops reading."""

    request: int
    answer: list[int]
    stuck_at: int | None = None
    stuck: bool = False


sizes = st.sampled_from([1, 1 * KB, 60 * KB, 70 * KB, 300 * KB, 900 * KB, 3 * MB])
ones = st.builds(One, sizes, st.lists(sizes, max_size=5), st.none() | st.integers(0, 4))


async def served(room: Room, one: One, gone: asyncio.Event, seen: list[int]) -> None:
    ticket = Ticket(0, reads=lambda: not one.stuck)
    if not room.enters(ticket, one.request):
        await room.turn(ticket, one.request)
    for number, size in enumerate(one.answer):
        if number == one.stuck_at:
            one.stuck = True
            await gone.wait()
            break
        if not room.grows(ticket, size):
            await room.turn(ticket, size, of_answer=True)
        seen.append(room.bytes)
        await asyncio.sleep(0)
    room.left(ticket)
    one.stuck = False


async def ended(exchanges: list[One]) -> int:
    """Serves all of them; how many clients had to be given up on for that, one whenever nothing moved any more."""
    room, seen, given_up = Room(MOST, asyncio.get_running_loop()), list[int](), 0
    gone = [asyncio.Event() for _ in exchanges]
    tasks = [asyncio.ensure_future(served(room, one, gone[at], seen)) for at, one in enumerate(exchanges)]
    while True:
        for _ in range(4 * sum(len(one.answer) + 2 for one in exchanges)):
            room.settle()
            await asyncio.sleep(0)
        left = [at for at, task in enumerate(tasks) if not task.done()]
        if all(exchanges[at].stuck for at in left):
            break
        stuck = [at for at in left if exchanges[at].stuck and not gone[at].is_set()]
        assert stuck, "they wait for each other"
        gone[stuck[0]].set()
        given_up += 1
    for event in gone:
        event.set()
    await asyncio.gather(*tasks)
    assert room.bytes == 0
    largest = max((one.request + sum(one.answer) for one in exchanges), default=0)
    assert max(seen, default=0) <= 2 * MOST + 2 * largest
    return given_up


@settings(deadline=None)
@given(st.lists(ones, max_size=12))
async def test_nobody_waits_for_ever(exchanges: list[One]) -> None:
    assert await ended(exchanges) <= sum(one.stuck_at is not None for one in exchanges)


@settings(deadline=None)
@given(st.lists(ones, max_size=12), st.integers(0, 11))
async def test_one_client_that_does_not_read_holds_up_nobody(exchanges: list[One], which: int) -> None:
    for at, one in enumerate(exchanges):
        one.stuck_at = one.stuck_at if at == which else None
    assert await ended(exchanges) == 0


async def test_those_that_stepped_aside_hold_the_bound_once_more() -> None:
    room = Room(MOST, asyncio.get_running_loop())
    tickets = [Ticket(0, reads=lambda: False) for _ in range(5)]
    turns = []
    for ticket in tickets:
        assert room.enters(ticket, 10)
        assert not room.grows(ticket, 3 * MB)
        turns.append(asyncio.ensure_future(room.turn(ticket, 3 * MB, of_answer=True)))
    await asyncio.sleep(0.01)
    assert [turn.done() for turn in turns] == [True, True, False, False, False]
    room.left(tickets[0])
    await asyncio.sleep(0.01)
    assert [turn.done() for turn in turns] == [True, True, True, False, False]
    room.stop()
    await asyncio.gather(*turns)


async def test_who_reads_again_waits_in_the_line_like_the_others() -> None:
    room, reads = Room(MOST, asyncio.get_running_loop()), [False]
    first, second = Ticket(0, reads=lambda: reads[0]), Ticket(0)
    await room.turn(first, 3 * MB, of_answer=True)
    await room.turn(second, 3 * MB, of_answer=True)
    reads[0] = True
    again = asyncio.ensure_future(room.turn(first, 1 * KB, of_answer=True))
    await asyncio.sleep(0.01)
    assert not again.done()
    assert room.grows(second, 1 * MB)
    room.left(second)
    await again
    room.left(first)
    assert room.bytes == 0


# --- over HTTP --------------------------------------------------------------------------------------------------------


def sized(request: Request) -> Any:
    """Answers of as many kilobytes as the last message says."""
    size = int(request.json["messages"][-1]["content"])
    return streamed(size) if request.json.get("stream") else reply(chat_answer("w" * size * KB))


def streamed(size: int) -> Iterator[bytes]:
    yield STREAM
    for _number in range(size // 50):
        yield chunk(chat_event({"content": "w" * 50 * KB}))
    yield chunk(chat_event({}, "stop") + DONE)
    yield END


def body(answer_kb: int, *, stream: bool = False, request_kb: int = 0) -> bytes:
    messages = [{"role": "user", "content": "h" * request_kb * KB}, {"role": "user", "content": str(answer_kb)}]
    return json.dumps({"model": "m", "stream": stream, "messages": messages}).encode()


def unread(gateway: Any, asked: bytes) -> socket.socket:
    """A client that sends a request and reads nothing of its answer."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    place = urlsplit(gateway.url)
    client.connect((place.hostname, place.port))
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: %b\r\ncontent-length: %d\r\n\r\n"
    client.sendall(head % (place.netloc.encode(), len(asked)) + asked)
    return client


def gauge(gateway: Any, name: str) -> float:
    page = gateway.get("/metrics").body.decode()
    return float(next(line for line in page.splitlines() if line.startswith(f"potstill_{name} ")).split()[1])


def until(gateway: Any, name: str, least: float) -> None:
    end = time.monotonic() + 120
    while gauge(gateway, name) < least:
        assert time.monotonic() < end, f"{name} is {gauge(gateway, name)}"
        time.sleep(0.05)


LIMITS = Limits(max_queue_bytes=MOST, write_timeout_s=300.0, drain_s=2.0, max_inflight=12)


@pytest.mark.parametrize("strict", [False, True], ids=["beside", "strict"])
def test_an_answer_that_its_client_does_not_read_is_in_flight_and_counted(start, strict: bool) -> None:
    with Upstream(sized) as upstream:
        gateway = start(teacher=f"{upstream.url}#m", limits=LIMITS, recording=Recording(strict=strict))
        clients = [unread(gateway, body(9_000)) for _ in range(12)]
        until(gateway, "queue_bytes", 18 * MB)
        until(gateway, "inflight", 12)
        time.sleep(1.5)
        assert 18 * MB <= gauge(gateway, "queue_bytes") <= 2 * MOST + 2 * 9.5 * MB
        assert gateway.post("/v1/chat/completions", body(1)).status == 503  # max_inflight
        for client in clients:
            client.close()
        end = time.monotonic() + 120
        while gauge(gateway, "queue_bytes") and time.monotonic() < end:
            time.sleep(0.05)
        assert gauge(gateway, "queue_bytes") == 0


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_others_pass_a_client_that_does_not_read(start, stream: bool) -> None:
    with Upstream(sized) as upstream:
        gateway = start(teacher=f"{upstream.url}#m", limits=LIMITS)
        stuck = unread(gateway, body(9_000, stream=stream))
        until(gateway, "queue_bytes", MOST)
        answered: list[int] = []
        # Together less than the bodies that may be on their way at a time (the same bound, apart): none is refused.
        asked = [body(1, request_kb=600)] * 3 + [body(3_000), body(3_000, stream=True), body(1, request_kb=70), body(1)]
        threads = [
            threading.Thread(
                target=lambda one=one: answered.append(gateway.post("/v1/chat/completions", one).status), daemon=True
            )
            for one in asked
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert answered == [200] * len(asked)
        stuck.close()


def test_a_gateway_that_stops_lets_everybody_through(start) -> None:
    limits = Limits(max_queue_bytes=1000, write_timeout_s=300.0, drain_s=4.0)
    with Upstream(sized) as upstream:
        gateway = start(teacher=f"{upstream.url}#m", limits=limits)
        stuck = [unread(gateway, body(9_000)) for _ in range(3)]
        until(gateway, "queue_bytes", 18 * MB)
        answers: list[bytes] = []
        ask = lambda one: answers.append(gateway.post("/v1/chat/completions", one).body)  # noqa: E731
        threads = [
            threading.Thread(target=ask, args=(one,), daemon=True) for one in [body(300), body(300, stream=True)]
        ]
        for thread in threads:
            thread.start()
        until(gateway, "inflight", 5)
        assert not answers
        gateway.server.stop()
        for thread in threads:
            thread.join(20)
        assert len(answers) == 2
        assert not any(b"stopped before" in answer for answer in answers)
        assert all(answer.count(b"w" * 1000) >= 300 for answer in answers)
        for client in stuck:
            client.close()
