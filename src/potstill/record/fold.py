"""An episode's exchanges as one trajectory of the ordinary store.

What it knows: what makes a step out of requests and answers, which requests are the same step again, and who answered.
What it does not do: I/O, dialects (``reading``), prices, or lose anything for being unreadable: an exchange that no
dialect can read is a step with an error, and the beginning of its bytes is the step's observation.

A step is what the client showed since the model's last answer, and the action that it got back. The same prompt again
is the same step if the first try failed, if both ran at the same time, or in mid-episode (a retry, samples that the
client draws itself): its calls join the step, and the action is the one that the next prompt goes on from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b, sha256
from typing import Any

import msgspec

from potstill.record.identity import trajectory_id
from potstill.record.messages import PutBlob, Translator, replies, same_calls
from potstill.record.offers import as_learnt
from potstill.record.parsing import Situation, action_of, parse, reasoning_of
from potstill.record.reading import FAILED_STATUS, Read, read_call, read_exchange
from potstill.record.uses import joined
from potstill.trajectories.exchange import Exchange, Recorded, Upstream
from potstill.types import (
    Action,
    Answerer,
    Call,
    Decision,
    ErrorRecord,
    Observation,
    Outcome,
    Reason,
    Step,
    Task,
    Trajectory,
    TrajectoryKind,
)
from potstill.wire.neutral import Choice, Prompt
from potstill.wire.usage import normalise_usage

ENVIRONMENT = "gateway"
"""Of tasks whose client named no environment."""
EXCERPT_BYTES = 16_384
_ALONE = {Reason.TEACHER_ONLY, Reason.STUDENT_ONLY, Reason.CONTROL_ONLY}
_SAID = ("goal", "plan", "observation", "task", "environment")


@dataclass
class _Group:
    """Exchanges that are one step."""

    key: bytes | None
    members: list[tuple[Exchange, Read]] = field(default_factory=list)
    shadows: list[Exchange] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        return all(read.answer is None for _, read in self.members)


def trajectory_of(
    exchanges: Sequence[Recorded],
    *,
    namespace: str,
    episode_id: str,
    outcome: Outcome | None = None,
    before: Trajectory | None = None,
    damaged: Sequence[int] = (),
    put_blob: PutBlob | None = None,
) -> Trajectory:
    """The episode that these exchanges are; pure but for ``put_blob``, which keeps inline images.

    ``before``: the trajectory that earlier exchanges of the episode were folded into; its steps come first, and its id
    stays. ``damaged``: sequence numbers that cannot be read any more, for the metadata. Raises ``ValueError`` if there
    is neither an exchange nor a trajectory before.
    """
    ordered = [one.exchange for one in sorted(exchanges, key=lambda one: one.seq)]
    if not ordered and before is None:
        raise ValueError(f"episode {episode_id!r} of namespace {namespace!r} has no exchanges")
    translator = Translator(put_blob)
    groups = _grouped(ordered)
    first = len(before.steps) if before is not None else 0
    steps = [
        _step(first + at, group, groups[at + 1] if at + 1 < len(groups) else None, translator)
        for at, group in enumerate(groups)
    ]
    metadata = _metadata(ordered, groups, first, translator, episode_id)
    if damaged:
        metadata["damaged"] = list(damaged)
    made = _made(ordered, groups, tuple(steps), namespace, episode_id)
    made = msgspec.structs.replace(made, metadata=metadata, outcome=outcome)
    return made if before is None else _continued(before, made)


# --- which exchanges are one step -------------------------------------------------------------------------------------


def _grouped(exchanges: Iterable[Exchange]) -> list[_Group]:
    groups: list[_Group] = []
    shadows: list[Exchange] = []
    for exchange in exchanges:
        if is_shadow(exchange):
            shadows.append(exchange)
            continue
        read = read_exchange(exchange)
        key = _key(read.prompt)
        last = groups[-1] if groups else None
        if last is None or key is None or last.key != key or not _same_step(last, exchange, read):
            last = _Group(key)
            groups.append(last)
        last.members.append((exchange, read))
    for shadow in shadows:
        _attach(groups, shadow)
    return groups


def is_shadow(exchange: Exchange) -> bool:
    """A record of what the student would have done: no client sent it."""
    return not exchange.request and bool(exchange.calls) and all(call.shadow for call in exchange.calls)


def _same_step(group: _Group, exchange: Exchange, read: Read) -> bool:
    last = group.members[-1][0]
    answered = read.prompt is not None and any(turn.role == "assistant" for turn in read.prompt.turns)
    return group.failed or answered or exchange.started_at < last.started_at + last.latency_s


def _attach(groups: list[_Group], shadow: Exchange) -> None:
    """To the step whose request it was asked beside, else the last one."""
    wanted = shadow.metadata.get("shadow_of")
    named = [group for group in groups if any(wanted and one.request_id == wanted for one, _ in group.members)]
    if not groups:
        groups.append(_Group(None))
    (named or groups)[-1].shadows.append(shadow)


def _key(prompt: Prompt | None) -> bytes | None:
    return None if prompt is None else blake2b(msgspec.json.encode(prompt.turns), digest_size=16).digest()


# --- one step ---------------------------------------------------------------------------------------------------------


def _step(index: int, group: _Group, following: _Group | None, translator: Translator) -> Step:
    if not group.members:
        return _shadow_step(index, group, translator)
    exchange, read, choice = _taken(group, following)
    observation = _observation(exchange, read, translator)
    action = Action() if choice is None else action_of(choice.parts)
    if exchange.actions is not None and read.prompt is not None:
        observation, action = as_learnt(read.prompt, exchange.actions, observation, action)
    calls = [call for one, its in group.members for call in _calls(one, its, translator)]
    return Step(
        index=index,
        observation=observation,
        action=action,
        answerer=exchange.answerer if choice is not None else Answerer.NOBODY,
        reasoning="" if choice is None else reasoning_of(choice.parts),
        decision=exchange.decision,
        calls=(*calls, *_shadow_calls(group, read, translator)),
        demonstrations=exchange.demonstrations,
        bullets=exchange.bullets,
        latency_s=_latency(group),
        error=read.problem,
    )


def _taken(group: _Group, following: _Group | None) -> tuple[Exchange, Read, Choice | None]:
    """The answer that the client went on with: the one in its next prompt, else the last that came whole."""
    went_on = _went_on(group, following)
    answered = [(exchange, read) for exchange, read in group.members if read.answer is not None and read.answer.choices]
    if not answered:
        return (*group.members[-1], None)
    if went_on is not None:
        for exchange, read in reversed(answered):
            for choice in read.answer.choices if read.answer is not None else ():
                if _is_this(action_of(choice.parts), went_on):
                    return exchange, read, choice
    whole = [pair for pair in answered if pair[1].problem is None] or answered
    exchange, read = whole[-1]
    return exchange, read, read.answer.choices[0] if read.answer is not None else None


def _went_on(group: _Group, following: _Group | None) -> Action | None:
    prompt = group.members[0][1].prompt
    after = following.members[0][1].prompt if following is not None and following.members else None
    if prompt is None or after is None or len(after.turns) <= len(prompt.turns):
        return None
    said = after.turns[len(prompt.turns)]
    return action_of(said.parts) if said.role == "assistant" else None


def _is_this(given: Action, repeated: Action) -> bool:
    if given.tool_calls or repeated.tool_calls:
        return same_calls(given.tool_calls, repeated.tool_calls)
    return given.text.strip() == repeated.text.strip()


def _observation(exchange: Exchange, read: Read, translator: Translator) -> Observation:
    if read.prompt is None:
        return Observation(text=exchange.request[:EXCERPT_BYTES].decode("utf-8", "replace"))
    seen = translator.observation(read.prompt)
    said = exchange.metadata.get("observation")
    return msgspec.structs.replace(seen, text=said) if isinstance(said, str) and said else seen


def _latency(group: _Group) -> float:
    """Failed tries one after the other, then the longest of those that were answered."""
    failed = sum(exchange.latency_s for exchange, read in group.members if read.answer is None)
    answered = [exchange.latency_s for exchange, read in group.members if read.answer is not None]
    return failed + max(answered, default=0.0)


# --- calls ------------------------------------------------------------------------------------------------------------


def _calls(exchange: Exchange, read: Read, translator: Translator) -> list[Call]:
    if exchange.calls:
        return [_call(call, _of_call(call, exchange, read), translator) for call in exchange.calls]
    if exchange.answerer is Answerer.NOBODY or (read.prompt is None and read.answer is None):
        return []
    alone = Upstream(
        model=exchange.route,
        upstream="",
        answerer=exchange.answerer,
        dialect=exchange.dialect,
        started_at=exchange.started_at,
        latency_s=exchange.latency_s,
        status=exchange.status,
        error=read.problem,
    )
    return [_call(alone, read, translator)]


def _of_call(call: Upstream, exchange: Exchange, read: Read) -> Read:
    """The client's answer belongs to a call only if the same side gave it."""
    if call.response is None and call.answerer is not exchange.answerer:
        read = read._replace(answer=None, problem=None)
    return read_call(call, read)


