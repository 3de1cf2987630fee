"""Recorded answers come back for the prompt that they were recorded for, and for nothing else."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import ConfigError, ModelError, UnknownName
from potstill.models.replay import ReplayModel, prompt_digest
from potstill.models.scripted import ScriptedModel
from potstill.protocols import Model
from potstill.types import (
    Action,
    Answerer,
    Call,
    ErrorRecord,
    Message,
    Observation,
    Reply,
    Request,
    Step,
    Task,
    ToolSpec,
    Trajectory,
    TrajectoryKind,
    Usage,
)


def prompt(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text),)


def recorded(text: str, *answers: str, model: str = "m", tokens: int = 10) -> Call:
    return Call(
        model=model,
        answerer=Answerer.STUDENT,
        prompt=prompt(text),
        replies=tuple(Reply(text=answer) for answer in answers),
        usage=Usage(input_tokens=tokens, output_tokens=len(answers), cache_reported=True),
        raw_usage={"prompt_tokens": tokens},
        latency_s=1.5,
    )


async def texts(model: Model, text: str, n: int = 1) -> list[str]:
    return [reply.text for reply in (await model.sample(Request(messages=prompt(text)), n)).replies]


async def test_two_samples_then_a_third_replay_as_recorded() -> None:
    model = ReplayModel([recorded("p", "a", "b"), recorded("q", "z"), recorded("p", "c")])
    assert len(model) == 4
    assert await texts(model, "p", 2) == ["a", "b"]
    assert await texts(model, "p") == ["c"]
    with pytest.raises(ModelError, match=r"3 samples .* sample 4 .*wrap=True"):
        await texts(model, "p")
    model.rewind()
    assert await texts(model, "p", 3) == ["a", "b", "c"]


async def test_wrapping_starts_over() -> None:
    model = ReplayModel([recorded("p", "a", "b")], wrap=True)
    assert await texts(model, "p", 5) == ["a", "b", "a", "b", "a"]


@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4), data=st.data())
async def test_usage_is_counted_once_however_the_samples_are_drawn(sizes: list[int], data: st.DataObject) -> None:
    calls = [recorded("p", *map(str, range(size)), tokens=10 + index) for index, size in enumerate(sizes)]
    model = ReplayModel(calls)
    left, billed, replies = sum(sizes), 0, 0
    while left:
        n = data.draw(st.integers(1, left))
        completion = await model.sample(Request(messages=prompt("p")), n)
        assert sum(len(call.replies) for call in completion.calls) == n == len(completion.replies)
        assert all(call.answerer is Answerer.NOBODY for call in completion.calls)
        billed += sum(call.usage.input_tokens for call in completion.calls if call.usage)
        left, replies = left - n, replies + n
    assert billed == sum(call.usage.input_tokens for call in calls if call.usage)


async def test_a_prompt_that_was_not_recorded_says_what_to_type() -> None:
    with pytest.raises(ModelError, match=r"no answer to this prompt .*potstill run"):
        await texts(ReplayModel([recorded("p", "a")]), "p ")


def test_tools_are_part_of_the_prompt() -> None:
    assert prompt_digest(prompt("p")) != prompt_digest(prompt("p"), (ToolSpec(name="t"),))


def test_the_model_is_named_where_several_answered() -> None:
    calls = [recorded("p", "a", model="big"), recorded("p", "b", model="small")]
    with pytest.raises(ConfigError, match="big, small"):
        ReplayModel(calls)
    with pytest.raises(UnknownName, match="Did you mean 'small'"):
        ReplayModel(calls, model="smal")
    assert len(ReplayModel(calls, model="small")) == 1


async def test_failed_calls_are_not_answers() -> None:
    failed = Call(model="m", answerer=Answerer.STUDENT, prompt=prompt("p"), error=ErrorRecord(kind="X", message="y"))
    assert await texts(ReplayModel([failed, recorded("p", "a")]), "p") == ["a"]


async def test_files_of_trajectories_and_of_calls(tmp_path: Path) -> None:
    step = Step(
        index=0,
        observation=Observation(text="o"),
        action=Action(text="a"),
        answerer=Answerer.STUDENT,
        calls=(recorded("p", "a"),),
    )
    trajectory = Trajectory(id="t", task=Task(id="1", environment="e"), kind=TrajectoryKind.STUDENT, steps=(step,))
    path = tmp_path / "episodes.jsonl"
    path.write_bytes(msgspec.json.encode(trajectory) + b"\n\n" + msgspec.json.encode(recorded("q", "b")) + b"\n")
    model = ReplayModel.from_file(path)
    assert await texts(model, "p") == ["a"]
    assert await texts(model, "q") == ["b"]


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"task": 1}', b'{"hello": "world"}', b"\xff\xfe"])
def test_a_bad_line_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(msgspec.json.encode(recorded("p", "a")) + b"\n" + line + b"\n")
    with pytest.raises(ConfigError, match=r"Line 2 of .*potstill trajectories export"):
        ReplayModel.from_file(path)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        ReplayModel.from_file(tmp_path / "none.jsonl")


# --- scripted -------------------------------------------------------------------------------------------------------


async def test_a_script_is_said_in_order_and_ends() -> None:
    model = ScriptedModel(["a", Reply(text="b"), ModelError("broken"), "c"])
    assert await texts(model, "p", 2) == ["a", "b"]
    with pytest.raises(ModelError, match="broken"):
        await texts(model, "p")
    assert await texts(model, "p") == ["c"]
    with pytest.raises(ModelError, match="used up after 3 requests"):
        await texts(model, "p")
    assert [n for _, n in model.requests] == [2, 1, 1, 1]


async def test_a_function_sees_the_request_and_the_sample() -> None:
    async def answer(request: Request, index: int) -> str:
        return f"{request.messages[0].content}{index}"

    assert await texts(ScriptedModel(answer), "p", 2) == ["p0", "p1"]
    assert await texts(ScriptedModel(lambda request, index: "same"), "p", 2) == ["same", "same"]


async def test_scripted_tokens_are_estimates() -> None:
    (call,) = (await ScriptedModel(["12345678"]).sample(Request(messages=prompt("1234")))).calls
    assert call.usage == Usage(input_tokens=5, output_tokens=2, estimated=True)
