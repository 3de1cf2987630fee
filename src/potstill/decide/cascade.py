"""The self-consistency cascade as a pure generator (arXiv 2512.02543, section 3; modes after arXiv 2608.24358).

``decide_step`` yields what it wants to know (``AskStudent``, ``AskTeacher``) and is sent the replies, or ``Failed``. It
returns a ``Resolution``: the action, the record of why, and the state for the next step. The loop, a replay of recorded
answers and a gateway drive the same generator; a test drives it by hand.

    effects = decide_step(policy, state, rule, admissible)
    request = next(effects)
    while True:
        try:
            request = effects.send(answer(request))
        except StopIteration as end:
            return end.value
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Collection, Generator, Hashable, Sequence
from typing import NamedTuple

import msgspec

from potstill.decide.policy import CascadeState, Policy, PolicyKind, Sampling, Signal, TeacherView
from potstill.protocols import AgreementRule
from potstill.types import Action, Answerer, Decision, EscalationMode, Reason, Reply, Struct, Vote


class AskStudent(Struct, frozen=True, kw_only=True):
    """``n`` samples of the student at ``temperature``."""

    n: int
    temperature: float
    likelihood: bool = False
    """Candidates with their log-probabilities are wanted, not samples."""


class AskTeacher(Struct, frozen=True, kw_only=True):
    """One answer of the teacher. If it fails, the driver raises: there is nobody to escalate to."""

    view: TeacherView = TeacherView.FULL
    reason: Reason


class Failed(Struct, frozen=True, kw_only=True):
    """Sent in place of replies when the student (or its context) could not answer."""

    reason: Reason = Reason.STUDENT_FAILED


Effect = AskStudent | AskTeacher
Answer = Sequence[Reply] | Failed


class Resolution(Struct, frozen=True, kw_only=True):
    """What ``decide_step`` returns."""

    action: Action
    reply: Reply
    decision: Decision
    state: CascadeState
    restart: bool = False
    """The episode starts again from its first observation with the teacher alone; ``action`` is not to be executed."""


Steps = Generator[Effect, Answer, Resolution]


def decide_step(
    policy: Policy,
    state: CascadeState,
    rule: AgreementRule,
    admissible: Sequence[str] | None,
    *,
    salt: str = "",
    tried: Collection[Hashable] = (),
) -> Steps:
    """Decide one step.

    ``salt`` (the task's id) makes random escalation differ between tasks. ``tried`` are the keys, under ``rule``, of
    the actions that were already taken after the same observation in this episode.
    """
    forced = _forced_teacher(policy, state, salt)
    if forced is not None:
        return (yield from _teacher_acts(policy, state, rule, admissible, forced, _Verdict()))
    verdict = yield from _ask_student(policy, state, rule, admissible)
    verdict = _without_repeats(policy, verdict, rule, admissible, tried)
    if verdict.reply is not None and verdict.reason in _TRUSTED:
        return _student_acts(policy, state, rule, admissible, verdict)
    untrusted = state.untrusted + 1
    state = msgspec.structs.replace(state, untrusted=untrusted)
    if policy.mode is EscalationMode.RESTART and untrusted >= policy.patience:
        return _restart(policy, state, verdict)
    return (yield from _teacher_acts(policy, state, rule, admissible, verdict.reason, verdict))


# --- who must act without asking ------------------------------------------------------------------------------------

_TRUSTED = frozenset({Reason.STUDENT_ONLY, Reason.AGREED, Reason.CONFIDENT, Reason.TASK_TRUSTED, Reason.RANDOM_STUDENT})


def _forced_teacher(policy: Policy, state: CascadeState, salt: str) -> Reason | None:
    if policy.kind is PolicyKind.TEACHER:
        return Reason.TEACHER_ONLY
    if policy.kind is PolicyKind.RANDOM_MIX:
        return Reason.RANDOM_ESCALATION if _coin(policy, state, salt) < policy.teacher_share else None
    if policy.kind is PolicyKind.STUDENT:
        return None
    if state.holder is Answerer.TEACHER or state.teacher_left > 0:
        return Reason.TEACHER_KEEPS
    if policy.mode is EscalationMode.TEACHER_FIRST and state.step < policy.keep_steps:
        return Reason.TEACHER_FIRST
    return None


def _coin(policy: Policy, state: CascadeState, salt: str) -> float:
    """A number in [0, 1) that depends on seed, task and step only, so that a resumed run draws the same."""
    digest = hashlib.sha256(f"{policy.seed}\x1f{salt}\x1f{state.step}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


# --- asking the student ---------------------------------------------------------------------------------------------


class _Verdict(NamedTuple):
    """What the student's samples came to."""

    reply: Reply | None = None
    reason: Reason = Reason.STUDENT_FAILED
    votes: tuple[Vote, ...] = ()
    agreement: float | None = None
    confidence: float | None = None


def _ask_student(
    policy: Policy, state: CascadeState, rule: AgreementRule, admissible: Sequence[str] | None
) -> Generator[Effect, Answer, _Verdict]:
    alone = _acts_alone(policy, state)
    if alone is not None:
        likelihood = policy.signal is Signal.LIKELIHOOD
        answer = yield AskStudent(n=1, temperature=policy.alone_temperature, likelihood=likelihood)
        return (
            _Verdict(reason=answer.reason) if isinstance(answer, Failed) else _single(answer, alone, rule, admissible)
        )
    if policy.signal is Signal.LIKELIHOOD:
        answer = yield AskStudent(n=1, temperature=0.0, likelihood=True)
        return (
            _Verdict(reason=answer.reason)
            if isinstance(answer, Failed)
            else _confident(policy, answer, rule, admissible)
        )
    return (yield from _vote(policy, rule, admissible))


def _without_repeats(
    policy: Policy,
    verdict: _Verdict,
    rule: AgreementRule,
    admissible: Sequence[str] | None,
    tried: Collection[Hashable],
) -> _Verdict:
    """A trusted action that was tried here before is not trusted; only a cascade has somebody to hand it to."""
    if policy.kind is not PolicyKind.CASCADE or not policy.escalate_repeats or verdict.reply is None:
        return verdict
    if rule.key(verdict.reply, admissible) not in tried:
        return verdict
    return verdict._replace(reply=None, reason=Reason.REPEATED)


def _acts_alone(policy: Policy, state: CascadeState) -> Reason | None:
    """The reason why the student's first answer is executed without a vote, or None where a vote is due."""
    if policy.kind is PolicyKind.STUDENT:
        return Reason.STUDENT_ONLY
    if policy.kind is PolicyKind.RANDOM_MIX:
        return Reason.RANDOM_STUDENT
    if state.holder is Answerer.STUDENT or policy.mode is EscalationMode.TEACHER_FIRST:
        return Reason.TASK_TRUSTED
    return None


def _single(
    replies: Sequence[Reply], reason: Reason, rule: AgreementRule, admissible: Sequence[str] | None
) -> _Verdict:
    votes = _votes(replies, rule, admissible)
    return _Verdict(replies[0], reason, votes, None, candidate_confidence(replies[0]))


def _vote(policy: Policy, rule: AgreementRule, admissible: Sequence[str] | None) -> Generator[Effect, Answer, _Verdict]:
    """Unanimity may stop after two samples that differ: the decision is the same, the rest is saved."""
    early = policy.sampling is Sampling.SEQUENTIAL and policy.threshold == 1.0 and policy.samples > 2
    answer = yield AskStudent(n=2 if early else policy.samples, temperature=policy.temperature)
    if isinstance(answer, Failed):
        return _Verdict(reason=answer.reason)
    replies = list(answer)
    if early and tally(replies, rule, admissible).agreement == 1.0:
        more = yield AskStudent(n=policy.samples - 2, temperature=policy.temperature)
        if isinstance(more, Failed):
            return _Verdict(reason=more.reason, votes=_votes(replies, rule, admissible))
        replies.extend(more)
    return _judge(policy, replies, rule, admissible)


def _judge(policy: Policy, replies: Sequence[Reply], rule: AgreementRule, admissible: Sequence[str] | None) -> _Verdict:
    count = tally(replies, rule, admissible)
    votes = _votes(replies, rule, admissible)
    if count.winner is not None and count.agreement >= policy.threshold:
        return _Verdict(replies[count.winner], Reason.AGREED, votes, count.agreement)
    reason = Reason.INVALID if count.invalid else Reason.DISAGREED
    return _Verdict(None, reason, votes, count.agreement)


def _confident(
    policy: Policy, replies: Sequence[Reply], rule: AgreementRule, admissible: Sequence[str] | None
) -> _Verdict:
    confidence = candidate_confidence(replies[0])
    votes = _votes(replies, rule, admissible)
    if votes[0].key is None:
        return _Verdict(None, Reason.INVALID, votes, None, confidence)
    if confidence is not None and confidence >= policy.threshold:
        return _Verdict(replies[0], Reason.CONFIDENT, votes, None, confidence)
    return _Verdict(None, Reason.NOT_CONFIDENT, votes, None, confidence)


class Tally(NamedTuple):
    """``winner`` is the position of the first sample of the most common valid action (ties: seen first)."""

    winner: int | None
    agreement: float
    invalid: int


def tally(replies: Sequence[Reply], rule: AgreementRule, admissible: Sequence[str] | None) -> Tally:
    """Count the samples by canonical key. Invalid samples stay in the denominator: they count as disagreement."""
    keys: list[Hashable | None] = [rule.key(reply, admissible) for reply in replies]
    valid = Counter(key for key in keys if key is not None)
    if not valid:
        return Tally(None, 0.0, len(keys))
    top = max(valid.values())
    winner = next(i for i, key in enumerate(keys) if key is not None and valid[key] == top)
    return Tally(winner, top / len(keys), len(keys) - sum(valid.values()))


def candidate_confidence(reply: Reply) -> float | None:
    """Probability of the best candidate, normalised over all candidates; None where none were scored."""
    if not reply.candidates:
        return None
    logprobs = [logprob for _, logprob in reply.candidates]
    best = max(logprobs)
    return 1.0 / math.fsum(math.exp(logprob - best) for logprob in logprobs)


def _votes(replies: Sequence[Reply], rule: AgreementRule, admissible: Sequence[str] | None) -> tuple[Vote, ...]:
    return tuple(_one_vote(reply, rule, admissible) for reply in replies)


def _one_vote(reply: Reply, rule: AgreementRule, admissible: Sequence[str] | None) -> Vote:
    key = rule.key(reply, admissible)
    return Vote(key=None if key is None else _written(key), text=reply.text, logprob=reply.logprob)


def _written(key: Hashable) -> str:
    """A canonical key as the record keeps it: a text as it is, pairs of tool calls as JSON that can be read again."""
    return key if isinstance(key, str) else json.dumps(key, default=str)


# --- resolutions ----------------------------------------------------------------------------------------------------


def _decision(policy: Policy, answerer: Answerer, reason: Reason, verdict: _Verdict) -> Decision:
    return Decision(
        answerer=answerer,
        reason=reason,
        mode=policy.mode if policy.kind is PolicyKind.CASCADE else None,
        rule=policy.rule,
        votes=verdict.votes,
        agreement=verdict.agreement,
        confidence=verdict.confidence,
        samples=len(verdict.votes),
    )


def _student_acts(
    policy: Policy, state: CascadeState, rule: AgreementRule, admissible: Sequence[str] | None, verdict: _Verdict
) -> Resolution:
    assert verdict.reply is not None
    trusted = policy.kind is PolicyKind.CASCADE and policy.mode is EscalationMode.TASK
    return Resolution(
        action=rule.action(verdict.reply, admissible),
        reply=verdict.reply,
        decision=_decision(policy, Answerer.STUDENT, verdict.reason, verdict),
        state=msgspec.structs.replace(state, step=state.step + 1, holder=Answerer.STUDENT if trusted else state.holder),
    )


def _teacher_acts(
    policy: Policy,
    state: CascadeState,
    rule: AgreementRule,
    admissible: Sequence[str] | None,
    reason: Reason,
    verdict: _Verdict,
) -> Steps:
    view = TeacherView.COMPACT if policy.mode is EscalationMode.COMPACT else TeacherView.FULL
    answer = yield AskTeacher(view=view, reason=reason)
    if isinstance(answer, Failed):
        raise RuntimeError("a failed teacher must be raised by the driver, not sent")
    return Resolution(
        action=rule.action(answer[0], admissible),
        reply=answer[0],
        decision=_decision(policy, Answerer.TEACHER, reason, verdict),
        state=_after_teacher(policy, state, reason),
    )


def _after_teacher(policy: Policy, state: CascadeState, reason: Reason) -> CascadeState:
    """Who holds the next steps once the teacher has acted for ``reason``."""
    state = msgspec.structs.replace(state, step=state.step + 1)
    if reason is Reason.TEACHER_KEEPS:
        return msgspec.structs.replace(state, teacher_left=max(0, state.teacher_left - 1))
    if policy.kind is not PolicyKind.CASCADE or reason is Reason.TEACHER_FIRST:
        return state
    if policy.mode is EscalationMode.STICKY:
        return msgspec.structs.replace(state, teacher_left=policy.keep_steps - 1)
    if policy.mode is EscalationMode.TASK:
        return msgspec.structs.replace(state, holder=Answerer.TEACHER)
    return state


def _restart(policy: Policy, state: CascadeState, verdict: _Verdict) -> Resolution:
    """Give the whole task to the teacher; the loop resets the environment and records the lost step."""
    return Resolution(
        action=Action(),
        reply=Reply(),
        decision=_decision(policy, Answerer.NOBODY, verdict.reason, verdict),
        state=msgspec.structs.replace(state, step=state.step + 1, holder=Answerer.TEACHER),
        restart=True,
    )
