"""What one recorded episode says about money and trust: dollars by who answered, and what the teacher alone would cost.

What it knows: a trajectory's calls, steps and shadow records; prices and caches are those of ``measure``. What it does
not do: read a store (``admin.figures_api``), add episodes up (``overview``), or guess: a call without a known price
leaves its episode's dollars unknown.

The teacher alone, with its cache (``alone_usd``): where the teacher answered every step, what its calls cost as billed.
Elsewhere every answered step is asked of the teacher, in order, through the simulated cache of its provider: with the
prompt that was sent, its tokens as whoever read it counted them, and an answer as long as the one that was given. A
step that was shown demonstrations is taken without them: only what the episode itself said before it, which leaves out
the system's text and so makes the teacher cheaper than it would be. The teacher is assumed to take the same steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from potstill.errors import UnknownPrice
from potstill.measure.cache import ledger
from potstill.measure.ledger import cost_of
from potstill.measure.prices.table import PriceTable
from potstill.types import Answerer, Call, Message, Reason, Step, Struct, Trajectory, TrajectoryKind, Usage

DAY_S = 86_400
GOAL_CHARACTERS = 300
ALONE = frozenset({Reason.TEACHER_ONLY, Reason.STUDENT_ONLY, Reason.CONTROL_ONLY})
"""Reasons of decisions at which there was nothing to decide."""


class Spent(Struct, frozen=True, kw_only=True, array_like=True):
    """What some calls used."""

    usd: float = 0.0
    """Of the calls whose price is known."""
    input_tokens: int = 0
    cache_read_tokens: int = 0
    output_tokens: int = 0
    calls: int = 0
    unpriced: int = 0
    """Calls that were billed, but nobody can say how much."""

    def __add__(self, other: Spent) -> Spent:
        return Spent(**{name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__})


class EpisodeFigures(Struct, frozen=True, kw_only=True, array_like=True):
    """One episode, light enough to keep thousands: about 200 bytes when it is packed."""

    tenant: str
    episode: str
    route: str
    kind: TrajectoryKind
    task: str
    goal: str
    started_at: float
    steps: int
    success: bool | None
    broke: bool
    answered: dict[str, int]
    """Steps by answerer."""
    stage: str
    """The last one that is recorded, such as ``canary/cascade``."""
    spent: dict[str, Spent]
    """Of the day, by ``teacher``, ``student``, ``shadow`` (the student beside the teacher), ``control``."""
    usd: float | None
    """Of the day; None: some call's price is not known."""
    alone_usd: float | None
    """What the teacher alone would have cost on that day, its cache used."""
    way_usd: float | None
    """Of the whole episode without shadow work: what its way of answering costs."""
    decided: int = 0
    """Steps of the day at which the cascade weighed the student."""
    escalated: int = 0
    """Of these, those that the teacher answered."""
    shadowed: int = 0
    would_act: int = 0
    agreed: int = 0
    """Shadowed decisions at which the student would have acted, and its action was the teacher's."""


def episode_figures(
    trajectory: Trajectory, table: PriceTable | None, day: int | None, teachers: Mapping[str, str] | None = None
) -> EpisodeFigures:
    """``day``: whole days since 1970, UTC; None: the whole episode, and nothing is supposed of the teacher alone.

    ``teachers``: the price name of each route's teacher.
    """
    metadata = trajectory.metadata
    route = _first(metadata.get("routes")) or trajectory.task.environment
    shadow = shadow_steps(trajectory)
    teacher = (teachers or {}).get(route) or trajectory.teacher
    today = [step for step in trajectory.steps if day is None or day_of_step(step, trajectory) == day]
    spent = _spent(today, shadow, table)
    usd = _known(spent.values())
    whole = _spent(trajectory.steps, shadow, table)
    decided = [step for step in today if step.decision is not None and step.decision.reason not in ALONE]
    shadows = _shadow_records(trajectory, {step.index for step in today})
    acted = [one for one in shadows if one.get("acted") is True]
    return EpisodeFigures(
        tenant=trajectory.namespace,
        episode=str(metadata.get("episode_id") or trajectory.id),
        route=route,
        kind=trajectory.kind,
        task=trajectory.task.id,
        goal=(trajectory.goal or trajectory.task.goal)[:GOAL_CHARACTERS],
        started_at=trajectory.started_at,
        steps=len(trajectory.steps),
        success=trajectory.outcome.success if trajectory.outcome is not None else None,
        broke=trajectory.error is not None,
        answered=_counted(step.answerer.value for step in trajectory.steps),
        stage=_last(metadata.get("stages")),
        spent=spent,
        usd=usd,
        alone_usd=None if usd is None or day is None else _alone(trajectory, teacher, table, day, shadow),
        way_usd=_known(value for name, value in whole.items() if name != "shadow"),
        decided=len(decided),
        escalated=sum(step.answerer is not Answerer.STUDENT for step in decided),
        shadowed=len(shadows),
        would_act=len(acted),
        agreed=sum(one.get("agreed") is True for one in acted),
    )


def call_usd(call: Call, table: PriceTable | None) -> float | None:
    """Dollars of one call as billed; 0 for a request that failed without usage; None where nobody can say."""
    if call.usage is None and call.error is not None:
        return 0.0
    if table is None:
        return None
    try:
        return cost_of(call, table).total_usd
    except UnknownPrice:
        return None


def shadow_steps(trajectory: Trajectory) -> frozenset[int]:
    """Indices of steps at which the student was asked beside the teacher."""
    records = trajectory.metadata.get("shadow") or ()
    return frozenset(one["step"] for one in records if isinstance(one, dict) and isinstance(one.get("step"), int))


