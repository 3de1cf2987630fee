"""The file that ``potstill calibrate --out`` wrote, as those read it who act by it.

What it knows: which of its fields decide, and which students it speaks of. What it does not do: calibrate, or say what
may be served all the same (``serve.rollout.trust``).
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import msgspec

from potstill.decide.calibration.candidates import LIKELIHOOD, VOTES
from potstill.decide.policy import Signal
from potstill.errors import ConfigError
from potstill.models.tuned_file import STUDENT
from potstill.types import Struct

HALF = 0.5
"""Share of decisions that are taken to be escalated before any was seen, where no calibration says."""
SIGNALS = {Signal.VOTES: (None, VOTES), Signal.LIKELIHOOD: (LIKELIHOOD,)}
"""What a calibration must be of, by what the student is trusted by."""
_DAY = re.compile(r"-20\d\d-?\d\d-?\d\d(?=@|$)")
"""Of a model's version, at the end of its name."""


class Calibrated(Struct, frozen=True, kw_only=True):
    """What a cascade takes from a calibration."""

    certified: bool
    keep: float
    threshold: float | None = None
    samples: int | None = None
    escalation_share: float = HALF
    n: int = 0
    n_teacher_success: float = 0.0
    signal: str | None = None
    student: str | None = None
    teacher: str | None = None
    """Whose answers were the labels, as MODEL or MODEL@RUN."""
    policy_sha256: str | None = None
    """Of the policy's file, or of a tuned student, that was calibrated (``file_sha256``)."""
    environment: str | None = None
    """Whose situations that student was asked in."""
    decisions_per_task: float = 1.0
    """Of a calibration by whole tasks, each of which is lost with its first lost decision."""
    reason: str = ""
    recommendation: str = "cascade"

    @property
    def allowed_loss(self) -> float | None:
        """Rate of decisions that may be lost: what is not kept of the teacher's success, shared out among a task's
        decisions; None where it is not known."""
        if not (self.n and self.n_teacher_success):
            return None
        return (1.0 - self.keep) * self.n_teacher_success / self.n / max(1.0, self.decisions_per_task)

    def is_of(self, signal: Signal) -> bool:
        """Whether it was made for a student that is trusted by this signal; one that certifies nothing is of any."""
        return not self.certified or self.signal in SIGNALS[signal]


def may_be(calibrated: str | None, *names: str | None) -> bool:
    """Whether a calibration's name of a side (``big-1``, or ``big-1@RUN``) may be of a model of one of these names.

    Logs, stores and settings write one model differently: with its place (``http:URL#big-1``, ``openai:gpt-4o``) or the
    day of its version (``gpt-4o-2024-08-06``). A calibration that names nobody may be of anybody.

    >>> may_be("big-1@run-7", "http://127.0.0.1:9/v1#big-1"), may_be("gpt-4o", "openai:gpt-4o-2024-08-06")
    (True, True)
    >>> may_be("big-1", "http://127.0.0.1:9/v1#big-10"), may_be("gpt-4o", "openai:gpt-4o-mini")
    (False, False)
    """
    if not calibrated:
        return True
    said = {_undated(one) for one in (calibrated, calibrated.rpartition("@")[0] or calibrated)}
    return any(_ends(name, one) or _ends(one, name) for name in map(_undated, filter(None, names)) for one in said)


def _undated(name: str) -> str:
    return _DAY.sub("", name)


def _ends(name: str, short: str) -> bool:
    """Whether ``short`` is the name, or what follows its place."""
    return name == short or (name.endswith(short) and name[-len(short) - 1] in ":/#")


def read(path: Path, what: str) -> Calibrated:
    """The calibration in a file. ``what``: whose it is, for messages. Raises ``ConfigError``."""
    again = f"Type: potstill calibrate ... --out {path}"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Calibrated)
    except OSError as error:
        raise ConfigError(f"Cannot read the calibration {path}{what}: {error.strerror or error}. {again}") from error
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path}, the calibration{what}, is none: {error}. {again}") from error


def file_sha256(path: Path) -> str:
    """Of a student's file as a calibration holds it; of a tuned student's folder what it says of itself, which holds
    the hashes of its base and of every other file. Empty where it cannot be read, which who opens it says.
    """
    path = path.expanduser()
    try:
        with (path / STUDENT if path.is_dir() else path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
