"""Record mode against a real gateway and an upstream on a socket: bytes through, everything recorded."""

from __future__ import annotations

import json

import pytest
from upstream_double import DONE, END, STREAM, USAGE_EVENT, Request, Upstream, chat_answer, chat_stream, reply
from upstream_double import chunk as chunked

BODY = b'{ "messages": [{"role":"user","content":"\\"model\\": \\"no\\""}],\n "model": "gpt-any" ,"x":[1, 2.50]}'


def test_a_completion_goes_through_byte_for_byte_and_is_recorded(start) -> None:
    said = json.dumps(chat_answer("hi"), indent=1).encode()
    with Upstream(lambda request: reply(said, headers="x-request-id: up-1\r\nset-cookie: a=b\r\n")) as upstream:
        gateway = start(teacher=f"{upstream.url}#big-1")
        answered = gateway.post("/v1/chat/completions", BODY, x_potstill_episode="e-1", authorization="Bearer k-secret")
        assert (answered.status, answered.body) == (200, said)
        assert answered.headers["x-request-id"] == "up-1"
        assert "set-cookie" not in answered.headers
        assert answered.headers["x-potstill-episode"] == "e-1"
        (request,) = upstream.requests
        assert request.path == "/v1/chat/completions"
        assert request.body == BODY.replace(b'"gpt-any"', b'"big-1"')
    (exchange,) = gateway.exchanges()
    assert (exchange.request, exchange.response) == (BODY, said)
    assert (exchange.episode_id, exchange.route, exchange.status) == ("e-1", "any", 200)
    assert exchange.request_id == answered.headers["x-potstill-request-id"]
    (call,) = exchange.calls
    assert (call.model, call.request, call.response) == ("big-1", None, None)
    assert call.raw_usage == {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}


def streaming(*events: bytes):
    def answer(request: Request):
        yield STREAM
        for event in events:
            yield chunked(event)
            yield 0.005
        yield END

    return answer


def test_a_stream_goes_through_byte_for_byte_and_its_usage_stays_ours(start) -> None:
    events = chat_stream("hel", "lo")
    with_null = [event.replace(b"}\n\n", b',"usage":null}\n\n') if b"{" in event else event for event in events]
    with Upstream(streaming(*with_null[:-1], USAGE_EVENT, DONE)) as upstream:
        gateway = start(teacher=f"{upstream.url}#big-1")
        body = b'{"model":"gpt-any","stream":true,"messages":[]}'
        answered = gateway.post("/v1/chat/completions", body)
        assert answered.body == b"".join(events)
        assert answered.headers["content-type"].startswith("text/event-stream")
        assert upstream.requests[0].json == {
            "model": "big-1",
            "stream": True,
            "messages": [],
            "stream_options": {"include_usage": True},
        }
    (exchange,) = gateway.exchanges()
    assert exchange.streamed
    assert exchange.complete
    assert exchange.response == b"".join(events)
    assert exchange.calls[0].raw_usage == {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}


def test_a_client_that_asks_for_usage_gets_the_upstreams_bytes(start) -> None:
    events = [*chat_stream("hi")[:-1], USAGE_EVENT, DONE]
    with Upstream(streaming(*events)) as upstream:
        gateway = start(teacher=f"{upstream.url}#m")
        body = b'{"model":"m","stream":true,"messages":[],"stream_options":{"include_usage":true}}'
        answered = gateway.post("/v1/chat/completions", body)
        assert answered.body == b"".join(events)
        assert upstream.requests[0].body == body


def test_an_upstream_that_does_not_know_stream_options_gets_the_request_without(start) -> None:
    events = chat_stream("hi")

    def answer(request: Request):
        if "stream_options" in request.json:
            return [reply({"error": {"message": "unknown field stream_options"}}, 400)]
        return streaming(*events)(request)

    with Upstream(answer) as upstream:
        gateway = start(teacher=f"{upstream.url}#m")
        for _ in range(2):
            answered = gateway.post("/v1/chat/completions", b'{"model":"m","stream":true,"messages":[]}')
            assert answered.body == b"".join(events)
        assert len(upstream.requests) == 3


def test_unknown_models_are_refused_with_the_names_that_there_are(start, tmp_path) -> None:
    from potstill.serve import settings_file

    settings = settings_file.parse(
        {
            "upstreams": {"u": {"base_url": "http://127.0.0.1:9/v1"}},
            "models": {"m": {"upstream": "u", "model": "big"}},
            "routes": {"gpt-x": {"teacher": "m"}},
        },
        "here",
    )
    gateway = start(settings)
    answered = gateway.post("/v1/chat/completions", {"model": "gpt-y", "messages": []})
    assert answered.status == 404
    assert "gpt-x" in answered.json["error"]["message"]
    listed = gateway.get("/v1/models").json
    assert [row["id"] for row in listed["data"]] == ["gpt-x"]


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"messages":[]}', b'{"model":3}', b'{"model":"a","stream":"x"}', b"\xff"]
)
def test_a_body_that_is_no_request_is_a_400(start, body: bytes) -> None:
    gateway = start(teacher="http://127.0.0.1:9/v1#m")
    answered = gateway.post("/v1/chat/completions", body)
    assert answered.status == 400
    assert answered.json["error"]["type"] == "invalid_request_error"


def test_strict_mode_answers_with_a_durable_number(start) -> None:
    from potstill.serve.settings import Recording
    from potstill.trajectories.store import Store

    def answer(request: Request):
        return streaming(*chat_stream("a"))(request) if request.json.get("stream") else [reply(chat_answer())]

    with Upstream(answer) as upstream:
        gateway = start(teacher=f"{upstream.url}#m", recording=Recording(strict=True))
        first = gateway.post("/v1/chat/completions", {"model": "m", "messages": []})
        second = gateway.post("/v1/chat/completions", {"model": "m", "stream": True, "messages": []})
        with Store.read(gateway.settings.db) as store:
            seqs = [row.seq for row in store.recent(None, 0)]
        assert int(first.headers["x-potstill-seq"]) == seqs[0]
        assert f": x-potstill-seq: {seqs[1]}\n\n".encode() in second.body
        assert second.body.endswith(DONE)
        told = gateway.get(f"/v1/potstill/acknowledged?request_id={second.headers['x-potstill-request-id']}").json
        assert told["seq"] == seqs[1]
        assert told["request"] | {"id": ""} == {"id": "", "state": "recorded", "seq": seqs[1]}
        never = gateway.get("/v1/potstill/acknowledged?request_id=never").json["request"]
        assert never == {"id": "never", "state": "unknown", "seq": None}


def test_health_readiness_and_metrics(start) -> None:
    with Upstream(lambda request: reply(chat_answer())) as upstream:
        gateway = start(teacher=f"{upstream.url}#m")
        assert gateway.get("/healthz").status == 200
        assert gateway.get("/readyz").json == {"status": "ready"}
        gateway.post("/v1/chat/completions", {"model": "from-a-client", "messages": []})
        page = gateway.get("/metrics").body.decode()
        assert 'potstill_requests_total{route="any",dialect="openai-chat",status="200",answerer="teacher"} 1' in page
        assert 'potstill_tokens_total{route="any",kind="output"} 3' in page
        assert "from-a-client" not in page
        nowhere = gateway.get("/nowhere")
        assert nowhere.status == 404
        assert "/v1/episodes/ID/outcome" in nowhere.json["error"]["message"]
        assert gateway.get("/v1/chat/completions").status == 405
