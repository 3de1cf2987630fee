"""From recorded samples to a calibration: which candidates are tried, and what a reader must know of the data.

What it knows: recordings of one or several students, and the chains that are worth testing on them. What it does not
do: test or choose (``decide.calibration.certify``), read files, or print.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from potstill.decide.calibration.candidates import LEARNED, LIKELIHOOD, VOTES, likelihood_chain
from potstill.decide.calibration.certify import Certified, certify, check
from potstill.decide.calibration.labels import label_shares
from potstill.decide.calibration.losses import Level
from potstill.decide.calibration.paths import Path, alone, paths, worth_learning
from potstill.decide.calibration.units import ABSENT
from potstill.errors import ConfigError, one_of
from potstill.measure.samples import Recorded

AUTO = "auto"
SCORES = (AUTO, VOTES, LEARNED)
FEW = 3
"""Samples that are tried beside all of them: the number of arXiv 2512.02543."""
MANY_STUDENTS = 20
"""Students share the error level; more of them cost as much evidence as a second set of tasks."""
NO_BILL = "what a student that is asked computes itself is on no bill, and counts as no cost"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for."""

    keep: float = 0.98
    confidence: float = 0.95
    samples: tuple[int, ...] = ()
    """Numbers of samples to try; empty: ``FEW`` and as many as most tasks have."""
    thresholds: tuple[float, ...] = ()
    """Shares of the votes to try; empty: all j/K."""
    score: str = AUTO
    """``auto``: a learned score is tried beside the votes where there are signals and enough tasks to learn from."""
    level: Level = Level.DECISION
    seed: int = 0
    """Which tasks a learned score is fitted on."""


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """The result and what a reader must know."""

    result: Certified
    teacher: str
    notes: tuple[str, ...]
    policy_sha256: str | None = None
    """Of the chosen student, where it was asked itself: another version of it is another student."""
    environment: str | None = None
    """Whose situations it was asked in: of others nothing is promised."""
    decisions_per_task: float = 1.0
    """How many decisions share what a task may lose; 1 where losses are counted in decisions."""

    def to_json(self) -> dict[str, Any]:
        """The JSON contract: the result's own keys, and more beside them."""
        told = {name: getattr(self, name) for name in ("teacher", "policy_sha256", "environment", "decisions_per_task")}
        return {**msgspec.to_builtins(self.result), **told, "notes": list(self.notes)}


def calibrate(recordings: Sequence[Recorded], settings: Settings) -> Calibration:
    """Try all candidates of all students. Raises ``ConfigError`` for settings that make no sense."""
    check_settings(settings)
    tested: list[Path] = []
    notes: list[str] = []
    for one in recordings:
        if one.signal == LIKELIHOOD:
            tested.append(_likelihoods(one, settings))
            notes.append(NO_BILL)
            continue
        ks = _there(one, settings.samples or default_samples(one), notes)
        tested += _paths(one, ks, settings, notes)
        notes += _warnings(one, max(ks))
    if len(recordings) > MANY_STUDENTS:
        notes.append(f"{len(recordings)} students share the error level; name fewer --student")
    result = certify(tested, settings.keep, settings.confidence, settings.level)
    # Where a student is asked, another action than the teacher's is a loss by definition: no outcome is to be known.
    chains = [chain for path in tested for chain, _ in path.steps if chain.signal != LIKELIHOOD]
    assumed = max((int(chain.assumed_U.sum()) for chain in chains), default=0)
    if assumed:
        notes.append(f"{assumed} decisions count as losses if the student acts, for its outcome there is not known")
    chosen = next((one for one in recordings if one.found.student == result.student), None)
    return Calibration(
        result=result,
        teacher=recordings[0].found.teacher,
        notes=tuple(dict.fromkeys(notes)),
        policy_sha256=None if chosen is None else chosen.file_sha256 or None,
        environment=None if chosen is None else chosen.environment,
        decisions_per_task=1.0 if chosen is None else _shared(chosen, settings.level),
    )


def _shared(one: Recorded, level: Level) -> float:
    """Labelled decisions of a task, on the average, where the whole task is what is lost."""
    tasks = one.units.task_U[one.units.labelled_U]
    return len(tasks) / len(np.unique(tasks)) if level is Level.TASK and len(tasks) else 1.0


