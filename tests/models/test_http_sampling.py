"""How n samples are asked for, and what the calls say was billed."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from misbehaving import Endpoint

from potstill.errors import ConfigError, ModelError
from potstill.models.http import HttpModel
from potstill.models.limits import RetryPolicy
from potstill.protocols import Model
from potstill.types import Answerer, Blob, Message, Past, Purpose, Request, Situation, Usage

REQUEST = Request(messages=(Message(role="user", content="one two three"),), seed=10, purpose=Purpose.PLAN)
QUICK = RetryPolicy(base_s=0.001)


def opened(endpoint: Endpoint, behaviour: str, **options: object) -> HttpModel:
    return HttpModel("m", base_url=endpoint.url(behaviour), retry=QUICK, **options)  # type: ignore[arg-type]


async def test_a_shared_prompt_is_asked_and_billed_once(endpoint: Endpoint) -> None:
    model = opened(endpoint, "ok", n_shares_prompt=True, priced_as="gpt-6-luna")
    assert isinstance(model, Model)
    completion = await model.sample(REQUEST, n=3)
    await model.aclose()
    assert [reply.text for reply in completion.replies] == ["answer 0", "answer 1", "answer 2"]
    (call,) = completion.calls
    assert call.usage == Usage(input_tokens=3, output_tokens=6, cache_reported=True)
    assert call.raw_usage is not None
    assert call.raw_usage["total_tokens"] == 9
    assert (call.request_id, call.attempts, call.answerer) == ("req-1", 1, Answerer.NOBODY)
    assert (call.priced_as, call.purpose, call.prompt) == ("gpt-6-luna", Purpose.PLAN, REQUEST.messages)
    assert call.latency_s > 0
    assert endpoint.stats()["bodies"]["ok"][0]["n"] == 3


async def test_otherwise_the_first_sample_warms_the_cache_for_the_rest(endpoint: Endpoint) -> None:
    model = opened(endpoint, "ok-apart")
    completion = await model.sample(REQUEST, n=4)
    await model.aclose()
    assert len(completion.replies) == len(completion.calls) == 4
    # The server counts requests: what is not the first is answered from its cache.
    reads = [call.usage.cache_read_tokens for call in completion.calls if call.usage]
    assert reads == [0, 3, 3, 3]
    bodies = endpoint.stats()["bodies"]["ok-apart"]
    assert sorted(body["seed"] for body in bodies) == [10, 11, 12, 13]
    assert not any("n" in body for body in bodies)


@pytest.mark.parametrize(("behaviour", "calls"), [("one-choice", 4), ("two-choices", 3)])
async def test_an_endpoint_that_answers_fewer_is_asked_for_the_rest(
    endpoint: Endpoint, behaviour: str, calls: int
) -> None:
    model = opened(endpoint, behaviour, n_shares_prompt=True)
    completion = await model.sample(REQUEST, n=4)
    await model.aclose()
    assert len(completion.replies) == 4
    assert len(completion.calls) == calls == endpoint.seen(behaviour)
    assert sum(len(call.replies) for call in completion.calls) == 4


async def test_no_more_requests_are_under_way_than_allowed(endpoint: Endpoint) -> None:
    model = opened(endpoint, "slow", max_concurrency=2)
    await model.sample(REQUEST, n=8)
    await model.aclose()
    assert endpoint.stats()["most_underway"]["slow"] == 2


async def test_what_was_billed_before_a_failure_is_told(endpoint: Endpoint) -> None:
    model = opened(endpoint, "second-fails")
    with pytest.raises(ModelError, match="second") as caught:
        await model.sample(REQUEST, n=2)
    await model.aclose()
    assert [call.usage for call in caught.value.calls] == [Usage(input_tokens=3, output_tokens=2, cache_reported=True)]


async def test_one_model_serves_one_loop_after_another(endpoint: Endpoint) -> None:
    import asyncio

    model = opened(endpoint, "ok")

    def in_a_loop_of_its_own() -> str:
        async def ask() -> str:
            text = (await model.sample(REQUEST)).replies[0].text
            await model.aclose()
            return text

        return asyncio.run(ask())

    for _ in range(2):
        assert (await asyncio.to_thread(in_a_loop_of_its_own)).startswith("answer")


async def test_an_image_needs_a_reader(endpoint: Endpoint) -> None:
    blob = Blob(digest="00", media_type="image/png", size_bytes=1)
    request = Request(messages=(Message(role="user", images=(blob,)),))
    model = opened(endpoint, "ok")
    with pytest.raises(ConfigError, match="read_blob"):
        await model.sample(request)
    seeing = opened(endpoint, "ok", read_blob=lambda _: Path(__file__).read_bytes())
    assert seeing.capabilities.images
    assert (await seeing.sample(request)).replies
    await model.aclose()
    await seeing.aclose()


async def test_no_sample_is_a_mistake(endpoint: Endpoint) -> None:
    with pytest.raises(ConfigError, match="at least one"):
        await opened(endpoint, "ok").sample(REQUEST, n=0)


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x/v1", "http://", "http://x:port/v1", "http://[::1/v1"])
def test_an_address_that_is_none_is_said(url: str) -> None:
    with pytest.raises(ConfigError, match="http"):
        HttpModel("m", base_url=url)


@pytest.mark.parametrize("url", ["http://user:secret@x/v1", "https://x/v1?api_key=secret"])
def test_a_secret_in_the_address_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match="key_variable") as caught:
        HttpModel("m", base_url=url)
    assert "secret" not in str(caught.value)


def test_names_say_provider_address_and_model() -> None:
    assert HttpModel("gpt-6-luna", provider="openai").name == "openai:gpt-6-luna"
    assert HttpModel("q", base_url="http://h/v1/").name == "http:http://h/v1#q"
    assert HttpModel("q", provider="vllm", base_url="http://h/v1/chat/completions").name == "vllm:http://h/v1#q"


async def test_a_situation_is_never_sent_or_kept(endpoint: Endpoint) -> None:
    """It is for policies that read no chat; an endpoint gets the same bytes with and without it."""
    model = opened(endpoint, "ok-situation")
    situation = Situation(goal="SECRET-GOAL", observation="SECRET-SIGHT", past=(Past(observation="a", action="b"),))
    first = await model.sample(REQUEST)
    second = await model.sample(msgspec.structs.replace(REQUEST, situation=situation))
    await model.aclose()
    plain, told = endpoint.stats()["bodies"]["ok-situation"]
    assert plain == told
    assert "SECRET" not in json.dumps(endpoint.stats())
    assert b"SECRET" not in msgspec.json.encode((first, second))
