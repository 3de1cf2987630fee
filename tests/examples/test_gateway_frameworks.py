"""Agent frameworks, each with its own release pinned, through a running gateway; and OpenAI's SDK for Node."""

from __future__ import annotations

import pytest
from agents_recorded import ANTHROPIC, CHAT, ONE_BY_ONE, QUESTION, RESPONSES, GatewayTo, check, follow, shown
from scripted_teacher import ANSWER, KNOWN, Teacher

pytestmark = pytest.mark.full


@pytest.mark.parametrize(
    ("example", "model", "dialect", "upstream", "streamed"),
    [
        ("agents_sdk.py", [], RESPONSES, RESPONSES, False),
        ("agents_sdk.py", [], RESPONSES, CHAT, False),
        ("agents_sdk_stream.py", [], RESPONSES, RESPONSES, True),
        ("pydantic_agent.py", [], CHAT, CHAT, False),
        ("pydantic_agent.py", ["openai-responses:gpt-6.1-sol"], RESPONSES, ANTHROPIC, False),
        ("pydantic_agent.py", ["anthropic:claude-sonnet-5-5"], ANTHROPIC, ANTHROPIC, True),
        ("pydantic_stream.py", [], CHAT, CHAT, True),
        ("pydantic_stream.py", ["anthropic:claude-sonnet-5-5"], ANTHROPIC, CHAT, True),
        ("langgraph_agent.py", [], RESPONSES, CHAT, False),
        ("langgraph_stream.py", [], RESPONSES, RESPONSES, True),
    ],
)
def test_an_agent_of_a_framework_is_recorded_whole(
    example: str,
    model: list[str],
    dialect: str,
    upstream: str,
    streamed: bool,
    gateway_to: GatewayTo,
    teacher: tuple[Teacher, str],
) -> None:
    gateway = gateway_to(upstream)
    billed = follow(gateway, teacher[0], example, *model)
    trajectory, exchanges = gateway.only_episode()
    check(trajectory, exchanges, billed, dialect=dialect, upstream=upstream, streamed=streamed, tools=ONE_BY_ONE)
    assert trajectory.steps[-1].action.text == ANSWER


@pytest.mark.parametrize(("example", "streamed"), [("smolagents_agent.py", False), ("smolagents_stream.py", True)])
def test_smolagents_answers_with_a_tool(
    example: str, streamed: bool, gateway_to: GatewayTo, teacher: tuple[Teacher, str]
) -> None:
    gateway = gateway_to(CHAT)
    billed = follow(gateway, teacher[0], example)
    trajectory, exchanges = gateway.only_episode()
    tools = [*ONE_BY_ONE[:2], [("final_answer", {"answer": ANSWER})]]
    check(trajectory, exchanges, billed, dialect=CHAT, upstream=CHAT, streamed=streamed, tools=tools)
    assert {exchange.episode_id[:11] for exchange in exchanges} == {"smolagents-"}


@pytest.mark.parametrize(("example", "streamed"), [("dspy_agent.py", False), ("dspy_stream.py", True)])
def test_dspy_says_which_calls_belong_together(
    example: str, streamed: bool, gateway_to: GatewayTo, teacher: tuple[Teacher, str]
) -> None:
    """It calls tools in words and writes each prompt anew: four calls that only the header makes one episode."""
    gateway = gateway_to(CHAT)
    billed = follow(gateway, teacher[0], example)
    trajectory, exchanges = gateway.only_episode()
    assert trajectory.goal == QUESTION
    assert [exchange.streamed for exchange in exchanges] == [False, False, False, streamed]
    assert [call.usage.input_tokens for s in trajectory.steps for call in s.calls if call.usage] == [
        n for n, _ in billed
    ]
    said = [step.action.text for step in trajectory.steps]
    assert ['{"city": "Oslo"}' in said[0], '{"city": "Rome"}' in said[1], "finish" in said[2], ANSWER in said[3]] == (
        [True] * 4
    )
    assert KNOWN.findall(shown(trajectory.steps[2])) == [("Oslo", "7"), ("Rome", "18")]
    assert {exchange.episode_id[:5] for exchange in exchanges} == {"dspy-"}


def test_the_sdk_for_node_streams(gateway_to: GatewayTo, teacher: tuple[Teacher, str]) -> None:
    gateway = gateway_to(CHAT)
    billed = follow(gateway, teacher[0], "openai_node.mjs")
    trajectory, exchanges = gateway.only_episode()
    check(trajectory, exchanges, billed, dialect=CHAT, upstream=CHAT, streamed=True, tools=ONE_BY_ONE)
    assert trajectory.steps[-1].action.text == ANSWER
