"""Upstreams that stream anything: clients of all dialects see well-formed streams that end, and the gateway goes on.

Every pair of dialects, the same one (bytes) and others (translated). The seed is hypothesis' own: a failure prints
how to repeat it. ``POTSTILL_FUZZ=N`` draws N examples for each pair.
"""

from __future__ import annotations

import os
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, note, seed, settings
from mangled_streams import Plan, plans
from pair_samples import ANTHROPIC, CASES, CHAT, NAMES, RESPONSES, STREAMS
from stream_checks import STRICT, ending
from upstream_double import CLOSE, END, RESET, STREAM, chunk
from watched_gateway import IDLE_S, PATHS, Seen, Watched, question

EXAMPLES = int(os.environ.get("POTSTILL_FUZZ", "8"))
MANY = 150
PAIRS = [(client, upstream) for client in NAMES for upstream in NAMES]
fuzz = settings(
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


def checked(watched: Watched, client: str, upstream: str, seen: Seen, plan: Plan) -> None:
    """One answer, whatever its upstream did."""
    assert seen.status in (200, 502, 504), (seen.status, seen.body[:300])
    if seen.status != 200:
        assert seen.headers["content-type"] == "application/json"
        assert isinstance(seen.json["error"]["message"], str)
        assert not plan.clean, (seen.status, seen.body[:300])
        return
    assert seen.headers["content-type"].startswith("text/event-stream")
    how = ending(seen.body, client) if client == upstream else STRICT[client](seen.body, sane=plan.clean)
    assert how == "end" or not plan.clean
    watched.seen[seen.request_id] = (seen, how == "end")


def run(watched: Watched, client: str, upstream: str, examples: int, number: int) -> None:
    watched.begin()
    asked = question(client, upstream)
    told = watched.count("potstill_requests_total")
    count = 0
    damaged = True  # an upstream that goes on behind its end leaves a kept connection on which the next request fails

    @seed(number)
    @settings(fuzz, max_examples=examples)
    @given(plan=plans(upstream))
    def one(plan: Plan) -> None:
        nonlocal count, damaged
        watched.answer = lambda request: iter(plan.pieces)
        for _ in range(2 if damaged and plan.clean else 1):
            count += 1
            seen = watched.ask(PATHS[client], asked)
            if seen.status == 200:
                break
        damaged = not plan.clean
        note(f"the client got {seen.status} {seen.body[-600:]!r}")
        checked(watched, client, upstream, seen, plan)

    one()
    watched.settled()
    assert watched.count("potstill_requests_total") == told + count


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
def test_any_stream_becomes_one_that_clients_can_read(watched: Watched, client: str, upstream: str) -> None:
    run(watched, client, upstream, EXAMPLES, 20_261)


@pytest.mark.slow
@pytest.mark.full
@pytest.mark.parametrize(("client", "upstream"), PAIRS)
def test_many_streams_become_ones_that_clients_can_read(watched: Watched, client: str, upstream: str) -> None:
    run(watched, client, upstream, MANY, 4_711)


@pytest.mark.parametrize("client", NAMES)
def test_a_stream_that_breaks_after_its_end_is_whole(watched: Watched, client: str) -> None:
    watched.begin()
    for upstream in NAMES:
        said = b"".join(STREAMS[upstream](CASES["text"]))
        for how in (RESET, CLOSE, 20.0) if client == upstream else (RESET, CLOSE):
            watched.answer = lambda request, said=said, how=how: [STREAM, chunk(said), 0.03, how]
            seen = watched.ask(PATHS[client], question(client, upstream))
            assert STRICT[client](seen.body) == "end"
            watched.seen[seen.request_id] = (seen, True)
    watched.settled()


@pytest.mark.parametrize("client", NAMES)
def test_a_stream_that_stalls_ends_with_an_error(watched: Watched, client: str) -> None:
    watched.begin()
    for upstream in {client, CHAT}:
        frames = STREAMS[upstream](CASES["text"])
        half = b"".join(frames[:4]) + frames[4][:10]
        watched.answer = lambda request, half=half: [STREAM, chunk(half), 20.0]
        seen = watched.ask(PATHS[client], question(client, upstream))
        assert STRICT[client](seen.body) == "error"
        assert f"was silent for {IDLE_S} s".encode() in seen.body
        watched.seen[seen.request_id] = (seen, False)
    watched.settled()


def test_an_event_of_any_size_is_passed_on_in_linear_time(watched: Watched) -> None:
    watched.begin()
    pieces = [chunk(b"x" * 4096) for _ in range(800)]
    frames = STREAMS[CHAT](CASES["text"])
    watched.answer = lambda request: [STREAM, chunk(b": "), *pieces, chunk(b"\n\n"), *map(chunk, frames), END]
    seen = watched.ask(PATHS[CHAT], question(CHAT, CHAT))
    assert seen.body == b": " + b"x" * 4096 * 800 + b"\n\n" + b"".join(frames)
    watched.seen[seen.request_id] = (seen, True)
    watched.settled()


@pytest.mark.slow
@pytest.mark.full
@pytest.mark.parametrize("upstream", NAMES)
def test_official_clients_read_damaged_streams_or_raise_their_own_errors(watched: Watched, upstream: str) -> None:
    from anthropic import Anthropic, APIStatusError
    from openai import APIError, OpenAI

    url = watched.server.url
    openai = OpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0)
    anthropic = Anthropic(base_url=url, api_key="k", max_retries=0)
    told = [{"role": "user", "content": "hi"}]
    model = f"to-{upstream}"

    @seed(91)
    @settings(fuzz, max_examples=20)
    @given(plan=plans(upstream))
    def one(plan: Plan) -> None:
        watched.answer = lambda request: iter(plan.pieces)
        if upstream != CHAT:
            with suppress(APIError):
                list(openai.chat.completions.create(model=model, messages=told, stream=True))
        if upstream != RESPONSES:
            with suppress(APIError):
                list(openai.responses.create(model=model, input="hi", stream=True))
        if upstream != ANTHROPIC:
            with suppress(APIStatusError):
                list(anthropic.messages.create(model=model, messages=told, max_tokens=50, stream=True))

    watched.begin()
    one()
    openai.close()
    anthropic.close()
    watched.settled()
