"""Rollout: how a calibrated student goes from answering nobody to answering nearly everybody, and back.

    OFF -> SHADOW -> CANARY (share by share) -> LIVE        FROZEN holds a stage        KILLED: all to the teacher

What it is: a pure state machine. ``step`` takes the plan, the state and the evidence gathered since the stage was
entered, and returns the next state with a reason and a sentence. The operator's acts (``begin``, ``freeze``, ``kill``,
...) are functions of the same kind. ``assignment`` says how each episode is served under a state.

What it knows: counts, a drift verdict, the time as a number. What it does not do: keep a clock, count episodes, store
its state, or ask a model; the gateway does.

What is guaranteed, each at level ``alpha`` per calibration and however often ``step`` is called (``evidence`` says
why): shadow is left only on proof that the loss rate is below ``allowed_loss``; LIVE is entered only on proof that the
canary is not worse than the control by ``live_margin``; a canary that is no worse is stepped back as "worse" with
probability at most ``alpha`` in all. It cannot oscillate: every step back lowers the stage and counts, after
``max_step_backs`` it stays in shadow until a new calibration, and each return needs ``backoff`` times as many episodes
and as much time as the last.
"""

from __future__ import annotations

import itertools
from enum import StrEnum
from typing import NamedTuple

import msgspec

from potstill.decide.drift import DriftVerdict
from potstill.decide.evidence import Arm, is_not_worse, is_worse, needed, rate_is_above, rate_is_below
from potstill.errors import ConfigError
from potstill.types import Struct


class Stage(StrEnum):
    OFF = "off"
    """Not begun: the teacher answers, the student is not asked."""
    SHADOW = "shadow"
    """The teacher answers; the student is asked beside it and only recorded."""
    CANARY = "canary"
    """The cascade answers a share of the episodes; the others are its control."""
    LIVE = "live"
    """The cascade answers all but a small control."""
    FROZEN = "frozen"
    """The operator holds a stage: nothing advances; a step back still happens."""
    KILLED = "killed"
    """Everything goes to the teacher until an operator releases it."""


class Action(StrEnum):
    STAY = "stay"
    ADVANCE = "advance"
    STEP_BACK = "step-back"


class RolloutReason(StrEnum):
    NOT_BEGUN = "not-begun"
    GATHERING = "gathering"
    """Too few labelled units or episodes yet."""
    TOO_SOON = "too-soon"
    UNCERTAIN = "uncertain"
    """Enough to look at, but it proves nothing yet."""
    DRIFT_WATCH = "drift-watch"
    COSTS_MORE = "costs-more"
    """The cascade's episodes cost at least what the control's do."""
    PROVEN = "proven"
    COMPLETE = "complete"
    """Live, and nothing speaks against it."""
    DRIFT_ALARM = "drift-alarm"
    LOSS_TOO_HIGH = "loss-too-high"
    CANARY_WORSE = "canary-worse"
    NEEDS_CALIBRATION = "needs-calibration"
    FROZEN = "frozen"
    KILLED = "killed"


class RolloutPlan(Struct, frozen=True, kw_only=True):
    """Fixed before the rollout begins."""

    allowed_loss: float
    """Rate of "student would have acted and lost what the teacher wins" that the calibration allows, in (0, 1)."""
    ladder: tuple[float, ...] = (0.05, 0.2, 0.5)
    """Shares of the canary, rising."""
    live_share: float = 0.98
    """Share of the cascade when live; the rest stays with the teacher as a control."""
    alpha: float = 0.05
    ladder_margin: float = 0.15
    """To climb the ladder the canary's success must be proven to be less than this below the control's."""
    live_margin: float = 0.05
    """The same for going live."""
    min_episodes: int = 50
    """Canary episodes before anything is concluded about them."""
    min_seconds: float = 3600.0
    """Time in each stage before it may advance."""
    max_step_backs: int = 3
    backoff: float = 2.0
    """Each step back multiplies ``min_episodes`` and ``min_seconds`` by this."""

    def __post_init__(self) -> None:
        steps = (0.0, *self.ladder, self.live_share)
        if not self.ladder or any(low >= high for low, high in itertools.pairwise(steps)) or steps[-1] >= 1.0:
            raise ConfigError(
                f"ladder {list(self.ladder)} with live_share {self.live_share} does not rise from above 0 to below 1. "
                "Type for example: ladder=(0.05, 0.2, 0.5), live_share=0.98"
            )
        for name in ("allowed_loss", "alpha", "ladder_margin", "live_margin"):
            if not 0.0 < getattr(self, name) < 1.0:
                raise ConfigError(f"{name} is {getattr(self, name)}; allowed: above 0 and below 1")
        if self.min_episodes < 1 or not self.min_seconds >= 0.0 or self.max_step_backs < 0 or not self.backoff >= 1.0:
            raise ConfigError(
                f"min_episodes {self.min_episodes}, min_seconds {self.min_seconds}, max_step_backs "
                f"{self.max_step_backs}, backoff {self.backoff}; allowed: at least 1, 0, 0 and 1"
            )