def _call(call: Upstream, read: Read, translator: Translator) -> Call:
    prompt, answer = read.prompt, read.answer
    raw_usage = call.raw_usage or (answer.raw_usage if answer is not None else None)
    usage = normalise_usage(raw_usage) or (answer.usage if answer is not None else None)
    return Call(
        model=call.model,
        answerer=call.answerer,
        purpose=call.purpose,
        prompt=translator.messages(prompt) if prompt is not None else (),
        tools=translator.tools(prompt) if prompt is not None else (),
        replies=replies(answer) if answer is not None else (),
        usage=usage,
        raw_usage=raw_usage,
        priced_as=call.price_as,
        temperature=prompt.temperature if prompt is not None else None,
        started_at=call.started_at,
        latency_s=call.latency_s,
        request_id=answer.id or None if answer is not None else None,
        error=read.problem,
    )


def _shadow_calls(group: _Group, read: Read, translator: Translator) -> list[Call]:
    asked = Read(read.prompt, None)
    return [_call(call, read_call(call, asked), translator) for shadow in group.shadows for call in shadow.calls]


def _shadow_step(index: int, group: _Group, translator: Translator) -> Step:
    """Shadow records whose exchange is not here (folded before, or never recorded)."""
    calls = _shadow_calls(group, Read(None, None), translator)
    missing = ErrorRecord(kind="Missing", message="the exchange that this shadow was asked beside is not recorded")
    return Step(
        index=index,
        observation=Observation(),
        action=Action(),
        answerer=Answerer.NOBODY,
        calls=tuple(calls),
        error=missing,
    )


