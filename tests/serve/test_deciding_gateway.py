"""The whole gateway with teacher and student on sockets: who answers, in the client's dialect, and what is kept."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from upstream_double import Request, Upstream, chat_answer, reply

from potstill.serve import settings_file
from potstill.types import Answerer, Reason

TOOLS = [
    {
        "type": "function",
        "function": {"name": "weather", "parameters": {"type": "object", "required": ["city"], "properties": {}}},
    }
]
ASKED = {"model": "auto", "messages": [{"role": "user", "content": "Weather in Oslo?"}], "tools": TOOLS}


def calling(*cities: str) -> list[Any]:
    """An answer with one call of ``weather`` in each choice."""
    answer = chat_answer("", model="small-1")
    answer["choices"] = [
        {
            "index": index,
            "finish_reason": "tool_calls",
            "message": {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": f"call_{index}",
                        "type": "function",
                        "function": {"name": "weather", "arguments": json.dumps({"city": city})},
                    }
                ],
            },
        }
        for index, city in enumerate(cities)
    ]
    return [reply(answer)]


def agreeing(request: Request) -> list[Any]:
    return calling(*["Oslo"] * request.json.get("n", 1))


def differing(request: Request) -> list[Any]:
    return calling("Oslo", "Rome", "Oslo")


def teaching(request: Request) -> list[Any]:
    return [reply(chat_answer("the teacher's words", model="big-1"))]


def settings(teacher: Upstream, student: Upstream, **route: Any) -> Any:
    return settings_file.parse(
        {
            "upstreams": {
                "cloud": {"base_url": teacher.url},
                "near": {"base_url": student.url, "n_shares_prompt": True},
            },
            "models": {
                "big": {"upstream": "cloud", "model": "big-1"},
                "small": {"upstream": "near", "model": "small-1"},
            },
            "routes": {"auto": {"teacher": "big", "student": "small", "rollout": False, "mode": "cascade", **route}},
        },
        "here",
    )


def until(found: Callable[[], bool]) -> None:
    """What another process does comes when it comes."""
    for _ in range(500):
        if found():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come")


@pytest.mark.parametrize("stream", [False, True])
def test_an_agreed_call_is_the_clients_answer_and_the_teacher_is_not_asked(start, stream: bool) -> None:
    with Upstream(teaching) as teacher, Upstream(agreeing) as student:
        gateway = start(settings(teacher, student))
        answered = gateway.post("/v1/chat/completions", {**ASKED, "stream": stream}, x_potstill_episode="e-1")
        assert answered.status == 200
        assert teacher.requests == []
        if stream:
            events = [line[6:] for line in answered.body.decode().split("\n") if line.startswith("data: ")]
            assert events[-1] == "[DONE]"
            deltas = [json.loads(event)["choices"] for event in events[:-1]]
            calls = [one["delta"].get("tool_calls") for choices in deltas for one in choices]
            text = "".join(call["function"].get("arguments", "") for held in calls if held for call in held)
            assert json.loads(text) == {"city": "Oslo"}
        else:
            (choice,) = answered.json["choices"]
            assert choice["message"]["tool_calls"][0]["function"]["name"] == "weather"
            assert choice["finish_reason"] == "tool_calls"
    (exchange,) = gateway.exchanges()
    assert (exchange.answerer, exchange.stage) == (Answerer.STUDENT, "live/cascade")
    assert exchange.decision is not None
    assert (exchange.decision.reason, exchange.decision.samples) == (Reason.AGREED, 3)
    assert [(call.answerer, call.model) for call in exchange.calls] == [(Answerer.STUDENT, "small-1")]


def test_an_anthropic_client_gets_the_students_call_as_its_own_dialect_says_it(start) -> None:
    asked = {
        "model": "auto",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "Weather in Oslo?"}],
        "tools": [{"name": "weather", "input_schema": {"type": "object", "required": ["city"]}}],
    }
    with Upstream(teaching) as teacher, Upstream(agreeing) as student:
        gateway = start(settings(teacher, student))
        answered = gateway.post("/v1/messages", asked)
        assert answered.json["stop_reason"] == "tool_use"
        (block,) = answered.json["content"]
        assert (block["type"], block["name"], block["input"]) == ("tool_use", "weather", {"city": "Oslo"})
        assert (teacher.requests, len(student.requests)) == ([], 1)


@pytest.mark.parametrize("student_does", ["differ", "fail", "break"])
def test_otherwise_the_teacher_gets_the_clients_bytes_and_the_record_says_why(start, student_does: str) -> None:
    doing: dict[str, Any] = {
        "differ": differing,
        "fail": lambda request: [reply({"error": {"message": "no GPU"}}, 500)],
        "break": lambda request: [reply(b'{"choices": [{')],
    }
    body = json.dumps(ASKED, indent=1).encode()
    with Upstream(teaching) as teacher, Upstream(doing[student_does]) as student:
        gateway = start(settings(teacher, student))
        answered = gateway.post("/v1/chat/completions", body)
        assert answered.json["choices"][0]["message"]["content"] == "the teacher's words"
        assert teacher.requests[0].body == body.replace(b'"auto"', b'"big-1"')
    (exchange,) = gateway.exchanges()
    assert exchange.answerer is Answerer.TEACHER
    assert exchange.decision is not None
    assert exchange.decision.reason is (Reason.DISAGREED if student_does == "differ" else Reason.STUDENT_FAILED)
    assert [call.answerer for call in exchange.calls] == [Answerer.STUDENT, Answerer.TEACHER]
    assert bool(exchange.notes) is (student_does != "differ")


def test_shadow_is_recorded_beside_the_exchange_and_the_client_gets_the_teacher(start) -> None:
    with Upstream(agreeing) as teacher, Upstream(agreeing) as student:
        gateway = start(settings(teacher, student, mode="shadow", shadow_share=1.0))
        answered = gateway.post("/v1/chat/completions", ASKED, x_potstill_episode="e-1")
        assert answered.status == 200
        (shadow,) = [one for one in gateway.exchanges() if any(call.shadow for call in one.calls)]
    assert shadow.metadata == {
        "shadow_of": answered.headers["x-potstill-request-id"],
        "acted": True,
        "agreed": True,
    }
    assert (shadow.episode_id, shadow.request) == ("e-1", b"")


def test_a_kill_at_one_gateway_reaches_the_other_on_the_same_store(start) -> None:
    key = "an-admin-key-for-this-test-8f2c61"
    with Upstream(teaching) as teacher, Upstream(agreeing) as student:
        one = start(settings(teacher, student), admin_key=key)
        other = start(settings(teacher, student), admin_key=key)

        def asks_student() -> bool:
            message = other.post("/v1/chat/completions", ASKED).json["choices"][0]["message"]
            return message["content"] != "the teacher's words"

        assert asks_student()
        killed = one.post("/v1/potstill/kill-switch", {"killed": True}, authorization=f"Bearer {key}")
        assert killed.status == 200, killed.body
        until(lambda: not asks_student())
        one.post("/v1/potstill/kill-switch", {"killed": False}, authorization=f"Bearer {key}")
        until(asks_student)
