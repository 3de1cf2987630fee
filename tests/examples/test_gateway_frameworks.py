"""Agent frameworks, each with its own release pinned, through a running gateway; and OpenAI's SDK for Node."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from agents_recorded import ANTHROPIC, CHAT, EXAMPLES, ONE_BY_ONE, QUESTION, RESPONSES, GatewayTo, check, follow, shown
from scripted_teacher import ANSWER, KNOWN, Teacher

from framework_venv import CannotInstall, cache, interpreter

pytestmark = pytest.mark.full

NODE_SDK = "openai@6.49.0"


def python_of(name: str) -> Path:
    try:
        return interpreter(name)
    except CannotInstall as error:
        pytest.skip(f"requirements/examples-{name}.txt cannot be installed here: {error}")


@pytest.fixture(scope="session")
def frameworks() -> Path:
    return python_of("frameworks")


@pytest.mark.parametrize(
    ("example", "model", "dialect", "upstream", "streamed"),
    [
        ("agents_sdk.py", [], RESPONSES, RESPONSES, False),
        ("agents_sdk.py", [], RESPONSES, CHAT, False),
        ("pydantic_agent.py", [], CHAT, CHAT, False),
        ("pydantic_agent.py", ["openai-responses:gpt-6.1-sol"], RESPONSES, ANTHROPIC, False),
        ("pydantic_agent.py", ["anthropic:claude-sonnet-5-5"], ANTHROPIC, ANTHROPIC, True),
        ("langgraph_agent.py", [], RESPONSES, CHAT, False),
    ],
)
def test_an_agent_of_a_framework_is_recorded_whole(
    example: str,
    model: list[str],
    dialect: str,
    upstream: str,
    streamed: bool,
    frameworks: Path,
    gateway_to: GatewayTo,
    teacher: tuple[Teacher, str],
) -> None:
    gateway = gateway_to(upstream)
    billed = follow(gateway, teacher[0], example, *model, interpreter=frameworks)
    trajectory, exchanges = gateway.only_episode()
    check(trajectory, exchanges, billed, dialect=dialect, upstream=upstream, streamed=streamed, tools=ONE_BY_ONE)
    assert trajectory.steps[-1].action.text == ANSWER


def test_smolagents_answers_with_a_tool(frameworks: Path, gateway_to: GatewayTo, teacher: tuple[Teacher, str]) -> None:
    gateway = gateway_to(CHAT)
    billed = follow(gateway, teacher[0], "smolagents_agent.py", interpreter=frameworks)
    trajectory, exchanges = gateway.only_episode()
    tools = [*ONE_BY_ONE[:2], [("final_answer", {"answer": ANSWER})]]
    check(trajectory, exchanges, billed, dialect=CHAT, upstream=CHAT, streamed=False, tools=tools)


def test_dspy_says_which_calls_belong_together(gateway_to: GatewayTo, teacher: tuple[Teacher, str]) -> None:
    """It calls tools in words and writes each prompt anew: four calls that only the header makes one episode."""
    gateway = gateway_to(CHAT)
    billed = follow(gateway, teacher[0], "dspy_agent.py", interpreter=python_of("dspy"))
    trajectory, exchanges = gateway.only_episode()
    assert trajectory.goal == QUESTION
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
    folder = node_folder()
    shutil.copy(EXAMPLES / "openai_node.mjs", folder)
    gateway = gateway_to(CHAT)
    billed = follow(gateway, teacher[0], str(folder / "openai_node.mjs"), interpreter="node")
    trajectory, exchanges = gateway.only_episode()
    check(trajectory, exchanges, billed, dialect=CHAT, upstream=CHAT, streamed=True, tools=ONE_BY_ONE)
    assert trajectory.steps[-1].action.text == ANSWER


def node_folder() -> Path:
    """Where the SDK is installed, once; no script of a package runs."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed. Type: apt-get install nodejs npm (or brew install node)")
    folder = cache() / NODE_SDK.replace("@", "-node-")
    if not (folder / "node_modules" / "openai").exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--silent", "--ignore-scripts", "--no-fund", "--no-audit", "--prefix", str(folder)]
        done = subprocess.run([*command, NODE_SDK], capture_output=True, text=True, cwd=folder, env=dict(os.environ))
        if done.returncode != 0:
            pytest.skip(f"npm install {NODE_SDK} failed: {done.stderr[-300:]}")
    return folder
