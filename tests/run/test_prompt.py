"""Prompts only grow, and the parts stand where caches want them."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.run.arms import Agent, Placement, Reasoning
from potstill.run.prompt import Turn, View, act_messages, compact_messages, first_step, split_reply
from potstill.types import Action, Observation, Reply, ToolCall, ToolResult

texts = st.text(max_size=20)
agents = st.builds(
    Agent, reasoning=st.sampled_from(Reasoning), placement=st.sampled_from(Placement), list_admissible=st.booleans()
)


def observe(text: str) -> Observation:
    return Observation(text=text, admissible=("look", "go"))


@given(agents, st.lists(st.tuples(texts, texts), max_size=6), texts, texts, texts)
def test_all_but_the_last_message_is_a_prefix_of_the_next_prompt(
    agent: Agent, past: list[tuple[str, str]], goal: str, frozen: str, varying: str
) -> None:
    turns = tuple(Turn(observation=observe(o), action=Action(text=a), reasoning="why") for o, a in past)
    views = [
        View(
            agent=agent,
            instructions="Act.",
            goal=goal,
            turns=turns[:i],
            observation=turns[i].observation if i < len(turns) else observe("last"),
            task_context=frozen,
            step_context=f"{varying}{i}" if agent.placement is Placement.LAST else "",
        )
        for i in range(len(turns) + 1)
    ]
    prompts = [act_messages(view) for view in views]
    for before, after in pairwise(prompts):
        kept = len(before) - (1 if agent.placement is Placement.FIRST else 2)
        assert after[:kept] == before[:kept]


@pytest.mark.parametrize(
    ("thinking", "step"),
    [
        ("Find the mug. Then wash it.", "Find the mug."),
        ("Let us think:\n\n**Step 1:** Find the mug! Wash it.\n", "Find the mug!"),
        ("# Plan\n1) Version 2.5 is needed", "Version 2.5 is needed"),
        ("- look around\n- go", "look around"),
        ("Step 2 - cool it", "cool it"),
        ("2.5 litres are needed. So fill it.", "2.5 litres are needed."),
        ("<think>\nRed is first.</think>", "Red is first."),
        ("1.\n  # Plan\nFind it", "Find it"),
        ("Steps:\n\n", ""),
        ("", ""),
    ],
)
def test_the_first_step_of_a_list_or_a_text(thinking: str, step: str) -> None:
    assert first_step(thinking) == step


def test_demonstrations_stand_first_or_just_before_the_present_observation() -> None:
    turn = Turn(observation=observe("past"), action=Action(text="look"))
    for placement in Placement:
        view = View(
            agent=Agent(placement=placement),
            instructions="Act.",
            goal="g",
            turns=(turn,),
            observation=observe("present"),
            task_context="FROZEN",
            step_context="VARYING",
        )
        messages = act_messages(view)
        where = 0 if placement is Placement.FIRST else -2
        assert "FROZEN" in messages[where].content
        assert messages[where].content.endswith("VARYING" if placement is Placement.FIRST else "VARYING\n\npresent")
        assert "- look\n- go" in messages[-1].content


def test_tool_results_answer_their_calls() -> None:
    call = ToolCall(id="c1", name="ls")
    turn = Turn(observation=Observation(text="List the files."), action=Action(tool_calls=(call,)))
    now = Observation(tool_results=(ToolResult(call_id="c1", text="a.txt"),))
    view = View(agent=Agent(), instructions="Use tools.", goal="", turns=(turn,), observation=now)
    roles = [(message.role, message.tool_call_id) for message in act_messages(view)]
    assert roles == [("system", None), ("user", None), ("assistant", None), ("tool", "c1")]


def test_compact_view_is_shorter_than_the_history_and_keeps_every_action() -> None:
    turns = tuple(
        Turn(observation=observe(f"a long room description {i} " * 20), action=Action(text=f"act {i}"))
        for i in range(20)
    )
    view = View(agent=Agent(), instructions="Act.", goal="g", plan="p", turns=turns, observation=observe("now"))
    compact = "".join(message.content for message in compact_messages(view))
    assert len(compact) < 0.3 * len("".join(message.content for message in act_messages(view)))
    assert all(f"act {i}" in compact for i in range(20))
    assert "description 19" in compact
    assert "description 16" not in compact


def test_a_short_history_keeps_the_last_turns_and_the_goal() -> None:
    turns = tuple(Turn(observation=observe(f"saw {i}"), action=Action(text=f"did {i}")) for i in range(5))
    view = View(agent=Agent(history_turns=2), instructions="", goal="g", turns=turns, observation=observe("now"))
    text = "\n".join(message.content for message in act_messages(view))
    assert [f"did {i}" in text for i in range(5)] == [False, False, False, True, True]
    assert "Goal: g" in text
    alone = act_messages(
        View(agent=Agent(history_turns=0), instructions="", goal="g", turns=turns, observation=observe("now"))
    )
    assert [message.role for message in alone] == ["system", "user", "user"]


def test_reasoning_is_split_from_the_action() -> None:
    reply = split_reply(Reply(text="Reasoning: the mug is dirty\nAction: go to sink 1\n"), Reasoning.WITH_ACTION)
    assert (reply.reasoning, reply.text) == ("the mug is dirty", "go to sink 1")
    assert split_reply(Reply(text="go to sink 1"), Reasoning.WITH_ACTION).text == ""
    assert split_reply(Reply(text="action: a\naction: b"), Reasoning.WITH_ACTION).text == "b"