def _likelihoods(one: Recorded, settings: Settings) -> Path:
    """A student's own probability, all thresholds in one path. Raises ``ConfigError`` for what is of votes."""
    check_asked(settings, one.found.student)
    return alone(likelihood_chain(one.units, one.found.student, settings.thresholds or None))


def check_asked(settings: Settings, student: str) -> None:
    """Raises ``ConfigError`` for settings of votes, where a student is asked for its own probability."""
    if settings.samples not in ((), (1,)):
        raise ConfigError(
            f"--samples is {', '.join(map(str, settings.samples))}, and {student} is asked once: its own "
            "probability is what it is trusted by. Leave --samples away."
        )
    if settings.score != AUTO:
        raise ConfigError(
            f"--score is '{settings.score}', and {student} is trusted by its own probability. Leave --score away."
        )


def _there(one: Recorded, ks: Sequence[int], notes: list[str]) -> tuple[int, ...]:
    """The numbers of samples that the recording can speak of. Raises ``ConfigError`` where there is none."""
    name, most = one.found.student, one.units.most_samples
    fitting = tuple(k for k in dict.fromkeys(ks) if k <= most)
    if not fitting:
        raise ConfigError(
            f"--samples is {', '.join(map(str, ks))}, but no decision has more than {most} samples of '{name}'. "
            f"Type: --samples {most}"
        )
    if len(fitting) < len(ks):
        notes.append(f"no decision has more than {most} samples of '{name}': larger numbers were left out")
    fewer = int(((one.units.answers_US != ABSENT).sum(axis=1) < max(fitting)).sum())
    if fewer:
        notes.append(f"{fewer} decisions have fewer than {max(fitting)} samples of '{name}': those there are voted")
    return fitting


def check_settings(settings: Settings) -> None:
    """Raises ``ConfigError`` for settings that make no sense whatever is calibrated."""
    check(settings.keep, settings.confidence)
    one_of("score", settings.score, SCORES)
    for k in settings.samples:
        if k < 1:
            raise ConfigError(f"--samples is {k}; allowed: 1 or more. Type for example: --samples 3,5")
    for threshold in settings.thresholds:
        if not 0.0 <= threshold <= 1.0:
            raise ConfigError(f"--threshold is {threshold}; allowed: 0 to 1. Type for example: --threshold 0.6")


def default_samples(one: Recorded) -> tuple[int, ...]:
    """``FEW`` and the number that most decisions have; one where no sample has an answer to vote on."""
    if not one.found.student_answers:
        return (1,)
    counts = np.bincount((one.units.answers_US != ABSENT).sum(axis=1))
    most = int(counts[1:].argmax()) + 1
    return (FEW, most) if most > FEW else (most,)


def _paths(one: Recorded, ks: Sequence[int], settings: Settings, notes: list[str]) -> list[Path]:
    name = one.found.student
    asked = settings.score == LEARNED
    learn = not settings.thresholds and settings.score != VOTES
    learn = learn and (asked or worth_learning(one.units, settings.keep, settings.confidence))
    found = paths(
        one.units,
        ks,
        settings.keep,
        settings.confidence,
        name,
        thresholds=settings.thresholds or None,
        learn=learn,
        votes=not asked,
        seed=settings.seed,
    )
    if learn and all(path.fixed for path in found):
        notes.append(f"there is nothing to learn a score from for '{name}': no signal tells good answers from bad ones")
    return found


def _warnings(one: Recorded, k: int) -> list[str]:
    told = []
    labelled = int(one.units.labelled_U.sum())
    if labelled < len(one.units):
        told.append(f"{len(one.units) - labelled} decisions have a teacher's row without outcome or answer: not labels")
    if not one.found.student_answers:
        told.append(f"the samples of '{one.found.student}' have no answers to vote on: all of them count as agreed")
    if one.unlabelled is None or not labelled:
        return told
    shares = label_shares(one.units.take(one.units.labelled_U), one.unlabelled, k)
    if shares is not None and shares.suspicious:
        told.append(
            f"the labels do not look random: {shares.unanimous:.0%} of unanimous decisions of '{one.found.student}' "
            f"have one and {shares.split:.0%} of the others. The guarantee holds only for tasks like the labelled ones"
        )
    return told
