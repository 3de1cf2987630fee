"""Pairs of a better and a worse answer: the same prefix to the last word, or no pair."""

from __future__ import annotations

import io
import json
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.errors import ConfigError
from potstill.run.arms import Reasoning
from potstill.run.prompt import split_reply
from potstill.trajectories.export import export
from potstill.trajectories.finetuning import threads
from potstill.trajectories.preferences import UNPAIRED
from potstill.types import (
    Action,
    Answerer,
    Blob,
    Call,
    Decision,
    EscalationMode,
    Message,
    Observation,
    Outcome,
    Reason,
    Reply,
    Step,
    Task,
    ToolCall,
    ToolResult,
    ToolSpec,
    Trajectory,
    TrajectoryKind,
    Vote,
)

WON, LOST = Outcome(success=True), Outcome(success=False)
TEACHER, STUDENT = Answerer.TEACHER, Answerer.STUDENT


def step(index: int, action: str | Action, answerer: Answerer = TEACHER, sight: str = "", **fields: Any) -> Step:
    seen = Observation(text=sight or f"place {index}", admissible=("north", "south", "look"))
    done = Action(text=action) if isinstance(action, str) else action
    return Step(**{"index": index, "observation": seen, "action": done, "answerer": answerer, **fields})


def episode(id: str, *actions: str | Step, by: Answerer = TEACHER, outcome: Outcome | None = WON) -> Trajectory:
    steps = tuple(one if isinstance(one, Step) else step(at, one, by) for at, one in enumerate(actions))
    task = Task(id="t", environment="e", goal="get out")
    return Trajectory(id=id, task=task, kind=TrajectoryKind.TEACHER, steps=steps, outcome=outcome)


def pairs(*episodes: Trajectory, **options: Any) -> list[dict[str, Any]]:
    target = io.BytesIO()
    count = export(episodes, target, "preferences", **options)
    rows = [json.loads(line) for line in target.getvalue().splitlines()]
    assert len(rows) == count
    return rows


def said(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows]


def test_a_pair_has_the_prefix_once_and_two_answers_to_it() -> None:
    rows = pairs(episode("a", "north", "look"), episode("b", "north", "south", by=STUDENT))
    assert rows == [
        {
            "prompt": [
                {"role": "user", "content": "get out\n\nplace 0"},
                {"role": "assistant", "content": "north"},
                {"role": "user", "content": "place 1"},
            ],
            "chosen": [{"role": "assistant", "content": "look"}],
            "rejected": [{"role": "assistant", "content": "south"}],
        }
    ]


def test_what_differs_anywhere_before_is_no_pair() -> None:
    left_out: Counter[str] = Counter()
    elsewhere = episode("b", "north", step(1, "south", STUDENT, sight="place 1!"), by=STUDENT)
    otherwise = episode("c", "south", "look", by=STUDENT)
    rows = pairs(episode("a", "north", "look"), elsewhere, otherwise, left_out=left_out)
    assert said(rows) == [("north", "south")]
    assert left_out == {UNPAIRED: 1}


def test_failed_episodes_say_what_not_to_do_whoever_did_it() -> None:
    lost = episode("b", "south", outcome=LOST)
    unknown = episode("c", "look", outcome=None)
    won_by_student = episode("d", "look", by=STUDENT)
    assert said(pairs(episode("a", "north"), lost)) == [("north", "south")]
    assert pairs(episode("a", "north"), unknown) == []
    assert said(pairs(episode("a", "north"), won_by_student, lost)) == [("north", "look"), ("north", "south")]
    assert pairs(lost, won_by_student) == []
    assert said(pairs(lost, won_by_student, all_outcomes=True)) == [("south", "look")]
    assert said(pairs(won_by_student, episode("a", "north"), answerers={STUDENT})) == [("look", "north")]


def test_what_is_chosen_somewhere_is_rejected_nowhere() -> None:
    both = [episode("a", "north"), episode("b", "look"), episode("c", "north", by=STUDENT, outcome=LOST)]
    assert pairs(*both) == []
    assert sorted(said(pairs(*both, episode("d", "south", outcome=LOST)))) == [("look", "south"), ("north", "south")]


