"""Rationales by sampling: a model reasons at the teacher's prompts, and what led it to the teacher's action is kept.

This is STaR's filter (arXiv 2203.14465, section 3.1), one round of it, on the decisions of an agent: of K answers with
reasoning the first whose action is the teacher's is the rationale. With a hint (section 3.2, "rationalization") a model
that was never right is asked once more, with the action told, and the student learns behind the prompt without. A
reasoning counts as right if the model's likeliest action behind it is the teacher's; where a model does not say how
likely actions are, if the answer is. Behind a hint almost any reasoning is followed by the action: where it can be
asked, the action must follow the reasoning without the hint as well, which the paper does not demand. Knows prompts and
a model. Does not know files.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import msgspec

from potstill.decide.agreement import Normalized
from potstill.distill.weights.data.labelled import Labelled
from potstill.distill.weights.rationales.lines import Rationale, Source, decision_of
from potstill.errors import ConfigError
from potstill.models.reasoned import ReasonsFirst, begun_with, one_line
from potstill.protocols import CandidateScorer, Model
from potstill.run.arms import Reasoning
from potstill.run.prompt import View, act_messages
from potstill.run.sides import Side
from potstill.types import Answerer, Call, Reply, Request, Struct

_RULE = Normalized()


class Sampling(Struct, frozen=True, kw_only=True):
    """How a model is asked. Raises ``ConfigError`` for what means nothing."""

    samples: int = 4
    """K, of each decision."""
    temperature: float = 0.7
    hint: bool = False
    """Ask again, with the teacher's action told, where no sample was right."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ConfigError(f"--samples is {self.samples}. Allowed: 1 and more, such as --samples 4")
        if not self.temperature >= 0 or (self.samples > 1 and self.temperature == 0):
            raise ConfigError(
                f"--temperature is {self.temperature:g} for {self.samples} samples, which would all be the same at 0. "
                "Allowed: above 0, such as --temperature 0.7, or --samples 1"
            )


class Asked(NamedTuple):
    rationale: Rationale
    calls: tuple[Call, ...]


def reasoning_model(model: Model) -> Model:
    """The model as it is asked: one that can weigh actions reasons first, so that each answer is an action."""
    if isinstance(model, CandidateScorer) and model.capabilities.goes_on and not model.capabilities.reasons_first:
        return ReasonsFirst(model)
    return model


async def sampled(decision: Labelled, view: View, model: Model, how: Sampling) -> Asked:
    """The decision's rationale, without a text where no answer was right. Raises what the model raises.

    ``view``: what the prompt is made of; its agent must reason with its action.
    """
    if view.agent.reasoning is not Reasoning.WITH_ACTION:
        raise ValueError(f"the agent's reasoning is {view.agent.reasoning.value}, not with-action")
    source, calls = Source.SAMPLED, list[Call]()
    replies = await _answers(decision, view, model, how, calls)
    right = [reply for reply in replies if is_right(reply, decision)]
    if how.hint and not right:
        source = Source.HINTED
        told = msgspec.structs.replace(view, instructions=f"{view.instructions}\n\n{hint_of(decision)}")
        replies = [*replies, *(hinted := await _answers(decision, told, model, how, calls))]
        right = [one for one in hinted if is_right(one, decision) and await _leads(one, decision, view, model, calls)]
    rationale = Rationale(
        trajectory_id=decision.trajectory_id,
        step_index=decision.step_index,
        decision=decision_of(decision),
        source=source,
        model=model.name,
        text=one_line(right[0].reasoning) if right else "",
        samples=len(replies),
        right=len(right),
    )
    return Asked(rationale, tuple(calls))


def is_right(reply: Reply, decision: Labelled) -> bool:
    """Whether the answer reasons in words, and its action is the teacher's: the likeliest one where that is known."""
    if not any(map(str.isalnum, reply.reasoning)):
        return False
    if reply.candidates:
        return max(reply.candidates, key=lambda pair: pair[1])[0] == decision.action
    return _RULE.action(reply, decision.admissible).text == decision.action


def hint_of(decision: Labelled) -> str:
    return f"The right next action is: {decision.action}. Say in one line why, without naming it."


async def _leads(reply: Reply, decision: Labelled, view: View, model: Model, calls: list[Call]) -> bool:
    """Whether the reasoning is followed by the action without the hint; true of a model that cannot be asked that."""
    if not (isinstance(model, CandidateScorer) and model.capabilities.goes_on):
        return True
    begun = begun_with(reply.reasoning)
    found = await model.score(Request(messages=act_messages(view), admissible=decision.admissible, begun=begun))
    calls += found.calls
    return is_right(msgspec.structs.replace(found.replies[0], reasoning=reply.reasoning), decision)


async def _answers(decision: Labelled, view: View, model: Model, how: Sampling, calls: list[Call]) -> list[Reply]:
    side = Side(model, Answerer.STUDENT, view.agent, seed=_seed(decision, how))
    try:
        return await side.act(view, how.samples, how.temperature)
    finally:
        calls += side.take_calls()


def _seed(decision: Labelled, how: Sampling) -> int:
    """Its own for each decision, so that what is sampled does not depend on what was asked before."""
    said = f"{how.seed}:{decision.trajectory_id}:{decision.step_index}"
    return int.from_bytes(hashlib.sha256(said.encode()).digest()[:4], "big")
