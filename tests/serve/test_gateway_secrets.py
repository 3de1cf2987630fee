"""Secrets are planted wherever they can come from, and then every byte that the gateway keeps or tells is searched."""

from __future__ import annotations

import base64
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from upstream_double import END, STREAM, Request, Upstream, chat_answer, chat_event, reply
from upstream_double import chunk as chunked

from potstill.record.sse_text import streamed_text
from potstill.serve import settings_file
from potstill.serve.recording.client_keys import ClientKeys
from potstill.serve.recording.own_secrets import OwnSecrets
from potstill.serve.settings import Gateway
from potstill.serve.tenants import keys
from potstill.serve.tenants.key_rows import StoreRows
from potstill.trajectories import Store
from potstill.trajectories.exchange import Exchange
from potstill.trajectories.exchange import Upstream as Called
from potstill.types import Answerer, ErrorRecord

UPSTREAM_KEY = "sk-" + "proj-" + "UpStReAm0123456789abcdefghijklmnopqrstuvwxyzABCDEF"
CLIENTS_KEY = "sk-" + "ant-api03-" + "CLIENTsMISTAKE0123456789abcdefghijklmnopqrstu-AA"
ADMIN_KEY = "correct-horse-battery-9174-staple"
PATHS = ("/healthz", "/readyz", "/metrics", "/v1/models")
PAGES = ("status", "routes", "episodes", "live?wait_s=0&after_seq=0", "tenants", "keys", "nonsense")


def settings(url: str, db: Path, **gateway: Any) -> Gateway:
    tables = {
        "gateway": {"db": str(db), "keys_required": True, **gateway},
        "upstreams": {"up": {"base_url": url, "key_env": "PLANTED_UPSTREAM_KEY", "retries": 0}},
        "models": {"big": {"upstream": "up", "model": "big-1"}},
        "routes": {"auto": {"teacher": "big"}},
        "tenants": {"team": {"budget_usd_per_day": 5.0}},
    }
    return settings_file.parse(tables, "here")


def spellings(secret: str) -> Iterator[bytes]:
    """A secret as itself and as simple encodings of it; parts of it long enough to be used or guessed from."""
    yield secret.encode()
    yield secret[6:40].encode()
    yield base64.b64encode(secret.encode())
    yield quote(secret, safe="").encode()
    yield secret.encode().hex().encode()


def misbehaving(request: Request) -> Any:
    """An upstream that tells its key wherever it can."""
    said = request.headers.get("authorization", "")
    mood = request.json["messages"][-1]["content"] if request.body else ""
    if mood == "refuse":
        return reply({"error": {"message": f"Incorrect API key provided: {said}", "type": "x"}}, 401)
    if mood == "fail":
        return reply({"error": {"message": f"crashed with {said}", "type": "x"}}, 500, headers=f"x-debug: {said}\r\n")
    if mood == "nonsense":
        return reply(f"<html>{said}</html>".encode(), 502, "text/html")
    if mood == "redirect":
        return reply(b"", 302, headers=f"location: http://127.0.0.1:9/?key={said}\r\n")
    if mood == "break" and request.json.get("stream"):
        broken = b'data: {"error":{"message":"lost ' + said.encode() + b'","type":"server_error"}}\n\n'
        return [STREAM, chunked(chat_event({"content": "a"})), chunked(broken), END]
    return reply(chat_answer("fine"), headers=f"set-cookie: key={said}\r\nopenai-organization: org-1\r\n")


def everything_in(db: Path) -> bytes:
    """The store's files as they lie there, and all that can be read out of them."""
    found = [path.read_bytes() for path in db.parent.glob(f"{db.name}*")]
    with Store.read(db) as store:
        for one in store.recent(None, 0, 10_000):
            exchange = one.exchange
            found += [exchange.request, exchange.response]
            found += [body for call in exchange.calls for body in (call.request, call.response) if body is not None]
            found.append(msgspec.json.encode(msgspec.structs.replace(exchange, request=b"", response=b"", calls=())))
            found += [repr(call).encode() for call in exchange.calls]
        found += [msgspec.json.encode(episode) for episode in store.select(namespace=None)]
        found += [repr(outcome).encode() for outcome in (store.episode("team", f"e-{n}").outcome for n in range(9))]
        found.append(repr(store.keys()).encode())
        found += [repr(store.states(kind)).encode() for kind in ("admin", "rollout", "switch", "episode", "drift")]
    return b"\n".join(found)