def test_the_same_pair_is_written_once() -> None:
    rows = pairs(
        *(episode(f"a{i}", "north") for i in range(3)), *(episode(f"b{i}", "look", by=STUDENT) for i in range(3))
    )
    assert said(rows) == [("north", "look")]


def test_no_pair_is_made_of_two_tenants() -> None:
    theirs = msgspec.structs.replace(episode("b", "look", by=STUDENT), namespace="acme")
    assert pairs(episode("a", "north"), theirs) == []


def test_what_an_overruled_student_meant_is_rejected() -> None:
    votes = tuple(Vote(key=text or None, text=text) for text in ("look", "north", "look", ""))
    overruled = Decision(answerer=TEACHER, reason=Reason.DISAGREED, votes=votes)
    rows = pairs(episode("a", step(0, "north", decision=overruled)))
    assert said(rows) == [("north", "look")]
    agreed = Decision(answerer=STUDENT, reason=Reason.AGREED, votes=votes)
    assert pairs(episode("a", step(0, "north", STUDENT, decision=agreed))) == []


def test_demonstrations_in_the_system_message_do_not_part_two_episodes_of_runs() -> None:
    def told(system: str, answerer: Answerer) -> dict[str, Any]:
        prompt = (Message(role="system", content=system), Message(role="user", content="?"))
        return {"calls": (Call(model="m", answerer=answerer, prompt=prompt),)}

    rows = pairs(
        episode("a", step(0, "north", **told("Act.", TEACHER))),
        episode("b", step(0, "look", STUDENT, **told("Act. Examples: ...", STUDENT))),
    )
    assert said(rows) == [("north", "look")]
    assert rows[0]["prompt"][0] == {"role": "system", "content": "Act."}


def test_recorded_prompts_are_compared_whole() -> None:
    def recorded(id: str, system: str, answer: str, answerer: Answerer) -> Trajectory:
        prompt = (Message(role="system", content=system), Message(role="user", content="?"))
        call = Call(model="m", answerer=answerer, prompt=prompt)
        one = episode(id, step(0, answer, answerer, calls=(call,)))
        return msgspec.structs.replace(one, metadata={"dialects": ["openai-chat"]})

    mine = recorded("a", "Act.", "north", TEACHER)
    assert pairs(mine, recorded("b", "Play.", "look", STUDENT)) == []
    (row,) = pairs(mine, recorded("b", "Act.", "look", STUDENT))
    assert [message["content"] for message in row["prompt"]] == ["Act.", "?"]


def test_calls_of_tools_are_equal_by_what_they_do_and_not_by_their_ids() -> None:
    ls = ToolSpec(name="ls", parameters={"type": "object"})

    def agent(id: str, second: str, answerer: Answerer) -> Trajectory:
        first = Action(tool_calls=(ToolCall(id=f"{id}-1", name="ls", arguments='{"path": "/"}'),))
        last = Action(tool_calls=(ToolCall(id=f"{id}-2", name="ls", arguments=second),))
        result = Observation(tools=(ls,), tool_results=(ToolResult(call_id=f"{id}-1", text="a b"),))
        start = Observation(text="go", tools=(ls,))
        return episode(id, step(0, first, answerer, observation=start), step(1, last, answerer, observation=result))

    (row,) = pairs(agent("a", '{"path":"a"}', TEACHER), agent("b", '{"path":"b"}', STUDENT))
    assert row["chosen"][0]["tool_calls"][0]["function"] == {"name": "ls", "arguments": {"path": "a"}}
    assert row["rejected"][0]["tool_calls"][0]["function"]["arguments"] == {"path": "b"}
    assert row["prompt"][-1] == {"role": "tool", "content": "a b", "tool_call_id": "a-1", "name": "ls"}
    assert row["tools"][0]["function"]["name"] == "ls"
    assert pairs(agent("a", '{"path":"a"}', TEACHER), agent("b", '{"path": "a"}', STUDENT)) == []


