"""What a calibration file makes of a command's options: ``--calibration`` in place of signal, samples and threshold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from potstill.cli.calibrate_policies import SCHEME
from potstill.cli.run_options import typed_options
from potstill.decide.policy import Signal
from potstill.errors import ConfigError
from potstill.types import EscalationMode

REPLACED = ("signal", "samples", "threshold")


def calibrated(options: dict[str, Any]) -> dict[str, Any]:
    """The options with what was certified; as they are without ``--calibration``.

    Raises ``ConfigError`` for a calibration that certifies nothing, or is of another student, environment or mode.
    """
    if options.get("calibration") is None:
        return options
    from potstill.measure.calibration_file import file_sha256, read

    path, typed, student = Path(options["calibration"]), typed_options(), options.get("student") or ""
    both = [typed[name] for name in REPLACED if name in typed]
    if both:
        raise ConfigError(f"{both[0]} and --calibration were typed: {path} says it. Leave one of both away.")
    found = read(path, "")
    if not found.certified or found.threshold is None:
        raise ConfigError(f"{path} certifies nothing: {found.reason or 'no reason given'} Or type a --threshold.")
    signal = Signal.LIKELIHOOD if student.startswith(SCHEME) else Signal.VOTES
    if not found.is_of(signal):
        raise ConfigError(
            f"{path} is a calibration of {found.signal or 'votes'}, by which {student or 'no student'} is not trusted. "
            f"Calibrate {student or 'a student'} itself: potstill calibrate ... --out {path}"
        )
    if signal is Signal.LIKELIHOOD and found.policy_sha256 != file_sha256(Path(student.removeprefix(SCHEME))):
        raise ConfigError(
            f"{path} is of {found.student} as it was then, and {student} is another file now. Type: potstill calibrate "
            f"STORE --student {student} ... --out {path} (or --signal likelihood --threshold {found.threshold})"
        )
    if found.environment not in (None, options["environment"]):
        raise ConfigError(
            f"{path} was certified in '{found.environment}' and promises nothing in '{options['environment']}'. "
            f"Calibrate on episodes of it: potstill calibrate STORE --student {student} --env {options['environment']}"
        )
    if options["mode"] == EscalationMode.TASK:
        raise ConfigError(
            f"--mode task hands whole tasks over at their first step, of which {path} promises nothing. Leave it away."
        )
    return {**options, "signal": signal.value, "samples": found.samples, "threshold": found.threshold}
