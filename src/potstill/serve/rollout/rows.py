"""What a route's rollout remembers between processes, and what one more observation does to it. Pure.

What it knows: the machine (``decide.rollout``), the drift monitor (``decide.drift``), counts. What it does not do:
stores, clocks, episodes (``stages``).

A shadowed decision counts as lost if the student would have acted and its action was not the teacher's. That is an
upper bound: another action may be as good, and the teacher may have been wrong. It needs no outcome, so none is waited
for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from potstill.decide import drift, rollout
from potstill.decide.assignment import Route as Served
from potstill.decide.bounds import clopper_pearson_upper
from potstill.decide.evidence import Arm
from potstill.types import Struct

BASELINE = 200
"""Shadowed decisions at which the student would have acted before the drift monitor starts. Their disagreements, with
the upper bound of a 95 % interval, are what it then allows."""
REMEMBERED = 50
"""Changes of stage that are kept to be shown."""


class Counts(Struct, frozen=True, kw_only=True):
    """Since the serving stage was entered."""

    shadow_units: int = 0
    shadow_losses: int = 0
    canary: Arm = Arm()
    control: Arm = Arm()
    canary_usd: float = 0.0
    control_usd: float = 0.0
    unpriced: int = 0
    """Episodes of either arm whose cost is not known: then no cost is concluded from."""


class Change(Struct, frozen=True, kw_only=True):
    """A change of stage, by the machine or by an operator."""

    at: float
    """Unix seconds."""
    what: str
    """``advance``, ``step-back``, ``begin``, ``recalibrated`` or an operator's act."""
    sentence: str


class StageRow(Struct, frozen=True, kw_only=True):
    """All of one route, as JSON in the state rows."""

    rollout: rollout.RolloutState = rollout.RolloutState()
    counts: Counts = Counts()
    calibration: str = ""
    acted: int = 0
    """Shadowed decisions under this calibration at which the student would have acted."""
    disagreed: int = 0
    monitor: drift.DriftState | None = None
    """None while the baseline is gathered."""
    reason: str = ""
    sentence: str = ""
    """What the machine last said."""
    changes: tuple[Change, ...] = ()


class Shadowed(Struct, frozen=True, kw_only=True, tag="shadowed"):
    """The student was asked beside the teacher."""

    acted: bool
    """It would have acted."""
    agreed: bool
    """Its action was the teacher's; of no meaning where it would not have acted."""
    calibration: str
    entered_at: float


class Ended(Struct, frozen=True, kw_only=True, tag="ended"):
    """An episode ended with a known outcome."""

    served: Served
    success: bool
    cost_usd: float | None
    entered_at: float
    """When the stage in which the episode began had been entered."""


class Corrected(Struct, frozen=True, kw_only=True, tag="corrected"):
    """The outcome of an episode that was counted is another one; ``success`` None: it is not known after all."""

    served: Served
    was: bool
    success: bool | None
    cost_usd: float | None
    """As it was counted."""
    entered_at: float


Event = Shadowed | Ended | Corrected


def begun(row: StageRow | None, calibration: str, now: float) -> StageRow:
    """The row as a gateway wants to find it: begun, and under its calibration."""
    if row is None:
        started = rollout.begin(rollout.RolloutState(), now)
        said = Change(at=now, what="begin", sentence="The rollout begins in shadow.")
        return StageRow(rollout=started, calibration=calibration, changes=(said,))
    if row.calibration == calibration:
        return row
    said = Change(at=now, what="recalibrated", sentence="Another calibration, rule or student: it proves itself anew.")
    return StageRow(
        rollout=rollout.recalibrated(row.rollout, now), calibration=calibration, changes=_remembered(row, said)
    )


def fitted(row: StageRow, plan: rollout.RolloutPlan) -> StageRow:
    """The row under a plan whose ladder may have become shorter: its last rung is the highest that there is."""
    last = len(plan.ladder) - 1
    if row.rollout.rung <= last:
        return row
    return msgspec.structs.replace(row, rollout=msgspec.structs.replace(row.rollout, rung=last))


def with_events(row: StageRow, events: Iterable[Event]) -> StageRow:
    """The row after some observations. Those of an earlier stage or calibration say nothing about this one."""
    for event in events:
        row = _shadowed(row, event) if isinstance(event, Shadowed) else _ended(row, event)
    return row


class _Share(NamedTuple):
    """What an ending adds to its arm, or takes away."""

    episodes: int
    successes: int
    usd: float
    unpriced: int