class RolloutState(Struct, frozen=True, kw_only=True):
    """All that the rollout remembers; JSON-serialisable. The evidence starts afresh whenever ``entered_at`` changes."""

    stage: Stage = Stage.OFF
    held: Stage | None = None
    """Frozen: the stage that is held."""
    rung: int = 0
    """Canary: position on the ladder."""
    entered_at: float = 0.0
    """Unix seconds at which the serving stage was entered."""
    step_backs: int = 0
    """Since the calibration."""
    needs_calibration: bool = False

    @property
    def serving(self) -> Stage:
        """The stage by which episodes are served: the held one while frozen."""
        return self.held or self.stage


class Evidence(Struct, frozen=True, kw_only=True):
    """What was seen since the serving stage was entered. Counts only grow; outcomes not yet known are left out."""

    now: float
    """Unix seconds."""
    drift: DriftVerdict = DriftVerdict.STEADY
    shadow_units: int = 0
    """Decisions (or tasks) of the random shadow sample whose loss is known."""
    shadow_losses: int = 0
    canary: Arm = Arm()
    control: Arm = Arm()
    canary_usd: float | None = None
    """Dollars of all canary episodes; None: unknown."""
    control_usd: float | None = None


class RolloutDecision(Struct, frozen=True, kw_only=True):
    state: RolloutState
    """What to store. ``stay`` keeps stage, rung and evidence; only ``needs_calibration`` may be new."""
    action: Action
    reason: RolloutReason
    sentence: str


# --- the operator's acts --------------------------------------------------------------------------------------------


def begin(state: RolloutState, now: float) -> RolloutState:
    """OFF -> SHADOW. Raises ``ConfigError`` in any other stage."""
    _only_from(state, {Stage.OFF}, "begin")
    return RolloutState(stage=Stage.SHADOW, entered_at=now)


def freeze(state: RolloutState) -> RolloutState:
    """Hold the present stage: it no longer advances."""
    _only_from(state, {Stage.SHADOW, Stage.CANARY, Stage.LIVE}, "freeze")
    return msgspec.structs.replace(state, stage=Stage.FROZEN, held=state.stage)


def unfreeze(state: RolloutState) -> RolloutState:
    """Go on from the held stage; its evidence still counts."""
    _only_from(state, {Stage.FROZEN}, "unfreeze")
    return msgspec.structs.replace(state, stage=state.serving, held=None)


def kill(state: RolloutState) -> RolloutState:
    """Everything to the teacher at once, from any stage."""
    return msgspec.structs.replace(state, stage=Stage.KILLED, held=None, rung=0)


def release(state: RolloutState, now: float) -> RolloutState:
    """End a kill: back to shadow, from where the student must prove itself again."""
    _only_from(state, {Stage.KILLED}, "release")
    return RolloutState(
        stage=Stage.SHADOW,
        entered_at=now,
        step_backs=state.step_backs,
        needs_calibration=state.needs_calibration,
    )


def recalibrated(state: RolloutState, now: float) -> RolloutState:
    """A new calibration (and a fresh drift monitor) is in place: shadow again, with all step backs forgiven.

    A rollout that is off, killed or frozen stays so.
    """
    if state.stage in (Stage.OFF, Stage.KILLED):
        return msgspec.structs.replace(state, step_backs=0, needs_calibration=False)
    if state.stage is Stage.FROZEN:
        return RolloutState(stage=Stage.FROZEN, held=Stage.SHADOW, entered_at=now)
    return RolloutState(stage=Stage.SHADOW, entered_at=now)


def _only_from(state: RolloutState, allowed: set[Stage], act: str) -> None:
    if state.stage not in allowed:
        names = ", ".join(sorted(allowed))
        raise ConfigError(f"Cannot {act} a rollout that is {state.stage}; allowed: {names}.")


# --- the machine ----------------------------------------------------------------------------------------------------


