"""The HTTP model against a real OpenAI-compatible server with a real language model: llama.cpp on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from potstill.errors import ContextOverflow, KeyRefused
from potstill.models.check import Status, check_model
from potstill.models.http import HttpModel
from potstill.types import FinishReason, Message, Request

pytestmark = pytest.mark.llm

REQUEST = Request(
    messages=(
        Message(role="system", content="You are a player in a text adventure. " * 10),
        Message(role="user", content="You see a lamp and a door. What do you do?"),
    ),
    temperature=1.0,
    max_tokens=6,
    seed=3,
)


@pytest.fixture(scope="module")
def server(smollm2: Path) -> Iterator[tuple[str, dict[str, str]]]:
    from potstill.models.llama_server import LlamaServer

    server = LlamaServer(smollm2, threads=2, context_tokens=1024, slots=4)
    yield f"{server.url}/v1", server.headers
    server.close()


async def test_one_request_with_n_evaluates_the_prompt_once(server: tuple[str, dict[str, str]]) -> None:
    url, headers = server
    model = HttpModel("smollm2", provider="llamacpp", base_url=url, headers=headers)
    completion = await model.sample(REQUEST, n=3)
    again = await model.sample(REQUEST, n=3)
    await model.aclose()
    (call,) = completion.calls
    assert len(completion.replies) == 3
    assert call.usage is not None
    assert 80 < call.usage.input_tokens < 200
    assert call.usage.output_tokens <= 3 * REQUEST.max_tokens + 3
    assert {reply.finish_reason for reply in completion.replies} <= {FinishReason.STOP, FinishReason.LENGTH}
    usage = again.calls[0].usage
    assert usage is not None
    assert usage.cache_reported
    assert usage.cache_read_tokens > 0.9 * usage.input_tokens


async def test_samples_asked_apart_read_the_warm_cache(server: tuple[str, dict[str, str]]) -> None:
    url, headers = server
    model = HttpModel("smollm2", base_url=url, headers=headers, max_concurrency=1)
    other = Request(messages=(Message(role="user", content="Name a colour that is warm. " * 8),), max_tokens=4)
    completion = await model.sample(other, n=2)
    await model.aclose()
    first, second = (call.usage for call in completion.calls)
    assert first is not None
    assert second is not None
    assert second.cache_read_tokens > first.cache_read_tokens


async def test_log_probabilities_sum_over_the_answer(server: tuple[str, dict[str, str]]) -> None:
    url, headers = server
    model = HttpModel("smollm2", provider="llamacpp", base_url=url, headers=headers)
    request = Request(messages=REQUEST.messages, top_logprobs=3, max_tokens=6)
    reply = (await model.sample(request)).replies[0]
    await model.aclose()
    assert reply.logprob == pytest.approx(sum(token.logprob for token in reply.token_logprobs))
    assert "".join(token.token for token in reply.token_logprobs).strip() == reply.text.strip()
    assert all(len(token.top) == 3 for token in reply.token_logprobs)


async def test_a_prompt_that_is_too_long(server: tuple[str, dict[str, str]]) -> None:
    url, headers = server
    model = HttpModel("smollm2", base_url=url, headers=headers)
    with pytest.raises(ContextOverflow):
        await model.sample(Request(messages=(Message(role="user", content="very long " * 3000),)))
    await model.aclose()


async def test_a_server_that_wants_a_key(server: tuple[str, dict[str, str]]) -> None:
    url, _ = server
    model = HttpModel("smollm2", base_url=url)
    with pytest.raises(KeyRefused, match="No key was sent"):
        await model.sample(REQUEST)
    await model.aclose()


async def test_the_conformance_check_passes(server: tuple[str, dict[str, str]]) -> None:
    url, headers = server
    model = HttpModel("smollm2", provider="llamacpp", base_url=url, headers=headers)
    report = await check_model(model, n=2, max_tokens=6)
    await model.aclose()
    assert report.passed, [finding for finding in report.findings if finding.status is Status.FAILED]
