"""Labelled decisions as chats: the very messages that ``run`` would have sent, and the answer that was wanted.

Prompts are made by ``run.prompt`` from the recorded turns, so that what is learnt from is byte for byte what is read
later. Knows trajectories and agents. Does not know tokens (``tokens``) or which decisions are learnt (``data``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from potstill.distill.weights.data.labelled import Labelled
from potstill.errors import ConfigError
from potstill.run.arms import Agent, Reasoning
from potstill.run.prompt import Turn, View, act_messages
from potstill.trajectories.situations import began_again
from potstill.types import Answerer, Message, Step, Struct, Trajectory

Shown = Callable[[Trajectory], str]
"""The demonstrations that an episode's prompts hold, as a context gives them for its task."""


class Chat(Struct, frozen=True, kw_only=True):
    """One decision to learn from."""

    messages: tuple[Message, ...]
    reasoning: str = ""
    """What the answer says before the action; empty: the answer is the action."""
    admissible: tuple[str, ...]
    action: str
    weight: float = 1.0


def chats(
    trajectories: Iterable[Trajectory],
    decisions: Sequence[Labelled],
    agent: Agent,
    instructions: str,
    shown: Shown | None = None,
) -> list[Chat]:
    """The decisions in their order, each with its prompt.

    ``agent``: how the student is spoken to; ``instructions``: the environment's. Raises ``ConfigError`` where an
    episode of a decision is not among the trajectories, or reasoning is to be learnt and there is none.
    """
    wanted = {(one.trajectory_id, one.step_index): one for one in decisions}
    found: dict[tuple[str, int], Chat] = {}
    episodes = {one.trajectory_id for one in decisions}
    for trajectory in trajectories:
        if trajectory.id in episodes:
            context = shown(trajectory) if shown is not None else ""
            for step, view in views(trajectory, agent, instructions, context):
                decision = wanted.get((trajectory.id, step.index))
                if decision is not None:
                    found[trajectory.id, step.index] = _chat(decision, step, view)
    lost = [key for key in wanted if key not in found]
    if lost:
        raise ConfigError(
            f"The store no longer holds the episode {lost[0][0]}, of which decisions were to be learnt. Leave --resume "
            "away to make the data anew."
        )
    return [found[one.trajectory_id, one.step_index] for one in decisions]


def views(trajectory: Trajectory, agent: Agent, instructions: str, context: str = "") -> Iterator[tuple[Step, View]]:
    """Every step with what its prompt is made of, as the episode loop saw it."""
    goal, turns = trajectory.goal or trajectory.task.goal, list[Turn]()
    for step in trajectory.steps:
        yield (
            step,
            View(
                agent=agent,
                instructions=instructions,
                goal=goal,
                turns=tuple(turns),
                observation=step.observation,
                task_context=context,
            ),
        )
        if began_again(step):
            turns = []
        elif step.answerer is not Answerer.NOBODY:
            turns.append(Turn(observation=step.observation, action=step.action, reasoning=step.reasoning))


def _chat(decision: Labelled, step: Step, view: View) -> Chat:
    thinks = view.agent.reasoning is Reasoning.WITH_ACTION
    thought = " ".join(step.reasoning.split())
    if thinks and not thought:
        raise ConfigError(
            f"The step {step.index} of the episode {decision.trajectory_id} has no reasoning to learn. Record a "
            "teacher that reasons (--reasoning with-action), or leave --reasoning away."
        )
    return Chat(
        messages=act_messages(view),
        reasoning=thought if thinks else "",
        admissible=decision.admissible,
        action=decision.action,
        weight=decision.weight,
    )
