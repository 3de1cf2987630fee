"""Nobody but the settings' author chooses where the gateway connects: names, addresses, headers, paths and redirects.

A canary listens beside the upstream; whatever reaches it was chosen by a client or by an upstream.
"""

from __future__ import annotations

import json
import socket
import tomllib
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from upstream_double import Upstream, chat_answer, reply

from potstill.serve.settings_file import parse

KEY = "sk-upstream-key-of-ours-0123456789"
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "hello"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 1, "output_tokens": 1},
}


@pytest.fixture
def canary() -> Iterator[Upstream]:
    with Upstream(lambda request: reply(chat_answer("from the canary"))) as trap:
        yield trap
        assert not trap.requests, [(one.method, one.path) for one in trap.requests]


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(lambda request: reply(chat_answer())) as double:
        yield double


def chat(model: str = "m", content: Any = "hi") -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": content}]}


def raw(gateway: Any, head: str, body: bytes = b"") -> bytes:
    """What the gateway answers to a request written by hand."""
    parts = urlsplit(gateway.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=120) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body)
        connection.settimeout(10)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
            if b"\r\n\r\n" in answer:
                break
        return answer


# --- names of models --------------------------------------------------------------------------------------------------


def test_a_models_name_is_a_name_and_never_an_address(start, upstream: Upstream, canary: Upstream) -> None:
    gateway = start(teacher=upstream.url)
    netloc = urlsplit(canary.url).netloc
    names = [
        f"{canary.url}#m",
        f"http://{netloc}/v1",
        f"//{netloc}/v1/x",
        f"@{netloc}",
        f"m?x=http://{netloc}",
        "../../etc/passwd",
        "file:///etc/passwd",
        "m\r\nHost: evil",
        "potstill/auto/../../x",
    ]
    for name in names:
        assert gateway.post("/v1/chat/completions", chat(name)).status == 200
        assert gateway.post("/v1/embeddings", {"model": name, "input": "x"}).status == 200
        gateway.get(f"/v1/models/{name.encode('ascii').hex()}")
    for request in upstream.requests:
        assert request.path in ("/v1/chat/completions", "/v1/embeddings", "/v1/models")
        assert request.headers["host"] == urlsplit(upstream.url).netloc
    assert [one.json["model"] for one in upstream.requests if one.path == "/v1/chat/completions"] == names


@pytest.mark.parametrize("path", ["/v1/responses/resp_1", "/v1/chat/completions/chatcmpl-1"])
def test_a_header_names_a_route_and_never_an_address(start, upstream: Upstream, canary: Upstream, path: str) -> None:
    gateway = start(teacher=f"{upstream.url}#m", dialect="openai-responses" if "responses" in path else "openai-chat")
    for name in (canary.url, f"//{urlsplit(canary.url).netloc}", "../x"):
        assert gateway.get(path, x_potstill_model=name).status == 200
    assert {one.path for one in upstream.requests} == {path}


# --- addresses of images ----------------------------------------------------------------------------------------------