def tell(answered: Any) -> bytes:
    return repr(answered.headers).encode() + answered.body


def test_no_secret_is_kept_or_told(
    start: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PLANTED_UPSTREAM_KEY", UPSTREAM_KEY)
    monkeypatch.setenv("POTSTILL_ADMIN_KEY", ADMIN_KEY)
    caplog.set_level(logging.DEBUG)
    db = tmp_path / "gateway.db"
    with Store.open(db) as store:
        key, tenants_key = keys.create("team", time.time())
        StoreRows(store).put(key)
    told: list[bytes] = []
    with Upstream(misbehaving) as upstream:
        gateway = start(settings(upstream.url, db), admin_key=ADMIN_KEY, db=str(db))
        own = {"authorization": f"Bearer {tenants_key}"}
        for number, mood in enumerate(("ok", "refuse", "fail", "nonsense", "redirect", "break")):
            for stream in (False, True):
                body = {"model": "auto", "stream": stream, "messages": [{"role": "user", "content": mood}]}
                answered = gateway.post("/v1/chat/completions", body, **own, x_potstill_episode=f"e-{number}")
                if (mood, stream) != ("break", True):  # an answer's bytes are passed on as they come
                    told.append(tell(answered))
        assert len(upstream.requests) == 12
        assert {request.headers["authorization"] for request in upstream.requests} == {f"Bearer {UPSTREAM_KEY}"}
        assert tenants_key.encode() not in b"".join(repr(request).encode() for request in upstream.requests)

        mistaken = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
        for wrong in (CLIENTS_KEY, UPSTREAM_KEY, ADMIN_KEY, tenants_key[:-1]):
            for headers in ({"authorization": f"Bearer {wrong}"}, {"x_api_key": wrong}):
                for path in ("/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/embeddings"):
                    answered = gateway.post(path, mistaken, **headers)
                    assert answered.status == 401
                    told.append(tell(answered))
                told += [
                    tell(gateway.get(path, **headers)) for path in (*PATHS, f"/v1/{wrong}", f"/v1/models?key={wrong}")
                ]
        assert len(upstream.requests) == 12

        told.append(tell(gateway.post("/v1/episodes/e-0/outcome", {"success": True}, **own)))
        admin = {"authorization": f"Bearer {ADMIN_KEY}"}
        made = gateway.post("/v1/potstill/keys", {"tenant": "team", "name": "second"}, **admin)
        second = made.json["text"]
        told += [tell(gateway.get(f"/v1/potstill/{page}", **admin)) for page in PAGES]
        told += [tell(gateway.get(f"/v1/potstill/episodes/team/e-{number}", **admin)) for number in range(6)]
        told += [tell(gateway.post(f"/v1/potstill/{page}", {"key": ADMIN_KEY}, **admin)) for page in PAGES]
        told.append(tell(gateway.post("/v1/potstill/keys", {"tenant": ADMIN_KEY})))
        told.append(tell(gateway.post("/v1/potstill/keys", {"tenant": CLIENTS_KEY})))
        gateway.server.stop()
    told.append(caplog.text.encode())
    told += [repr(record.__dict__).encode() for record in caplog.records]
    said = capfd.readouterr()
    told += [said.out.encode(), said.err.encode()]
    kept = everything_in(db)
    for secret in (UPSTREAM_KEY, CLIENTS_KEY, ADMIN_KEY, tenants_key[17:], second[17:]):
        for spelling in spellings(secret):
            assert spelling not in kept, f"kept: {secret}"
            where = [one[:2000] for one in told if spelling in one]
            assert not where, f"told: {secret}"


PLAIN_KEY = "ThisServersOwnTokenOf/2026"
"""Of a server that one runs oneself: it looks like nothing that a rule could know."""
CLIENTS_KEYS = (CLIENTS_KEY, PLAIN_KEY)


def repeating(request: Request) -> Any:
    """An upstream that repeats the client's key in whatever it says, in pieces too."""
    said = request.headers.get("authorization", request.headers.get("x-api-key", ""))
    mood = request.json["messages"][-1]["content"]
    if mood == "answer":
        return reply(chat_answer(f"you are {said}"), headers=f"x-request-id: {said}\r\nopenai-organization: {said}\r\n")
    if mood in ("pieces", "two choices"):
        pieces = [said[at : at + 3] for at in range(0, len(said), 3)]
        events = []
        for at, piece in enumerate(pieces):
            events.append(chat_event({"content": piece}))
            if mood == "two choices":
                other = {"index": 1, "delta": {"content": f"word {at} "}, "finish_reason": None}
                events.append(chat_event({}, choices=[other]))
        body = b"".join((*events, chat_event({}, "stop"), b"data: [DONE]\n\n"))
        return [STREAM, *(chunked(body[at : at + 50]) for at in range(0, len(body), 50)), END]
    return misbehaving(request)


@pytest.mark.parametrize("mode", ["record", "shadow"])
def test_a_clients_own_key_that_is_passed_on_is_not_kept(
    start: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: str
) -> None:
    """Without keys of ours the client's provider key goes to the upstream, and nowhere else."""
    caplog.set_level(logging.DEBUG)
    db = tmp_path / "gateway.db"
    told = []
    with Upstream(repeating) as upstream, Upstream(lambda request: reply(chat_answer("mine"))) as student:
        more = {} if mode == "record" else {"student": f"{student.url}#small-1", "mode": "shadow"}
        settings = settings_file.from_flags(f"{upstream.url}#big-1", **more)
        routes = tuple(msgspec.structs.replace(route, shadow_share=1.0) for route in settings.routes)
        gateway = start(msgspec.structs.replace(settings, routes=routes), db=str(db))
        for number, key in enumerate(CLIENTS_KEYS):
            for mood in ("answer", "pieces", "two choices", "ok", "refuse", "fail", "nonsense", "break"):
                for stream in (False, True):
                    streams = stream or mood in ("pieces", "two choices")
                    messages = [{"role": "user", "content": "go"}, {"role": "user", "content": mood}]
                    body = {"model": "any", "stream": streams, "messages": messages}
                    one = {"authorization": f"Bearer {key}", "x_potstill_episode": f"e-{number}"}
                    answered = gateway.post("/v1/chat/completions", body, **one)
                    messages.insert(1, {"role": "assistant", "content": f"you are {key}"})
                    gateway.post("/v1/chat/completions", {**body, "messages": messages}, **one)
                    assert answered.status in (200, 401, 500, 502)
        assert {request.headers["authorization"] for request in upstream.requests} == {
            f"Bearer {key}" for key in CLIENTS_KEYS
        }
        told.append(tell(gateway.get("/metrics")))
        gateway.server.stop()
        assert len(student.requests) > 0 if mode == "shadow" else not student.requests
    kept = everything_in(db)
    for key in CLIENTS_KEYS:
        for spelling in (*spellings(key), key.replace("/", "\\/").encode()):
            assert spelling not in kept
            assert spelling not in caplog.text.encode()
            assert all(spelling not in one for one in told)
    with Store.read(db) as store:
        for one in store.recent(None, 0, 10_000):
            for body in (one.exchange.response, *(call.response or b"" for call in one.exchange.calls)):
                for key in CLIENTS_KEYS:
                    assert key.encode() not in streamed_text(body), "in pieces"
    assert b"[redacted:client-key]" in kept


def test_only_what_can_be_a_key_is_taken_out() -> None:
    keys = ClientKeys(OwnSecrets(()))
    for placeholder in ("EMPTY", "not-needed", "lm-studio", "Bearer sk-1234", "unused", ""):
        keys.learn(placeholder)
    assert keys.text("EMPTY not-needed lm-studio sk-1234 unused") == "EMPTY not-needed lm-studio sk-1234 unused"
    for number in range(1100):
        keys.learn(f"Bearer token-of-one-{number:06d}")
    assert keys.text("token-of-one-001099 and token-of-one-000100") == "[redacted:client-key] and [redacted:client-key]"
    assert "000000" in keys.text("token-of-one-000000"), "the oldest was forgotten"


# --- nothing is fetched -----------------------------------------------------------------------------------------------


class Trap:
    """A listener that remembers who came."""

    def __init__(self) -> None:
        self.came = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.came += 1
            connection.close()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def trap() -> Iterator[Trap]:
    trap = Trap()
    yield trap
    trap.close()


def requests_with(url: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """A URL wherever a request of some dialect can hold one."""
    image = {"type": "image_url", "image_url": {"url": f"{url}/a.png"}}
    user = {"role": "user", "content": [{"type": "text", "text": f"see {url}"}, image]}
    yield "/v1/chat/completions", {"model": "auto", "messages": [user], "user": url}
    yield "/v1/chat/completions", {"model": url, "messages": [user]}
    yield "/v1/chat/completions", {"model": f"{url}#auto", "base_url": url, "api_base": url, "messages": [user]}
    item = {"type": "input_image", "image_url": f"{url}/b.png"}
    yield "/v1/responses", {"model": "auto", "input": [{"role": "user", "content": [item]}]}
    source = {"type": "image", "source": {"type": "url", "url": f"{url}/c.png"}}
    yield "/v1/messages", {"model": "auto", "max_tokens": 9, "messages": [{"role": "user", "content": [source]}]}
    yield "/v1/messages", {"model": "http:" + url.removeprefix("http:"), "max_tokens": 9, "messages": []}
    yield "/v1/embeddings", {"model": url, "input": url}


def test_no_url_of_a_request_is_ever_fetched(
    start: Any, tmp_path: Path, trap: Trap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED_UPSTREAM_KEY", UPSTREAM_KEY)
    with Upstream(lambda request: reply(chat_answer("fine"))) as upstream:
        gateway = start(settings(upstream.url, tmp_path / "gateway.db", keys_required=False))
        for path, body in requests_with(trap.url):
            for headers in ({}, {"x_potstill_goal": trap.url, "x_potstill_episode": trap.url, "host": trap.url[7:]}):
                gateway.post(path, body, **headers)
        for path in (f"/v1/{trap.url}", f"/v1/models?url={trap.url}", f"/{trap.url}/v1/models"):
            gateway.get(path)
        assert upstream.requests, "the good ones were passed on"
        gateway.server.stop()
    assert trap.came == 0


def test_an_upstream_cannot_send_the_gateway_elsewhere(start: Any, tmp_path: Path, trap: Trap) -> None:
    with Upstream(lambda request: reply(b"", 307, headers=f"location: {trap.url}/v1/chat/completions\r\n")) as upstream:
        gateway = start(teacher=f"{upstream.url}#big-1")
        body = json.dumps({"model": "any", "messages": []}).encode()
        answered = gateway.post("/v1/chat/completions", body, authorization=f"Bearer {CLIENTS_KEY}")
        assert answered.status >= 400 or answered.status == 307
        gateway.server.stop()
    assert trap.came == 0


# --- the function that takes them out ---------------------------------------------------------------------------------


def test_own_secrets_are_taken_out_of_every_field_and_all_else_stays() -> None:
    odd = "a+self/hosted=key"
    key, text = keys.create("team", 1.0)
    own = OwnSecrets([odd, None, "short", ADMIN_KEY])
    exchange = Exchange(
        namespace="team",
        episode_id="ep",
        route="auto",
        dialect="openai-chat",
        started_at=1.0,
        request=f'{{"a":"{odd}","b":"a+self\\/hosted=key","c":"{text}","d":"short"}}'.encode(),
        response=b"\xff\xfe" + ADMIN_KEY.encode(),
        notes=(f"said {odd}",),
        error=ErrorRecord(kind="X", message=f"with {ADMIN_KEY}"),
        metadata={"goal": f"use {odd}", "n": 1},
        calls=(
            Called(
                model="big",
                upstream="up",
                answerer=Answerer.TEACHER,
                dialect="openai-chat",
                response=odd.encode(),
                error=ErrorRecord(kind="Y", message=text),
            ),
        ),
    )
    clean = own.exchange(exchange)
    told = repr(clean)
    for secret in (odd, "a+self\\/hosted=key", ADMIN_KEY, text[17:]):
        assert secret not in told
    assert f"psk_{key.id}_[redacted]" in told
    assert clean.metadata == {"goal": "use [redacted:gateway-key]", "n": 1}
    assert json.loads(clean.request)["d"] == "short"
    assert clean.response.startswith(b"\xff\xfe")
    assert own.exchange(clean) == clean
    assert own.text("nothing here \ud800") == "nothing here \ud800"
