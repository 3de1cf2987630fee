"""potstill's own trajectories, as they lie in a store and as lines of its export."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.logs.conversation import told
from potstill.logs.formats.trajectory import attempt_of
from potstill.logs.reader import read
from potstill.logs.records import Attempt
from potstill.trajectories.jsonl import encode_line
from potstill.types import (
    Action,
    Answerer,
    Call,
    ErrorRecord,
    Message,
    Observation,
    Outcome,
    Reply,
    Step,
    Task,
    ToolSpec,
    Trajectory,
    TrajectoryKind,
    Usage,
)

TOOLS = (ToolSpec(name="go", description="move", parameters={"type": "object"}),)


def asked(*texts: str) -> tuple[Message, ...]:
    return tuple(
        Message(role=("user" if number % 2 == 0 else "assistant"), content=text) for number, text in enumerate(texts)
    )


def call(prompt: tuple[Message, ...], answer: str, answerer: Answerer, usage: Usage | None) -> Call:
    name = "big" if answerer is Answerer.TEACHER else "small"
    return Call(
        model=name,
        answerer=answerer,
        prompt=prompt,
        tools=TOOLS,
        replies=(Reply(text=answer),),
        usage=usage,
        started_at=100.0,
        latency_s=2.0,
        request_id="r1",
    )


def trajectory(usage: Usage | None, **changes: object) -> Trajectory:
    first = call(asked("look"), "go north", Answerer.STUDENT, usage)
    second = call(asked("look", "go north", "a wall"), "go south", Answerer.TEACHER, usage)
    steps = tuple(
        Step(index=number, observation=Observation(), action=Action(), answerer=each.answerer, calls=(each,))
        for number, each in enumerate((first, second))
    )
    fields: dict[str, object] = {
        "id": "ep-1",
        "task": Task(id="t-1", environment="maze"),
        "kind": TrajectoryKind.CASCADE,
        "arm": "cascade",
        "run_id": "run-1",
        "seed": 3,
        "teacher": "big",
        "student": "small",
        "steps": steps,
        "outcome": Outcome(success=True),
        "started_at": 100.0,
        "duration_s": 5.0,
        **changes,
    }
    return Trajectory(**fields)  # type: ignore[arg-type]


USAGE = Usage(input_tokens=50, cache_read_tokens=20, output_tokens=4, cache_reported=True)


def test_an_attempt_with_every_call() -> None:
    found = attempt_of(trajectory(USAGE))
    assert (found.task_id, found.model, found.run, found.episode_id) == ("t-1", "small+big", "run-1/cascade", "ep-1")
    assert (found.success, found.sample, found.error, found.latency_s) == (True, 3, None, 5.0)
    assert (found.input_tokens, found.cached_input_tokens, found.output_tokens) == (100, 40, 8)
    assert found.cost_usd is None, "trajectories hold no dollars"
    first, second = found.calls
    assert [each.model for each in found.calls] == ["small", "big"]
    assert (first.roles, second.roles) == ("u", "uau")
    assert first.after == second.prefixes[1]
    assert first.tools == second.tools != (0, 0)


prompts = st.lists(
    st.tuples(st.sampled_from(["student", "teacher"]), st.lists(st.sampled_from("abc"), max_size=5)), max_size=8
)


@given(prompts)
def test_prompts_hash_as_if_each_stood_alone(said: list[tuple[str, list[str]]]) -> None:
    """However prompts grow, branch off or start anew, what is told of a call does not depend on those before it."""
    calls = [call(asked(*texts), "go", Answerer(who), None) for who, texts in said]
    steps = (Step(index=0, observation=Observation(), action=Action(), answerer=Answerer.TEACHER, calls=tuple(calls)),)
    for found, (_, texts) in zip(attempt_of(trajectory(None, steps=steps)).calls, said, strict=True):
        messages = [msgspec.to_builtins(message) for message in asked(*texts)]
        tools = [msgspec.to_builtins(tool) for tool in TOOLS]
        alone = told(messages, {"role": "assistant", "content": "go"}, tools=tools)
        assert {name: getattr(found, name) for name in alone._fields} == alone._asdict()


def test_unknown_tokens_stay_unknown() -> None:
    assert attempt_of(trajectory(None)).input_tokens is None


@pytest.mark.parametrize(("kind", "model"), [(TrajectoryKind.TEACHER, "big"), (TrajectoryKind.STUDENT, "small")])
def test_who_acted_alone(kind: TrajectoryKind, model: str) -> None:
    assert attempt_of(trajectory(USAGE, kind=kind)).model == model


def test_a_broken_episode() -> None:
    found = attempt_of(trajectory(USAGE, error=ErrorRecord(kind="EnvCrashed", message="gone"), outcome=None))
    assert (found.success, found.error) == (None, "EnvCrashed: gone")


def test_lines_give_what_the_store_gives(tmp_path: Path) -> None:
    path = tmp_path / "export.jsonl"
    whole = trajectory(USAGE)
    path.write_bytes(encode_line(whole) * 2)
    reading = read([path])
    found = list(reading)
    assert reading.files[0].format == "potstill-trajectory"
    assert [record.source.line for record in found] == [1, 2]
    assert found[1] == attempt_of(whole, found[1].source)
    assert isinstance(found[1], Attempt)


def test_damaged_lines_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "export.jsonl"
    good = encode_line(trajectory(USAGE))
    newer = good.replace(b'"version":1', b'"version":999')
    lost = good.replace(b'"refs":[[0,0,', b'"refs":[[7,0,')
    assert newer != good
    assert lost != good
    path.write_bytes(good + newer + lost)
    reading = read([path])
    assert len(list(reading)) == 1
    assert [(skipped.reason, skipped.lines) for skipped in reading.files[0].skipped] == [
        ("unknown version", (2,)),
        ("damaged trajectory", (3,)),
    ]
