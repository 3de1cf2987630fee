"""The gateway's spans: where they belong, what they never hold, and that no collector costs a client anything."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from upstream_double import END, STREAM, Request, Upstream, chat_answer, chat_stream, chunk, reply

from otel_receiver import Collector, collector
from potstill.errors import ConfigError, MissingExtra
from potstill.serve import settings_file
from potstill.serve.settings import Gateway, Otel
from potstill.serve.settings import Upstream as Settings
from potstill.serve.telemetry.export import SpanExport, endpoint_of, peer_of, valid
from potstill.serve.telemetry.metrics import Metrics
from potstill.serve.telemetry.spans import Span, Teller, episode_place, parent_of
from potstill.trajectories.exchange import Exchange
from potstill.trajectories.exchange import Upstream as Called
from potstill.types import Answerer, Decision, ErrorRecord, PlaybookUse, Reason, Vote

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs pip install 'potstill[otel]'")
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ASKED = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
SECRET = "sk-" + "proj-" + "PlAnTeD0123456789abcdefghijklmnopqrstuvwxyzABCDEF"
COLLECTORS_KEY = "collector-key-84736251"


@pytest.fixture
def taken() -> Iterator[Collector]:
    with collector() as running:
        yield running


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(lambda request: reply(chat_answer("hello"))) as double:
        yield double


def settings(url: str, collector: str, **otel: Any) -> Gateway:
    made = settings_file.from_flags(f"{url}#big-1")
    return msgspec.structs.replace(made, otel=Otel(endpoint=collector, **otel))


def counted(running: Any) -> dict[str, int]:
    lines = running.get("/metrics").body.decode().splitlines()
    rows = [line.split("} ") for line in lines if line.startswith("potstill_otel_spans_total{")]
    return {name.split('"')[1]: int(value) for name, value in rows}


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# --- where a span belongs ---------------------------------------------------------------------------------------------


def test_a_call_belongs_to_the_span_that_its_client_named(
    start: Callable[..., Any], upstream: Upstream, taken: Collector
) -> None:
    running = start(settings(upstream.url, taken.url))
    for traceparent in (CALLER, CALLER[:-2] + "00", "00-" + "0" * 32 + "-b7ad6b7169203331-01", "nonsense"):
        running.post(
            "/v1/chat/completions",
            ASKED,
            traceparent=traceparent,
            baggage="user=alice",
            x_potstill_episode="ep-1",
        )
    exchanges = running.exchanges()
    root = episode_place("default", "ep-1")
    child, *own = taken.calls()
    assert (child["traceId"], child["parentSpanId"]) == (CALLER[3:35], CALLER[36:52])
    assert [(link["traceId"], link["spanId"]) for link in child["links"]] == [
        (f"{root.trace_id:032x}", f"{root.span_id:016x}")
    ]
    assert len(own) == 2, "the client's trace that is not sampled is told nobody"
    for span in own:
        assert (span["traceId"], span["parentSpanId"]) == (f"{root.trace_id:032x}", f"{root.span_id:016x}")
    assert exchanges[0].metadata == {"traceparent": CALLER}
    assert all("baggage" not in request.headers for request in upstream.requests)


@pytest.mark.parametrize(
    "said", ["", "ff" + CALLER[2:], CALLER[:-1], CALLER.upper(), CALLER[:36] + "0" * 16 + "-01", CALLER + "x", 7]
)
def test_what_is_no_traceparent_is_nobodys_child(said: Any) -> None:
    assert parent_of({"traceparent": said}) is None


def test_an_episode_is_told_when_it_is_over_and_again_when_it_went_on(
    start: Callable[..., Any], upstream: Upstream, taken: Collector
) -> None:
    told = settings(upstream.url, taken.url)
    running = start(told, limits=msgspec.structs.replace(told.limits, idle_episode_s=0.2))
    for spans in (2, 4):
        running.post("/v1/chat/completions", ASKED, x_potstill_episode="ep-1", x_potstill_task="t-9")
        taken.wait_for(spans)
    running.stop().close()
    root = episode_place("default", "ep-1")
    first, second = [span for span in taken.spans() if span["attributes"]["gen_ai.operation.name"] == "invoke_agent"]
    assert (first["name"], first["spanId"], first.get("parentSpanId")) == ("invoke_agent", f"{root.span_id:016x}", None)
    assert second["parentSpanId"] == first["spanId"]
    assert {span["parentSpanId"] for span in taken.calls()} == {first["spanId"]}
    attributes = first["attributes"]
    assert (attributes["gen_ai.usage.input_tokens"], attributes["gen_ai.usage.output_tokens"]) == (11, 3)
    assert (attributes["potstill.steps"], attributes["potstill.steps.teacher"]) == (1, 1)
    assert attributes["potstill.task.id"] == "t-9"
    assert second["attributes"]["potstill.steps"] == 2
    assert second["attributes"]["gen_ai.usage.input_tokens"] == 22


def test_two_tenants_with_one_name_for_an_episode_have_two_traces() -> None:
    assert episode_place("a", "b/c") != episode_place("a/b", "c")
    assert episode_place("a", "x") == episode_place("a", "x")


# --- what a span says -------------------------------------------------------------------------------------------------

DECISION = Decision(
    answerer=Answerer.TEACHER,
    reason=Reason.DISAGREED,
    votes=(Vote(key="a", text="go"), Vote(key="b", text="stay"), Vote(key="a", text="go"), Vote(key=None, text="?")),
    agreement=0.5,
    samples=4,
)


def escalated(**changes: Any) -> Exchange:
    asked = {**ASKED, "temperature": 0.5, "max_tokens": 9, "stop": "END", "seed": 4, "top_p": True}
    sampled = chat_answer("go")
    sampled["choices"] = [{**sampled["choices"][0], "index": at} for at in range(3)]
    student = Called(
        model="small-1",
        upstream="near",
        answerer=Answerer.STUDENT,
        dialect="openai-chat",
        started_at=10.0,
        latency_s=0.5,
        status=200,
        n=3,
        raw_usage={"prompt_tokens": 5, "completion_tokens": 6},
        request=json.dumps({**ASKED, "n": 3}).encode(),
        response=json.dumps(sampled).encode(),
    )
    teacher = Called(
        model="big-1",
        upstream="far",
        answerer=Answerer.TEACHER,
        dialect="openai-chat",
        started_at=10.5,
        latency_s=1.0,
        status=200,
        raw_usage={"prompt_tokens": 11, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}},
    )
    fields: dict[str, Any] = {
        "namespace": "acme",
        "episode_id": "ep-1",
        "route": "auto",
        "dialect": "openai-chat",
        "started_at": 10.0,
        "latency_s": 1.5,
        "request": json.dumps(asked).encode(),
        "response": json.dumps(chat_answer("hello")).encode(),
        "calls": (student, teacher),
        "decision": DECISION,
        "stage": "canary/cascade",
        "request_id": "req-1",
        **changes,
    }
    return Exchange(**fields)


def teller(*, content: bool = False) -> Teller:
    peers = {"far": peer_of(Settings(name="far", base_url="https://api.openai.com/v1"))}
    return Teller(lambda usage, name: usage.output_tokens / 1000 if name == "big-1" else None, peers, content=content)


def test_a_step_that_was_escalated_tells_both_models_and_the_votes() -> None:
    student, teacher = teller().calls(escalated())
    assert (student.name, student.start_s, student.end_s) == ("chat small-1", 10.0, 10.5)
    assert student.attributes["gen_ai.request.choice.count"] == 3
    assert student.attributes["gen_ai.response.finish_reasons"] == ["stop"] * 3
    assert "potstill.cost_usd" not in student.attributes, "no price is no zero"
    assert teacher.attributes["potstill.cost_usd"] == 0.003
    told = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "big-1",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.stop_sequences": ["END"],
        "gen_ai.request.seed": 4,
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.output_tokens": 3,
        "server.address": "api.openai.com",
        "server.port": 443,
        "potstill.tenant": "acme",
        "potstill.route": "auto",
        "potstill.stage": "canary/cascade",
        "potstill.answerer": "teacher",
        "potstill.decision.reason": "disagreed",
        "potstill.decision.agreement": 0.5,
        "potstill.decision.votes": [2, 1],
        "potstill.decision.invalid_votes": 1,
    }
    assert told.items() <= teacher.attributes.items()
    assert "gen_ai.request.top_p" not in teacher.attributes, "true is no number"
    said = json.dumps([student.attributes, teacher.attributes])
    assert '"hi"' not in said
    assert "stay" not in said


def test_a_step_with_a_playbook_tells_which_bullets_and_not_what_they_say() -> None:
    use = PlaybookUse(name="support", revision=4, shown=("b-2", "b-1"), withheld=("b-3",), trial=True)
    for span in teller().calls(escalated(playbook=use)):
        assert span.attributes["potstill.playbook"] == "support"
        assert span.attributes["potstill.bullets"] == ["b-2", "b-1"]
    assert all("potstill.playbook" not in span.attributes for span in teller().calls(escalated()))


def test_a_request_that_no_upstream_was_asked_for_is_a_call_that_failed() -> None:
    error = ErrorRecord(kind="Untranslatable", message="cannot say 'the secret plan'")
    (span,) = teller().calls(escalated(calls=(), status=400, response=b"{}", error=error, decision=None))
    assert span.attributes["error.type"] == "Untranslatable"
    assert span.error is not None
    assert span.error.message == "", "an error's words may repeat what was asked"
    (span,) = teller(content=True).calls(escalated(calls=(), status=400, response=b"{}", error=error))
    assert span.error == error


def test_bytes_that_are_no_request_and_no_answer_are_still_spans() -> None:
    for content in (False, True):
        spans = teller(content=content).calls(escalated(request=b"\xff{", response=b"nonsense"))
        assert [span.name for span in spans] == ["chat small-1", "chat big-1"]
        assert spans[1].attributes["error.type"]


PIXEL = base64.b64encode(b"\x89PNG not really").decode()
ANTHROPIC = {
    "model": "m",
    "max_tokens": 5,
    "system": "Be brief.",
    "tools": [{"name": "look", "description": "Look.", "input_schema": {"type": "object"}}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "See"}, _image := {
            "type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": "c2lnbmVk"},
            {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": 1}},
            {"type": "tool_use", "id": "t2", "name": "look", "input": {"at": 2}}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t1", "content": "wall"},
            {"type": "tool_result", "tool_use_id": "t2", "content": [{"type": "text", "text": "door"}, _image]}]},
    ],
}  # fmt: skip


def test_content_is_told_in_the_parts_of_the_conventions() -> None:
    answer = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "tool_use",
        "content": [{"type": "text", "text": "ok"}, {"type": "tool_use", "id": "t3", "name": "look", "input": {}}],
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }  # fmt: skip
    exchange = escalated(
        dialect="anthropic",
        request=json.dumps(ANTHROPIC).encode(),
        response=json.dumps(answer).encode(),
        calls=(),
        decision=None,
        answerer=Answerer.NOBODY,
    )
    (span,) = teller(content=True).calls(exchange)
    said = {name: json.loads(span.attributes[f"gen_ai.{name}"]) for name in ("input.messages", "output.messages")}
    file = {
        "type": "file",
        "modality": "image",
        "file_id": "sha256:" + hashlib.sha256(base64.b64decode(PIXEL)).hexdigest(),
        "mime_type": "image/png",
    }
    assert json.loads(span.attributes["gen_ai.system_instructions"]) == [{"type": "text", "content": "Be brief."}]
    user, assistant, *tools = said["input.messages"]
    assert user == {"role": "user", "parts": [{"type": "text", "content": "See"}, file]}
    assert assistant["parts"] == [
        {"type": "reasoning", "content": "hm"},
        {"type": "tool_call", "id": "t1", "name": "look", "arguments": {"at": 1}},
        {"type": "tool_call", "id": "t2", "name": "look", "arguments": {"at": 2}},
    ]
    responses = [part for tool in tools for part in tool["parts"]]
    assert responses == [
        {"type": "tool_call_response", "id": "t1", "response": "wall"},
        {"type": "tool_call_response", "id": "t2", "response": [{"type": "text", "content": "door"}, file]},
    ]
    (told,) = said["output.messages"]
    assert (told["role"], told["finish_reason"], len(told["parts"])) == ("assistant", "tool_call", 2)
    assert json.loads(span.attributes["gen_ai.tool.definitions"])[0]["name"] == "look"
    assert PIXEL not in str(span.attributes)
    assert "c2lnbmVk" not in str(span.attributes)


def test_half_a_surrogate_pair_does_not_cost_the_batch() -> None:
    assert valid(["a\ud800b", "c", 3]) == ["a?b", "c", 3]


# --- secrets ----------------------------------------------------------------------------------------------------------


def test_no_secret_is_in_a_span_a_record_or_a_log(
    start: Callable[..., Any],
    taken: Collector,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("PLANTED_COLLECTOR", f"Bearer {COLLECTORS_KEY}")
    monkeypatch.setenv("PLANTED_UPSTREAM", SECRET.replace("PlAnTeD", "UpStReM"))

    def answer(request: Request) -> Any:
        said = f"{request.headers['authorization']} {SECRET} {COLLECTORS_KEY}"
        if request.json.get("stream"):
            return [STREAM, *(chunk(piece) for piece in chat_stream(SECRET[:20], SECRET[20:])), END]
        if request.json["messages"][-1]["content"].startswith("fail"):
            return reply({"error": {"message": said, "type": "x"}}, 400)
        return reply(chat_answer(said))

    with Upstream(answer) as double:
        told = settings(double.url, taken.url, content=True, headers_env={"Authorization": "PLANTED_COLLECTOR"})
        upstreams = tuple(
            msgspec.structs.replace(one, key_env="PLANTED_UPSTREAM", pass_key=False) for one in told.upstreams
        )
        recording = msgspec.structs.replace(told.recording, redact=(r"ACME-\d+",))
        running = start(told, upstreams=upstreams, recording=recording)
        for content in ("ok", "fail"):
            messages = [{"role": "user", "content": f"{content}: my key {SECRET}, case ACME-4711"}]
            for stream in (False, True):
                running.post(
                    "/v1/chat/completions",
                    {"model": "m", "messages": messages, "stream": stream},
                    authorization=f"Bearer {SECRET}",
                    x_potstill_goal=f"use {SECRET}",
                    tracestate=f"vendor={COLLECTORS_KEY}",
                )
        taken.wait_for(4)
        taken.status, taken.answer = 400, f"no: Bearer {COLLECTORS_KEY}".encode()
        running.post("/v1/chat/completions", ASKED)
        with running.stop():
            pass
    assert {head["authorization"] for head in taken.headers} == {f"Bearer {COLLECTORS_KEY}"}
    assert len(taken.calls()) == 4
    held = b"".join(taken.bodies) + b"".join(path.read_bytes() for path in tmp_path.glob("gateway.db*"))
    held += caplog.text.encode()
    for planted in (SECRET, SECRET[8:40], COLLECTORS_KEY, "ACME-4711", "UpStReM"):
        assert planted.encode() not in held, planted
    assert b"redacted:" in b"".join(taken.bodies)
    assert "does not take spans" in caplog.text


def test_a_header_whose_variable_is_not_set_is_told_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    told = settings("http://127.0.0.1:9/v1", "http://127.0.0.1:9", headers_env={"x-key": "NOT_SET"})
    with pytest.raises(ConfigError, match="export NOT_SET"):
        SpanExport(told, Metrics(), None)


# --- a collector that does not take spans -----------------------------------------------------------------------------


@pytest.mark.parametrize("behaviour", ["down", "silent", "refuses"])
def test_clients_do_not_notice_a_collector_that_fails(
    behaviour: str, start: Callable[..., Any], upstream: Upstream, taken: Collector
) -> None:
    url = f"http://127.0.0.1:{unused_port()}" if behaviour == "down" else taken.url
    taken.delay_s = 60.0 if behaviour == "silent" else 0.0
    taken.status = 503 if behaviour == "refuses" else 200
    running = start(settings(upstream.url, url, timeout_s=0.5))
    statuses = [running.post("/v1/chat/completions", ASKED).status for _ in range(20)]
    assert statuses == [200] * 20
    pause, until = 0.05, time.monotonic() + 120
    while not counted(running)["failed"] and time.monotonic() < until:
        time.sleep(pause)
    counts = counted(running)
    assert counts["failed"] > 0
    assert counts["sent"] == 0
    assert len(running.exchanges()) == 20
    assert taken.bodies == []


def test_what_does_not_fit_is_dropped_and_counted(
    start: Callable[..., Any], upstream: Upstream, taken: Collector
) -> None:
    taken.delay_s = 60.0
    running = start(settings(upstream.url, taken.url, timeout_s=1.0, max_queue_bytes=6000))
    for _ in range(12):
        assert running.post("/v1/chat/completions", ASKED).status == 200
    assert len(running.exchanges()) == 12
    counts = running.server.app._metrics.otel_spans.values
    assert counts[("dropped",)] >= 9
    assert counts[("dropped",)] + counts[("failed",)] == 12
    assert counts[("sent",)] == 0


def test_what_waits_is_sent_when_the_gateway_stops(
    start: Callable[..., Any], upstream: Upstream, taken: Collector
) -> None:
    running = start(settings(upstream.url, taken.url))
    for _ in range(5):
        running.post("/v1/chat/completions", ASKED)
    running.stop().close()
    assert len(taken.calls()) == 5


async def test_a_span_that_cannot_be_made_costs_no_other() -> None:
    sent: list[Span] = []

    def send(spans: Any) -> bool:
        sent.extend(spans)
        return True

    metrics = Metrics()
    told = settings("http://127.0.0.1:9/v1", "http://127.0.0.1:9")
    export = SpanExport(told, metrics, None, out=(send, lambda: None), linger_s=0.0)
    broken = msgspec.structs.replace(escalated(), metadata={"traceparent": CALLER}, decision=7)  # type: ignore[arg-type]
    export.exchange(broken)
    export.exchange(escalated())
    await export.aclose()
    assert [span.name for span in sent] == ["chat small-1", "chat big-1"]
    assert metrics.otel_spans.values[("failed",)] == 2
    export.exchange(escalated())
    assert metrics.otel_spans.values[("sent",)] == 2


# --- settings ---------------------------------------------------------------------------------------------------------


def test_without_the_packages_the_gateway_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", None)
    with pytest.raises(MissingExtra, match=r"potstill\[otel\]"):
        SpanExport(settings("http://127.0.0.1:9/v1", "http://127.0.0.1:9"), Metrics(), None)


def test_without_an_endpoint_nothing_of_it_is_loaded(start: Callable[..., Any], upstream: Upstream) -> None:
    running = start(settings(upstream.url, ""))
    assert running.post("/v1/chat/completions", ASKED).status == 200
    assert b"potstill_otel_queue" not in running.get("/metrics").body


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"endpoint": "localhost:4318"}, "http://HOST:4318"),
        ({"endpoint": "http://h:4318/?key=1"}, "http://HOST:4318"),
        ({"endpoint": "http://me:key@h:4318"}, "headers_env"),
        ({"endpoint": "http://h:4318", "timeout_s": 0.0}, "above 0"),
        ({"endpont": "http://h"}, "endpoint"),
        ({"endpoint": "http://h", "content": "yes"}, "content"),
    ],
)
def test_wrong_settings_are_told(table: dict[str, Any], said: str) -> None:
    tables = {"gateway": {"passthrough": "up"}, "upstreams": {"up": {"base_url": "http://h/v1"}}, "otel": table}
    with pytest.raises(ConfigError, match=said):
        settings_file.parse(tables, "here")


def test_the_address_of_traces_is_found_from_any_way_to_write_it() -> None:
    for written in ("http://h:4318", "http://h:4318/", "http://h:4318/v1/traces"):
        assert endpoint_of(Otel(endpoint=written)) == "http://h:4318/v1/traces"
    assert endpoint_of(Otel(endpoint="https://h/api/public/otel")) == "https://h/api/public/otel/v1/traces"


@pytest.mark.parametrize(
    ("url", "dialect", "provider", "port"),
    [
        ("https://api.anthropic.com", "anthropic", "anthropic", 443),
        ("https://team.openai.azure.com/openai/v1", "openai-chat", "azure.ai.openai", 443),
        ("https://api.mistral.ai/v1", "openai-chat", "mistral_ai", 443),
        ("http://localhost:8080/v1", "openai-responses", "openai", 8080),
        ("http://localhost/v1", "anthropic", "anthropic", 80),
    ],
)
def test_upstreams_go_by_the_conventions_names(url: str, dialect: str, provider: str, port: int) -> None:
    peer = peer_of(Settings(name="up", base_url=url, dialect=dialect))
    assert (peer.provider, peer.port) == (provider, port)


@pytest.mark.parametrize("mode", ["shadow", "cascade"])
def test_students_are_told_beside_teachers(
    mode: str, start: Callable[..., Any], upstream: Upstream, taken: Collector
) -> None:
    said = iter(["one", "two", "three", "four"] * 4)
    with Upstream(lambda request: reply(chat_answer(next(said), model="small-1"))) as student:
        tables = {
            "upstreams": {"far": {"base_url": upstream.url}, "near": {"base_url": student.url}},
            "models": {"big": {"upstream": "far", "model": "big-1"}, "small": {"upstream": "near", "model": "small-1"}},
            "routes": {
                "auto": {
                    "teacher": "big",
                    "student": "small",
                    "mode": mode,
                    "shadow_share": 1.0,
                    "rollout": False,
                    "cascade": {"allow_uncertified": True, "samples": 3, "cache_aware": False},
                }
            },
            "otel": {"endpoint": taken.url},
        }
        running = start(settings_file.parse(tables, "here"))
        assert (
            running.post("/v1/chat/completions", {**ASKED, "model": "auto"}).headers["x-potstill-answerer"] == "teacher"
        )
        taken.wait_for(4)
        running.stop().close()
    told = sorted((span["attributes"]["potstill.answerer"], span["name"]) for span in taken.calls())
    assert told == [("student", "chat small-1")] * 3 + [("teacher", "chat big-1")]
    students = [span["attributes"] for span in taken.calls() if span["name"] == "chat small-1"]
    assert {one.get("potstill.shadow", False) for one in students} == {mode == "shadow"}
    assert len({span["parentSpanId"] for span in taken.calls()}) == 1
    if mode == "cascade":
        assert {one["potstill.decision.reason"] for one in students} == {"disagreed"}
        assert {tuple(one["potstill.decision.votes"]) for one in students} == {(1, 1, 1)}
