"""Every way in which an endpoint fails gives one clear error of the right kind, and leaves the model usable."""

from __future__ import annotations

import asyncio
import random
import socket
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from misbehaving import Endpoint

from potstill.errors import (
    BadResponse,
    ContextOverflow,
    KeyRefused,
    ModelError,
    ModelTimeout,
    ModelUnavailable,
    RateLimited,
)
from potstill.models.http import HttpModel
from potstill.models.limits import RetryPolicy, Timeouts, parse_retry_after
from potstill.types import Message, Request

REQUEST = Request(messages=(Message(role="user", content="hi"),))


def opened(endpoint: Endpoint, behaviour: str, **options: object) -> HttpModel:
    settings = {"retry": RetryPolicy(attempts=4, base_s=0.001), "max_bytes": 1_000_000, **options}
    return HttpModel("m", base_url=endpoint.url(behaviour), **settings)  # type: ignore[arg-type]


FAILURES = [
    ("html", BadResponse, "web page", 1),
    ("wrong-json", BadResponse, "hello", 1),
    ("no-json", BadResponse, "all fine", 1),
    ("event-stream", BadResponse, "data:", 1),
    ("empty", BadResponse, "empty", 1),
    ("giant", BadResponse, "more than the 1000000 bytes", 1),
    ("giant-gzip", BadResponse, "more than the 1000000 bytes", 1),
    ("reset-in-body", BadResponse, r"broke off its answer after 24 bytes.*\(4 attempts\)", 4),
    ("moved", BadResponse, "redirects to https://elsewhere.invalid/v1/chat/completions[.]", 1),
    ("limited-always", RateLimited, r"slow down.*\(4 attempts\)", 4),
    ("limited-for-an-hour", RateLimited, "3600 s", 1),
    ("no-money", RateLimited, "quota", 1),
    ("busy-always", ModelUnavailable, r"overloaded \(4 attempts\)", 4),
    ("refused-key", KeyRefused, "export POTSTILL_HTTP_KEY=", 1),
    ("forbidden", KeyRefused, "no access", 1),
    ("overflow", ContextOverflow, "maximum context length", 1),
    ("no-such-model", ModelError, "Check the model's name", 1),
    ("bad-field", ModelError, "Unsupported value", 1),
]


@pytest.mark.parametrize(("behaviour", "kind", "said", "requests"), FAILURES, ids=[row[0] for row in FAILURES])
async def test_failures_are_told_apart(
    endpoint: Endpoint, behaviour: str, kind: type[ModelError], said: str, requests: int
) -> None:
    model = opened(endpoint, behaviour)
    with pytest.raises(kind, match=said) as caught:
        await model.sample(REQUEST)
    await model.aclose()
    assert type(caught.value) is kind
    assert endpoint.seen(behaviour) == requests
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("behaviour", "attempts"),
    [("limited-once", 2), ("limited-until-date", 2), ("busy-thrice", 4), ("reset-before-answer", 2)],
)
async def test_what_passes_is_tried_again(endpoint: Endpoint, behaviour: str, attempts: int) -> None:
    model = opened(endpoint, behaviour)
    completion = await model.sample(REQUEST)
    await model.aclose()
    assert completion.calls[0].attempts == attempts
    assert len(completion.calls) == 1


async def test_a_half_answer_stays_in_the_ledger(endpoint: Endpoint) -> None:
    model = opened(endpoint, "reset-in-body-once")
    lost, good = (await model.sample(REQUEST)).calls
    await model.aclose()
    assert lost.error is not None
    assert (lost.error.kind, lost.usage, lost.replies) == ("BadResponse", None, ())
    assert good.error is None
    assert good.attempts == 2


async def test_a_useless_answer_is_a_call_too(endpoint: Endpoint) -> None:
    model = opened(endpoint, "wrong-json")
    with pytest.raises(BadResponse) as caught:
        await model.sample(REQUEST)
    await model.aclose()
    (call,) = caught.value.calls
    assert call.error is not None
    assert call.usage is None


