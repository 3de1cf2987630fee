"""An agent's whole episode through a running gateway: who is asked what at each step, under each way of switching."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from upstream_double import Request, Upstream, chat_answer, reply

from potstill.serve import settings_file
from potstill.types import Reason

TOOL = {"name": "look", "parameters": {"type": "object", "properties": {"where": {"type": "string"}}}}
TOOLS = [{"type": "function", "function": TOOL}]
GOAL = "Find the key of the cellar. " * 60
# The teacher's warm cache makes its next step nearly free, and the student's samples cost more than that.
WARM = """
[models.t-1]
input = 1.0
cache_read = 0.001
output = 0.0
minimum_cache_tokens = 100
cache_ttl_s = 300
[models.s-1]
input = 1.0
output = 1.0
"""
# The student costs next to nothing, so only the hand-off has a price worth thinking about.
CHEAP = WARM.replace("input = 1.0\noutput = 1.0", "input = 0.00001\noutput = 0.00001")


def called(*places: str) -> dict[str, Any]:
    """An answer with one call of ``look`` in each choice."""
    answer = chat_answer("")
    answer["choices"] = [
        {
            "index": index,
            "finish_reason": "tool_calls",
            "message": {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": f"call-{index}",
                        "type": "function",
                        "function": {"name": "look", "arguments": json.dumps({"where": place})},
                    }
                ],
            },
        }
        for index, place in enumerate(places)
    ]
    return answer


def step_of(request: Request) -> int:
    return sum(message["role"] == "assistant" for message in request.json["messages"])


class Student:
    """Disagrees with itself at some steps."""

    def __init__(self, *unsure: int) -> None:
        self.unsure = unsure

    def __call__(self, request: Request) -> Any:
        step, wanted = step_of(request), request.json.get("n", 1)
        places = [f"room {step}"] * wanted
        if step in self.unsure and wanted > 1:
            places[0] = "elsewhere"
        return reply(called(*places))


def teacher(request: Request) -> Any:
    size = sum(len(str(message.get("content") or "")) for message in request.json["messages"])
    answer = called(f"room {step_of(request)}")
    return reply({**answer, "usage": {"prompt_tokens": size // 4, "completion_tokens": 10, "total_tokens": 0}})


def settings(far: str, near: str, **cascade: Any) -> Any:
    tables = {
        "upstreams": {"far": {"base_url": far}, "near": {"base_url": near, "n_shares_prompt": True}},
        "models": {"big": {"upstream": "far", "model": "t-1"}, "small": {"upstream": "near", "model": "s-1"}},
        "routes": {
            "auto": {"teacher": "big", "student": "small", "mode": "cascade", "rollout": False, "cascade": cascade}
        },
    }
    return settings_file.parse(tables, "here")


class Played:
    """What an episode of so many steps came to."""

    def __init__(self, start: Any, student: Student, steps: int, prices: str, **cascade: Any) -> None:
        Path("potstill-prices.toml").write_text(prices)
        self.answerers: list[str] = []
        with Upstream(teacher) as far, Upstream(student) as near:
            gateway = start(settings(far.url, near.url, **cascade))
            messages: list[dict[str, Any]] = [{"role": "user", "content": GOAL}]
            for step in range(steps):
                body = {"model": "auto", "messages": messages, "tools": TOOLS}
                answered = gateway.post("/v1/chat/completions", body, x_potstill_episode="e-1")
                assert answered.status == 200, answered.body
                self.answerers.append(answered.headers["x-potstill-answerer"])
                said = answered.json["choices"][0]["message"]
                messages.append(said)
                seen = f"a dusty room with number {step} " * 20
                messages.append({"role": "tool", "tool_call_id": said["tool_calls"][0]["id"], "content": seen})
            self.taught, self.asked = far.requests, [request.json.get("n", 1) for request in near.requests]
            self.records = gateway.exchanges()

    @property
    def reasons(self) -> list[Reason]:
        return [one.decision.reason for one in self.records]

    @property
    def notes(self) -> list[tuple[str, ...]]:
        return [one.notes for one in self.records]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own prices are read where the gateway is started."""
    monkeypatch.chdir(tmp_path)