# --- the episode ------------------------------------------------------------------------------------------------------


def _made(
    exchanges: Sequence[Exchange], groups: Sequence[_Group], steps: tuple[Step, ...], namespace: str, episode_id: str
) -> Trajectory:
    said = _told(exchanges)
    situation = next((parse(p) for g in groups for _, r in g.members if (p := r.prompt) is not None), Situation())
    goal = said.get("goal") or situation.goal
    started = min((one.started_at for one in exchanges), default=0.0)
    return Trajectory(
        id=trajectory_id(namespace, episode_id),
        task=Task(
            id=said.get("task") or _task_id(goal, episode_id),
            environment=said.get("environment") or ENVIRONMENT,
            goal=goal,
        ),
        kind=_kind(steps),
        arm=next((one.stage for one in exchanges if one.stage), "") or _kind(steps).value,
        namespace=namespace,
        teacher=_model(steps, Answerer.TEACHER),
        student=_model(steps, Answerer.STUDENT),
        goal=goal,
        plan=said.get("plan") or situation.plan,
        steps=steps,
        playbook=joined(one.playbook for one in exchanges if not is_shadow(one)),
        error=_broke(groups),
        started_at=started,
        duration_s=max((one.started_at + one.latency_s for one in exchanges), default=started) - started,
    )