@pytest.mark.parametrize(
    ("behaviour", "timeouts", "said"),
    [
        ("hang", Timeouts(total_s=0.2), "did not finish"),
        ("hang", Timeouts(idle_s=0.2), "silent for 0.2 s"),
        ("slow-loris", Timeouts(idle_s=5.0, total_s=0.3), "did not finish"),
    ],
)
async def test_a_hanging_endpoint_times_out(endpoint: Endpoint, behaviour: str, timeouts: Timeouts, said: str) -> None:
    model = opened(endpoint, behaviour, timeouts=timeouts)
    with pytest.raises(ModelTimeout, match=said):
        await model.sample(REQUEST)
    await model.aclose()


async def test_nobody_listens() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}/v1"
        model = HttpModel("m", base_url=url)
        with pytest.raises(ModelUnavailable, match=r"No connection to .* Is the server running"):
            await model.sample(REQUEST)
        await model.aclose()


async def test_a_host_without_address() -> None:
    model = HttpModel("m", base_url="http://no-such-host.invalid/v1")
    with pytest.raises(ModelUnavailable, match="Check the URL"):
        await model.sample(REQUEST)
    await model.aclose()


async def test_a_server_that_does_not_speak_http() -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    model = HttpModel("m", base_url=f"http://127.0.0.1:{port}/v1", retry=RetryPolicy(attempts=1))
    with pytest.raises((BadResponse, ModelUnavailable)):
        await model.sample(REQUEST)
    await model.aclose()
    server.close()


# --- cancelling -----------------------------------------------------------------------------------------------------


async def _until_underway(endpoint: Endpoint, behaviour: str, count: int) -> None:
    for _ in range(500):
        if (await asyncio.to_thread(endpoint.stats))["underway"].get(behaviour, 0) == count:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"never {count} requests under way")


async def test_cancelling_closes_the_connection_and_frees_the_slot(endpoint: Endpoint) -> None:
    model = opened(endpoint, "hang-once", max_concurrency=1)
    task = asyncio.create_task(model.sample(REQUEST))
    await _until_underway(endpoint, "hang-once", 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await model.sample(REQUEST)).replies
    await _until_underway(endpoint, "hang-once", 0)
    assert endpoint.stats()["dropped"]["hang-once"] == 1
    await model.aclose()


async def test_cancelling_many_leaves_no_task_and_no_connection(endpoint: Endpoint) -> None:
    model = opened(endpoint, "hang-and-count", max_concurrency=3)
    before = asyncio.all_tasks()
    tasks = [asyncio.create_task(model.sample(REQUEST, n=2)) for _ in range(6)]
    await _until_underway(endpoint, "hang-and-count", 3)
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    await _until_underway(endpoint, "hang-and-count", 0)
    await model.aclose()
    assert asyncio.all_tasks() == before
    # The three that waited for a slot never reached the server.
    assert endpoint.seen("hang-and-count") == 3


# --- waiting --------------------------------------------------------------------------------------------------------


def test_retry_after_by_hand() -> None:
    now = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC).timestamp()
    later = format_datetime(datetime(2026, 11, 20, 12, 1, 30, tzinfo=UTC), usegmt=True)
    assert parse_retry_after({"Retry-After": "12"}, now) == 12.0
    assert parse_retry_after({"Retry-After": later}, now) == 90.0
    assert parse_retry_after({"Retry-After": later}, now + 1000) == 0.0
    assert parse_retry_after({"retry-after-ms": "250", "Retry-After": "1"}, now) == 0.25
    assert parse_retry_after({}, now) is None
    for nonsense in ("", "soon", "-3", "inf", "nan"):
        assert parse_retry_after({"Retry-After": nonsense}, now) is None


@given(st.integers(1, 60), st.none() | st.floats(0, 60), st.integers())
def test_delays_stay_within_their_bounds(failures: int, retry_after: float | None, seed: int) -> None:
    policy = RetryPolicy(base_s=0.5, cap_s=20.0)
    delay = policy.delay_s(failures, retry_after, random.Random(seed))
    ceiling = min(20.0, 0.5 * 2 ** (failures - 1))
    if retry_after is None:
        assert 0.0 <= delay <= ceiling
    else:
        assert retry_after <= delay <= retry_after + 0.5


@given(st.text(max_size=40))
def test_any_retry_after_is_none_or_not_negative(value: str) -> None:
    seconds = parse_retry_after({"Retry-After": value}, 0.0)
    assert seconds is None or seconds >= 0