def side_of(call: Call, step: Step, shadow: frozenset[int]) -> str:
    """Who a call's dollars belong to."""
    if call.answerer is Answerer.STUDENT and step.index in shadow:
        return "shadow"
    return call.answerer.value


def day_of_step(step: Step, trajectory: Trajectory) -> int:
    """The day on which a step was asked; the episode's first where no call has a time."""
    at = min((call.started_at for call in step.calls if call.started_at > 0), default=trajectory.started_at)
    return int(at // DAY_S)


# --- what was billed --------------------------------------------------------------------------------------------------


def _spent(steps: Iterable[Step], shadow: frozenset[int], table: PriceTable | None) -> dict[str, Spent]:
    found: dict[str, Spent] = {}
    for step in steps:
        for call in step.calls:
            side = side_of(call, step, shadow)
            found[side] = found.get(side, Spent()) + _of_call(call, table)
    return found


def _of_call(call: Call, table: PriceTable | None) -> Spent:
    usd, usage = call_usd(call, table), call.usage or Usage()
    return Spent(
        usd=usd or 0.0,
        input_tokens=usage.input_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        output_tokens=usage.output_tokens,
        calls=1,
        unpriced=usd is None,
    )


def _known(parts: Iterable[Spent]) -> float | None:
    held = list(parts)
    return None if any(one.unpriced for one in held) else sum(one.usd for one in held)


# --- the teacher alone ------------------------------------------------------------------------------------------------


def _alone(
    trajectory: Trajectory, teacher: str | None, table: PriceTable | None, day: int, shadow: frozenset[int]
) -> float | None:
    """Dollars of the day had the teacher answered every step; None where its price is not known."""
    answered = [step for step in trajectory.steps if step.answerer is not Answerer.NOBODY]
    if all(step.answerer is Answerer.TEACHER and _asked_alone(step, shadow) for step in answered):
        return _known(
            [
                _of_call(call, table)
                for step in trajectory.steps
                if day_of_step(step, trajectory) == day
                for call in step.calls
                if call.answerer is Answerer.TEACHER
            ]
        )
    if table is None or teacher is None:
        return None
    supposed = [_supposed(step, answered[: at + 1], teacher) for at, step in enumerate(answered)]
    calls = [call for call in supposed if call is not None]
    if len(calls) != len(answered):
        return None
    try:
        rows = ledger(calls, table, cache="simulated")
    except UnknownPrice:
        return None
    dollars = [row.total_usd for row, step in zip(rows, answered, strict=True) if day_of_step(step, trajectory) == day]
    known = [one for one in dollars if one is not None]
    return sum(known) if len(known) == len(dollars) else None


def _asked_alone(step: Step, shadow: frozenset[int]) -> bool:
    """No student's sample stood before the teacher's answer."""
    return all(call.answerer is Answerer.TEACHER or side_of(call, step, shadow) == "shadow" for call in step.calls)


def _supposed(step: Step, so_far: Sequence[Step], teacher: str) -> Call | None:
    """The request that the teacher would have got at a step; None where nobody counted its tokens."""
    counted = [call for call in step.calls if call.usage is not None and call.answerer is not Answerer.CONTROL]
    own = [call for call in counted if call.answerer is step.answerer] or counted
    if not own:
        return None
    model = next((call for call in own if call.answerer is Answerer.TEACHER), own[0])
    usage = model.usage or Usage()
    prompt, input_tokens = model.prompt, usage.input_tokens
    if step.demonstrations and model.answerer is Answerer.STUDENT:
        prompt = _said(so_far)
        input_tokens = round(input_tokens * min(1.0, _characters(prompt) / max(1, _characters(model.prompt))))
    output_tokens = round(usage.output_tokens / max(1, len(model.replies)))
    return Call(
        model=teacher,
        answerer=Answerer.TEACHER,
        prompt=prompt,
        tools=model.tools,
        replies=model.replies[:1],
        usage=Usage(input_tokens=input_tokens, output_tokens=output_tokens, estimated=True),
        started_at=model.started_at,
        latency_s=model.latency_s,
    )


def _said(so_far: Sequence[Step]) -> tuple[Message, ...]:
    """The episode up to and with the last step's observation, without any system text."""
    messages: list[Message] = []
    for at, step in enumerate(so_far):
        if at:
            before = so_far[at - 1].action
            messages.append(Message(role="assistant", content=before.text, tool_calls=before.tool_calls))
        shown = "\n".join([step.observation.text, *(result.text for result in step.observation.tool_results)])
        messages.append(Message(role="user", content=shown))
    return tuple(messages)


def _characters(prompt: Iterable[Message]) -> int:
    return sum(len(one.content) + sum(len(call.arguments) for call in one.tool_calls) for one in prompt)


# --- small things -----------------------------------------------------------------------------------------------------


def _shadow_records(trajectory: Trajectory, steps: set[int]) -> list[dict[str, object]]:
    records = trajectory.metadata.get("shadow") or ()
    return [one for one in records if isinstance(one, dict) and one.get("step") in steps]


def _counted(words: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    return counts


def _first(values: object) -> str:
    return str(values[0]) if isinstance(values, list) and values else ""


def _last(values: object) -> str:
    return str(values[-1]) if isinstance(values, list) and values else ""


def plain(figures: EpisodeFigures) -> dict[str, object]:
    """For a listing."""
    names = (name for name in figures.__struct_fields__ if name != "spent")
    return {name: msgspec.to_builtins(getattr(figures, name)) for name in names}
