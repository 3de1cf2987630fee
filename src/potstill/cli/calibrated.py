"""What a calibration file makes of a command's options: ``--calibration`` in place of signal, samples and threshold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from potstill.cli.asked_students import SCHEME, is_asked
from potstill.cli.run_options import typed_options
from potstill.decide.policy import PolicyKind, Signal
from potstill.errors import ConfigError
from potstill.models.tuned_file import SCHEME as TUNED
from potstill.run.arms import Arm, ContextKind
from potstill.types import EscalationMode

if TYPE_CHECKING:
    from potstill.measure.calibration_file import Calibrated

REPLACED = ("signal", "samples", "threshold")


def calibrated(options: dict[str, Any]) -> dict[str, Any]:
    """The options with what was certified, and the share of decisions that the teacher is expected to answer; as they
    are without ``--calibration``.

    Raises ``ConfigError`` for a calibration that certifies nothing, or is of another student, teacher or environment.
    """
    if options.get("calibration") is None:
        return options
    from potstill.measure.calibration_file import file_sha256, read

    path, student = Path(options["calibration"]), options.get("student") or ""
    found = read(path, "")
    if not found.certified or found.threshold is None:
        raise ConfigError(f"{path} certifies nothing: {found.reason or 'no reason given'} Or type a --threshold.")
    # A tuned model has votes, too, where its samples were recorded.
    weighs = student.startswith(SCHEME) or (student.startswith(TUNED) and found.is_of(Signal.LIKELIHOOD))
    signal = Signal.LIKELIHOOD if weighs else Signal.VOTES
    _refuse_typed(options, path, signal)
    again = _again(student, options.get("teacher"), path)
    if not found.is_of(signal):
        raise ConfigError(
            f"{path} is a calibration of {found.signal or 'votes'}, by which {student or 'no student'} is not trusted. "
            f"Calibrate {student or 'a student'} itself: {again}"
        )
    if signal is Signal.LIKELIHOOD and found.policy_sha256 != file_sha256(Path(student.partition(":")[2])):
        raise ConfigError(
            f"{path} is of {found.student} as it was then, and {student} is another student now. Type: {again} "
            f"(or --signal likelihood --threshold {found.threshold})"
        )
    if found.environment not in (None, options["environment"]):
        raise ConfigError(
            f"{path} was certified in '{found.environment}' and promises nothing in '{options['environment']}'. "
            f"Calibrate on episodes of it: {again} --env {options['environment']}"
        )
    _refuse_another_pair(found, path, student, options.get("teacher"), again)
    acting = {"signal": signal.value, "samples": found.samples, "threshold": found.threshold}
    return {**options, **acting, "escalation_share": found.escalation_share}


def _refuse_typed(options: dict[str, Any], path: Path, signal: Signal) -> None:
    """Raises ``ConfigError`` for an option that the file says; the signal may be typed as it is there."""
    typed = typed_options()
    for name in REPLACED:
        if name in typed and not (name == "signal" and options[name] == signal.value):
            raise ConfigError(f"{typed[name]} and --calibration were typed: {path} says it. Leave one of both away.")


def _again(student: str, teacher: str | None, path: Path) -> str:
    """The command that calibrates this student."""
    how = "STORE" if is_asked(student) else "FILES --score votes"
    return f"potstill calibrate {how} --student {student or 'MODEL'} --teacher {teacher or 'MODEL'} --out {path}"


def _refuse_another_pair(found: Calibrated, path: Path, student: str, teacher: str | None, again: str) -> None:
    """Raises ``ConfigError`` where another teacher's success was kept, or by another student."""
    from potstill.measure.calibration_file import may_be

    own = found.policy_sha256 is not None  # whose very bytes were compared
    for flag, given, calibrated in (
        ("--student", None if own else student, found.student),
        ("--teacher", teacher, found.teacher),
    ):
        if given and not may_be(calibrated, given):
            acting = "--signal likelihood" if own else f"--samples {found.samples}"
            raise ConfigError(
                f"{path} was certified for {flag} {calibrated}, and {flag} is {given}: of another pair it promises "
                f"nothing. Calibrate this pair ({again}), or type without a promise: {acting} --threshold "
                f"{found.threshold}"
            )


def refuse_arms(options: dict[str, Any], arms: Sequence[Arm]) -> None:
    """Raises ``ConfigError`` for arms of which ``--calibration`` promises nothing."""
    path = options.get("calibration")
    if path is None:
        return
    cascades = [arm for arm in arms if arm.policy.kind is PolicyKind.CASCADE]
    if not cascades:
        raise ConfigError(
            f"{path} says when a cascade trusts its student, and none of these arms is a cascade: "
            f"{', '.join(arm.name for arm in arms)}. Type --arm cascade, or leave --calibration away."
        )
    for arm in cascades:
        if arm.policy.mode is EscalationMode.TASK:
            raise ConfigError(
                f"Mode task of the arm '{arm.name}' hands whole tasks over at their first step, of which {path} "
                "promises nothing. Take another --mode, such as step."
            )
        shows = arm.playbook or arm.context is not ContextKind.NONE
        if shows and options["signal"] == Signal.LIKELIHOOD and options["student"].startswith(TUNED):
            raise ConfigError(
                f"The arm '{arm.name}' adds to the student's prompts, and {path} was certified without. Take --arm "
                "cascade, or leave --calibration away."
            )
