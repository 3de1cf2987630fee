"""What messages say: goal, plan, history, and which actions were tried on the same observation."""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st

from potstill.record.parsing import Situation, parse, tried
from potstill.types import Action
from potstill.wire.neutral import Image, Opaque, Part, Prompt, Text, Thinking, ToolOutput, ToolUse, Turn


def user(text: str) -> Turn:
    return Turn(role="user", parts=(Text(text=text),))


def called(name: str, arguments: str = "{}", identity: str = "c1") -> Turn:
    return Turn(role="assistant", parts=(ToolUse(id=identity, name=name, arguments=arguments),))


def output(*parts: Text | Image, call: str = "c1", error: bool = False) -> Turn:
    return Turn(role="tool", parts=(ToolOutput(call_id=call, parts=parts, is_error=error),))


def of(*turns: Turn) -> Situation:
    return parse(Prompt(model="m", turns=turns))


def test_first_user_text_is_the_goal_and_last_tool_output_the_observation() -> None:
    found = of(
        Turn(role="system", parts=(Text(text="Be brief."),)),
        user("Find the cheapest flight."),
        called("search", '{"to": "Oslo"}'),
        output(Text(text="3 flights")),
    )
    assert found.goal == "Find the cheapest flight."
    assert found.instructions == "Be brief."
    assert found.now.text == "3 flights"
    assert [step.action.tool_calls[0].name for step in found.past] == ["search"]
    assert found.past[0].seen.text == "Find the cheapest flight."
    assert not found.prefilled


def test_goal_and_plan_blocks_of_our_own_loop_are_read_exactly() -> None:
    found = of(user("Goal: put a mug in the sink\n\nPlan:\n1. find it\n2. carry it\n\nYou are in a kitchen."))
    assert (found.goal, found.plan) == ("put a mug in the sink", "1. find it\n2. carry it")


def test_a_plan_that_the_model_wrote_first_is_found() -> None:
    answer = Turn(role="assistant", parts=(Thinking(text="hm"), Text(text="Plan:\n1. look")))
    found = of(user("Fix the bug. Plan:\nnone of this"), answer, user("go on"))
    assert found.plan == "1. look"
    assert found.past[0].reasoning == "hm"


def test_neighbouring_turns_of_the_model_are_one_step() -> None:
    found = of(user("hi"), Turn(role="assistant", parts=(Text(text="I look."),)), called("ls"), output(Text(text="a")))
    assert len(found.past) == 1
    assert found.past[0].action.text == "I look."
    assert found.past[0].action.tool_calls[0].name == "ls"


def test_only_actions_after_the_same_observation_were_tried() -> None:
    found = of(
        user("go"),
        called("look", identity="a"),
        output(Text(text="a wall"), call="a"),
        called("left", identity="b"),
        output(Text(text="a door"), call="b"),
        called("open", identity="c"),
        output(Text(text="a wall"), call="c"),
    )
    assert [action.tool_calls[0].name for action in tried(found)] == ["left"]


def test_an_image_or_an_error_makes_another_observation() -> None:
    def after(*turn: Turn) -> tuple[Action, ...]:
        return tried(of(user("go"), called("look"), output(Text(text="x")), called("left"), *turn))

    assert len(after(output(Text(text="x")))) == 1
    assert after(output(Text(text="x"), error=True)) == ()
    assert after(output(Text(text="x"), Image(url="https://a/1.png"))) == ()


def test_opaque_parts_count_and_do_not_break() -> None:
    opaque = Turn(role="user", parts=(Opaque(dialect="anthropic", kind="document", value={"a": [1, {"b": 2}]}),))
    found = of(opaque)
    assert found.goal == ""
    assert found.now.mark != of(user("")).now.mark


def test_a_prefilled_answer_is_told() -> None:
    assert of(user("hi"), Turn(role="assistant", parts=(Text(text="{"),))).prefilled
    assert not of().prefilled


text = st.text(alphabet=string.printable + "äß\u2028\x00", max_size=30)
parts: st.SearchStrategy[Part] = st.one_of(
    st.builds(Text, text=text),
    st.builds(Image, url=st.none() | text, data=st.none() | text),
    st.builds(Thinking, text=text),
    st.builds(ToolUse, id=text, name=text, arguments=text),
    st.builds(ToolOutput, call_id=text, parts=st.lists(st.builds(Text, text=text), max_size=2).map(tuple)),
    st.builds(Opaque, dialect=text, kind=text, value=st.dictionaries(text, st.integers(), max_size=2)),
)
turns = st.builds(
    Turn, role=st.sampled_from(["system", "user", "assistant", "tool"]), parts=st.lists(parts, max_size=3).map(tuple)
)


@given(st.lists(turns, max_size=8))
def test_any_conversation_is_read_and_grows_by_its_steps(conversation: list[Turn]) -> None:
    found = of(*conversation)
    answers = "".join(turn.role[0] for turn in conversation if turn.role != "system" and turn.parts)
    assert len(found.past) <= answers.count("a")
    longer = of(*conversation, user("u"), called("f"), user("now"))
    assert longer.past[: len(found.past) - found.prefilled] == found.past[: len(found.past) - found.prefilled]
    assert longer.now.text == "now"
    assert longer.past[-1].action.tool_calls[-1].name == "f"


@given(st.lists(turns, max_size=6))
def test_what_was_tried_is_part_of_the_history(conversation: list[Turn]) -> None:
    found = of(*conversation)
    assert {id(action) for action in tried(found)} <= {id(step.action) for step in found.past}
