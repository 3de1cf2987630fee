"""Tenants' keys and limits as clients of a running gateway meet them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from upstream_double import Upstream, chat_answer, reply

from potstill.serve import settings_file
from potstill.serve.tenants import keys
from potstill.serve.tenants.key_rows import StoreRows
from potstill.trajectories import Store

MESSAGES = {"model": "auto", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}


def gateway_with(start: Any, url: str, db: Path, **fields: object) -> tuple[Any, dict[str, str]]:
    with Store.open(db) as store:
        key, text = keys.create("team", time.time(), **fields)
        StoreRows(store).put(key)
    settings = settings_file.parse(
        {
            "gateway": {"keys_required": True},
            "upstreams": {"up": {"base_url": url}},
            "models": {"big": {"upstream": "up", "model": "gpt-6-luna"}},
            "routes": {"auto": {"teacher": "big"}, "other": {"teacher": "big"}},
        },
        "here",
    )
    return start(settings, db=str(db)), {"authorization": f"Bearer {text}"}


def test_a_budget_in_tokens_ends_requests_in_each_dialects_words(start: Any, tmp_path: Path) -> None:
    with Upstream(lambda request: reply(chat_answer("hi"))) as upstream:  # 14 tokens each
        gateway, own = gateway_with(start, upstream.url, tmp_path / "g.db", budget_tokens_per_day=20)
        statuses = [gateway.post("/v1/chat/completions", MESSAGES, **own).status for _ in range(4)]
        assert statuses == [200, 200, 429, 429]
        assert len(upstream.requests) == 2
        chat = gateway.post("/v1/chat/completions", MESSAGES, **own)
        assert chat.json["error"]["code"] == "insufficient_quota"
        assert int(chat.headers["retry-after"]) > 0
        assert chat.headers["x-should-retry"] == "false", "clients would hammer until midnight"
        anthropic = gateway.post("/v1/messages", MESSAGES, **own)
        assert anthropic.status == 429
        assert anthropic.json["type"] == "error"
        assert anthropic.headers["x-should-retry"] == "false"
        responses = gateway.post("/v1/responses", {"model": "auto", "input": "hi"}, **own)
        assert (responses.status, responses.headers["x-should-retry"]) == (429, "false")
        gateway.server.stop()
    with Store.read(tmp_path / "g.db") as store:
        (row,) = store.spend("team")
        assert (row.tokens, row.requests) == (28, 2)


@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
def test_official_clients_do_not_ask_again_once_the_budget_is_spent(start: Any, tmp_path: Path, sdk: str) -> None:
    package = pytest.importorskip(sdk)
    with Upstream(lambda request: reply(chat_answer("hi"))) as upstream:
        gateway, own = gateway_with(start, upstream.url, tmp_path / "g.db", budget_tokens_per_day=10)
        assert gateway.post("/v1/chat/completions", MESSAGES, **own).status == 200
        key = own["authorization"].removeprefix("Bearer ")
        messages = [{"role": "user", "content": "hi"}]
        if sdk == "openai":
            client = package.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=5)
            ask, more = client.chat.completions.create, {}
        else:
            client = package.Anthropic(base_url=gateway.url, api_key=key, max_retries=5)
            ask, more = client.messages.create, {"max_tokens": 9}
        with pytest.raises(package.RateLimitError):
            ask(model="auto", messages=messages, **more)
        assert 'potstill_gate_refused_total{kind="quota"} 1\n' in gateway.get("/metrics").body.decode()


def test_dollars_are_counted_by_list_prices(start: Any, tmp_path: Path) -> None:
    usage = {"prompt_tokens": 1_000_000, "completion_tokens": 0, "total_tokens": 1_000_000}
    with Upstream(lambda request: reply(chat_answer("hi", usage=usage))) as upstream:
        gateway, own = gateway_with(start, upstream.url, tmp_path / "g.db", budget_usd_per_day=0.05)
        assert gateway.post("/v1/chat/completions", MESSAGES, **own).status == 200
        assert gateway.post("/v1/chat/completions", MESSAGES, **own).status == 429
        gateway.server.stop()
    with Store.read(tmp_path / "g.db") as store:
        (row,) = store.spend("team")
        assert row.usd_micros > 50_000


@pytest.mark.parametrize("stream", [False, True])
def test_refused_and_failed_requests_hold_nothing(start: Any, tmp_path: Path, stream: bool) -> None:
    """A hundred failures would use up a budget if each kept what was held for it."""
    with Upstream(lambda request: reply({"error": {"message": "no", "type": "x"}}, 400)) as upstream:
        gateway, own = gateway_with(start, upstream.url, tmp_path / "g.db", budget_usd_per_day=0.05)
        body = {**MESSAGES, "stream": stream}
        statuses = {gateway.post("/v1/chat/completions", body, **own).status for _ in range(110)}
        assert statuses == {400}
        assert {gateway.get("/v1/models", **own).status for _ in range(110)} == {200}
        assert gateway.post("/v1/chat/completions", {**MESSAGES, "model": "nope"}, **own).status == 404
        assert gateway.post("/v1/chat/completions", body, **own).status == 400
        gateway.server.stop()
    with Store.read(tmp_path / "g.db") as store:
        assert sum(row.usd_micros for row in store.spend("team")) == 0


def test_routes_and_rates(start: Any, tmp_path: Path) -> None:
    with Upstream(lambda request: reply(chat_answer("hi"))) as upstream:
        gateway, own = gateway_with(start, upstream.url, tmp_path / "g.db", routes=("auto",), requests_per_minute=2)
        assert gateway.post("/v1/chat/completions", {**MESSAGES, "model": "other"}, **own).status == 403
        assert gateway.get("/v1/models", **own).status == 200
        statuses = [gateway.post("/v1/chat/completions", MESSAGES, **own).status for _ in range(3)]
        assert statuses == [200, 200, 429]
        assert gateway.post("/v1/chat/completions", MESSAGES).status == 401
        assert gateway.get("/v1/models").status == 401


def test_an_outcome_right_after_the_last_answer_is_kept(start: Any, tmp_path: Path) -> None:
    with Upstream(lambda request: reply(chat_answer("hi"))) as upstream:
        gateway, own = gateway_with(start, upstream.url, tmp_path / "g.db")
        for number in range(5):
            answered = gateway.post("/v1/chat/completions", MESSAGES, **own, x_potstill_episode=f"e/{number}")
            episode = answered.headers["x-potstill-episode"]
            told = gateway.post(f"/v1/episodes/{episode}/outcome", {"success": number % 2 == 0}, **own)
            assert told.status == 200, told.body
        gateway.server.stop()
    with Store.read(tmp_path / "g.db") as store:
        outcomes = [store.episode("team", f"e/{number}").outcome for number in range(5)]
    assert [outcome is not None and outcome.success for outcome in outcomes] == [True, False, True, False, True]
