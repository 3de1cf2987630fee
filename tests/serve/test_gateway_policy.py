"""A trained policy behind the gateway chooses what the client lists; where nothing is listed the teacher acts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from upstream_double import Upstream, chat_answer, reply

import policy_files as files
from potstill.edge import act
from potstill.edge.policy import open_policy
from potstill.errors import ConfigError
from potstill.record.fold import trajectory_of
from potstill.serve import settings_file
from potstill.trajectories.choices import LeftOut, choices
from potstill.trajectories.exchange import Recorded
from potstill.types import Answerer, Outcome, OutcomeSource, Reason

Start = Callable[..., Any]
ACTIONS = ["take mug 1", "go to cabinet 2", "go to shelf 2", "look"]
GOAL = "put a mug in cabinet 2"


def tool(values: list[str] | None = None) -> dict[str, Any]:
    schema = {"type": "string", **({"enum": values} if values else {})}
    return {
        "type": "function",
        "function": {"name": "act", "parameters": {"type": "object", "properties": {"action": schema}}},
    }


def did(action: str, call: str) -> dict[str, Any]:
    function = {"name": "act", "arguments": json.dumps({"action": action})}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": call, "type": "function", "function": function}],
    }


def asked(**more: Any) -> dict[str, Any]:
    """In the middle of an episode: two turns were taken."""
    messages = [
        {"role": "system", "content": "You are a robot."},
        {"role": "user", "content": f"Goal: {GOAL}\n\nYou are in a kitchen."},
        did("go to shelf 1", "c1"),
        {"role": "tool", "tool_call_id": "c1", "content": "Nothing is there."},
        did("go to shelf 2", "c2"),
        {"role": "tool", "tool_call_id": "c2", "content": "You see a mug 1 on shelf 2."},
    ]
    return {"model": "auto", "messages": messages, "tools": [tool(ACTIONS)], **more}


def settings(tmp_path: Path, url: str, *, route: dict[str, Any] | None = None, **actions: Any) -> Any:
    listed = actions or {"tool": "act", "argument": "action"}
    tables = {
        "gateway": {},
        "upstreams": {"cloud": {"base_url": url}},
        "models": {
            "big": {"upstream": "cloud", "model": "big-1"},
            "small": {"policy": str(files.write_policy(tmp_path / "student.policy"))},
        },
        "routes": {
            "auto": {"teacher": "big", "student": "small", "mode": "student", "actions": listed, **(route or {})}
        },
    }
    return settings_file.parse(tables, "gateway.toml")


def teaching(request: Any) -> list[Any]:
    answer = chat_answer("", model="big-1")
    message = did("look", "t1")
    answer["choices"] = [{"index": 0, "finish_reason": "tool_calls", "message": message}]
    return [reply(answer)]


def chosen(answer: Any) -> str:
    (call,) = answer.json["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == "act"
    return str(json.loads(call["function"]["arguments"])["action"])


def test_a_policy_chooses_what_the_runtime_chooses_in_the_same_situation(start: Start, tmp_path: Path) -> None:
    with Upstream(teaching) as cloud:
        running = start(settings(tmp_path, cloud.url))
        answered = running.post("/v1/chat/completions", asked())
        (exchange,) = running.exchanges()
    expected = act.decide(open_policy(tmp_path / "student.policy"), {**files.SITUATION, "admissible": ACTIONS})
    assert answered.status == 200, answered.body
    assert answered.headers["x-potstill-answerer"] == "student"
    assert chosen(answered) == expected["action"]
    assert not cloud.requests
    (called,) = exchange.calls
    assert (called.model, called.price_as) == (str(tmp_path / "student.policy"), "free")


@pytest.mark.parametrize(("threshold", "answerer"), [(0.0, "student"), (1.0, "teacher")])
def test_in_a_cascade_the_policys_own_probability_decides(
    start: Start, tmp_path: Path, threshold: float, answerer: str
) -> None:
    route = {"mode": "cascade", "rollout": False, "cascade": {"threshold": threshold}}
    with Upstream(teaching) as cloud:
        running = start(settings(tmp_path, cloud.url, route=route))
        answered = running.post("/v1/chat/completions", asked())
        (exchange,) = running.exchanges()
    assert answered.headers["x-potstill-answerer"] == answerer
    expected = act.decide(open_policy(tmp_path / "student.policy"), {**files.SITUATION, "admissible": ACTIONS})
    assert exchange.decision.confidence == pytest.approx(max(expected["probabilities"]))
    assert exchange.decision.reason is (Reason.CONFIDENT if threshold == 0 else Reason.NOT_CONFIDENT)


@pytest.mark.parametrize("tools", [[tool()], []], ids=["no enum", "no tool"])
def test_where_nothing_is_listed_the_teacher_answers_and_the_record_says_why(
    start: Start, tmp_path: Path, tools: list[Any]
) -> None:
    with Upstream(teaching) as cloud:
        running = start(settings(tmp_path, cloud.url))
        answered = running.post("/v1/chat/completions", asked(tools=tools))
        (exchange,) = running.exchanges()
    assert answered.headers["x-potstill-answerer"] == "teacher"
    assert "lists no action" in exchange.notes[0]


def test_what_the_teacher_chose_becomes_a_decision_that_a_policy_learns_from(start: Start, tmp_path: Path) -> None:
    with Upstream(teaching) as cloud:
        running = start(settings(tmp_path, cloud.url, route={"mode": "record", "student": "small"}))
        running.post("/v1/chat/completions", asked(), **{"x-potstill-episode": "e-1"})
        (exchange,) = running.exchanges()
    won = Outcome(success=True, source=OutcomeSource.HUMAN)
    episode = trajectory_of([Recorded(seq=1, exchange=exchange)], namespace="default", episode_id="e-1", outcome=won)
    (choice,) = choices(episode, {Answerer.TEACHER})
    assert (choice.admissible, choice.action) == (tuple(ACTIONS), "look")
    assert (choice.situation.goal, choice.situation.observation) == (GOAL, "You see a mug 1 on shelf 2.")
    assert choice.step.action.tool_calls[0].name == "act", "the call stays as it was"


def test_without_the_setting_a_recorded_call_of_a_tool_is_no_choice(start: Start, tmp_path: Path) -> None:
    with Upstream(teaching) as cloud:
        running = start(teacher=f"{cloud.url}#big-1")
        running.post("/v1/chat/completions", asked())
        (exchange,) = running.exchanges()
    episode = trajectory_of([Recorded(seq=1, exchange=exchange)], namespace="default", episode_id="e-1")
    left_out: Counter[LeftOut] = Counter()
    assert not list(choices(episode, {Answerer.TEACHER}, only_successes=False, left_out=left_out))
    assert left_out == {LeftOut.TOOL_CALL: 1}


@pytest.mark.parametrize(
    ("actions", "words"),
    [
        ({"tool": "act"}, "each needs the other"),
        ({"tool": "act", "argument": "a", "tools": True}, "one of: tool"),
        ({"hide": ["x"]}, "one of: tool"),
        ({"pattern": "^- .+$"}, "0 groups"),
        ({"pattern": "^- (.+$"}, "no regular expression"),
        ({"tools": True, "hide": ["("]}, "no regular expression"),
    ],
)
def test_settings_that_list_nothing_are_refused(tmp_path: Path, actions: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        settings(tmp_path, "http://127.0.0.1:1/v1", **actions)


def test_a_route_with_a_policy_must_say_where_actions_are_listed(tmp_path: Path) -> None:
    found = settings(tmp_path, "http://127.0.0.1:1/v1")
    route = msgspec.structs.replace(found.routes[0], actions=None)
    with pytest.raises(ConfigError, match="does not say where its requests list the actions"):
        settings_file.checked(msgspec.structs.replace(found, routes=(route,)), "x")
    route = msgspec.structs.replace(found.routes[0], teacher="small")
    with pytest.raises(ConfigError, match="as teacher"):
        settings_file.checked(msgspec.structs.replace(found, routes=(route,)), "x")


def test_a_file_that_is_no_policy_keeps_the_gateway_from_starting(start: Start, tmp_path: Path) -> None:
    found = settings(tmp_path, "http://127.0.0.1:1/v1")
    (tmp_path / "student.policy").write_bytes(b"nothing")
    with pytest.raises(Exception, match=r"student\.policy"):
        start(found)
