"""The pieces of the hot path alone: bytes of requests and streams, metrics, the recorder's bound."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import Future

import pytest
from hypothesis import given
from hypothesis import strategies as st
from upstream_double import DONE, USAGE_EVENT, chat_stream

from potstill.errors import NOT_JSON, BadRequest
from potstill.serve.clients.request_fields import asks_for_usage, outline_of, with_fields, with_usage_asked
from potstill.serve.recording.recorder import Recorder
from potstill.serve.settings import Overflow
from potstill.serve.telemetry.metrics import Metrics
from potstill.serve.upstreams.answers import is_usage_chunk, stream_ended, usage_of, usage_of_stream
from potstill.serve.upstreams.relay import UsageFilter, WholeEvents
from potstill.trajectories.exchange import Exchange

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
SPACES = st.sampled_from(["", " ", "\n\t", "  \r\n"])


@st.composite
def bodies(draw: st.DrawFn) -> tuple[str, dict[str, object]]:
    """A JSON object with ``model`` somewhere in it, written with any spaces and escapes."""
    members = draw(st.dictionaries(st.text().filter(lambda key: key != "model"), VALUES, max_size=4))
    items = [*members.items()]
    items.insert(draw(st.integers(0, len(items))), ("model", draw(st.text())))
    space, ascii_only = draw(SPACES), draw(st.booleans())
    dump = lambda value: json.dumps(value, ensure_ascii=ascii_only)  # noqa: E731
    text = ",".join(f"{space}{dump(key)}{space}:{space}{dump(value)}{space}" for key, value in items)
    return f"{space}{{{text}}}{space}", dict(items)


@given(bodies(), st.text())
def test_only_the_models_bytes_change(drawn: tuple[str, dict[str, object]], model: str) -> None:
    text, members = drawn
    body = text.encode("utf-8", "surrogatepass")
    try:
        changed = with_fields(body, {"model": json.dumps(model, ensure_ascii=True).encode()})
    except BadRequest:
        assert any(0xD800 <= ord(letter) < 0xE000 for letter in text) or "\\ud" in text.lower()
        return
    assert json.loads(changed) == {**members, "model": model}
    old, new = json.dumps(members["model"]), json.dumps(model)
    if json.dumps(members["model"], ensure_ascii=False) == old:
        assert len(changed) == len(body) - len(old) + len(new)


@pytest.mark.parametrize(
    ("body", "changed"),
    [
        (b'{"model":"a","model":"b"}', b'{"model":"z"}'),
        (b'{"a":1,"model":"a","a":1}', b'{"a":1,"model":"z"}'),
        (b'{"mo\\u0064el":"a"}', b'{"mo\\u0064el":"z"}'),
        (b'{"messages":[{"model":"a"}],"model":"a"}', b'{"messages":[{"model":"a"}],"model":"z"}'),
        (b"{}", b'{"model":"z"}'),
    ],
)
def test_what_we_route_by_is_what_the_upstream_reads(body: bytes, changed: bytes) -> None:
    assert with_fields(body, {"model": b'"z"'}) == changed


DEEP = b'{"a":' * 5000 + b"1" + b"}" * 5000


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[]", b"{}", b'{"model":"m","x":' + DEEP + b"}"])
def test_a_body_that_cannot_be_read_is_the_clients_fault(body: bytes) -> None:
    with pytest.raises(BadRequest, match="The request's body"):
        outline_of(body)


def test_an_upstreams_answer_nested_too_deeply_is_no_usage_and_no_crash() -> None:
    with pytest.raises(NOT_JSON):
        usage_of(b'{"usage":' + DEEP + b"}")
    assert usage_of_stream(b'data: {"usage":' + DEEP + b"}\n\n", "openai-chat") is None
    assert not is_usage_chunk(b'data: {"usage":' + DEEP + b"}")


def test_usage_is_asked_for_beside_whatever_the_client_said() -> None:
    body = b'{"model":"m","stream":true,"stream_options":{"include_usage":false,"x":[1]}}'
    outline = outline_of(body)
    assert not asks_for_usage(outline)
    asked = with_usage_asked(body, outline)
    assert json.loads(asked)["stream_options"] == {"include_usage": True, "x": [1]}
    assert asks_for_usage(outline_of(asked))
    assert json.loads(with_usage_asked(b'{"model":"m"}', outline_of(b'{"model":"m"}')))["stream_options"]


@given(st.lists(st.integers(1, 400)), st.sampled_from([b"\n\n", b"\r\n\r\n"]))
def test_events_come_out_whole_wherever_the_stream_is_cut(cuts: list[int], blank: bytes) -> None:
    events = [event.replace(b"\n\n", blank) for event in chat_stream("hel", "lo")]
    stream, whole, out, at = b"".join(events), WholeEvents(), b"", 0
    ends = {len(b"".join(events[:count])) for count in range(len(events) + 1)}
    for cut in [*cuts, len(stream)]:
        out += whole.feed(stream[at : at + cut])
        at += cut
        assert len(out) in ends
    assert out == stream
    assert whole.rest() == b""


def test_the_usage_filter_takes_out_what_it_put_in_and_nothing_else() -> None:
    events = chat_stream('say \\"usage\\":null', ',"usage":null')
    told = [event.replace(b"}\n\n", b',"usage":null}\n\n') if event != DONE else event for event in events]
    assert UsageFilter().apply(b"".join((*told[:-1], USAGE_EVENT, DONE))) == b"".join(events)


def test_usage_of_streams() -> None:
    body = b"".join((*chat_stream("a"), USAGE_EVENT))
    assert usage_of_stream(body, "openai-chat") == {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}
    messages = (
        b'data: {"type":"message_start","message":{"usage":{"input_tokens":9,"output_tokens":1}}}\n\n'
        b'data: {"type":"message_delta","delta":{},"usage":{"output_tokens":7,"input_tokens":null}}\n\n'
        b'data: {"type":"message_stop"}\n\n'
    )
    assert usage_of_stream(messages, "anthropic") == {"input_tokens": 9, "output_tokens": 7}
    assert stream_ended(messages, "anthropic")
    assert not stream_ended(messages[:200], "anthropic")
    response = b'data: {"type":"response.completed","response":{"output":[],"usage":{"input_tokens":1}}}\n\n'
    assert usage_of_stream(response, "openai-responses") == {"input_tokens": 1}


def test_histograms_are_cumulative() -> None:
    metrics = Metrics()
    for seconds in (0.0004, 0.5, 1000.0):
        metrics.latency.observe(seconds, "a")
    page = metrics.text().decode()
    assert 'potstill_request_seconds_bucket{route="a",le="0.0005"} 1' in page
    assert 'potstill_request_seconds_bucket{route="a",le="0.5"} 2' in page
    assert 'potstill_request_seconds_bucket{route="a",le="+Inf"} 3' in page


class HeldJournal:
    """Takes exchanges and makes them durable when told to."""

    def __init__(self) -> None:
        self.taken: list[Exchange] = []
        self.futures: list[Future[list[int]]] = []

    def record_nowait(self, exchanges):
        first = len(self.taken) + 1
        self.taken += exchanges
        future: Future[list[int]] = Future()
        self.futures.append(future)
        future.numbers = list(range(first, first + len(exchanges)))
        return future

    def release(self) -> None:
        for future in self.futures:
            if not future.done():
                future.set_result(future.numbers)


def exchange(request: bytes = b"r" * 60) -> Exchange:
    return Exchange(namespace="n", episode_id="e", route="r", dialect="d", started_at=0.0, request=request)


async def test_waiting_requests_are_let_in_when_there_is_room() -> None:
    journal = HeldJournal()
    recorder = Recorder(journal, max_bytes=100, metrics=Metrics(), linger_s=0.0)
    recorder.put(await recorder.reserve(60), exchange())
    second = asyncio.ensure_future(recorder.reserve(60))
    gone = asyncio.ensure_future(recorder.reserve(60))
    third = asyncio.ensure_future(recorder.reserve(10))
    await asyncio.sleep(0.05)
    assert not second.done()
    gone.cancel()
    journal.release()
    assert (await second).accepted
    assert (await third).accepted
    assert recorder.waiting_bytes == 70
    recorder.cancel(await second)
    recorder.cancel(await third)
    assert recorder.waiting_bytes == 0
    assert recorder.acknowledged == 1
    await recorder.aclose()


async def test_one_exchange_that_the_store_refuses_does_not_take_others_with_it() -> None:
    class Picky(HeldJournal):
        def record_nowait(self, exchanges):
            if any(one.request == b"bad" for one in exchanges):
                raise ValueError("no")
            future = super().record_nowait(exchanges)
            self.release()
            return future

    metrics = Metrics()
    recorder = Recorder(Picky(), max_bytes=1000, metrics=metrics, linger_s=0.05, overflow=Overflow.DROP)
    waits = [
        recorder.put(await recorder.reserve(3), exchange(body), wait=body == b"bad")
        for body in (b"one", b"bad", b"two")
    ]
    assert await waits[1] is None
    await recorder.aclose()
    assert (metrics.recorded.total(), metrics.unrecorded.total()) == (2, 1)
    assert recorder.waiting_bytes == 0


async def test_idle_episodes_become_trajectories(tmp_path) -> None:
    from potstill.serve.recording.closing import Closer
    from potstill.trajectories.store import Store

    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
    said = json.dumps({"id": "1", "model": "m", "choices": [{"index": 0, "message": {"content": "yes"}}]}).encode()
    one = Exchange(
        namespace="default",
        episode_id="e-1",
        route="m",
        dialect="openai-chat",
        started_at=100.0,
        request=body,
        response=said,
    )
    told = []
    with Store.open(tmp_path / "s.db") as store:
        store.record([one])
        assert Closer(store, 50.0, clock=lambda: 140.0).close_idle() == 0
        assert Closer(store, 50.0, told.append, clock=lambda: 160.0).close_idle() == 1
        (trajectory,) = store.select()
        assert trajectory.steps[0].action.text == "yes"
        assert told == [trajectory]
        assert store.open_episodes() == []