def test_step_mode_leaves_a_step_to_a_teacher_whose_warm_cache_is_cheaper(start: Any) -> None:
    aware = Played(start, Student(0), 3, WARM, mode="step")
    assert aware.answerers == ["teacher"] * 3
    assert aware.asked == [3], "only the first step was sampled"
    assert aware.reasons == [Reason.DISAGREED, Reason.TEACHER_KEEPS, Reason.TEACHER_KEEPS]
    assert aware.notes[1][0].startswith("the teacher keeps the step: teacher $0.000")
    assert "(warm)" in aware.notes[1][0]


def test_step_mode_asks_the_student_at_each_step_where_the_price_shall_not_count(start: Any) -> None:
    blind = Played(start, Student(0), 3, WARM, mode="step", cache_aware=False)
    assert blind.answerers == ["teacher", "student", "student"]
    assert blind.asked == [3, 3, 3]


def test_the_task_gate_is_decided_at_the_first_step_and_kept(start: Any, tmp_path: Path) -> None:
    trusted = Played(start, Student(2), 4, CHEAP, mode="task")
    assert trusted.answerers == ["student"] * 4
    assert trusted.asked == [3, 1, 1, 1], "one vote for the task, then single answers"
    assert trusted.reasons == [Reason.AGREED] + [Reason.TASK_TRUSTED] * 3
    assert trusted.taught == []


def test_the_task_gate_leaves_a_task_to_the_teacher_that_the_student_is_unsure_of(start: Any) -> None:
    untrusted = Played(start, Student(0), 4, CHEAP, mode="task")
    assert untrusted.answerers == ["teacher"] * 4
    assert untrusted.asked == [3]
    assert untrusted.reasons == [Reason.DISAGREED] + [Reason.TEACHER_KEEPS] * 3


def test_sticky_gives_the_teacher_so_many_steps_and_then_asks_again(start: Any) -> None:
    cheap = Played(start, Student(1), 5, CHEAP, mode="sticky", keep_steps=2)
    assert cheap.answerers == ["student", "teacher", "teacher", "student", "student"]
    assert cheap.asked == [3, 3, 3, 3]
    assert cheap.reasons[1:3] == [Reason.DISAGREED, Reason.TEACHER_KEEPS]


def test_sticky_does_not_go_back_to_the_student_while_that_is_dearer(start: Any) -> None:
    dear = Played(start, Student(1), 5, WARM, mode="sticky", keep_steps=2)
    assert dear.answerers == ["student"] + ["teacher"] * 4
    assert dear.asked == [3, 3]
    assert any(note.startswith("the teacher keeps the step") for note in dear.notes[3])


def test_a_compact_hand_off_shows_the_teacher_goal_actions_and_the_present(start: Any) -> None:
    cold = Played(start, Student(7), 8, CHEAP, mode="compact")
    assert cold.answerers == ["student"] * 7 + ["teacher"]
    (shown,) = cold.taught
    said = json.dumps(shown.json["messages"])
    assert len(shown.json["messages"]) == 1, "no history of messages"
    assert GOAL.strip() in said
    assert 'look({\\"where\\": \\"room 6\\"})' in said.replace('\\\\\\"', '\\"')
    assert "number 6" in said
    assert "number 0" not in said
    assert shown.json["tools"], "tools stay"
    assert cold.records[7].request != shown.body


def test_a_compact_hand_off_is_in_full_where_the_teachers_cache_makes_that_cheaper(start: Any) -> None:
    """The teacher answered step 0 out of the whole conversation; step 1 adds little to what it holds."""
    warm = Played(start, Student(0, 1), 2, CHEAP, mode="compact")
    assert warm.answerers == ["teacher", "teacher"]
    assert warm.asked == [3, 3]
    assert [len(request.json["messages"]) for request in warm.taught] == [1, 3]
    assert warm.notes[1][-1].startswith("the hand-off is in full: $0.000")
