"""Headers and statuses between clients and upstreams of the same and of other dialects; official SDKs read them."""

from __future__ import annotations

import http.client
import json
import tomllib
from typing import Any

import anthropic
import openai
import pytest
from upstream_double import Upstream, chat_answer, reply

from potstill.errors import ConfigError
from potstill.serve.settings_file import parse

ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "openai-chat": ("/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "hi"}]}),
    "openai-responses": ("/v1/responses", {"model": "m", "input": "hi"}),
    "anthropic": ("/v1/messages", {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}),
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "hello"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 1, "output_tokens": 1},
}
SENT = {
    "anthropic-version": "2026-10-21",
    "anthropic-beta": "interleaved-thinking-2025-05-14,files-api-2025-04-14",
    "openai-organization": "org-1",
    "openai-project": "proj-1",
    "openai-beta": "assistants=v2",
    "cookie": "session=1",
    "host": "evil.example",
    "x-forwarded-for": "10.0.0.1",
    "x-forwarded-host": "evil.example",
    "forwarded": "host=evil.example",
    "proxy-authorization": "Basic eDp5",
}


def error(kind: str, message: str = "no", dialect: str = "anthropic", **more: Any) -> bytes:
    inner = {"type": kind, "message": message, **more}
    return json.dumps({"type": "error", "error": inner} if dialect == "anthropic" else {"error": inner}).encode()


def asked(gateway: Any, client: str, **headers: str) -> Any:
    path, body = ASKED[client]
    connection = http.client.HTTPConnection(gateway.url.removeprefix("http://"), timeout=120)
    connection.putrequest("POST", path, skip_host="host" in headers, skip_accept_encoding=True)
    data = json.dumps(body).encode()
    for name, value in {"content-type": "application/json", "content-length": str(len(data)), **headers}.items():
        connection.putheader(name, value)
    connection.endheaders(data)
    response = connection.getresponse()
    answered = (response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    connection.close()
    return answered


@pytest.mark.parametrize("client", ASKED)
@pytest.mark.parametrize("upstream", ASKED)
def test_a_client_tells_its_provider_what_concerns_it_and_nothing_else(start, client: str, upstream: str) -> None:
    with Upstream(lambda request: reply(b"{}", 500)) as double:
        gateway = start(teacher=f"{double.url}#m", dialect=upstream, allowed_hosts=("evil.example",))
        asked(gateway, client, **SENT)
        (request,) = double.requests
    got = request.headers
    near = upstream == "anthropic"
    version = "2026-10-21" if client == upstream else "2023-06-01"
    assert got.get("anthropic-version") == (version if near else None)
    assert got.get("anthropic-beta") == (SENT["anthropic-beta"] if near else None)
    for name in ("openai-organization", "openai-project", "openai-beta"):
        assert got.get(name) == (None if near else SENT[name])
    assert not got.keys() & {"cookie", "x-forwarded-for", "x-forwarded-host", "forwarded", "proxy-authorization"}
    assert got["host"] == double.url.removeprefix("http://").removesuffix("/v1")


def test_limits_and_ids_of_the_provider_reach_the_client(start) -> None:
    told = {
        "request-id": "req_9",
        "x-request-id": "req_8",
        "anthropic-ratelimit-tokens-remaining": "7",
        "x-ratelimit-remaining-requests": "3",
        "openai-processing-ms": "5",
        "retry-after": "1",
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in told.items()) + "set-cookie: a=b\r\nserver: x\r\n"
    with Upstream(lambda request: reply(MESSAGE, headers=head)) as double:
        gateway = start(teacher=f"{double.url}#m", dialect="anthropic")
        for client in ASKED:
            status, headers, _ = asked(gateway, client)
            assert status == 200
            assert told.items() <= headers.items()
            assert not headers.keys() & {"set-cookie"}


@pytest.mark.parametrize(
    ("upstream", "status", "body", "client", "expected", "kind"),
    [
        ("anthropic", 529, error("overloaded_error"), "openai-chat", 503, "server_error"),
        ("anthropic", 529, error("overloaded_error"), "openai-responses", 503, "server_error"),
        ("anthropic", 529, error("overloaded_error"), "anthropic", 529, "overloaded_error"),
        ("anthropic", 413, error("request_too_large"), "openai-chat", 413, "invalid_request_error"),
        ("anthropic", 429, error("rate_limit_error"), "openai-responses", 429, "rate_limit_error"),
        ("anthropic", 400, error("invalid_request_error", "Your credit balance is too low"), "openai-chat", 429,
         "insufficient_quota"),
        ("openai-chat", 503, error("server_error", dialect=""), "anthropic", 529, "overloaded_error"),
        ("openai-chat", 413, error("invalid_request_error", dialect=""), "anthropic", 413, "request_too_large"),
        ("openai-chat", 429, error("rate_limit", dialect=""), "anthropic", 429, "rate_limit_error"),
        ("openai-chat", 429, error("insufficient_quota", dialect=""), "anthropic", 402, "billing_error"),
        ("openai-responses", 404, error("x", dialect=""), "anthropic", 404, "not_found_error"),
    ],
)  # fmt: skip
def test_statuses_are_those_that_the_clients_sdk_knows(
    start, upstream: str, status: int, body: bytes, client: str, expected: int, kind: str
) -> None:
    head = "retry-after: 31\r\nx-request-id: req_7\r\nx-ratelimit-remaining-tokens: 0\r\n"
    with Upstream(lambda request: reply(body, status, headers=head)) as double:
        gateway = start(teacher=f"{double.url}#m", dialect=upstream)
        answered, headers, told = asked(gateway, client)
        assert len(double.requests) == 1
    assert answered == expected
    assert json.loads(told)["error"]["type"] == kind
    assert headers["retry-after"] == "31"
    assert (headers["x-request-id"], headers["x-ratelimit-remaining-tokens"]) == ("req_7", "0")
    assert headers["content-type"] == "application/json"
    assert headers.get("x-should-retry") == ("false" if expected == 402 or kind == "insufficient_quota" else None)


def test_a_context_that_overflows_is_told_in_the_words_that_clients_look_for(start) -> None:
    ours = {"message": "This model's maximum context length is 8192 tokens.", "code": "context_length_exceeded"}
    with Upstream(lambda request: reply({"error": ours}, 400)) as double:
        gateway = start(teacher=f"{double.url}#m")
        _, _, told = asked(gateway, "anthropic")
        assert json.loads(told)["error"]["message"].startswith("prompt is too long: This model's maximum")
    theirs = error("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum")
    with Upstream(lambda request: reply(theirs, 400)) as double:
        gateway = start(teacher=f"{double.url}#m", dialect="anthropic")
        for client in ("openai-chat", "openai-responses"):
            assert json.loads(asked(gateway, client)[2])["error"]["code"] == "context_length_exceeded"
        assert asked(gateway, "anthropic")[2] == theirs


def test_official_sdks_raise_their_own_classes_over_another_dialect(start) -> None:
    with Upstream(lambda request: reply(error("overloaded_error"), 529)) as double:
        gateway = start(teacher=f"{double.url}#m", dialect="anthropic")
        client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="k", max_retries=0)
        with pytest.raises(openai.InternalServerError) as raised:
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
        assert raised.value.status_code == 503
    with Upstream(lambda request: reply(error("server_error", dialect=""), 503)) as double:
        gateway = start(teacher=f"{double.url}#m")
        near = anthropic.Anthropic(base_url=gateway.url, api_key="k", max_retries=0)
        with pytest.raises(anthropic.APIStatusError) as told:
            near.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "hi"}])
        assert told.value.status_code == 529
        assert type(told.value).__name__ == "OverloadedError"


