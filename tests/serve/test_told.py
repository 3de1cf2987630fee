"""How a stream ended and what it used does not hang on how much of it is kept."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_stream_ends import LONG, blocks, ended_by_all_events, named, told_error_by_all_events
from upstream_double import END, STREAM, Upstream, chunk

from potstill.serve.answer_bytes import EDGE, LAST, Kept
from potstill.serve.settings import Limits, Overflow, Recording
from potstill.serve.upstreams.answers import usage_of_stream
from potstill.serve.upstreams.told import Heard

DELTAS = 150
BOUND = 60_000
DROPPING = {"limits": Limits(max_queue_bytes=BOUND), "recording": Recording(overflow=Overflow.DROP)}
ASKED = {"model": "m", "stream": True, "max_tokens": 10, "messages": [{"role": "user", "content": "z" * 25_000}]}


def heard(body: bytes, dialect: str, cuts: list[int]) -> Heard:
    found, at = Heard(dialect), 0
    for cut in sorted(cut % (len(body) + 1) for cut in cuts):
        found.hear(body[at:cut])
        at = cut
    found.hear(body[at:])
    found.close()
    return found


@given(st.lists(blocks(), max_size=8).map(b"".join), st.integers(0, 6), st.lists(st.integers(0, 2000), max_size=5))
@pytest.mark.parametrize("dialect", ["openai-chat", "openai-responses", "anthropic"])
def test_a_stream_heard_in_passing_says_what_all_of_it_says(
    dialect: str, body: bytes, cut: int, cuts: list[int]
) -> None:
    body = body[: len(body) - cut]
    found = heard(body, dialect, cuts)
    assert found.ended is ended_by_all_events(body, dialect)
    assert found.error is told_error_by_all_events(body)


@pytest.mark.parametrize("kind", LONG)
def test_the_usage_is_heard_wherever_it_was_told(kind: str) -> None:
    body, dialect = b"".join(LONG[kind]), kind.split()[0]
    assert heard(body, dialect, [1, 70_000, 200_000]).usage == usage_of_stream(body, dialect)


def responses(_: object) -> Iterator[bytes]:
    yield STREAM
    yield chunk(named("response.created", response={"id": "resp_1", "status": "in_progress"}))
    for _number in range(DELTAS):
        yield chunk(named("response.output_text.delta", delta="x" * 1000))
    item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "x" * 1000 * DELTAS}]}
    usage = {"input_tokens": 1000, "output_tokens": 777, "total_tokens": 1777}
    told = {"id": "resp_1", "status": "completed", "output": [item], "usage": usage}
    yield chunk(named("response.completed", response=told))
    yield END


def messages(_: object) -> Iterator[bytes]:
    yield STREAM
    usage = {"input_tokens": 99_991, "cache_read_input_tokens": 5, "output_tokens": 1}
    yield chunk(named("message_start", message={"id": "m", "role": "assistant", "content": [], "usage": usage}))
    for _number in range(2 * DELTAS):
        delta = {"type": "text_delta", "text": "x" * 1000}
        yield chunk(named("content_block_delta", index=0, delta=delta))
    yield chunk(named("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 555}))
    yield chunk(named("message_stop"))
    yield END


def tokens(page: bytes) -> set[bytes]:
    return {line.rsplit(b" ", 1)[1] for line in page.splitlines() if line.startswith(b"potstill_tokens_total{")}


def test_a_complete_response_that_is_not_recorded_is_not_told_as_broken(start) -> None:
    with Upstream(responses) as upstream:
        gateway = start(teacher=f"{upstream.url}#m", dialect="openai-responses", **DROPPING)
        answer = gateway.post("/v1/responses", {"model": "m", "stream": True, "input": "z" * 25_000})
        page = gateway.get("/metrics").body
    assert answer.body.count(b"event: response.completed") == 1
    assert b": x-potstill-recording: dropped" in answer.body
    assert b"too early" not in answer.body
    assert b"event: error" not in answer.body
    assert {b"1000", b"777"} <= tokens(page)


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"], ids=["passed on", "translated"])
def test_what_a_message_used_at_its_beginning_is_counted_where_it_is_not_recorded(start, path: str) -> None:
    with Upstream(messages) as upstream:
        gateway = start(teacher=f"{upstream.url}#m", dialect="anthropic", **DROPPING)
        answer = gateway.post(path, ASKED)
        page = gateway.get("/metrics").body
    assert b": x-potstill-recording: dropped" in answer.body
    assert {b"99991", b"5", b"555"} <= tokens(page)
    assert b"potstill_unknown_usage_total{" not in page


@pytest.mark.parametrize("blank", [b"\n\n", b"\r\n\r\n", b"\r\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("first", [0, EDGE, 4 * EDGE], ids=["at once", "early", "late"])
def test_both_ends_stay_whenever_it_is_cut(blank: bytes, first: int) -> None:
    events = [b"data: HEAD" + blank, *[b"data: " + b"d" * 1000 + blank] * 600, b"data: LAST" + b"x" * 4 * EDGE + blank]
    kept, size = Kept(), 0
    for event in events:
        kept.append(event)
        size += len(event)
        if size > first:
            kept.cut()
    ends = kept.joined()
    assert ends.startswith(events[0])
    assert ends.endswith(events[-1])
    assert len(ends) < 8 * EDGE
    whole = Kept([b"".join(events)])
    whole.cut()
    assert whole.joined().endswith(events[-1])


def test_a_last_event_beyond_all_measure_is_not_kept() -> None:
    kept = Kept([b"data: HEAD\n\n" * 50_000])
    kept.cut()
    kept.append(b"data: " + b"x" * 2 * LAST + b"\n\n")
    assert len(kept.joined()) <= 2 * EDGE
