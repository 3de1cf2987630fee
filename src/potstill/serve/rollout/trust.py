"""What a route's settings come to: the policy that decides, and the plan by which it is rolled out.

What it knows: ``[routes.cascade]`` and the file that ``potstill calibrate --json`` wrote. What it does not do: decide,
keep state. Whatever cannot be served is refused here, when the gateway starts, with what to type.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from potstill.decide import Policy, PolicyKind, Signal, agreement_rule
from potstill.decide.rollout import RolloutPlan
from potstill.errors import ConfigError, one_of
from potstill.measure.calibration_file import HALF, Calibrated, file_sha256, may_be, read
from potstill.models.tuned_file import SCHEME
from potstill.serve.settings import Gateway, Mode, Model, Route
from potstill.types import EscalationMode, Struct


class Trust(Struct, frozen=True, kw_only=True):
    """One route, ready to be decided on."""

    route: Route
    teacher: Model
    student: Model | None
    policy: Policy
    plan: RolloutPlan
    calibration: str = ""
    """Digest of what was calibrated: another one means that the rollout proves itself again."""
    policy_sha256: str = ""
    """Of the student, where this process is it: a policy's file, or what a tuned model says of itself."""
    escalation: float = HALF
    warnings: tuple[str, ...] = ()

    @property
    def rolls_out(self) -> bool:
        """Whether evidence moves it; else it is where its mode puts it, and can only be killed and released."""
        return self.route.mode is Mode.CASCADE and self.route.rollout


def trust_of(route: Route, settings: Gateway, policy_sha256: str | None = None) -> Trust:
    """``policy_sha256``: of the student's file as it was opened; None: as it is.

    Raises ``ConfigError`` for what cannot be served, and ``UnknownName`` for a model or rule that there is not.
    """
    models = {model.name: model for model in settings.models}
    for name in filter(None, (route.teacher, route.student)):
        one_of("model", name, models)
    student = models[route.student] if route.student else None
    if student is None and route.mode is not Mode.RECORD:
        raise ConfigError(
            f"Route '{route.name}' has mode '{route.mode}' and no student. Add to it: student = \"NAME\", one of: "
            f"{', '.join(sorted(models)) or 'no model is configured'}."
        )
    _check_context(route)
    if policy_sha256 is None:
        policy_sha256 = (
            file_sha256(Path(student.policy or student.tuned or ""))
            if student is not None and student.runs_here
            else ""
        )
    found = None
    if route.mode is Mode.CASCADE and route.cascade.calibration:
        found = _calibrated(route, student, policy_sha256)
    return Trust(
        route=route,
        teacher=models[route.teacher],
        student=student,
        policy=_policy(route, found, student),
        plan=_plan(route, found),
        calibration=_digest(route, found, policy_sha256),
        policy_sha256=policy_sha256,
        escalation=found.escalation_share if found is not None and found.certified else HALF,
        warnings=_warnings(route, models[route.teacher], student, found, policy_sha256),
    )


def _check_context(route: Route) -> None:
    context = route.context
    one_of("place of demonstrations (per)", context.per, ("task", "step"))
    if context.k < 0:
        raise ConfigError(f"context.k of route '{route.name}' is {context.k}; allowed: 0 or more. 0 shows none.")
    _check_playbook(route)
    if context.k and context.max_tokens < 1:
        raise ConfigError(f"context.max_tokens of route '{route.name}' is {context.max_tokens}; allowed: 1 or more.")


def _check_playbook(route: Route) -> None:
    told = route.playbook
    for name, number in (("max_tokens", told.max_tokens), ("top_k", told.top_k), ("step_tokens", told.step_tokens)):
        if number < 0:
            raise ConfigError(f"playbook.{name} of route '{route.name}' is {number}; allowed: 0 or more.")
    for name, share in (("canary_share", told.canary_share), ("holdout_share", told.holdout_share)):
        if not 0.0 <= share <= 1.0:
            raise ConfigError(f"playbook.{name} of route '{route.name}' is {share:g}; allowed: 0 to 1.")
    if not told.deadline_s > 0:
        raise ConfigError(f"playbook.deadline_s of route '{route.name}' is {told.deadline_s:g}; it must be above 0.")


def _signal(route: Route, student: Model | None) -> Signal:
    """What weighs the actions is trusted by its own probability, everything else by votes."""
    return Signal.LIKELIHOOD if _weighs(route, student) else Signal.VOTES


def _weighs(route: Route, student: Model | None) -> bool:
    """Whether the student weighs what the client lists, instead of writing answers that vote."""
    return student is not None and student.runs_here and (bool(student.policy) or route.actions is not None)


def _own(student: Model) -> str:
    """The policy or tuned model that this process is, as it is typed."""
    return f"policy:{student.policy}" if student.policy else f"{SCHEME}{student.tuned}"