def picture(dialect: str, url: str) -> tuple[str, dict[str, Any]]:
    if dialect == "openai-chat":
        return "/v1/chat/completions", chat(content=[{"type": "image_url", "image_url": {"url": url}}])
    if dialect == "openai-responses":
        content = [{"type": "input_image", "image_url": url}]
        return "/v1/responses", {"model": "m", "input": [{"role": "user", "content": content}], "store": False}
    content = [{"type": "image", "source": {"type": "url", "url": url}}]
    return "/v1/messages", {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": content}]}


@pytest.mark.parametrize("client", ["openai-chat", "openai-responses", "anthropic"])
@pytest.mark.parametrize("speaks", ["openai-chat", "anthropic"])
def test_the_gateway_fetches_no_image(start, canary: Upstream, client: str, speaks: str) -> None:
    answer = MESSAGE if speaks == "anthropic" else chat_answer()
    with Upstream(lambda request: reply(answer)) as upstream:
        gateway = start(teacher=f"{upstream.url}#m", dialect=speaks)
        path, body = picture(client, f"{canary.url}/x.png")
        assert gateway.post(path, body).status == 200
        assert f"{canary.url}/x.png".encode() in upstream.requests[0].body


@pytest.mark.parametrize("client", ["openai-chat", "openai-responses", "anthropic"])
@pytest.mark.parametrize("url", ["file:///etc/passwd", "gopher://127.0.0.1/x", "ftp://h/x", "/etc/passwd"])
def test_only_addresses_of_the_web_are_translated(start, client: str, url: str) -> None:
    speaks = "openai-chat" if client == "anthropic" else "anthropic"
    with Upstream(lambda request: reply(b"{}")) as upstream:
        gateway = start(teacher=f"{upstream.url}#m", dialect=speaks)
        path, body = picture(client, url)
        answered = gateway.post(path, body)
        assert answered.status == 400
        assert "allowed: https, http, data" in answered.json["error"]["message"]
        assert not upstream.requests


def mixed(teacher: str, student: str, mode: str = "student", **more: str) -> Any:
    text = f"""
        [upstreams.cloud]
        base_url = "{teacher}"
        key_env = "TEST_SSRF_KEY"
        [upstreams.near]
        base_url = "{student}"
        [models.big]
        upstream = "cloud"
        model = "b"
        [models.small]
        upstream = "near"
        model = "s"
        [routes.m]
        teacher = "big"
        student = "small"
        mode = "{mode}"
        rollout = false
        """
    return parse(tomllib.loads(text), "here")


@pytest.mark.parametrize("client", ["openai-chat", "openai-responses", "anthropic"])
def test_a_student_beside_us_is_not_sent_addresses_to_fetch(
    start, upstream: Upstream, canary: Upstream, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_SSRF_KEY", KEY)
    with Upstream(lambda request: reply(chat_answer("small"))) as near:
        gateway = start(mixed(upstream.url, near.url))
        path, body = picture(client, "http://169.254.169.254/latest/meta-data")
        answered = gateway.post(path, body)
        assert (answered.status, answered.headers["x-potstill-answerer"]) == (200, "teacher")
        assert not near.requests
        path, body = picture(client, "data:image/png;base64,iVBORw0KGgo=")
        if client == "anthropic":
            body["messages"][0]["content"][0]["source"] = {
                "type": "base64",
                "media_type": "image/png",
                "data": "iVBORw0KGgo=",
            }
        assert gateway.post(path, body).status == 200
    assert not any(request.path != "/v1/chat/completions" for request in near.requests)


# --- headers and paths ------------------------------------------------------------------------------------------------


def test_headers_and_absolute_targets_choose_no_host(start, upstream: Upstream, canary: Upstream) -> None:
    gateway = start(teacher=f"{upstream.url}#m")
    netloc, body = urlsplit(canary.url).netloc, json.dumps(chat()).encode()
    lines = f"content-type: application/json\ncontent-length: {len(body)}\nconnection: close"
    evil = (
        f"x-forwarded-host: {netloc}\nx-forwarded-proto: gopher\nforwarded: host={netloc}\nx-original-url: {canary.url}"
    )
    heads = [
        f"POST /v1/chat/completions HTTP/1.1\nhost: {netloc}\n{evil}\n{lines}",
        f"POST {canary.url}/chat/completions HTTP/1.1\nhost: {netloc}\n{lines}",
        f"POST http://user:pass@{netloc}/v1/chat/completions HTTP/1.1\nhost: {netloc}\n{lines}",
        f"POST /v1/chat/completions HTTP/1.1\nhost: {netloc}\nx-http-method-override: CONNECT\n{lines}",
        f"CONNECT {netloc} HTTP/1.1\nhost: {netloc}\n{lines}",
        f"POST @{netloc}/v1/chat/completions HTTP/1.1\nhost: {netloc}\n{lines}",
    ]
    for head in heads:
        assert raw(gateway, head, body).startswith(b"HTTP/1.1 ")
    for request in upstream.requests:
        assert (request.method, request.path) == ("POST", "/v1/chat/completions")
        assert request.headers["host"] == urlsplit(upstream.url).netloc
        assert netloc not in json.dumps(request.headers)
    assert len(upstream.requests) >= 2


@pytest.mark.parametrize(
    "path",
    [
        "//v1/chat/completions",
        "/v1//chat/completions",
        "/v1/../v1/chat/completions",
        "/v1/chat/completions/..",
        "/v1/chat/completions/../../../x",
        "/v1/%2e%2e/chat/completions",
        "/v1/chat/completions/%2e%2e%2f%2e%2e%2fx",
        "/v1/chat%2fcompletions%2f..%2fx",
        "/v1/chat/completions;x",
        "/v1/chat/completions%00",
        "/v1/chat/completions%0d%0aX-Evil:%201",
        "/v1/embeddings/../models",
        "/v1\\chat\\completions",
    ],
)
def test_tricks_in_paths_lead_nowhere(start, upstream: Upstream, path: str) -> None:
    gateway = start(teacher=f"{upstream.url}#m")
    body = json.dumps(chat()).encode()
    for method in ("POST", "GET", "DELETE"):
        head = f"{method} {path} HTTP/1.1\nhost: localhost\ncontent-type: application/json\ncontent-length: {len(body)}"
        status = raw(gateway, f"{head}\nconnection: close", body).split(b" ")[1]
        assert status in (b"400", b"404", b"405"), (method, status)
    assert not upstream.requests


# --- redirects --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("elsewhere", [True, False])
def test_an_upstreams_redirect_is_not_followed(
    start, canary: Upstream, status: int, elsewhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_SSRF_KEY", KEY)
    location = f"{canary.url}/steal" if elsewhere else "/v1/other"
    with Upstream(lambda request: reply({"see": location}, status, headers=f"location: {location}\r\n")) as upstream:
        gateway = start(mixed(upstream.url, upstream.url, mode="record"))
        asked = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
        answers = [
            gateway.post("/v1/chat/completions", asked),
            gateway.post("/v1/chat/completions", {**asked, "stream": True}),
            gateway.post("/v1/messages", asked),
            gateway.post("/v1/embeddings", {"model": "m", "input": "x"}),
            gateway.get("/v1/chat/completions/chatcmpl-1"),
            gateway.get("/v1/chat/completions/chatcmpl-1", x_potstill_model="m"),
        ]
        assert len(upstream.requests) == len([one for one in answers if one.status == 502])
        for answered in answers[:4]:
            assert answered.status == 502
            assert f"redirects ({status})" in answered.json["error"]["message"]
        for answered in answers:
            assert "location" not in answered.headers
            assert KEY.encode() not in answered.body


def test_a_students_redirect_leaves_the_request_to_the_teacher(
    start, upstream: Upstream, canary: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_SSRF_KEY", KEY)
    with Upstream(lambda request: reply({}, 307, headers=f"location: {canary.url}/x\r\n")) as near:
        gateway = start(mixed(upstream.url, near.url))
        answered = gateway.post("/v1/chat/completions", chat())
        assert (answered.status, answered.headers["x-potstill-answerer"]) == (200, "teacher")
        assert len(near.requests) == 1
        assert not any(KEY in value for value in near.requests[0].headers.values())


def test_a_list_that_redirects_adds_nothing(start, canary: Upstream) -> None:
    with Upstream(lambda request: reply({}, 302, headers=f"location: {canary.url}/models\r\n")) as upstream:
        gateway = start(teacher=upstream.url)
        assert gateway.get("/v1/models", authorization="Bearer k").json["data"] == []
        assert len(upstream.requests) == 1
