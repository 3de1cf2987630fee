"""Thoughts and proofs that one upstream wrote, in a history that goes to another: never byte for byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from upstream_double import Upstream, reply

ANSWERS: dict[str, dict[str, Any]] = {
    "openai-responses": {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "m",
        "status": "completed",
        "output": [],
        "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2},
    },
    "anthropic": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1, "output_tokens": 1},
    },
}


def responses(*items: dict[str, Any]) -> dict[str, Any]:
    asked = {"type": "message", "role": "user", "content": "go on"}
    return {"model": "m", "store": False, "input": [{"role": "user", "content": "hi"}, *items, asked]}


def reasoning(**more: Any) -> dict[str, Any]:
    return {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}], **more}


@pytest.mark.parametrize(
    "item",
    [
        reasoning(encrypted_content="potstill:anthropic:signature:c2ln"),
        reasoning(encrypted_content="potstill:anthropic:redacted:c2ln", summary=[]),
        reasoning(id="rs_potstill_0123"),
        {
            "type": "message",
            "id": "msg_potstill_0123",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "ho", "annotations": []}],
        },
        {"type": "function_call", "id": "fc_potstill_01", "call_id": "c", "name": "f", "arguments": "{}"},
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_potstill_made_up_for_a_client_of_responses_never_reaches_its_provider(
    start, item: dict[str, Any], stream: bool
) -> None:
    with Upstream(lambda request: reply(ANSWERS["openai-responses"])) as upstream:
        gateway = start(teacher=f"{upstream.url}#m", dialect="openai-responses")
        assert gateway.post("/v1/responses", {**responses(item), "stream": stream}).status == 200
        (request,) = upstream.requests
        assert b"potstill" not in request.body
        assert request.path == "/v1/responses"
        assert [one.get("role") for one in request.json["input"]][-1] == "user"
        assert request.json["store"] is False


def test_the_providers_own_encrypted_reasoning_goes_back_byte_for_byte(start) -> None:
    body = json.dumps(responses(reasoning(encrypted_content="gAAAA", summary=[])), indent=3).encode()
    with Upstream(lambda request: reply(ANSWERS["openai-responses"])) as upstream:
        gateway = start(teacher=f"{upstream.url}#m", dialect="openai-responses")
        assert gateway.post("/v1/responses", body).status == 200
        assert upstream.requests[0].body == body


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_a_thought_that_anthropic_did_not_sign_is_not_sent_to_it(start, path: str) -> None:
    thought = {"type": "thinking", "thinking": "hm", "signature": "potstill-unsigned"}
    signed = {"type": "thinking", "thinking": "ha", "signature": "c2ln"}
    said = {"role": "assistant", "content": [thought, signed, {"type": "text", "text": "ho"}]}
    body = {"model": "m", "messages": [{"role": "user", "content": "a"}, said, {"role": "user", "content": "b"}]}
    body |= {} if "count" in path else {"max_tokens": 9}
    answer = {"input_tokens": 7} if "count" in path else ANSWERS["anthropic"]
    with Upstream(lambda request: reply(answer)) as upstream:
        gateway = start(teacher=f"{upstream.url}#m", dialect="anthropic")
        assert gateway.post(path, body).status == 200
        (request,) = upstream.requests
        assert request.path == path
        assert b"potstill" not in request.body
        assert request.json["messages"][1]["content"] == [signed, {"type": "text", "text": "ho"}]
        assert ("max_tokens" in request.json) == ("count" not in path)
