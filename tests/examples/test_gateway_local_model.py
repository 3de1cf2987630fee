"""The examples through a running gateway to a real model on a real llama.cpp server.

A model of 135 million parameters calls the tool and errs about the rest, so nothing here depends on what it says: the
record must agree with what the example printed, with what its tools answered, and with the tokens that llama.cpp itself
counted. Agents whose prompts are too much for it (smolagents, dspy) may fail; what they asked is recorded all the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from agents_recorded import ANTHROPIC, CHAT, EXAMPLES, QUESTION, RESPONSES, called
from interpreters import command
from local_model import LocalModel, Spent

from potstill.trajectories.exchange import Exchange
from potstill.types import Answerer, Trajectory

pytestmark = [pytest.mark.llm, pytest.mark.slow]
full = pytest.mark.full
DEGREES = {"Oslo": 7, "Rome": 18}


def record_of(
    gateway: Any, model: LocalModel, example: str, *arguments: str, may_fail: bool = False
) -> tuple[str, Trajectory, list[Exchange]]:
    """Run an example. What it printed, and its only episode, whose tokens are those that the model's server counted."""
    gateway.episodes()
    before = model.spent()
    printed = gateway.run(*command(EXAMPLES / example, *arguments), may_fail=may_fail)
    trajectory, exchanges = gateway.only_episode()
    usage = [call.usage for step in trajectory.steps for call in step.calls if call.usage is not None]
    assert len(usage) == len(trajectory.steps) == len(exchanges) > 0
    cached = sum(one.cache_read_tokens for one in usage)
    told = Spent(sum(one.input_tokens for one in usage) - cached, cached, sum(one.output_tokens for one in usage))
    assert told == model.spent() - before
    return printed, trajectory, exchanges


def check_steps(trajectory: Trajectory, exchanges: list[Exchange], *, dialect: str, upstream: str) -> None:
    assert {(one.dialect, one.complete, one.status) for one in exchanges} == {(dialect, True, 200)}
    assert {(call.dialect, call.model) for one in exchanges for call in one.calls} == {(upstream, "smollm2")}
    assert {(step.answerer, step.error) for step in trajectory.steps} == {(Answerer.TEACHER, None)}
    assert (trajectory.teacher, trajectory.student, trajectory.error) == ("smollm2", None, None)
    assert QUESTION in trajectory.goal


def check_tools(trajectory: Trajectory) -> None:
    """The first step calls the tool, except where that is asked for in words that the model's template does not show;
    each step shows what the tools of the one before it answered."""
    calls = called(trajectory)
    assert calls[0] or "at once" in trajectory.goal
    assert {name for step in calls for name, _ in step} <= {"temperature"}
    for asked, step in zip(calls, trajectory.steps[1:], strict=False):
        told = [f"{arguments['city']}: {DEGREES.get(arguments['city'], 'unknown')}" for _, arguments in asked]
        assert [result.text for result in step.observation.tool_results] == told


@pytest.mark.parametrize(
    ("example", "arguments", "dialect", "upstream"),
    [
        ("openai_sdk.py", [], CHAT, CHAT),
        ("anthropic_stream.py", [], ANTHROPIC, CHAT),
        pytest.param("openai_stream.py", [], CHAT, CHAT, marks=full),
        pytest.param("openai_async.py", [], CHAT, CHAT, marks=full),
        pytest.param("openai_responses.py", [], RESPONSES, RESPONSES, marks=full),
        pytest.param("openai_responses_stream.py", [], RESPONSES, CHAT, marks=full),
        pytest.param("anthropic_sdk.py", [], ANTHROPIC, ANTHROPIC, marks=full),
        pytest.param("anthropic_async.py", [], ANTHROPIC, RESPONSES, marks=full),
        pytest.param("anthropic_stream.py", [], ANTHROPIC, ANTHROPIC, marks=full),
        pytest.param("openai_node.mjs", [], CHAT, CHAT, marks=full),
        pytest.param("agents_sdk.py", [], RESPONSES, CHAT, marks=full),
        pytest.param("agents_sdk.py", [], RESPONSES, RESPONSES, marks=full),
        pytest.param("agents_sdk_stream.py", [], RESPONSES, CHAT, marks=full),
        pytest.param("pydantic_agent.py", [], CHAT, CHAT, marks=full),
        pytest.param("pydantic_agent.py", ["anthropic:claude-sonnet-5-5"], ANTHROPIC, CHAT, marks=full),
        pytest.param("pydantic_stream.py", [], CHAT, CHAT, marks=full),
        pytest.param("langgraph_agent.py", [], RESPONSES, CHAT, marks=full),
        pytest.param("langgraph_stream.py", [], RESPONSES, CHAT, marks=full),
    ],
)
def test_an_agent_runs_on_a_real_model(
    example: str,
    arguments: list[str],
    dialect: str,
    upstream: str,
    gateway_to_local: Callable[[str], Any],
    local_model: LocalModel,
) -> None:
    gateway = gateway_to_local(upstream)
    printed, trajectory, exchanges = record_of(gateway, local_model, example, *arguments)
    check_steps(trajectory, exchanges, dialect=dialect, upstream=upstream)
    check_tools(trajectory)
    last = trajectory.steps[-1].action
    assert last.tool_calls or printed.endswith(last.text.strip())


@full
def test_curl_asks_a_real_model(gateway_to_local: Callable[[str], Any], local_model: LocalModel) -> None:
    gateway = gateway_to_local(CHAT)
    printed, trajectory, _ = record_of(gateway, local_model, "curl.sh", gateway.url)
    check_tools(trajectory)
    assert trajectory.outcome is not None
    assert (trajectory.outcome.success, trajectory.goal) == (True, "Find the warmer city")
    assert printed.endswith(trajectory.steps[-1].action.text.strip())


@full
@pytest.mark.parametrize("example", ["smolagents_agent.py", "dspy_agent.py"])
def test_what_a_struggling_agent_asked_a_real_model_is_recorded(
    example: str, gateway_to_local: Callable[[str], Any], local_model: LocalModel
) -> None:
    gateway = gateway_to_local(CHAT)
    _, trajectory, exchanges = record_of(gateway, local_model, example, may_fail=True)
    check_steps(trajectory, exchanges, dialect=CHAT, upstream=CHAT)
    assert re.match("dspy-|smolagents-", exchanges[0].episode_id)
    assert all(isinstance(json.loads(call.arguments), dict) for s in trajectory.steps for call in s.action.tool_calls)
