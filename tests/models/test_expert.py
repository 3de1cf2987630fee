"""Experts answer through an opaque handle and are billed as a named model would be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import ConfigError, EnvCrashed
from potstill.models.expert import EstimateCounter, ExpertModel
from potstill.protocols import Model
from potstill.types import Action, Answerer, FinishReason, Message, Request, ToolCall, ToolSpec, Usage


class Handle:
    def __init__(self, *actions: Action | Exception | None) -> None:
        self.actions = list(actions)

    async def expert_action(self) -> Action:
        action = self.actions.pop(0)
        if isinstance(action, Exception):
            raise action
        return action  # type: ignore[return-value]


class Words:
    name = "words"

    def __init__(self) -> None:
        self.counted: list[str] = []

    def count(self, text: str) -> int:
        self.counted.append(text)
        return len(text.split())


async def test_prompt_and_answer_are_counted_as_the_named_model_would_be_billed() -> None:
    request = Request(
        messages=(Message(role="system", content="a b c"), Message(role="user", content="d e")),
        handle=Handle(Action(text="go to shelf 1")),
    )
    model = ExpertModel(Words(), priced_as="claude-sonnet-5-5")
    assert isinstance(model, Model)
    completion = await model.sample(request)
    (call,) = completion.calls
    # 3 + 2 words and 4 tokens of chat template for each of the two messages.
    assert call.usage == Usage(input_tokens=13, output_tokens=4, estimated=True, counted_by="words")
    assert (call.model, call.priced_as, call.answerer) == ("expert", "claude-sonnet-5-5", Answerer.NOBODY)
    assert completion.replies[0].text == "go to shelf 1"


async def test_several_samples_are_one_call_with_the_answer_billed_each_time() -> None:
    request = Request(messages=(Message(role="user", content="d e"),), handle=Handle(Action(text="go north")))
    completion = await ExpertModel(Words()).sample(request, n=3)
    assert [reply.text for reply in completion.replies] == ["go north"] * 3
    assert len(completion.calls) == 1
    assert completion.calls[0].usage == Usage(input_tokens=6, output_tokens=6, estimated=True, counted_by="words")


async def test_tools_and_their_calls_are_counted() -> None:
    action = Action(tool_calls=(ToolCall(id="1", name="book flight", arguments="{} {}"),))
    tool = ToolSpec(name="book flight", description="Books it.")
    request = Request(messages=(Message(role="user", content="hi"),), tools=(tool,), handle=Handle(action))
    reply, usage = (completion := await ExpertModel(Words()).sample(request)).replies[0], completion.calls[0].usage
    assert reply.finish_reason is FinishReason.TOOL_CALLS
    # Prompt: 4 + 1, and {"name":"book flight","description":"Books it."} is three words. Answer: 4 + 2 + 2.
    assert usage == Usage(input_tokens=8, output_tokens=8, estimated=True, counted_by="words")


async def test_a_prompt_that_grows_is_counted_once() -> None:
    words = Words()
    model = ExpertModel(words)
    messages: tuple[Message, ...] = ()
    for step in range(30):
        messages += (Message(role="user", content=f"observation {step}"),)
        await model.sample(Request(messages=messages, handle=Handle(Action(text="wait"))))
    assert len(words.counted) == 31


async def test_without_a_handle_it_says_what_to_type() -> None:
    with pytest.raises(ConfigError, match="--teacher"):
        await ExpertModel(EstimateCounter()).sample(Request(messages=()))


async def test_an_environment_without_an_expert() -> None:
    with pytest.raises(ConfigError, match="has no expert"):
        await ExpertModel(EstimateCounter()).sample(Request(messages=(), handle=Handle(None)))


async def test_a_crashed_environment_is_not_a_failed_model() -> None:
    with pytest.raises(EnvCrashed):
        await ExpertModel(EstimateCounter()).sample(Request(messages=(), handle=Handle(EnvCrashed("gone"))))


@given(st.text(max_size=50), st.text(max_size=50))
def test_estimates_grow_with_the_text(text: str, more: str) -> None:
    counter = EstimateCounter()
    assert counter.count("") == 0
    assert counter.count(text) <= counter.count(text + more) <= counter.count(text) + counter.count(more)


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("x" * 400, 100)])
def test_estimates_by_hand(text: str, tokens: int) -> None:
    assert EstimateCounter().count(text) == tokens