def stepped(row: StageRow, plan: rollout.RolloutPlan, now: float) -> StageRow:
    """The row after the machine has looked at it."""
    decision = rollout.step(plan, row.rollout, evidence(row, now))
    fresh = decision.state.entered_at != row.rollout.entered_at
    changes = row.changes
    if decision.action is not rollout.Action.STAY:
        changes = _remembered(row, Change(at=now, what=decision.action.value, sentence=decision.sentence))
    same = decision.reason == row.reason
    return msgspec.structs.replace(
        row,
        rollout=decision.state,
        counts=Counts() if fresh else row.counts,
        reason=decision.reason.value,
        sentence=row.sentence if same and not fresh else decision.sentence,
        changes=changes,
    )


def acted_on(row: StageRow, state: rollout.RolloutState, what: str, now: float, by: str) -> StageRow:
    """The row after an operator's act that led to ``state``."""
    fresh = state.entered_at != row.rollout.entered_at
    said = Change(at=now, what=what, sentence=f"{what} by {by or 'an operator'}.")
    after = msgspec.structs.replace(row, rollout=state, changes=_remembered(row, said), reason="", sentence="")
    if what == "recalibrated":
        after = msgspec.structs.replace(after, monitor=None, acted=0, disagreed=0)
    return msgspec.structs.replace(after, counts=Counts()) if fresh else after


def evidence(row: StageRow, now: float) -> rollout.Evidence:
    """What the machine is shown."""
    counts, priced = row.counts, row.counts.unpriced == 0
    return rollout.Evidence(
        now=now,
        drift=drift.DriftVerdict.STEADY if row.monitor is None else drift.verdict(row.monitor),
        shadow_units=counts.shadow_units,
        shadow_losses=counts.shadow_losses,
        canary=counts.canary,
        control=counts.control,
        canary_usd=counts.canary_usd if priced else None,
        control_usd=counts.control_usd if priced else None,
    )


def widened(row: StageRow | None, threshold: float) -> drift.Widening:
    """How strict the cascade must be now."""
    if row is None or row.monitor is None:
        return drift.Widening(verdict=drift.DriftVerdict.STEADY, threshold=threshold, student_may_act=True)
    return drift.widen(row.monitor, threshold)


# --- one observation --------------------------------------------------------------------------------------------------


def _shadowed(row: StageRow, event: Shadowed) -> StageRow:
    if event.calibration != row.calibration:
        return row
    lost = event.acted and not event.agreed
    if event.entered_at == row.rollout.entered_at:
        counts = msgspec.structs.replace(
            row.counts,
            shadow_units=row.counts.shadow_units + 1,
            shadow_losses=row.counts.shadow_losses + lost,
        )
        row = msgspec.structs.replace(row, counts=counts)
    return _monitored(row, event.agreed) if event.acted else row


def _monitored(row: StageRow, agreed: bool) -> StageRow:
    """The monitor sees what comes after its baseline."""
    acted, disagreed = row.acted + 1, row.disagreed + (not agreed)
    monitor = row.monitor
    if monitor is not None:
        monitor = drift.observe(monitor, agreed)
    elif acted >= BASELINE:
        allowed = clopper_pearson_upper(disagreed, acted)
        monitor = drift.start(drift.DriftPlan(allowed_rate=min(allowed, 0.999)))
    return msgspec.structs.replace(row, acted=acted, disagreed=disagreed, monitor=monitor)


def _ended(row: StageRow, event: Ended | Corrected) -> StageRow:
    counts = row.counts
    if event.entered_at != row.rollout.entered_at or row.rollout.serving is rollout.Stage.SHADOW:
        return row
    share = _share(event)
    counts = msgspec.structs.replace(counts, unpriced=max(0, counts.unpriced + share.unpriced))
    if event.served is Served.CASCADE:
        changed = msgspec.structs.replace(
            counts, canary=_moved(counts.canary, share), canary_usd=max(0.0, counts.canary_usd + share.usd)
        )
    else:
        changed = msgspec.structs.replace(
            counts, control=_moved(counts.control, share), control_usd=max(0.0, counts.control_usd + share.usd)
        )
    return msgspec.structs.replace(row, counts=changed)


def _share(event: Ended | Corrected) -> _Share:
    usd, unpriced = event.cost_usd or 0.0, int(event.cost_usd is None)
    if isinstance(event, Ended):
        return _Share(1, int(event.success), usd, unpriced)
    if event.success is None:
        return _Share(-1, -int(event.was), -usd, -unpriced)
    return _Share(0, int(event.success) - int(event.was), 0.0, 0)


def _moved(arm: Arm, share: _Share) -> Arm:
    """Within what an arm can be: a correction may come without the ending that a killed process took with it."""
    episodes = max(0, arm.n + share.episodes)
    return Arm(n=episodes, successes=min(max(0, arm.successes + share.successes), episodes))


def _remembered(row: StageRow, change: Change) -> tuple[Change, ...]:
    return (*row.changes, change)[-REMEMBERED:]
