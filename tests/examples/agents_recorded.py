"""What every example's record must say, whatever framework it is written with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from interpreters import command
from scripted_teacher import ANSWER, CACHED, KNOWN, Teacher

from potstill.trajectories.exchange import Exchange
from potstill.types import Answerer, Step, Trajectory

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "gateway"
GatewayTo = Callable[[str], Any]
CHAT, RESPONSES, ANTHROPIC = "openai-chat", "openai-responses", "anthropic"
QUESTION = "Which is warmer now, Oslo or Rome?"
OSLO, ROME = ("temperature", {"city": "Oslo"}), ("temperature", {"city": "Rome"})
ONE_BY_ONE = [[OSLO], [ROME], []]
AT_ONCE = [[OSLO, ROME], []]
SEEN = [("Oslo", "7"), ("Rome", "18")]


def called(trajectory: Trajectory) -> list[list[tuple[str, Any]]]:
    return [[(call.name, json.loads(call.arguments)) for call in step.action.tool_calls] for step in trajectory.steps]


def shown(step: Step) -> str:
    """Results of tools, also where a framework tells them as a user's words."""
    return " ".join([step.observation.text, *(result.text for result in step.observation.tool_results)])


def check(
    trajectory: Trajectory,
    exchanges: list[Exchange],
    billed: list[tuple[int, int]],
    *,
    dialect: str,
    upstream: str,
    streamed: bool,
    tools: list[list[tuple[str, Any]]],
) -> None:
    """The record says what happened: every step, who answered it, which tools it called, and what it cost."""
    assert called(trajectory) == tools
    assert [(one.dialect, one.streamed, one.complete, one.status) for one in exchanges] == (
        [(dialect, streamed, True, 200)] * len(tools)
    )
    assert trajectory.metadata["dialects"] == [dialect]
    assert QUESTION in trajectory.goal
    assert trajectory.error is None
    assert (trajectory.teacher, trajectory.student) == ("big-1", None)
    calls = []
    for step in trajectory.steps:
        assert (step.answerer, step.error) == (Answerer.TEACHER, None)
        calls += step.calls
    assert [call.dialect for exchange in exchanges for call in exchange.calls] == [upstream] * len(tools)
    assert [(c.usage.input_tokens, c.usage.output_tokens) for c in calls if c.usage is not None] == billed
    assert {call.usage.cache_read_tokens for call in calls if call.usage is not None} == {CACHED}
    assert [spec.name for spec in calls[0].tools][:1] == ["temperature"]
    assert [told for step in trajectory.steps for told in KNOWN.findall(shown(step))] == SEEN


def follow(gateway: Any, script: Teacher, name: str, *arguments: str) -> list[tuple[int, int]]:
    """Run an example; it must print the answer at the end. Returns what the teacher billed for it."""
    gateway.episodes()
    before = len(script.billed)
    assert gateway.run(*command(EXAMPLES / name, *arguments)).endswith(ANSWER)
    return script.billed[before:]
