"""Labelled decisions as chats: the very messages that ``run`` would have sent, and the answer that was wanted.

Prompts are made by ``run.prompt`` from the recorded turns, so that what is learnt from is byte for byte what is read
later. Knows trajectories and agents. Does not know tokens (``tokens``) or which decisions are learnt (``data``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from potstill.distill.weights.data.labelled import Labelled
from potstill.errors import ConfigError
from potstill.models.reasoned import one_line
from potstill.run.arms import Agent, Reasoning
from potstill.run.prompt import Turn, View, act_messages
from potstill.trajectories.situations import began_again
from potstill.types import Answerer, Message, Step, Struct, Trajectory

Thoughts = Mapping[tuple[str, int], str]
"""Reasoning by episode and step, for steps whose teacher gave none (``rationales``)."""
Shown = Callable[[Trajectory], str]
"""The demonstrations that an episode's prompts hold, as a context gives them for its task."""


class Chat(Struct, frozen=True, kw_only=True):
    """One decision to learn from."""

    messages: tuple[Message, ...]
    reasoning: str = ""
    """What the answer says before the action; empty: the answer is the action, or nobody knows (held out)."""
    admissible: tuple[str, ...]
    action: str
    weight: float = 1.0


def chats(
    trajectories: Iterable[Trajectory],
    decisions: Sequence[Labelled],
    agent: Agent,
    instructions: str,
    shown: Shown | None = None,
    thoughts: Thoughts | None = None,
    *,
    held_out: bool = False,
) -> list[Chat]:
    """The decisions in their order, each with its prompt.

    ``agent``: how the student is spoken to; ``instructions``: the environment's; ``held_out``: they are asked and not
    learnt, so their reasoning need not be known. Raises ``ConfigError`` where an episode of a decision is not among
    the trajectories, or reasoning is to be learnt and there is none.
    """
    wanted = {(one.trajectory_id, one.step_index): one for one in decisions}
    found: dict[tuple[str, int], Chat] = {}
    episodes = {one.trajectory_id for one in decisions}
    for trajectory in trajectories:
        if trajectory.id in episodes:
            context = shown(trajectory) if shown is not None else ""
            for step, view in views(trajectory, agent, instructions, context, thoughts):
                key = (trajectory.id, step.index)
                if key in wanted:
                    thought = thought_of(trajectory.id, step, thoughts)
                    found[key] = _chat(wanted[key], thought, view, must_reason=not held_out)
    lost = [key for key in wanted if key not in found]
    if lost:
        raise ConfigError(
            f"The store no longer holds the episode {lost[0][0]}, of which decisions were to be learnt. Leave --resume "
            "away to make the data anew."
        )
    return [found[one.trajectory_id, one.step_index] for one in decisions]


def thought_of(trajectory_id: str, step: Step, thoughts: Thoughts | None) -> str:
    """What the step's teacher said before it acted, or what was made for it since."""
    return step.reasoning if step.reasoning.strip() else (thoughts or {}).get((trajectory_id, step.index), "")


def views(
    trajectory: Trajectory, agent: Agent, instructions: str, context: str = "", thoughts: Thoughts | None = None
) -> Iterator[tuple[Step, View]]:
    """Every step with what its prompt is made of, as the episode loop saw it. ``thoughts`` may grow on the way."""
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
            thought = thought_of(trajectory.id, step, thoughts)
            turns.append(Turn(observation=step.observation, action=step.action, reasoning=thought))


def _chat(decision: Labelled, thought: str, view: View, *, must_reason: bool) -> Chat:
    reasons = view.agent.reasoning is Reasoning.WITH_ACTION
    if reasons and must_reason and not thought.strip():
        raise ConfigError(
            f"The step {decision.step_index} of the episode {decision.trajectory_id} has no reasoning to learn. Record "
            "a teacher that reasons (--reasoning with-action), make rationales (potstill distill rationales) and "
            "learn them (--rationales FILE), or leave --reasoning away."
        )
    return Chat(
        messages=act_messages(view),
        reasoning=one_line(thought) if reasons else "",
        admissible=decision.admissible,
        action=decision.action,
        weight=decision.weight,
    )
