"""One step of a student that is being taught on its own episodes: whom to ask, who acts, what is kept as a label.

DAgger (arXiv 1011.0686, algorithm 3.1) with a teacher that is asked only where the student is unsure or goes round in a
circle, and no more often than an episode's budget allows. A pure generator, driven as ``cascade.decide_step`` is.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Hashable, Sequence

import msgspec

from potstill.decide.cascade import AskStudent, AskTeacher, Failed, Resolution, Steps
from potstill.decide.policy import CascadeState, Certainty, Policy
from potstill.protocols import AgreementRule
from potstill.types import Answerer, Decision, Reason, Reply, Vote


def label_step(
    policy: Policy,
    state: CascadeState,
    rule: AgreementRule,
    admissible: Sequence[str] | None,
    *,
    salt: str = "",
    tried: Collection[Hashable] = (),
) -> Steps:
    """Decide one step of an episode that is played for labels; arguments as ``decide_step`` has them.

    The student's answer is taken where the teacher is not asked, and with probability ``1 - beta`` where it is; the
    teacher's then stands in ``Decision.label``. A student without a valid answer is asked for by the teacher, also when
    the episode's labels are used up: somebody must act.
    """
    answer = yield AskStudent(n=1, temperature=policy.alone_temperature, likelihood=policy.alone_temperature == 0)
    reply = None if isinstance(answer, Failed) else answer[0]
    sure = None if reply is None else certainty_of(reply, policy.labelling.certainty)
    key = None if reply is None else rule.key(reply, admissible)
    votes = () if reply is None else (Vote(key=None if key is None else str(key), text=reply.text),)
    decision = Decision(
        answerer=Answerer.STUDENT,
        reason=Reason.STUDENT_ONLY,
        rule=policy.rule,
        votes=votes,
        samples=len(votes),
        confidence=sure,
    )
    why = _why_ask(policy, state, sure, salt, repeated=key in tried)
    if isinstance(answer, Failed):
        why = answer.reason
    elif key is None:
        why = Reason.INVALID
    state = msgspec.structs.replace(state, step=state.step + 1)
    if why is None:
        assert reply is not None
        return Resolution(action=rule.action(reply, admissible), reply=reply, decision=decision, state=state)
    told = yield AskTeacher(reason=why)
    if isinstance(told, Failed):
        raise RuntimeError("a failed teacher must be raised by the driver, not sent")
    label = rule.action(told[0], admissible)
    state = msgspec.structs.replace(state, asked=state.asked + 1)
    if reply is None or key is None or _coin(policy, state, salt, "act") < policy.labelling.beta:
        decision = msgspec.structs.replace(decision, answerer=Answerer.TEACHER, reason=why)
        return Resolution(action=label, reply=told[0], decision=decision, state=state)
    decision = msgspec.structs.replace(decision, reason=Reason.LABELLED, label=label.text)
    return Resolution(action=rule.action(reply, admissible), reply=reply, decision=decision, state=state)


def certainty_of(reply: Reply, measure: Certainty) -> float | None:
    """How sure the reply is, in [0, 1]; None where it carries no candidates. One candidate alone is certain.

    >>> halves = Reply(text="a", candidates=(("a", math.log(0.75)), ("b", math.log(0.25))))
    >>> [round(certainty_of(halves, measure), 4) for measure in Certainty]
    [0.75, 0.5, 0.1887]
    """
    if not reply.candidates:
        return None
    logs = [log for _, log in reply.candidates]
    most = max(logs)
    weights = sorted((math.exp(log - most) for log in logs), reverse=True)
    total = math.fsum(weights)
    shares = [weight / total for weight in weights]
    if len(shares) == 1:
        return 1.0
    if measure is Certainty.LIKELIHOOD:
        return shares[0]
    if measure is Certainty.MARGIN:
        return shares[0] - shares[1]
    entropy = -math.fsum(share * math.log(share) for share in shares if share > 0)
    return min(1.0, max(0.0, 1.0 - entropy / math.log(len(shares))))


def _why_ask(policy: Policy, state: CascadeState, sure: float | None, salt: str, *, repeated: bool) -> Reason | None:
    """Why the teacher is asked for a label; None: it is not."""
    ask = policy.labelling
    if ask.most is not None and state.asked >= ask.most:
        return None
    if repeated and policy.escalate_repeats:
        return Reason.REPEATED
    if sure is None or sure < ask.below or ask.below == 1.0:
        return Reason.NOT_CONFIDENT
    return Reason.RANDOM_ESCALATION if _coin(policy, state, salt, "ask") < ask.share else None


def _coin(policy: Policy, state: CascadeState, salt: str, what: str) -> float:
    """A number in [0, 1) that depends on seed, task, step and question only, so that a resumed run draws the same."""
    digest = hashlib.sha256(f"{policy.seed}\x1f{salt}\x1f{state.step}\x1f{what}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
