"""What answers hold in memory is bounded while they come, and a huge one keeps nobody else's record waiting."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st
from upstream_double import DONE, END, STREAM, Upstream, chat_event, chunk

from potstill.serve.answer_bytes import EDGE, Kept
from potstill.serve.recording.recorder import HUGE, Fate, Recorder
from potstill.serve.settings import Limits, Overflow, Recording
from potstill.serve.telemetry.metrics import Metrics
from potstill.trajectories.exchange import Exchange

DELTAS, DELTA = 40, 60_000
USAGE = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
ASKED = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
BOUND = 1024 * 1024


def large(_: object) -> Iterator[bytes]:
    yield STREAM
    for _number in range(DELTAS):
        yield chunk(chat_event({"content": "word " * (DELTA // 5)}))
    yield chunk(chat_event({}, "stop", usage=USAGE) + DONE)
    yield END


class Journal:
    def __init__(self) -> None:
        self.taken: list[Exchange] = []

    def record_nowait(self, exchanges: Sequence[Exchange]) -> Future[list[int]]:
        first = len(self.taken) + 1
        self.taken += exchanges
        done: Future[list[int]] = Future()
        done.set_result(list(range(first, first + len(exchanges))))
        return done


def exchange(response: bytes, name: str = "e") -> Exchange:
    return Exchange(
        namespace="n", episode_id=name, route="r", dialect="d", started_at=0.0, response=response, request_id=name
    )


def test_large_streams_share_the_bound_and_all_come_to_their_ends(start, monkeypatch) -> None:
    seen: list[int] = []
    waited: list[int] = []
    grown, room = Recorder.grown, Recorder.room

    def watched(self, ticket, size):
        fits = grown(self, ticket, size)
        seen.append(self.waiting_bytes)
        return fits

    async def watched_room(self, ticket, size):
        waited.append(size)
        await room(self, ticket, size)
        seen.append(self.waiting_bytes)

    monkeypatch.setattr(Recorder, "grown", watched)
    monkeypatch.setattr(Recorder, "room", watched_room)
    with Upstream(large) as upstream:
        gateway = start(teacher=f"{upstream.url}#m", limits=Limits(max_queue_bytes=BOUND))
        with ThreadPoolExecutor(6) as clients:
            answers = list(clients.map(lambda _: gateway.post("/v1/chat/completions", ASKED), range(6)))
        assert [answer.status for answer in answers] == [200] * 6
        assert all(b"[DONE]" in answer.body for answer in answers)
        exchanges = gateway.exchanges()
    assert len(exchanges) == 6
    assert all(one.complete and len(one.response) > DELTAS * DELTA for one in exchanges)
    assert waited
    assert max(seen) <= BOUND + DELTAS * (DELTA + 1000)


def test_a_stream_that_finds_no_room_goes_on_unrecorded_where_it_may(start) -> None:
    with Upstream(large) as upstream:
        gateway = start(
            teacher=f"{upstream.url}#m",
            limits=Limits(max_queue_bytes=BOUND),
            recording=Recording(overflow=Overflow.DROP),
        )
        answer = gateway.post("/v1/chat/completions", ASKED)
        assert answer.body.count(b"word ") == DELTAS * (DELTA // 5)
        assert answer.body.rstrip().endswith(b"data: [DONE]")
        assert b": x-potstill-recording: dropped\n\n" in answer.body
        page = gateway.get("/metrics").body
        assert b"potstill_dropped_total 1" in page
        assert b"potstill_queue_bytes 0" in page
        assert any(b"tokens" in line and line.endswith(b" 5") for line in page.splitlines())
        assert gateway.exchanges() == []


async def test_answers_that_wait_for_each_other_go_one_by_one() -> None:
    journal = Journal()
    recorder = Recorder(journal, max_bytes=100, metrics=Metrics(), linger_s=0.0)
    tickets = [await recorder.reserve(20) for _ in range(4)]
    most = 0

    async def answer(number: int) -> None:
        nonlocal most
        for _ in range(5):
            if not recorder.grown(tickets[number], 30):
                await recorder.room(tickets[number], 30)
            most = max(most, recorder.waiting_bytes)
            await asyncio.sleep(0)
        durable = recorder.put(tickets[number], exchange(b"a" * 170), wait=True)
        assert durable is not None
        await durable

    late = asyncio.ensure_future(recorder.reserve(20))
    async with asyncio.timeout(120):
        await asyncio.gather(*map(answer, range(4)))
        recorder.cancel(await late)
    assert most <= 100 + 170
    assert recorder.waiting_bytes == 0
    assert len(journal.taken) == 4
    await recorder.aclose()


async def test_small_exchanges_pass_while_large_answers_wait() -> None:
    recorder = Recorder(Journal(), max_bytes=BOUND, metrics=Metrics(), linger_s=0.0)
    first, second = [await recorder.reserve(10) for _ in range(2)]
    async with asyncio.timeout(120):
        await recorder.room(first, 3 * BOUND)
        waits = asyncio.ensure_future(recorder.room(second, BOUND))
        small = await recorder.reserve(1000)
        assert recorder.grown(small, 1000)
        assert not recorder.grown(await recorder.reserve(10), BOUND)
        assert not waits.done()
        recorder.cancel(first)
        await waits
    await recorder.aclose()


async def test_an_answer_whose_client_leaves_while_it_waits_holds_up_nobody() -> None:
    recorder = Recorder(Journal(), max_bytes=100, metrics=Metrics(), linger_s=0.0)
    first, second, third = [await recorder.reserve(30) for _ in range(3)]
    await recorder.room(first, 50)  # goes through
    waiting = [asyncio.ensure_future(recorder.room(ticket, 50)) for ticket in (second, third)]
    await asyncio.sleep(0)
    assert not any(one.done() for one in waiting)
    waiting[0].cancel()
    recorder.cancel(second)
    recorder.cancel(first)
    async with asyncio.timeout(120):
        await waiting[1]
    recorder.cancel(third)
    assert recorder.waiting_bytes == 0
    await recorder.aclose()


async def test_small_exchanges_are_durable_while_a_huge_one_is_cleaned() -> None:
    let = threading.Event()

    def held(exchanges: Sequence[Exchange]) -> Sequence[Exchange]:
        if any(len(one.response) >= HUGE for one in exchanges):
            let.wait(20)
        return exchanges

    recorder = Recorder(Journal(), max_bytes=1 << 30, metrics=Metrics(), redact=held, linger_s=0.0)
    huge = recorder.put(await recorder.reserve(0), exchange(b"h" * HUGE, "huge"), wait=True)
    small = recorder.put(await recorder.reserve(0), exchange(b"s", "small"), wait=True)
    assert huge is not None
    assert small is not None
    try:
        async with asyncio.timeout(120):
            assert await small == 1
        assert not huge.done()
        assert not await recorder.caught_up(0.05)
    finally:
        let.set()
    assert await huge == 2
    assert await recorder.caught_up(10)
    assert (recorder.fate("small"), recorder.fate("huge")) == ((Fate.RECORDED, 1), (Fate.RECORDED, 2))
    assert recorder.acknowledged == 2
    await recorder.aclose()


@given(st.lists(st.integers(0, 3), max_size=30))
def test_what_is_kept_is_what_came(sizes: list[int]) -> None:
    chunks = [bytes([number]) * size for number, size in enumerate(sizes)]
    kept = Kept()
    for number, piece in enumerate(chunks):
        kept.append(piece)
        if number % 3 == 0:
            assert kept.joined() == b"".join(chunks[: number + 1])
    assert kept.joined() == b"".join(chunks)


def test_of_a_stream_that_nobody_records_both_ends_stay() -> None:
    events = [f"data: {json.dumps({'n': number})}\n\n".encode() for number in range(40_000)]
    kept = Kept(events[:20_000])
    kept.cut()
    for event in events[20_000:]:
        kept.append(event)
        kept.cut()
    ends = kept.joined()
    assert len(ends) <= 3 * EDGE
    assert ends.startswith(events[0])
    assert ends.endswith(events[-1])
    assert set(ends.split(b"\n\n")[:-1]) <= {event[:-2] for event in events}
