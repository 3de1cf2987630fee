"""What a client offers is found as the settings say, and a policy reads the same at the gateway as in a run."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from potstill.record.offers import answer_parts, named, offer_of
from potstill.record.parsing import action_of
from potstill.run.arms import Agent
from potstill.run.prompt import Turn as LoopTurn
from potstill.run.prompt import View, act_messages
from potstill.trajectories.exchange import Actions
from potstill.trajectories.situations import situation_of
from potstill.types import Action, Observation
from potstill.wire.neutral import Prompt, Text, Tool, Turn

LOOP = Actions(
    pattern=r"^- (.+)$", hide=(r"^Admissible actions:\n(^- .+\n?)+", r"^Answer with the next action only\.$")
)
WORDS = st.text("abc 12", min_size=1, max_size=12).map(str.strip).filter(bool)
TURNS = st.lists(st.tuples(WORDS, WORDS), max_size=3)


def of_loop(view: View) -> Prompt:
    turns = tuple(Turn(role=one.role, parts=(Text(text=one.content),)) for one in act_messages(view))
    return Prompt(model="m", turns=turns)


@given(goal=WORDS, plan=st.one_of(st.just(""), WORDS), past=TURNS, now=WORDS, listed=st.lists(WORDS, min_size=1))
def test_the_loops_own_prompts_are_read_back_as_the_loops_own_situation(
    goal: str, plan: str, past: list[tuple[str, str]], now: str, listed: list[str]
) -> None:
    turns = tuple(LoopTurn(observation=Observation(text=seen), action=Action(text=done)) for seen, done in past)
    observation = Observation(text=now, admissible=tuple(listed))
    view = View(agent=Agent(), instructions="Act.", goal=goal, plan=plan, turns=turns, observation=observation)
    offer = offer_of(of_loop(view), LOOP)
    assert offer is not None
    assert offer.situation == situation_of(goal, plan, turns, observation)
    assert offer.admissible == tuple(dict.fromkeys(listed))


def test_each_tool_is_an_action_unless_one_wants_arguments() -> None:
    prompt = Prompt(
        model="m", turns=(Turn(role="user", parts=(Text(text="go"),)),), tools=(Tool(name="left"), Tool(name="right"))
    )
    offer = offer_of(prompt, Actions(tools=True))
    assert offer is not None
    assert offer.admissible == ("left", "right")
    more = Prompt(
        model="m", turns=prompt.turns, tools=(*prompt.tools, Tool(name="say", parameters={"required": ["x"]}))
    )
    assert offer_of(more, Actions(tools=True)) is None


def test_what_the_headers_say_of_goal_counts_more_than_the_messages() -> None:
    prompt = Prompt(model="m", turns=(Turn(role="user", parts=(Text(text="Goal: tea\n\nA cup."),)),))
    offer = offer_of(prompt, Actions(always=("look", "take")), {"goal": "coffee"})
    assert offer is not None
    assert (offer.situation.goal, offer.situation.observation) == ("coffee", "A cup.")


@given(listed=st.text(min_size=1).filter(lambda text: text == text.strip()))
def test_an_answer_is_read_back_as_the_action_that_it_is(listed: str) -> None:
    for way in (Actions(tool="act", argument="action"), Actions(tools=True), Actions(always=(listed,))):
        action = action_of(answer_parts(listed, way, "call_1"))
        assert (named(action, way).listed or action.text) == listed
