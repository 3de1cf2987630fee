"""Reasoning on its way through a client of another dialect: whose proof comes back to whom.

A provider refuses reasoning with another's proof: a proof must come back to its own provider and reach no other.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from pair_samples import ANTHROPIC, BODIES, CASES, CHAT, NAMES, RESPONSES, STREAMS
from test_pairs import READ_STREAM, pairs, translate, translate_stream

from potstill.wire.dialect import dialect

SAYS = CASES["reasoning then tool"]
PROOFS = {RESPONSES: "gAAAA", ANTHROPIC: "EqQBsig"}


def answer_items(upstream: str, client: str, *, stream: bool) -> list[dict[str, Any]]:
    """What the client keeps of an answer for its next request."""
    if not stream:
        body = json.loads(translate(upstream, client, BODIES[upstream](SAYS)))
    else:
        raw = translate_stream(upstream, client, STREAMS[upstream](SAYS))
        assert READ_STREAM[client](raw).thinking == SAYS.thinking
        frames = [
            json.loads(block.partition("data: ")[2]) for block in raw.decode().split("\n\n") if "data: {" in block
        ]
        body = _collected(client, frames)
    if client == RESPONSES:
        return list(body["output"])
    if client == ANTHROPIC:
        return [{"role": "assistant", "content": body["content"]}]
    return [body["choices"][0]["message"]]


def _collected(client: str, frames: list[dict[str, Any]]) -> dict[str, Any]:
    if client == RESPONSES:
        found: dict[str, Any] = frames[-1]["response"]
        return found
    if client == CHAT:
        thought = "".join(
            frame["choices"][0]["delta"].get("reasoning_content", "") for frame in frames if frame["choices"]
        )
        return {"choices": [{"message": {"role": "assistant", "content": "ok", "reasoning_content": thought}}]}
    blocks: list[dict[str, Any]] = []
    for frame in frames:
        if frame["type"] == "content_block_start":
            blocks.append(frame["content_block"])
        if frame["type"] == "content_block_delta":
            for key in ("thinking", "signature", "text"):
                if key in frame["delta"]:
                    blocks[-1][key] = blocks[-1].get(key, "") + frame["delta"][key]
    return {"content": [block for block in blocks if block["type"] != "tool_use"]}


def next_request(client: str, items: list[dict[str, Any]]) -> bytes:
    question = {"role": "user", "content": "hi"}
    key = "input" if client == RESPONSES else "messages"
    limit = {"max_tokens": 9} if client == ANTHROPIC else {}
    return json.dumps({"model": "m", key: [question, *items]} | limit).encode()


def sent(upstream: str, client: str, to: str, *, stream: bool) -> str:
    body = next_request(client, answer_items(upstream, client, stream=stream))
    return dialect(to).encode_request(dialect(client).decode_request(body)).decode()


@pairs
@pytest.mark.parametrize("to", NAMES)
@pytest.mark.parametrize("stream", [False, True])
def test_a_proof_never_reaches_another_provider(upstream: str, client: str, to: str, stream: bool) -> None:
    request = sent(upstream, client, to, stream=stream)
    assert "potstill" not in request
    for provider, proof in PROOFS.items():
        if to != provider or upstream != provider:
            assert proof not in request


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("upstream", "client"), [(RESPONSES, RESPONSES), (ANTHROPIC, ANTHROPIC), (ANTHROPIC, RESPONSES)]
)
def test_a_proof_comes_back_to_its_provider(upstream: str, client: str, stream: bool) -> None:
    request = sent(upstream, client, upstream, stream=stream)
    assert PROOFS[upstream] in request
    assert SAYS.thinking in request


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("client", NAMES)
def test_plain_reasoning_comes_back_to_chat_completions(client: str, stream: bool) -> None:
    (message,) = [
        message
        for message in json.loads(sent(CHAT, client, CHAT, stream=stream))["messages"]
        if message["role"] == "assistant"
    ]
    assert message["reasoning_content"] == SAYS.thinking


def test_redacted_thinking_comes_back_to_anthropic_through_a_client_of_responses() -> None:
    block = {"type": "redacted_thinking", "data": "blackbox"}
    answer = json.loads(BODIES[ANTHROPIC](SAYS))
    answer["content"][0] = block
    items = json.loads(translate(ANTHROPIC, RESPONSES, json.dumps(answer).encode()))["output"]
    prompt = dialect(RESPONSES).decode_request(next_request(RESPONSES, items))
    assert block in json.loads(dialect(ANTHROPIC).encode_request(prompt))["messages"][1]["content"]
    assert "blackbox" not in dialect(RESPONSES).encode_request(prompt).decode()
