"""What a step's calls say about the distribution that its action came from.

What it knows: likelihoods of candidates, several samples, the cascade's votes. What it does not do: take one side's
samples for the other's: a student's votes say nothing about the teacher that overruled them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from potstill.distill.weights.data.labelled import Evidence, normalised, top_k
from potstill.distill.weights.soft_labels import voted
from potstill.run.arms import Reasoning
from potstill.run.prompt import split_reply
from potstill.types import Answerer, Call, Purpose, Reply, Step, Vote

RULE = "normalized"
"""When a sample is one of the admissible actions, where no cascade says it: case and full stops aside."""


class Distribution(NamedTuple):
    evidence: Evidence = Evidence.ONE_HOT
    votes: tuple[int, ...] = ()
    log_probabilities: tuple[float | None, ...] = ()


def distribution_of(step: Step, admissible: Sequence[str]) -> Distribution:
    """The best that is known: likelihoods of all candidates, else of the likeliest, else at least two valid samples."""
    calls = [call for call in step.calls if _answers(call, step.answerer)]
    scored = _likelihoods(calls, admissible, step.action.text.strip())
    if scored is not None:
        return Distribution(Evidence.TOP_K if None in scored else Evidence.LOG_PROBABILITIES, log_probabilities=scored)
    own = _own_votes(step, admissible)
    if not own and sum(len(call.replies) for call in calls) < 2:  # most steps have one answer
        return Distribution()
    counted = Counter(own or _samples(calls, admissible))
    del counted[None]
    if counted.total() < 2:
        return Distribution()
    return Distribution(Evidence.VOTES, votes=tuple(counted[action] for action in admissible))


def _answers(call: Call, answerer: Answerer) -> bool:
    return call.answerer is answerer and call.purpose is Purpose.ACT and call.error is None


def _likelihoods(calls: Sequence[Call], admissible: Sequence[str], action: str) -> tuple[float | None, ...] | None:
    """Of the last reply that scored every candidate, else of the last that scored the likeliest."""
    scored = [dict(reply.candidates) for call in calls for reply in call.replies if reply.candidates]
    for scores in reversed(scored):
        if set(scores) >= set(admissible):
            return normalised([scores[action] for action in admissible])
    return next(filter(None, (top_k(scores, admissible, action) for scores in reversed(scored))), None)


def _own_votes(step: Step, admissible: Sequence[str]) -> tuple[str | None, ...]:
    """The cascade counts what the student said; likelihood scoring has one vote, which is no sample."""
    decision = step.decision
    if decision is None or step.answerer is not Answerer.STUDENT or decision.samples < 2:
        return ()
    return voted(decision.votes, admissible, decision.rule or RULE)


def _samples(calls: Sequence[Call], admissible: Sequence[str]) -> list[str | None]:
    """What was answered, with or without a reasoning before the action."""
    replies = [reply for call in calls for reply in call.replies]
    plain = voted([_vote(reply) for reply in replies], admissible, RULE)
    apart = voted([_vote(split_reply(reply, Reasoning.WITH_ACTION)) for reply in replies], admissible, RULE)
    return [one or other for one, other in zip(plain, apart, strict=True)]


def _vote(reply: Reply) -> Vote:
    return Vote(key=reply.text, text=reply.text)