class _Finding(NamedTuple):
    reason: RolloutReason
    sentence: str


def step(plan: RolloutPlan, state: RolloutState, evidence: Evidence) -> RolloutDecision:
    """The next stage. May be called after every episode or once a day: the guarantees are the same."""
    if state.stage is Stage.OFF:
        return _stay(state, _Finding(RolloutReason.NOT_BEGUN, "The rollout has not begun: the teacher answers."))
    if state.stage is Stage.KILLED:
        return _stay(
            state, _Finding(RolloutReason.KILLED, "Killed: the teacher answers until an operator releases it.")
        )
    harm = _calibration_broken(plan, evidence)
    if harm is not None:
        return _to_shadow(state, evidence, harm)
    harm = _canary_harm(plan, state, evidence)
    if harm is not None:
        return _one_back(plan, state, evidence, harm)
    finding = _not_ready(plan, state, evidence)
    return _stay(state, finding) if finding is not None else _advance(plan, state, evidence)


def _stay(state: RolloutState, finding: _Finding) -> RolloutDecision:
    return RolloutDecision(state=state, action=Action.STAY, reason=finding.reason, sentence=finding.sentence)


def _calibration_broken(plan: RolloutPlan, evidence: Evidence) -> _Finding | None:
    """What takes the student off all episodes: the calibration no longer holds."""
    if evidence.drift is DriftVerdict.ALARM:
        return _Finding(
            RolloutReason.DRIFT_ALARM, "The student agrees with the teacher less often than was calibrated."
        )
    units, losses = evidence.shadow_units, evidence.shadow_losses
    if rate_is_above(losses, units, plan.allowed_loss) >= needed(plan.alpha / _visits(plan)):
        share = f"{losses} of {units} shadowed units"
        return _Finding(RolloutReason.LOSS_TOO_HIGH, f"{share} were lost; {plan.allowed_loss:.3g} of them are allowed.")
    return None


def _canary_harm(plan: RolloutPlan, state: RolloutState, evidence: Evidence) -> _Finding | None:
    if state.serving not in (Stage.CANARY, Stage.LIVE):
        return None
    canary, control = evidence.canary, evidence.control
    if is_worse(canary, control) < needed(plan.alpha / _visits(plan)):
        return None
    return _Finding(RolloutReason.CANARY_WORSE, f"The canary succeeds less often: {_arms(canary, control)}.")


def _visits(plan: RolloutPlan) -> int:
    """How many stages can be entered at most under one calibration: each may find harm by chance once."""
    return (len(plan.ladder) + 2) * (plan.max_step_backs + 1)


def _to_shadow(state: RolloutState, evidence: Evidence, harm: _Finding) -> RolloutDecision:
    back = state.serving is not Stage.SHADOW
    after = msgspec.structs.replace(
        _placed(state, Stage.SHADOW, 0, evidence.now) if back else state,
        needs_calibration=True,
        step_backs=state.step_backs + back,
    )
    sentence = harm.sentence + " Calibrate again; until then the teacher answers."
    return RolloutDecision(
        state=after, action=Action.STEP_BACK if back else Action.STAY, reason=harm.reason, sentence=sentence
    )


def _one_back(plan: RolloutPlan, state: RolloutState, evidence: Evidence, harm: _Finding) -> RolloutDecision:
    used_up = state.step_backs >= plan.max_step_backs
    if state.serving is Stage.LIVE:
        stage, rung = Stage.CANARY, len(plan.ladder) - 1
    else:
        stage, rung = (Stage.CANARY, state.rung - 1) if state.rung > 0 else (Stage.SHADOW, 0)
    if used_up:
        stage, rung = Stage.SHADOW, 0
    after = msgspec.structs.replace(
        _placed(state, stage, rung, evidence.now), step_backs=state.step_backs + 1, needs_calibration=used_up
    )
    where = "Calibrate again" if used_up else f"Back to {_where(plan, after)}"
    return RolloutDecision(
        state=after, action=Action.STEP_BACK, reason=harm.reason, sentence=f"{harm.sentence} {where}."
    )


def _placed(state: RolloutState, stage: Stage, rung: int, now: float) -> RolloutState:
    """The state at another stage; a frozen rollout stays frozen there."""
    if state.stage is Stage.FROZEN:
        return msgspec.structs.replace(state, held=stage, rung=rung, entered_at=now)
    return msgspec.structs.replace(state, stage=stage, rung=rung, entered_at=now)


