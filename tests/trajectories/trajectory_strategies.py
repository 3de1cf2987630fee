"""Arbitrary trajectories for the property tests of the store (hypothesis)."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from potstill.types import (
    Action,
    Answerer,
    Blob,
    Call,
    Decision,
    DemonstrationRef,
    EscalationMode,
    FinishReason,
    Message,
    Observation,
    Outcome,
    OutcomeSource,
    Reason,
    Reply,
    Step,
    Task,
    ToolCall,
    ToolSpec,
    Trajectory,
    TrajectoryKind,
    Usage,
    Vote,
)

text = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
number = st.floats(allow_nan=False, allow_infinity=False)
json_value: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | number | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)
json_object = st.dictionaries(text, json_value, max_size=3)


def tuples(of: st.SearchStrategy[Any], max_size: int = 3) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(of, max_size=max_size).map(tuple)


blobs = st.builds(
    Blob, digest=st.text("0123456789abcdef", min_size=64, max_size=64), media_type=text, size_bytes=st.integers(0, 9)
)
tool_specs = st.builds(ToolSpec, name=text, description=text, parameters=json_object)
tool_calls = st.builds(ToolCall, id=text, name=text, arguments=text)
messages = st.builds(
    Message,
    role=st.sampled_from(["system", "user", "assistant", "tool"]),
    content=text,
    tool_calls=tuples(tool_calls, 2),
    tool_call_id=st.none() | text,
    images=tuples(blobs, 1),
)
usages = st.builds(
    lambda uncached, read, write, output: Usage(
        input_tokens=uncached + read + write, cache_read_tokens=read, cache_write_tokens=write, output_tokens=output
    ),
    *[st.integers(0, 10**6)] * 4,
)
replies = st.builds(
    Reply,
    text=text,
    tool_calls=tuples(tool_calls, 1),
    finish_reason=st.sampled_from(FinishReason),
    logprob=st.none() | number,
    candidates=tuples(st.tuples(text, number), 2),
)
calls = st.builds(
    Call,
    model=text,
    answerer=st.sampled_from(Answerer),
    prompt=tuples(messages, 4),
    tools=tuples(tool_specs, 2),
    replies=tuples(replies, 2),
    usage=st.none() | usages,
    raw_usage=st.none() | json_object,
    latency_s=number,
)
observations = st.builds(
    Observation,
    text=text,
    admissible=st.none() | tuples(text),
    tools=tuples(tool_specs, 2),
    images=tuples(blobs, 1),
    done=st.booleans(),
)
decisions = st.builds(
    Decision,
    answerer=st.sampled_from(Answerer),
    reason=st.sampled_from(Reason),
    mode=st.none() | st.sampled_from(EscalationMode),
    votes=tuples(st.builds(Vote, key=st.none() | text, text=text)),
)
steps = st.builds(
    Step,
    index=st.integers(0, 50),
    observation=observations,
    action=st.builds(Action, text=text, tool_calls=tuples(tool_calls, 1)),
    answerer=st.sampled_from(Answerer),
    reasoning=text,
    decision=st.none() | decisions,
    calls=tuples(calls),
    demonstrations=tuples(st.builds(DemonstrationRef, trajectory_id=text, start=st.just(0), stop=st.integers(1, 5)), 2),
)
outcomes = st.builds(
    Outcome, success=st.none() | st.booleans(), source=st.sampled_from(OutcomeSource), score=st.none() | number
)
tasks = st.builds(Task, id=text, environment=text, goal=text, split=text, kind=text, data=json_object)
trajectories = st.builds(
    Trajectory,
    id=text,
    task=tasks,
    kind=st.sampled_from(TrajectoryKind),
    arm=text,
    run_id=text,
    namespace=text,
    seed=st.integers(-(2**63), 2**63 - 1),
    steps=tuples(steps, 4),
    final_observation=st.none() | observations,
    outcome=st.none() | outcomes,
    started_at=number,
    metadata=json_object,
)
