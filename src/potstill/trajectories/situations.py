"""What a policy without a chat sees at a step: one function for acting and for training (docs/design/008).

What it knows: how the parts of an episode become the texts of a ``types.Situation``. What it does not do: prompts (a
chat's own view of the same), which steps are worth learning from (``choices``), images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from potstill.types import Action, Answerer, EscalationMode, Observation, Past, Situation, Step, Trajectory


class Finished(Protocol):
    """A finished turn: a step of a trajectory, or a turn of the loop's history."""

    @property
    def observation(self) -> Observation: ...

    @property
    def action(self) -> Action: ...


def situation_of(goal: str, plan: str, past: Iterable[Finished], observation: Observation) -> Situation:
    """The situation after these turns (oldest first), where this is seen now."""
    return Situation(goal=goal, plan=plan, observation=seen(observation), past=tuple(past_turn(turn) for turn in past))


def situations(trajectory: Trajectory) -> Iterator[tuple[Step, Situation]]:
    """Every step with the situation in which its action was chosen, equal to what the loop gave the model.

    An episode that began again (``EscalationMode.RESTART``) has forgotten what was before; what nobody did is no past.
    """
    goal, past = trajectory.goal or trajectory.task.goal, list[Past]()
    for step in trajectory.steps:
        yield (
            step,
            Situation(goal=goal, plan=trajectory.plan, observation=seen(step.observation), past=tuple(past)),
        )
        if began_again(step):
            past = []
        elif step.answerer is not Answerer.NOBODY:
            past.append(past_turn(step))


def began_again(step: Step) -> bool:
    """Whether the environment was reset after this step, for the teacher to have the whole task."""
    mode = None if step.decision is None else step.decision.mode
    return step.answerer is Answerer.NOBODY and mode is EscalationMode.RESTART and step.action == Action()


def past_turn(turn: Finished) -> Past:
    return Past(observation=seen(turn.observation), action=done(turn.action))


def seen(observation: Observation) -> str:
    """Results of tools in their order, a line between them, then the text; or the part of that which is to be read."""
    if observation.shown is not None:
        return observation.shown
    parts = [*(result.text for result in observation.tool_results), observation.text]
    return "\n".join(part for part in parts if part)


def done(action: Action) -> str:
    """The action as it is listed among the admissible ones, or its calls of tools as ``name(arguments)``."""
    calls = "; ".join(f"{call.name}({call.arguments})" for call in action.tool_calls)
    return action.listed or calls or action.text