def _not_ready(plan: RolloutPlan, state: RolloutState, evidence: Evidence) -> _Finding | None:
    """The first thing that stands in the way of advancing, or None."""
    if state.needs_calibration:
        return _Finding(RolloutReason.NEEDS_CALIBRATION, "The calibration no longer holds. Type: potstill calibrate")
    if state.stage is Stage.FROZEN:
        return _Finding(RolloutReason.FROZEN, f"Frozen at {_where(plan, state)} by an operator.")
    if evidence.drift is DriftVerdict.WATCH:
        return _Finding(RolloutReason.DRIFT_WATCH, "Agreement may be falling; nothing advances while it is watched.")
    if state.stage is Stage.LIVE:
        return _Finding(RolloutReason.COMPLETE, "Live, and nothing speaks against it.")
    patience = plan.backoff**state.step_backs
    left = plan.min_seconds * patience - (evidence.now - state.entered_at)
    if left > 0:
        return _Finding(RolloutReason.TOO_SOON, f"{left:.0f} s are left of the time at {_where(plan, state)}.")
    if state.stage is Stage.SHADOW:
        return _shadow_not_ready(plan, evidence)
    return _canary_not_ready(plan, state, evidence, patience)


def _shadow_not_ready(plan: RolloutPlan, evidence: Evidence) -> _Finding | None:
    units, losses = evidence.shadow_units, evidence.shadow_losses
    if units == 0:
        return _Finding(RolloutReason.GATHERING, "No unit of the shadow sample has a known outcome yet.")
    if rate_is_below(losses, units, plan.allowed_loss) >= needed(plan.alpha / (plan.max_step_backs + 1)):
        return None
    allowed = f"a loss below {plan.allowed_loss:.3g}"
    return _Finding(RolloutReason.UNCERTAIN, f"{losses} losses in {units} shadowed units do not prove {allowed} yet.")


def _canary_not_ready(plan: RolloutPlan, state: RolloutState, evidence: Evidence, patience: float) -> _Finding | None:
    canary, control = evidence.canary, evidence.control
    wanted = plan.min_episodes * patience
    if canary.n < wanted or control.n == 0:
        return _Finding(RolloutReason.GATHERING, f"{canary.n} of {wanted:.0f} canary episodes, {control.n} controls.")
    if _loses_money(evidence):
        return _Finding(RolloutReason.COSTS_MORE, "A canary episode costs no less than one of the control.")
    margin = plan.live_margin if state.rung == len(plan.ladder) - 1 else plan.ladder_margin
    log_evidence = is_not_worse(canary, control, margin)
    if log_evidence >= needed(plan.alpha / (plan.max_step_backs + 1)):
        return None
    shown = f"{_arms(canary, control)} do not exclude yet that the canary is worse by {margin:.0%}."
    return _Finding(RolloutReason.UNCERTAIN, shown)


def _loses_money(evidence: Evidence) -> bool:
    if evidence.canary_usd is None or evidence.control_usd is None:
        return False
    return evidence.canary_usd / evidence.canary.n >= evidence.control_usd / evidence.control.n > 0.0


def _advance(plan: RolloutPlan, state: RolloutState, evidence: Evidence) -> RolloutDecision:
    if state.stage is Stage.SHADOW:
        stage, rung = Stage.CANARY, 0
        why = f"{evidence.shadow_losses} losses in {evidence.shadow_units} shadowed units."
    else:
        last = state.rung == len(plan.ladder) - 1
        stage, rung = (Stage.LIVE, 0) if last else (Stage.CANARY, state.rung + 1)
        why = f"{_arms(evidence.canary, evidence.control)}."
    after = _placed(state, stage, rung, evidence.now)
    sentence = f"On to {_where(plan, after)}: {why}"
    return RolloutDecision(state=after, action=Action.ADVANCE, reason=RolloutReason.PROVEN, sentence=sentence)


def share_of(plan: RolloutPlan, state: RolloutState) -> float:
    """The share of episodes in which the student may act now."""
    if state.serving is Stage.CANARY:
        return plan.ladder[state.rung]
    return plan.live_share if state.serving is Stage.LIVE else 0.0


def _where(plan: RolloutPlan, state: RolloutState) -> str:
    share = share_of(plan, state)
    return f"{state.serving} ({share:.0%})" if share else str(state.serving)


def _arms(canary: Arm, control: Arm) -> str:
    return f"{canary.successes} of {canary.n} canary episodes against {control.successes} of {control.n} controls"