def _continued(before: Trajectory, made: Trajectory) -> Trajectory:
    """``made`` as the end of the episode that began with ``before``."""
    steps = (*before.steps, *made.steps)
    if not made.steps:
        return msgspec.structs.replace(before, outcome=made.outcome or before.outcome)
    return msgspec.structs.replace(
        before,
        kind=_kind(steps),
        steps=steps,
        teacher=before.teacher or made.teacher,
        student=before.student or made.student,
        plan=before.plan or made.plan,
        outcome=made.outcome or before.outcome,
        playbook=joined((before.playbook, made.playbook)),
        error=made.error,
        duration_s=made.started_at + made.duration_s - before.started_at,
        metadata=_joined(before.metadata, made.metadata),
    )


def _told(exchanges: Iterable[Exchange]) -> dict[str, str]:
    """What the client said of the episode, the first word on each."""
    told: dict[str, str] = {}
    for exchange in exchanges:
        for name in _SAID:
            value = exchange.metadata.get(name)
            if isinstance(value, str) and value:
                told.setdefault(name, value)
    return told


def _task_id(goal: str, episode_id: str) -> str:
    """Episodes with the same goal are attempts at the same task."""
    return f"chat-{sha256((goal or episode_id).encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def _kind(steps: Iterable[Step]) -> TrajectoryKind:
    held = list(steps)
    answerers = {step.answerer for step in held} - {Answerer.NOBODY}
    decided: list[Decision] = [step.decision for step in held if step.decision is not None]
    if len(answerers) > 1 or any(decision.reason not in _ALONE for decision in decided):
        return TrajectoryKind.CASCADE
    return TrajectoryKind.STUDENT if answerers == {Answerer.STUDENT} else TrajectoryKind.TEACHER


def _model(steps: Iterable[Step], answerer: Answerer) -> str | None:
    return next((call.model for step in steps for call in step.calls if call.answerer is answerer), None)


def _broke(groups: Sequence[_Group]) -> ErrorRecord | None:
    """The episode broke if its last request was refused or not answered."""
    if not groups or not groups[-1].members or not groups[-1].failed:
        return None
    exchange, read = groups[-1].members[-1]
    return read.problem if exchange.status >= FAILED_STATUS or exchange.status == 0 else None


def _metadata(
    exchanges: Sequence[Exchange], groups: Sequence[_Group], first: int, translator: Translator, episode_id: str
) -> dict[str, Any]:
    """What has no field of its own; lists without repetition, empty ones left out."""
    metadata: dict[str, Any] = {"episode_id": episode_id}
    for exchange in exchanges:
        metadata |= {k: v for k, v in exchange.metadata.items() if k not in _SAID and not is_shadow(exchange)}
    lists = {
        "routes": [one.route for one in exchanges],
        "dialects": [one.dialect for one in exchanges],
        "stages": [one.stage for one in exchanges],
        "notes": [note for one in exchanges for note in one.notes],
    }
    metadata |= {name: list(dict.fromkeys(filter(None, values))) for name, values in lists.items() if any(values)}
    shadows = [
        {"step": first + at, "acted": shadow.metadata.get("acted"), "agreed": shadow.metadata.get("agreed")}
        for at, group in enumerate(groups)
        for shadow in group.shadows
    ]
    if shadows:
        metadata["shadow"] = shadows
    if translator.left_out:
        metadata["left_out"] = dict(translator.left_out)
    return metadata


def _joined(before: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    joined = before | more
    for name, value in before.items():
        added = more.get(name)
        if isinstance(value, list) and isinstance(added, list):
            joined[name] = value + [one for one in added if one not in value]
        elif name == "left_out" and isinstance(value, dict) and isinstance(added, dict):
            joined[name] = {key: value.get(key, 0) + added.get(key, 0) for key in value | added}
    return joined
