"""Who reaches a gateway that asks for no key: programs on this machine, and no page in a browser."""

from __future__ import annotations

import http.client
import json
from urllib.parse import urlsplit

import msgspec
import pytest
from upstream_double import Upstream, chat_answer, reply

from potstill.serve import settings_file
from potstill.serve.settings import Gateway

ADMIN = "oX7-2kfLqP9zR4tVbN8wAa"
ANSWER = json.dumps(chat_answer("hi")).encode()


def ask(running, method: str, path: str, body: object = None, **headers: str) -> tuple[int, str]:
    """With headers as they are, the ``Host`` among them; empty: none."""
    connection = http.client.HTTPConnection(urlsplit(running.url).netloc, timeout=120)
    connection.putrequest(method, path, skip_host=True)
    named = {"host": urlsplit(running.url).netloc, "content-type": "application/json"}
    data = b"" if body is None else json.dumps(body).encode()
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    for name, value in {**named, "content-length": str(len(data))}.items():
        if value:
            connection.putheader(name, value)
    connection.endheaders(data)
    answered = connection.getresponse()
    found = answered.status, answered.read().decode()
    connection.close()
    return found


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/episodes/e/outcome"),
        ("GET", "/v1/models"),
        ("GET", "/healthz"),
        ("GET", "/metrics"),
        ("GET", "/dashboard"),
        ("GET", "/v1/potstill/status"),
    ],
)
def test_a_page_whose_name_leads_to_this_machine_reaches_nothing(start, method: str, path: str) -> None:
    with Upstream(lambda request: reply(ANSWER)) as upstream:
        gateway = start(teacher=f"{upstream.url}#m", admin_key=ADMIN)
        status, told = ask(gateway, method, path, {"model": "m", "messages": []}, host="rebound.example:8000")
        assert status == 421
        assert "allowed_hosts" in told
        assert upstream.requests == []


@pytest.mark.parametrize("host", ["localhost:8000", "LOCALHOST", "[::1]:80", "127.0.0.1", "agents.internal:80"])
def test_names_of_this_machine_and_of_the_settings_are_served(start, host: str) -> None:
    with Upstream(lambda request: reply(ANSWER)) as upstream:
        gateway = start(teacher=f"{upstream.url}#m", allowed_hosts=("agents.internal",))
        assert ask(gateway, "POST", "/v1/chat/completions", {"model": "m", "messages": []}, host=host)[0] == 200


def test_another_pages_outcome_is_refused(start) -> None:
    with Upstream(lambda request: reply(ANSWER)) as upstream:
        gateway = start(teacher=f"{upstream.url}#m")
        ask(gateway, "POST", "/v1/chat/completions", {"model": "m", "messages": []}, x_potstill_episode="e")
        refused = ask(gateway, "POST", "/v1/episodes/e/outcome", {"success": True}, origin="https://evil.example")
        assert refused[0] == 403
        own = ask(gateway, "POST", "/v1/episodes/e/outcome", {"success": True}, origin="http://localhost:3000")
        assert own[0] == 200


def keyed(gateway: Gateway, **more: object) -> Gateway:
    return msgspec.structs.replace(gateway, keys_required=True, **more)


def test_a_gateway_that_asks_for_keys_is_served_under_any_name(start) -> None:
    settings = Gateway(upstreams=(), passthrough=None)
    assert settings.allowed_hosts == ()
    text = {"upstreams": {"u": {"base_url": "http://127.0.0.1:1/v1"}}, "gateway": {"passthrough": "u", "port": 0}}
    gateway = start(keyed(settings_file.parse(text, "here")))
    assert ask(gateway, "GET", "/healthz", host="gateway.example")[0] == 200


def test_metrics_are_for_the_admin_where_the_settings_say_so(start) -> None:
    text = {"upstreams": {"u": {"base_url": "http://127.0.0.1:1/v1"}}, "gateway": {"passthrough": "u", "port": 0}}
    settings = settings_file.parse(text, "here")
    assert ask(start(settings), "GET", "/metrics")[0] == 200
    gateway = start(keyed(settings, metrics_public=False), admin_key=ADMIN)
    status, told = ask(gateway, "GET", "/metrics")
    assert status == 401
    assert "potstill_" not in told
    status, told = ask(gateway, "GET", "/metrics", authorization=f"Bearer {ADMIN}")
    assert status == 200
    assert "\npotstill_inflight 0\n" in told


def test_elsewhere_than_on_a_loopback_address_metrics_need_the_admin_key(start) -> None:
    text = {"upstreams": {"u": {"base_url": "http://127.0.0.1:1/v1"}}, "gateway": {"passthrough": "u", "port": 0}}
    settings = msgspec.structs.replace(settings_file.parse(text, "here"), host="0.0.0.0")
    gateway = start(settings, admin_key=ADMIN)
    gateway.url = gateway.url.replace("0.0.0.0", "127.0.0.1")
    assert ask(gateway, "GET", "/metrics")[0] == 401
    assert ask(gateway, "GET", "/healthz")[0] == 200


def test_embeddings_keep_their_models_name_where_flags_name_one_teacher(start) -> None:
    with Upstream(lambda request: reply(b'{"data":[],"usage":{"prompt_tokens":3,"total_tokens":3}}')) as upstream:
        gateway = start(teacher=f"{upstream.url}#big-1")
        asked = {"model": "text-embedding-3-small", "input": "hi"}
        assert ask(gateway, "POST", "/v1/embeddings", asked)[0] == 200
        assert upstream.requests[0].json == asked


def test_counting_tokens_asks_the_teacher(start) -> None:
    with Upstream(lambda request: reply(b'{"input_tokens":3}')) as upstream:
        gateway = start(teacher=f"{upstream.url}#big-1", dialect="anthropic")
        asked = {"model": "any", "messages": [{"role": "user", "content": "hi"}]}
        assert ask(gateway, "POST", "/v1/messages/count_tokens", asked)[0] == 200
        assert upstream.requests[0].json == {**asked, "model": "big-1"}
