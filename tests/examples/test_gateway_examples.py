"""Every example of ``examples/gateway`` through a running gateway: what it prints, and what was recorded of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from agents_recorded import (
    ANTHROPIC,
    AT_ONCE,
    CHAT,
    EXAMPLES,
    ONE_BY_ONE,
    RESPONSES,
    GatewayTo,
    called,
    check,
    follow,
)
from scripted_teacher import ANSWER, Teacher

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


@pytest.mark.parametrize("name", SDKS)
def test_an_agent_on_an_official_sdk_is_recorded_whole(
    name: str, gateway_to: GatewayTo, teacher: tuple[Teacher, str]
) -> None:
    dialect, streamed, tools = SDKS[name]
    gateway = gateway_to(dialect)
    billed = follow(gateway, teacher[0], name)
    trajectory, exchanges = gateway.only_episode()
    check(trajectory, exchanges, billed, dialect=dialect, upstream=dialect, streamed=streamed, tools=tools)
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
    billed = follow(gateway, teacher[0], name)
    trajectory, exchanges = gateway.only_episode()
    check(trajectory, exchanges, billed, dialect=dialect, upstream=upstream, streamed=streamed, tools=tools)
    assert trajectory.steps[-1].action.text == ANSWER


def test_curl_names_its_episode_and_tells_its_outcome(gateway_to: GatewayTo, teacher: tuple[Teacher, str]) -> None:
    gateway = gateway_to(CHAT)
    billed = follow(gateway, teacher[0], "curl.sh", gateway.url)
    trajectory, exchanges = gateway.only_episode()
    assert called(trajectory) == ONE_BY_ONE
    assert trajectory.goal == "Find the warmer city"
    assert trajectory.outcome is not None
    assert trajectory.outcome.success is True
    assert {exchange.episode_id[:5] for exchange in exchanges} == {"curl-"}
    usage = [call.usage for step in trajectory.steps for call in step.calls]
    assert [(one.input_tokens, one.output_tokens) for one in usage if one] == billed


def test_all_examples_are_short() -> None:
    long = {path.name: lines for path in EXAMPLES.iterdir() if (lines := len(path.read_text().splitlines())) > 40}
    assert long == {}


def test_all_examples_are_run() -> None:
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_gateway_*.py"))
    assert [path.name for path in EXAMPLES.iterdir() if f'"{path.name}"' not in tests] == []
