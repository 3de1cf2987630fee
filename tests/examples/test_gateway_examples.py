"""Every example of ``examples/gateway`` through a running gateway: what it prints, and what was recorded of it."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scripted_teacher import ANSWER, CACHED, Teacher

from potstill.trajectories.exchange import Exchange
from potstill.types import Answerer, Trajectory

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "gateway"
GatewayTo = Callable[[str], Any]
CHAT, RESPONSES, ANTHROPIC = "openai-chat", "openai-responses", "anthropic"
QUESTION = "Which is warmer now, Oslo or Rome?"
OSLO, ROME = ("temperature", {"city": "Oslo"}), ("temperature", {"city": "Rome"})
ONE_BY_ONE = [[OSLO], [ROME], []]
AT_ONCE = [[OSLO, ROME], []]
SEEN = ["Oslo: 7", "Rome: 18"]
SDKS = {
    "openai_sdk.py": (CHAT, False, ONE_BY_ONE),
    "openai_async.py": (CHAT, False, AT_ONCE),
    "openai_stream.py": (CHAT, True, ONE_BY_ONE),
    "openai_responses.py": (RESPONSES, False, ONE_BY_ONE),
    "openai_responses_stream.py": (RESPONSES, True, ONE_BY_ONE),
    "anthropic_sdk.py": (ANTHROPIC, False, ONE_BY_ONE),
    "anthropic_async.py": (ANTHROPIC, False, AT_ONCE),
    "anthropic_stream.py": (ANTHROPIC, True, ONE_BY_ONE),
}
"""Dialect, whether it streams, and the tools that each step calls."""


def called(trajectory: Trajectory) -> list[list[tuple[str, Any]]]:
    return [[(call.name, json.loads(call.arguments)) for call in step.action.tool_calls] for step in trajectory.steps]


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
    assert trajectory.goal.startswith(QUESTION)
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
    assert [result.text for step in trajectory.steps for result in step.observation.tool_results] == SEEN


def follow(name: str, gateway: Any, script: Teacher, interpreter: str = sys.executable) -> list[tuple[int, int]]:
    """Run an example; it must print the answer. Returns what the teacher billed for it."""
    gateway.episodes()
    before = len(script.billed)
    assert gateway.run(interpreter, str(EXAMPLES / name)).endswith(ANSWER)
    return script.billed[before:]


@pytest.mark.parametrize("name", SDKS)
def test_an_agent_on_an_official_sdk_is_recorded_whole(
    name: str, gateway_to: GatewayTo, teacher: tuple[Teacher, str]
) -> None:
    dialect, streamed, tools = SDKS[name]
    gateway = gateway_to(dialect)
    billed = follow(name, gateway, teacher[0])
    trajectory, exchanges = gateway.only_episode()
    check(
        trajectory,
        exchanges,
        billed,
        dialect=dialect,
        upstream=dialect,
        streamed=streamed,
        tools=tools,
    )
    assert trajectory.steps[-1].action.text == ANSWER


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "upstream"),
    [
        ("openai_stream.py", ANTHROPIC),
        ("openai_async.py", RESPONSES),
        ("openai_responses_stream.py", CHAT),
        ("openai_responses.py", ANTHROPIC),
        ("anthropic_stream.py", CHAT),
        ("anthropic_async.py", RESPONSES),
        ("anthropic_stream.py", RESPONSES),
    ],
)
def test_an_agent_on_an_official_sdk_reaches_a_model_of_another_dialect(
    name: str, upstream: str, gateway_to: GatewayTo, teacher: tuple[Teacher, str]
) -> None:
    dialect, streamed, tools = SDKS[name]
    gateway = gateway_to(upstream)
    billed = follow(name, gateway, teacher[0])
    trajectory, exchanges = gateway.only_episode()
    check(trajectory, exchanges, billed, dialect=dialect, upstream=upstream, streamed=streamed, tools=tools)
    assert trajectory.steps[-1].action.text == ANSWER


def test_curl_names_its_episode_and_tells_its_outcome(gateway_to: GatewayTo, teacher: tuple[Teacher, str]) -> None:
    for program in ("curl", "jq"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed. Type: apt-get install {program} (or brew install {program})")
    gateway = gateway_to(CHAT)
    gateway.episodes()
    before = len(teacher[0].billed)
    assert gateway.run("sh", str(EXAMPLES / "curl.sh"), gateway.url) == ANSWER
    trajectory, exchanges = gateway.only_episode()
    assert called(trajectory) == ONE_BY_ONE
    assert trajectory.goal == "Find the warmer city"
    assert trajectory.outcome is not None
    assert trajectory.outcome.success is True
    assert {exchange.episode_id[:5] for exchange in exchanges} == {"curl-"}
    usage = [call.usage for step in trajectory.steps for call in step.calls]
    assert [(one.input_tokens, one.output_tokens) for one in usage if one] == teacher[0].billed[before:]


def test_all_examples_are_short(repository: Path) -> None:
    long = {path.name: lines for path in EXAMPLES.iterdir() if (lines := len(path.read_text().splitlines())) > 40}
    assert long == {}
