"""A tuned student's own voice: the agent that wrote its prompts, and the prompt of a situation that is known as texts.

A recorded decision and a gateway's client give situations; the episode loop gives observations. Both become the same
messages (``run.prompt``), which is what a tuned student must read. Knows texts. Does not know models.
"""

from __future__ import annotations

from potstill.models.tuned_file import Tuned, Voice
from potstill.run.arms import Agent, Reasoning
from potstill.run.prompt import Turn, View, act_messages
from potstill.types import Action, Message, Observation, Situation


def agent_of(voice: Voice) -> Agent:
    """The agent that writes the prompts of a student with this voice."""
    return Agent(
        reasoning=Reasoning(voice.reasoning),
        history_turns=voice.history_turns,
        list_admissible=voice.list_admissible,
    )


def messages_of(tuned: Tuned, situation: Situation, admissible: tuple[str, ...]) -> tuple[Message, ...]:
    """The prompt that the episode loop would send the student here, without demonstrations."""
    turns = tuple(
        Turn(observation=Observation(text=turn.observation), action=Action(text=turn.action)) for turn in situation.past
    )
    return act_messages(
        View(
            agent=agent_of(tuned.voice),
            instructions=tuned.instructions,
            goal=situation.goal,
            turns=turns,
            observation=Observation(text=situation.observation, admissible=admissible),
        )
    )
