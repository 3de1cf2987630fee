"""A tuned language model behind the gateway, run by its own process: it reads the prompts that it learnt with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")

from upstream_double import Upstream, chat_answer, reply  # noqa: E402

from potstill.errors import MissingExtra  # noqa: E402
from potstill.models.tuned import open_tuned  # noqa: E402
from potstill.models.tuned_file import Voice, read_tuned  # noqa: E402
from potstill.run.voice import messages_of  # noqa: E402
from potstill.serve import preflight, settings_file  # noqa: E402
from potstill.types import Past, Request, Situation  # noqa: E402
from tiny_lm import tiny_student  # noqa: E402

pytestmark = pytest.mark.extra
Start = Callable[..., Any]
INSTRUCTIONS = "You take orders through a workshop."
LISTED = ["weigh it", "pack in straw", "ship by rail"]
SITUATION = Situation(
    goal="ship the order", observation="Next stage: pack.", past=(Past(observation="A desk.", action="weigh it"),)
)


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny_student(tmp_path_factory.mktemp("student"), INSTRUCTIONS, voice=Voice(history_turns=2))


def settings(url: str, student: Path, **route: Any) -> Any:
    tables = {
        "upstreams": {"cloud": {"base_url": url}},
        "models": {"big": {"upstream": "cloud", "model": "big-1"}, "small": {"tuned": str(student)}},
        "routes": {"auto": {"teacher": "big", "student": "small", "mode": "student", **route}},
    }
    return settings_file.parse(tables, "gateway.toml")


def listing() -> dict[str, Any]:
    """An agent that calls a tool, in words of its own: nothing of its system message was learnt with."""
    schema = {"type": "object", "properties": {"action": {"type": "string", "enum": LISTED}}}
    call = {"id": "c1", "type": "function", "function": {"name": "act", "arguments": '{"action": "weigh it"}'}}
    return {
        "model": "auto",
        "messages": [
            {"role": "system", "content": "You are a helpful robot."},
            {"role": "user", "content": "Goal: ship the order\n\nA desk."},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "Next stage: pack."},
        ],
        "tools": [{"type": "function", "function": {"name": "act", "parameters": schema}}],
    }


def writing(system: str) -> dict[str, Any]:
    said = [{"role": "system", "content": system}, {"role": "user", "content": "Goal: ship the order\n\nA desk."}]
    return {"model": "auto", "max_tokens": 8, "messages": said, "temperature": 0}


def teaching(request: Any) -> list[Any]:
    return [reply(chat_answer("ship by rail", model="big-1"))]


def weighed(student: Path) -> dict[str, float]:
    """What the student itself says where the episode loop asks it."""
    tuned, model = read_tuned(student), open_tuned(student)
    request = Request(messages=messages_of(tuned, SITUATION, tuple(LISTED)), admissible=tuple(LISTED))
    found = asyncio.run(model.score(request)).replies[0].candidates
    asyncio.run(model.aclose())
    return dict(found)


def reasoned(student: Path) -> tuple[dict[str, float], int]:
    """The same of one that writes a line first, and the tokens of that line."""
    tuned, model = read_tuned(student), open_tuned(student)
    request = Request(messages=messages_of(tuned, SITUATION, tuple(LISTED)), admissible=tuple(LISTED))
    found = asyncio.run(model.score(request))
    asyncio.run(model.aclose())
    assert found.calls[0].usage is not None
    return dict(found.replies[0].candidates), found.calls[0].usage.output_tokens


def test_it_weighs_what_is_listed_after_the_prompt_that_it_learnt_with(start: Start, student: Path) -> None:
    actions = {"tool": "act", "argument": "action"}
    with Upstream(teaching) as cloud:
        running = start(settings(cloud.url, student, actions=actions))
        answered = running.post("/v1/chat/completions", listing())
        (exchange,) = running.exchanges()
    assert answered.status == 200, answered.body
    assert answered.headers["x-potstill-answerer"] == "student"
    (call,) = answered.json["choices"][0]["message"]["tool_calls"]
    scores = weighed(student)
    assert json.loads(call["function"]["arguments"])["action"] == max(scores, key=lambda name: scores[name])
    assert not cloud.requests
    (called,) = exchange.calls
    assert (called.model, called.price_as) == (f"tuned:{student}", "free")


@pytest.mark.parametrize(("threshold", "answerer"), [(0.0, "student"), (1.0, "teacher")])
def test_in_a_cascade_its_own_probability_decides(start: Start, student: Path, threshold: float, answerer: str) -> None:
    route = {"mode": "cascade", "rollout": False, "cascade": {"threshold": threshold}}
    with Upstream(teaching) as cloud:
        running = start(settings(cloud.url, student, actions={"tool": "act", "argument": "action"}, **route))
        answered = running.post("/v1/chat/completions", listing())
        (exchange,) = running.exchanges()
    assert answered.headers["x-potstill-answerer"] == answerer
    weights = torch.softmax(torch.tensor(list(weighed(student).values())), 0)
    assert exchange.decision.confidence == pytest.approx(float(weights.max()), abs=1e-4)


def test_one_that_reasons_writes_its_line_and_weighs_behind_it(start: Start, tmp_path: Path) -> None:
    student = tiny_student(tmp_path / "student", INSTRUCTIONS, voice=Voice(reasoning="with-action", history_turns=0))
    route = {"mode": "cascade", "rollout": False, "cascade": {"threshold": 0.0}}
    with Upstream(teaching) as cloud:
        running = start(settings(cloud.url, student, actions={"tool": "act", "argument": "action"}, **route))
        answered = running.post("/v1/chat/completions", {**listing(), "temperature": 0})
        (exchange,) = running.exchanges()
    assert answered.headers["x-potstill-answerer"] == "student", answered.body
    scores, written = reasoned(student)
    (call,) = answered.json["choices"][0]["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"])["action"] == max(scores, key=lambda name: scores[name])
    weights = torch.softmax(torch.tensor(list(scores.values())), 0)
    assert exchange.decision.confidence == pytest.approx(float(weights.max()), abs=1e-4)
    (called,) = exchange.calls
    assert called.raw_usage["completion_tokens"] > written > 0, "the line of reasoning is counted, and the action"


def test_without_a_list_it_writes_and_only_after_the_instructions_that_it_learnt_with(
    start: Start, student: Path
) -> None:
    with Upstream(teaching) as cloud:
        running = start(settings(cloud.url, student))
        own = running.post("/v1/chat/completions", writing(INSTRUCTIONS))
        other = running.post("/v1/chat/completions", writing(f"{INSTRUCTIONS}\n\nExamples: > pack"))
        tools = running.post("/v1/chat/completions", {**listing(), "max_tokens": 8})
        exchanges = running.exchanges()
    assert own.headers["x-potstill-answerer"] == "student", own.body
    assert own.json["choices"][0]["finish_reason"] in ("stop", "length")
    for answered in (other, tools):
        assert answered.headers["x-potstill-answerer"] == "teacher"
    notes = [" ".join(exchange.notes) for exchange in exchanges]
    assert any("demonstrations or a playbook added" in note for note in notes), notes
    assert any("writes text" in note for note in notes), notes


def test_what_its_engine_needs_is_asked_for_before_the_gateway_starts(
    student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = settings("http://127.0.0.1:1/v1", student)
    preflight.check(found, None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "peft" else object())
    with pytest.raises(MissingExtra, match=r"potstill\[lm\]"):
        preflight.check(found, None)