def test_images_have_no_place_in_a_pair() -> None:
    left_out: Counter[str] = Counter()
    picture = Observation(text="?", images=(Blob(digest="0" * 64, media_type="image/png", size_bytes=1),))
    assert pairs(episode("a", step(0, "north", observation=picture)), left_out=left_out) == []
    assert left_out == {"it holds images, which this format cannot say": 1}


def test_an_episode_that_began_again_is_two_conversations() -> None:
    """Once written as one: the messages before the reset stood before the first observation that came after it."""
    again = Decision(answerer=Answerer.NOBODY, reason=Reason.DISAGREED, mode=EscalationMode.RESTART)
    one = episode(
        "a",
        step(0, "look", STUDENT),
        step(1, Action(), Answerer.NOBODY, decision=again),
        step(2, "north", sight="place 0"),
    )
    assert [[message.content for message in thread.messages] for thread in threads(one)] == [
        ["get out\n\nplace 0", "look"],
        ["get out\n\nplace 0", "north"],
    ]
    assert said(pairs(one)) == [("north", "look")]


def test_reasoning_stands_before_the_action_where_it_is_asked_for() -> None:
    call = Action(tool_calls=(ToolCall(id="c", name="ls"),))
    steps = (step(0, "north", reasoning=" The door is north. "), step(1, "look"), step(2, call, reasoning="List."))
    said_by = {
        format: [json.loads(line) for line in exported(format, episode("a", *steps), reasoning=True).splitlines()]
        for format in ("openai-chat", "trl", "trl-steps")
    }
    thought = ["reasoning: The door is north.\naction: north", "look", "List."]
    for format in ("openai-chat", "trl"):
        (line,) = said_by[format]
        assert [one["content"] for one in line["messages"] if one["role"] == "assistant"] == thought
        assert line["messages"][-1]["tool_calls"][0]["function"]["name"] == "ls"
    assert [row["completion"][0]["content"] for row in said_by["trl-steps"]] == thought
    assert split_reply(Reply(text=thought[0]), Reasoning.WITH_ACTION) == Reply(
        text="north", reasoning="The door is north."
    )
    assert b"door is north" not in exported("trl", episode("a", *steps))
    with pytest.raises(ConfigError, match="'ranking' holds no reasoning"):
        exported("ranking", episode("a", *steps), reasoning=True)


def exported(format: str, *episodes: Trajectory, **options: Any) -> bytes:
    target = io.BytesIO()
    export(episodes, target, format, **options)
    return target.getvalue()


ACTIONS = st.lists(st.sampled_from(["north", "south", "look"]), min_size=1, max_size=3)
PLAYED = st.lists(st.tuples(ACTIONS, st.sampled_from([TEACHER, STUDENT]), st.booleans()), max_size=8)


@settings(max_examples=80, deadline=None)
@given(PLAYED)
def test_every_pair_was_played_and_all_that_were_are_there(played: list[tuple[list[str], Answerer, bool]]) -> None:
    """Counted the slow way: for each two answers after the same actions (this world has no chance in it)."""
    some = [episode(f"e{at}", *did, by=by, outcome=WON if won else LOST) for at, (did, by, won) in enumerate(played)]
    good: dict[tuple[str, ...], set[str]] = {}
    bad: dict[tuple[str, ...], set[str]] = {}
    for did, by, won in played:
        for at, action in enumerate(did):
            side = good if by is TEACHER and won else bad
            side.setdefault(tuple(did[:at]), set()).add(action)
    expected = {
        (prefix, right, wrong)
        for prefix, rights in good.items()
        for right in rights
        for wrong in bad.get(prefix, set()) - rights
    }
    rows = pairs(*some)
    found = [
        (
            tuple(message["content"] for message in row["prompt"] if message["role"] == "assistant"),
            row["chosen"][0]["content"],
            row["rejected"][0]["content"],
        )
        for row in rows
    ]
    assert len(found) == len(set(found))
    assert set(found) == expected