def test_the_sdks_own_headers_reach_the_provider(start) -> None:
    with Upstream(lambda request: reply(chat_answer())) as double:
        gateway = start(teacher=f"{double.url}#m")
        client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="k", organization="org-1", project="proj-1")
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
        got = double.requests[0].headers
    assert (got["openai-organization"], got["openai-project"]) == ("org-1", "proj-1")
    assert got["user-agent"].startswith("OpenAI/Python")
    with Upstream(lambda request: reply(MESSAGE)) as double:
        gateway = start(teacher=f"{double.url}#m", dialect="anthropic")
        near = anthropic.Anthropic(base_url=gateway.url, api_key="k")
        near.beta.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "hi"}], betas=["b-1"])
        got = double.requests[0].headers
    assert (got["anthropic-beta"], got["anthropic-version"]) == ("b-1", near.default_headers["anthropic-version"])
    assert "k" in (got.get("x-api-key"), got.get("authorization", "").removeprefix("Bearer "))


@pytest.mark.parametrize("setting", ['headers = { Host = "x" }', 'forward_headers = ["Transfer-Encoding"]'])
def test_headers_of_a_connection_cannot_be_set(setting: str) -> None:
    text = f'[gateway]\npassthrough = "u"\n[upstreams.u]\nbase_url = "http://h/v1"\n{setting}\n'
    with pytest.raises(ConfigError, match="belongs to one connection"):
        parse(tomllib.loads(text), "here")