def _policy(route: Route, found: Calibrated | None, student: Model | None) -> Policy:
    cascade = route.cascade
    modes = [mode.value for mode in EscalationMode if mode is not EscalationMode.RESTART]
    if cascade.mode == EscalationMode.RESTART:
        raise ConfigError(
            f"Route '{route.name}' has cascade mode 'restart': a gateway cannot set a client's environment back. "
            f"Allowed: {', '.join(modes)}."
        )
    one_of("cascade mode", cascade.mode, modes)
    agreement_rule(cascade.rule)
    samples, threshold = (found.samples, found.threshold) if found is not None and found.certified else (None, None)
    return Policy(
        kind=PolicyKind.STUDENT if route.mode is Mode.STUDENT else PolicyKind.CASCADE,
        mode=EscalationMode(cascade.mode),
        samples=cascade.samples if samples is None else samples,
        threshold=cascade.threshold if threshold is None else threshold,
        signal=_signal(route, student),
        temperature=cascade.temperature,
        rule=cascade.rule,
        keep_steps=cascade.keep_steps,
    )


def _plan(route: Route, found: Calibrated | None) -> RolloutPlan:
    """The loss that the calibration allows; where it says none, the route's own."""
    calibrated = found.allowed_loss if found is not None and found.certified else None
    return RolloutPlan(allowed_loss=calibrated or route.allowed_loss, ladder=route.canary)


def _digest(route: Route, found: Calibrated | None, policy_sha256: str) -> str:
    """Of what decides: a new calibration, rule, student or file of it is a new rollout; a new deadline is not."""
    cascade = route.cascade
    told: list[Any] = [route.student, cascade.samples, cascade.threshold, cascade.temperature, cascade.rule, found]
    if policy_sha256:
        told.append(policy_sha256)
    return hashlib.blake2b(msgspec.json.encode(told), digest_size=8).hexdigest()


# --- the calibration file ---------------------------------------------------------------------------------------------


def _calibrated(route: Route, student: Model | None, policy_sha256: str) -> Calibrated:
    path, signal = Path(route.cascade.calibration or ""), _signal(route, student)
    found = read(path, f" of route '{route.name}'")
    if not found.certified and not route.cascade.allow_uncertified:
        raise ConfigError(
            f"The calibration {path} of route '{route.name}' certifies nothing: {found.reason or 'no reason given'} "
            'Gather more labels and calibrate again, set mode = "shadow", or accept the risk with '
            "allow_uncertified = true under [routes.cascade]."
        )
    if not found.is_of(signal):
        raise ConfigError(
            f"The calibration {path} of route '{route.name}' is of {found.signal or 'votes'}, and its student is "
            f"trusted by {signal.value}. {_instead(path, route, student, signal)}"
        )
    unproved = found.certified and not route.rollout and not route.cascade.allow_uncertified
    if student is not None and unproved and _is_another(found, policy_sha256):
        raise ConfigError(
            f"Route '{route.name}' has no rollout in which a student could prove itself, and {path} is of another "
            f"version of {_own(student)} than the one in place. {_instead(path, route, student, signal)}; or write "
            "rollout = true, or accept the risk with allow_uncertified = true under [routes.cascade]."
        )
    return found


def _is_another(found: Calibrated, policy_sha256: str) -> bool:
    """Whether another version of the student was calibrated. A file that cannot be read is no matter of this."""
    return bool(policy_sha256) and found.policy_sha256 not in (None, policy_sha256)


def _instead(path: Path, route: Route, student: Model | None, signal: Signal) -> str:
    """What to do about a calibration of another signal, or another version."""
    if student is None or signal is Signal.VOTES:
        return f"Type: potstill calibrate ... --score votes --out {path}"
    return f"Type: potstill calibrate STORE --student {_own(student)} --teacher {route.teacher} --out {path}"


def _warnings(
    route: Route, teacher: Model, student: Model | None, found: Calibrated | None, policy_sha256: str
) -> tuple[str, ...]:
    """What an operator should know, though it can be served."""
    told = []
    if route.playbook.name and student is None:
        told.append(f"route '{route.name}' has a playbook and no student: nobody is shown it")
    if found is None and route.mode is Mode.CASCADE:
        told.append(f"route '{route.name}' has no calibration: nothing proves its threshold")
    if found is not None and not found.certified:
        told.append(f"the calibration of route '{route.name}' certifies nothing, and it is served all the same")
    if found is not None and found.certified and found.recommendation != "cascade":
        told.append(f"route '{route.name}': {found.reason}")
    if found is not None and student is not None and _weighs(route, student):
        if _is_another(found, policy_sha256):
            told.append(
                f"route '{route.name}': another version of {_own(student)} was calibrated than the one that is served"
            )
    elif found is not None and student is not None and not _may_be(found.student, student):
        told.append(f"route '{route.name}': '{found.student}' was calibrated, and '{student.model}' is served")
    if found is not None and not _may_be(found.teacher, teacher):
        told.append(
            f"route '{route.name}': the calibration's labels are of '{found.teacher}', and its teacher is "
            f"'{teacher.title}': of another pair nothing is proved"
        )
    return tuple(told)


def _may_be(calibrated: str | None, model: Model) -> bool:
    return may_be(calibrated, model.name, model.model, model.price_as)
