"""The compact hand-off: what a teacher is shown that takes over in the middle of an episode (arXiv 2608.24358).

What it knows: how a prompt of messages becomes what ``run.prompt.compact_messages`` takes. What it does not do:
decide whether the compact prompt is the cheaper one (``switching``), ask anyone.
"""

from __future__ import annotations

import msgspec

from potstill.record.parsing import Past, Situation
from potstill.run.arms import Agent
from potstill.run.prompt import Turn as LoopTurn
from potstill.run.prompt import View, compact_messages
from potstill.types import Message, Observation
from potstill.wire.neutral import Image, Opaque, Part, Prompt, Text, ToolOutput, Turn


def compact_prompt(prompt: Prompt, situation: Situation) -> Prompt | None:
    """The client's request with goal, plan, actions and last observations in place of its history.

    None where that would leave something out that the teacher needs: images and parts that only one provider knows; or
    where there is no history to leave out.
    """
    if situation.step_index == 0 or situation.prefilled or _holds_more_than_text(prompt):
        return None
    view = View(
        agent=Agent(),
        instructions=situation.instructions,
        goal=situation.goal,
        plan=situation.plan,
        turns=tuple(_turn(step, situation.goal) for step in situation.past),
        observation=Observation(text=situation.now.text),
    )
    turns = tuple(_message(message) for message in compact_messages(view) if message.content)
    return msgspec.structs.replace(prompt, turns=turns)


def _turn(step: Past, goal: str) -> LoopTurn:
    """A first observation that is the goal itself is not said twice."""
    text = "" if step.seen.text == goal else step.seen.text
    return LoopTurn(observation=Observation(text=text), action=step.action)


def _message(message: Message) -> Turn:
    return Turn(role=message.role, parts=(Text(text=message.content),))


def _holds_more_than_text(prompt: Prompt) -> bool:
    return any(_is_more(part) for turn in prompt.turns for part in turn.parts)


def _is_more(part: Part) -> bool:
    if isinstance(part, ToolOutput):
        return any(isinstance(inner, Image) for inner in part.parts)
    return isinstance(part, Image) or (isinstance(part, Opaque) and not part.hint)
