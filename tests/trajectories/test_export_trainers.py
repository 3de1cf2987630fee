"""Conversations for ms-swift, LLaMA-Factory and verl: what their published formats say, and what these cannot say."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from potstill.trajectories.export import export
from potstill.types import (
    Action,
    Answerer,
    Blob,
    Call,
    Message,
    Observation,
    Outcome,
    Step,
    Task,
    ToolCall,
    ToolResult,
    ToolSpec,
    Trajectory,
    TrajectoryKind,
)

LOOK = ToolSpec(name="look", description="Look.", parameters={"type": "object", "properties": {"city": {}}})
SYSTEM = Call(model="m", answerer=Answerer.TEACHER, prompt=(Message(role="system", content="Be brief."),))


def step(index: int, action: str | Action, by: Answerer = Answerer.TEACHER, **fields: Any) -> Step:
    done = Action(text=action) if isinstance(action, str) else action
    seen = Observation(text=f"place {index}")
    return Step(**{"index": index, "observation": seen, "action": done, "answerer": by, "calls": (SYSTEM,), **fields})


def episode(*steps: Step) -> Trajectory:
    task = Task(id="t", environment="e", goal="get out")
    return Trajectory(
        id="a", task=task, kind=TrajectoryKind.TEACHER, steps=steps, outcome=Outcome(success=True), teacher="m"
    )


PLAIN = episode(step(0, "north"), step(1, "look", reasoning="It is dark."))
MIXED = episode(step(0, "north"), step(1, "south", Answerer.STUDENT), step(2, "look"))


def tools(text: str = "") -> Trajectory:
    """Two calls at once, their results, an answer."""
    calls = (ToolCall(id="a", name="look", arguments='{"city": "Oslo"}'), ToolCall(id="b", name="look"))
    results = (ToolResult(call_id="b", text="18"), ToolResult(call_id="a", text="7"))
    asked = Observation(text="Which is warmer?", tools=(LOOK,))
    return episode(
        step(0, Action(text=text, tool_calls=calls), observation=asked),
        step(1, "Rome.", observation=Observation(text="", tool_results=results)),
    )


def exported(format: str, one: Trajectory, **options: Any) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows, and why others are not there."""
    target, left_out = io.BytesIO(), Counter[str]()
    export([one], target, format, left_out=left_out, **options)
    return [json.loads(line) for line in target.getvalue().splitlines()], list(left_out)


# --- ms-swift ---------------------------------------------------------------------------------------------------------


def test_ms_swift_says_of_each_answer_whether_it_is_learnt() -> None:
    ((row,), _) = exported("ms-swift", MIXED, answerers={Answerer.TEACHER})
    assert row == {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "get out\n\nplace 0"},
            {"role": "assistant", "content": "north", "loss": True},
            {"role": "user", "content": "place 1"},
            {"role": "assistant", "content": "south", "loss": False},
            {"role": "user", "content": "place 2"},
            {"role": "assistant", "content": "look", "loss": True},
        ]
    }


def test_ms_swift_has_calls_of_tools_as_messages_in_the_order_of_their_results() -> None:
    ((row,), _) = exported("ms-swift", tools("Let me see."))
    told = [(message["role"], message["content"]) for message in row["messages"][1:]]
    assert told == [
        ("user", "get out\n\nWhich is warmer?"),
        ("assistant", "Let me see."),
        ("tool_call", '{"name":"look","arguments":{"city":"Oslo"}}'),
        ("tool_call", '{"name":"look","arguments":{}}'),
        ("tool_response", "7"),
        ("tool_response", "18"),
        ("assistant", "Rome."),
    ]
    assert all(message["loss"] for message in row["messages"] if message["role"] in ("assistant", "tool_call"))
    assert json.loads(row["tools"]) == [{"type": "function", "function": msgspec.to_builtins(LOOK)}]


# --- LLaMA-Factory ----------------------------------------------------------------------------------------------------


def check_turns(row: dict[str, Any]) -> None:
    """The rules of data/README.md: humans and observations at odd places, the model at even ones, an answer last."""
    asks, answers = {"human", "observation"}, {"gpt", "function_call"}
    assert set(row) <= {"conversations", "system", "tools"}
    for at, turn in enumerate(row["conversations"]):
        assert turn["from"] in (answers if at % 2 else asks)
        assert isinstance(turn["value"], str)
    assert len(row["conversations"]) % 2 == 0
    json.loads(row.get("tools", "[]"))


def test_llama_factory_takes_turns_and_keeps_the_system_apart() -> None:
    ((row,), _) = exported("llama-factory", PLAIN, reasoning=True)
    check_turns(row)
    assert row["system"] == "Be brief."
    assert [turn["value"] for turn in row["conversations"]] == [
        "get out\n\nplace 0",
        "north",
        "place 1",
        "reasoning: It is dark.\naction: look",
    ]


def test_llama_factory_has_results_of_calls_that_were_made_at_once_as_one_observation() -> None:
    ((row,), _) = exported("llama-factory", tools())
    check_turns(row)
    assert [turn["from"] for turn in row["conversations"]] == ["human", "function_call", "observation", "gpt"]
    assert json.loads(row["conversations"][1]["value"])[0] == {"name": "look", "arguments": {"city": "Oslo"}}
    assert row["conversations"][2]["value"] == "7\n\n18"
    assert json.loads(row["tools"]) == [msgspec.to_builtins(LOOK)]


# --- verl -------------------------------------------------------------------------------------------------------------


def test_verl_is_parquet_with_messages_alone() -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    target = io.BytesIO()
    assert export([PLAIN], target, "verl") == 1
    target.seek(0)
    (row,) = parquet.read_table(target).to_pylist()
    assert [(one["role"], one["content"]) for one in row.pop("messages")] == [
        ("system", "Be brief."),
        ("user", "get out\n\nplace 0"),
        ("assistant", "north"),
        ("user", "place 1"),
        ("assistant", "look"),
    ]
    assert row == {}


# --- what cannot be said ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "one", "reason"),
    [
        ("llama-factory", MIXED, "others answered too"),
        ("verl", MIXED, "others answered too"),
        ("llama-factory", tools("Let me see."), "a text stands beside a call"),
        ("verl", tools(), "tools were called"),
        (
            "ms-swift",
            episode(
                step(
                    0,
                    "north",
                    observation=Observation(
                        text="see", images=(Blob(digest="0" * 64, media_type="image/png", size_bytes=1),)
                    ),
                )
            ),
            "it holds images",
        ),
    ],
)
def test_what_a_format_cannot_say_is_left_out_and_counted(format: str, one: Trajectory, reason: str) -> None:
    if format == "verl":
        pytest.importorskip("pyarrow")
    left_out = Counter[str]()
    count = export([one], io.BytesIO(), format, answerers={Answerer.TEACHER}, left_out=left_out)
    assert (count, [reason in why for why in left_out]) == (0, [True])


@pytest.mark.extra
@pytest.mark.parametrize("format", ["ms-swift", "llama-factory", "verl", "trl"])
def test_datasets_loads_what_was_written(format: str, tmp_path: Path) -> None:
    """As each of these trainers reads its file."""
    datasets = pytest.importorskip("datasets")
    file = tmp_path / "rows"
    with file.open("wb") as target:
        export([PLAIN, PLAIN], target, format)
    kind = "parquet" if format == "verl" else "json"
    loaded = datasets.load_dataset(kind, data_files=str(file), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(loaded) == 2
    said = loaded[0].get("messages") or loaded[0]["conversations"]
    assert said[-1].get("content", said[-1].get("value")) == "look"
