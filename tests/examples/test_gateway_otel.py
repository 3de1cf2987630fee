"""Spans of a running gateway, out of a real process: what a collector gets, and that our own importer reads it back."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from agents_recorded import ANTHROPIC, AT_ONCE, CHAT, ONE_BY_ONE, RESPONSES, called, follow
from scripted_teacher import CACHED, Teacher

from otel_receiver import Collector, collector, lines
from potstill.logs.formats.trajectory import attempt_of
from potstill.logs.reader import read
from potstill.logs.records import LogCall
from potstill.measure.ledger import price_usage
from potstill.measure.prices.table import PriceTable
from potstill.types import Trajectory

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs pip install 'potstill[otel]'")
AGENTS = {
    "openai_async.py": (CHAT, AT_ONCE, "openai"),
    "openai_stream.py": (CHAT, ONE_BY_ONE, "openai"),
    "openai_responses.py": (RESPONSES, ONE_BY_ONE, "openai"),
    "anthropic_stream.py": (ANTHROPIC, ONE_BY_ONE, "anthropic"),
}
PRICED = "gpt-4.1-mini"
FILE = """
[upstreams.up]
base_url = "{url}"
dialect = "{dialect}"

[models.big]
upstream = "up"
model = "big-1"
price_as = "{priced}"

[routes.any]
teacher = "big"

[gateway]
default_route = "any"

[otel]
endpoint = "{collector}"
content = {content}
"""


@pytest.fixture
def taken() -> Iterator[Collector]:
    with collector() as running:
        yield running


@pytest.fixture
def started(
    gateway_with: Callable[..., Any], teacher: tuple[Teacher, str], taken: Collector, tmp_path: Path
) -> Callable[..., Any]:
    return partial(gateway, gateway_with, tmp_path, teacher[1], taken)


def gateway(
    with_: Callable[..., Any], folder: Path, teacher: str, taken: Collector, dialect: str, content: bool
) -> Any:
    url = teacher.removesuffix("/v1") if dialect == ANTHROPIC else teacher
    said = str(content).lower()
    file = folder / "gateway.toml"
    file.write_text(FILE.format(url=url, dialect=dialect, collector=taken.url, content=said, priced=PRICED))
    return with_(folder, "--config", str(file))


def imported(folder: Path, taken: Collector) -> list[LogCall]:
    path = folder / "spans.jsonl"
    path.write_bytes(lines(taken.documents()))
    calls = [record for record in read([path]) if isinstance(record, LogCall)]
    return sorted(calls, key=lambda call: call.started_at or 0.0)


def dollars(trajectory: Trajectory) -> list[float]:
    table = PriceTable.load()
    calls = [call for step in trajectory.steps for call in step.calls]
    return [price_usage(call.usage, call.priced_as or "", table).total_usd for call in calls if call.usage is not None]


@pytest.mark.parametrize("name", AGENTS)
def test_an_episode_comes_back_from_its_spans(
    name: str, started: Callable[..., Any], teacher: tuple[Teacher, str], taken: Collector, tmp_path: Path
) -> None:
    dialect, tools, provider = AGENTS[name]
    running = started(dialect, content=True)
    billed = follow(running, teacher[0], name)
    trajectory, _ = running.only_episode()
    running.close()  # what waited was sent before the process ended
    spans = taken.calls()
    assert called(trajectory) == tools
    assert len(spans) == len(tools)
    calls = imported(tmp_path, taken)
    expected = attempt_of(trajectory).calls
    assert [(c.usage.input_tokens, c.usage.output_tokens) for c in calls if c.usage] == billed
    for field in ("roles", "prefixes", "after", "tool_calls", "usage", "call_id", "answerer"):
        assert [getattr(call, field) for call in calls] == [getattr(call, field) for call in expected], field
    assert [call.cost_usd for call in calls] == pytest.approx(dollars(trajectory))
    assert [call.started_at for call in calls] == pytest.approx([call.started_at for call in expected])
    assert [call.latency_s for call in calls] == pytest.approx([call.latency_s for call in expected], abs=1e-6)
    assert {call.episode_id for call in calls} == {trajectory.metadata["episode_id"]}
    assert {call.provider for call in calls} == {provider}
    assert all(call.tools[1] for call in calls)
    assert {span["kind"] for span in spans} == {"SPAN_KIND_CLIENT"}
    assert len({(span["traceId"], span["parentSpanId"]) for span in spans}) == 1


def test_what_was_said_leaves_only_where_that_was_asked_for(
    started: Callable[..., Any], teacher: tuple[Teacher, str], taken: Collector, tmp_path: Path
) -> None:
    running = started(CHAT, content=False)
    follow(running, teacher[0], "openai_sdk.py")
    trajectory, exchanges = running.only_episode()
    with urllib.request.urlopen(f"{running.url}/metrics", timeout=120) as page:
        metrics = page.read().decode()
    running.close()
    said = b"".join(taken.bodies)
    for word in (b"Oslo", b"warmer", b"temperature\x22", b"Degrees"):
        assert word not in said
    first, _, third = taken.calls()
    attributes: dict[str, Any] = first["attributes"]
    assert first["name"] == "chat big-1"
    assert attributes["gen_ai.provider.name"] == "openai"
    assert (attributes["gen_ai.request.model"], attributes["gen_ai.response.model"]) == ("big-1", "big-1")
    assert attributes["gen_ai.response.finish_reasons"] == ["tool_calls"]
    assert third["attributes"]["gen_ai.response.finish_reasons"] == ["stop"]
    assert attributes["gen_ai.usage.cache_read.input_tokens"] == CACHED
    assert attributes["gen_ai.conversation.id"] == trajectory.metadata["episode_id"]
    assert attributes["potstill.answerer"] == "teacher"
    assert attributes["potstill.request.id"] == exchanges[0].request_id
    assert (attributes["server.address"], attributes["http.response.status_code"]) == ("127.0.0.1", 200)
    calls = imported(tmp_path, taken)
    assert [call.usage for call in calls] == [call.usage for step in trajectory.steps for call in step.calls]
    assert [call.roles for call in calls] == ["", "", ""]
    assert 'potstill_otel_spans_total{result="dropped"} 0' in metrics
