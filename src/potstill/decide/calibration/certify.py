"""Which candidates are certified, and which of them is chosen.

Every candidate is a hypothesis "loses too much"; the chance that any true one is rejected is at most 1 - confidence
(Learn then Test, arXiv 2110.01052). Along a path candidates are tested in order, each at the path's whole level, until
one fails (fixed-sequence testing). Paths share the level; one that is known before the data and certified to its end
hands its part on to the others (the graphical procedure of Bretz et al. 2009). So the cheapest of all that are
certified may be chosen, whatever the data say.

What it knows: paths. What it does not do: build them (``candidates``, ``paths``), read or print.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from potstill.decide.calibration.candidates import LEARNED, LEARNING, LIKELIHOOD, Chain
from potstill.decide.calibration.losses import Level, Losses, economics, losses
from potstill.decide.calibration.paths import Path, alone
from potstill.decide.calibration.score import Score
from potstill.errors import ConfigError

POWER = 0.8
"""Chance of a certificate for which ``needed_n`` is worked out."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One threshold on one score of one student: what was observed, and what its test says."""

    student: str
    signal: str
    samples: int
    threshold: float
    n: int
    """Labelled tasks that it was tested on."""
    n_teacher_success: float
    """Tasks (in shares, where they have several decisions) at which the teacher was right."""
    losses: float
    loss_rate: float | None
    """Observed P(loss | teacher right)."""
    p_value: float
    level: float
    """The error level that its test had."""
    certified: bool
    violations_bound: float | None
    """Upper bound of ``loss_rate`` at that level; ``None`` where the sequence did not come so far."""
    escalation_share: float
    expected_cost_usd: float | None
    teacher_cost_usd: float | None
    kept_observed: float | None
    needed_n: int | None = None
    """Where nothing is certified: tasks to test on for a certificate with a chance of 80 %, were losses as observed;
    ``None``: no number would do."""


class Certified(msgspec.Struct, frozen=True, kw_only=True):
    """The result. Not certified: the teacher answers everything. Dollars are per task."""

    certified: bool
    keep: float
    confidence: float
    threshold: float | None
    samples: int | None
    escalation_share: float
    expected_cost_usd: float | None
    teacher_cost_usd: float | None
    violations_bound: float | None
    n: int
    needed_n: int | None
    """How many more labelled tasks; ``None`` where certified, or where no number would do."""
    reason: str
    recommendation: str
    """``cascade`` or ``teacher``."""
    student: str | None = None
    signal: str | None = None
    score: Score | None = None
    """The learned score, where it was chosen."""
    n_teacher_success: float = 0.0
    losses: float | None = None
    loss_rate: float | None = None
    kept_observed: float | None = None
    least_escalation: float | None = None
    """No rule can escalate less at these answers and keep so much: (mu - a) / (1 - a) for a loss rate mu of always
    acting and a allowed one of a (arXiv 2606.29054)."""
    unit: str = "task"
    candidates: tuple[Candidate, ...] = ()


def certify(
    candidates: Sequence[Chain | Path], keep: float = 0.98, confidence: float = 0.95, level: Level = Level.DECISION
) -> Certified:
    """Test all paths and choose the cheapest certified candidate at which the student acts at all.

    ``candidates``: paths, or chains, each of which is then a path of its own. ``keep``: the share of the teacher's
    success that must be kept, in (0, 1]; ``confidence`` in (0, 1). Raises ``ConfigError`` for others, and where there
    is nothing to test.
    """
    check(keep, confidence)
    if not candidates:
        raise ConfigError("There is nothing to calibrate: no student has samples where the teacher has labels.")
    paths = [one if isinstance(one, Path) else alone(one) for one in candidates]
    found = [[losses(chain, threshold, level) for chain, threshold in path.steps] for path in paths]
    allowed = round(1.0 - keep, 12)
    p_values = [[one.p_value(allowed) for one in row] for row in found]
    shares, fixed = [path.share for path in paths], [path.fixed for path in paths]
    passed, levels = sequences(p_values, 1.0 - confidence, shares, fixed)
    tested: list[_Tested] = []
    for path, row, ps, upto, alpha in zip(paths, found, p_values, passed, levels, strict=True):
        for index, ((chain, threshold), lost, p) in enumerate(zip(path.steps, row, ps, strict=True)):
            tested.append(_Tested(_candidate(chain, threshold, lost, p, alpha, index - upto, level), chain, lost))
    unit = _unit([chain for path in paths for chain, _ in path.steps], level)
    if not any(_usable(one.candidate) for one in tested):
        return _fallback([_with_needed(one, allowed) for one in tested], keep, confidence, unit)
    return _chosen(tested, keep, confidence, unit)


class _Tested(NamedTuple):
    candidate: Candidate
    chain: Chain
    lost: Losses


def _usable(candidate: Candidate) -> bool:
    """Certified, and not because the student never acts."""
    return candidate.certified and candidate.escalation_share < 1.0


def _with_needed(tested: _Tested, allowed: float) -> Candidate:
    """With the number of labelled tasks that a certificate takes, which costs too much to work out for nothing."""
    candidate = tested.candidate
    if candidate.certified:
        return candidate
    needed = tested.lost.needed(allowed, 1.0 - candidate.level, POWER)
    return msgspec.structs.replace(candidate, needed_n=needed)


def check(keep: float, confidence: float) -> None:
    """Raise ``ConfigError`` unless both can be asked for."""
    if not 0.0 < keep <= 1.0:
        raise ConfigError(f"--keep is {keep}; allowed: above 0, at most 1. Type for example: --keep 0.98")
    if not 0.0 < confidence < 1.0:
        raise ConfigError(
            f"--confidence is {confidence}; allowed: between 0 and 1. Type for example: --confidence 0.95"
        )


def sequences(
    p_values: Sequence[Sequence[float]],
    alpha: float,
    shares: Sequence[float] | None = None,
    fixed: Sequence[bool] | None = None,
) -> tuple[list[int], list[float]]:
    """How many hypotheses of each path are rejected, in order, and the level that each path ended with.

    A ``fixed`` path (all are, unless told) that is done hands its level on to all that did not, by their ``shares``
    (all alike, unless told); a path that is done and may not hand on keeps what it has, so that the others' levels do
    not depend on it.

    >>> sequences([[0.01, 0.02], [0.04, 0.2]], 0.05)   # the first path is done at 0.025, then the second has 0.05
    ([2, 1], [0.025, 0.05])
    """
    count = len(p_values)
    shares = [1.0] * count if shares is None else shares
    fixed = [True] * count if fixed is None else fixed
    passed, levels = [0] * count, [0.0] * count
    holders = set(range(count))
    while holders:
        whole = sum(shares[index] for index in holders)
        for index in holders:
            levels[index], ps = alpha * shares[index] / whole, p_values[index]
            while passed[index] < len(ps) and ps[passed[index]] <= levels[index]:
                passed[index] += 1
        done = {index for index in holders if fixed[index] and passed[index] == len(p_values[index])}
        if not done:
            break
        holders -= done
    return passed, levels


def _candidate(
    chain: Chain, threshold: float, lost: Losses, p: float, alpha: float, beyond: int, level: Level
) -> Candidate:
    """``beyond``: negative for certified ones, 0 for the one at which the sequence stopped."""
    money = economics(chain, threshold, level)
    return Candidate(
        student=chain.student,
        signal=chain.signal,
        samples=chain.samples,
        threshold=threshold,
        n=lost.n,
        n_teacher_success=lost.right,
        losses=lost.lost,
        loss_rate=lost.rate,
        p_value=p,
        level=alpha,
        certified=beyond < 0,
        violations_bound=lost.upper(1.0 - alpha) if beyond <= 0 else None,
        escalation_share=money.escalation_share,
        expected_cost_usd=money.expected_cost_usd,
        teacher_cost_usd=money.teacher_cost_usd,
        kept_observed=money.kept,
    )


def _order(candidate: Candidate) -> tuple[float, ...]:
    """The cheapest first; where costs are not known, the fewest escalations, then the fewest samples."""
    cost = candidate.expected_cost_usd
    known = (0.0, cost) if cost is not None else (1.0, 0.0)
    return (*known, candidate.escalation_share, candidate.samples, -candidate.threshold)


def _chosen(candidates: list[_Tested], keep: float, confidence: float, unit: str) -> Certified:
    usable = [one for one in candidates if _usable(one.candidate)]
    best, chain, _ = min(usable, key=lambda one: _order(one.candidate))
    recommendation, reason = _verdict(best, keep, confidence)
    return Certified(
        certified=True,
        keep=keep,
        confidence=confidence,
        threshold=best.threshold,
        samples=best.samples,
        escalation_share=best.escalation_share,
        expected_cost_usd=best.expected_cost_usd,
        teacher_cost_usd=best.teacher_cost_usd,
        violations_bound=best.violations_bound,
        n=best.n,
        needed_n=None,
        reason=reason,
        recommendation=recommendation,
        student=best.student,
        signal=best.signal,
        score=chain.score,
        n_teacher_success=best.n_teacher_success,
        losses=best.losses,
        loss_rate=best.loss_rate,
        kept_observed=best.kept_observed,
        least_escalation=_least_escalation([one.candidate for one in candidates], keep),
        unit=unit,
        candidates=tuple(one.candidate for one in candidates),
    )


def _unit(chains: Sequence[Chain], level: Level) -> str:
    """What a loss is counted in."""
    several = any(len(chain.task_U) > 0 and int(chain.task_U.max()) + 1 < len(chain.task_U) for chain in chains)
    return "share of a task's decisions" if several and level is Level.DECISION else "task"


def _least_escalation(candidates: Sequence[Candidate], keep: float) -> float | None:
    rates = [one.loss_rate for one in candidates if one.escalation_share == 0.0 and one.loss_rate is not None]
    if not rates or keep >= 1.0:
        return None
    return max(0.0, (min(rates) - (1.0 - keep)) / keep)


def _verdict(best: Candidate, keep: float, confidence: float) -> tuple[str, str]:
    proven = (
        f"Of the teacher's successes at most {best.violations_bound:.2%} are lost with a confidence of "
        f"{100 * confidence:.6g}%; {1.0 - keep:.2%} is allowed "
        f"({best.losses:.4g} lost of {best.n_teacher_success:.4g})."
    )
    cost, teacher = best.expected_cost_usd, best.teacher_cost_usd
    if cost is None or teacher is None:
        return "cascade", f"{proven} What it saves is not known: not every cost is."
    if cost >= teacher:
        return "teacher", (
            f"{proven} But it costs ${cost:.4g} a task and the teacher alone ${teacher:.4g}: use the teacher."
        )
    return "cascade", f"{proven} It costs ${cost:.4g} a task, the teacher alone ${teacher:.4g}."


# --- nothing certified ----------------------------------------------------------------------------------------------


def _fallback(candidates: Sequence[Candidate], keep: float, confidence: float, unit: str) -> Certified:
    """The teacher answers everything; say how many labels are missing, or that no number of them would help."""
    acting = [one for one in candidates if one.escalation_share < 1.0 and not one.certified]
    within = [one for one in acting if one.needed_n is not None]
    nearest = min(within, key=_missing, default=None)
    teacher = [one.teacher_cost_usd for one in candidates if one.teacher_cost_usd is not None]
    n = nearest.n if nearest is not None else max(one.n for one in candidates)
    more = None if nearest is None else _missing(nearest)
    return Certified(
        certified=False,
        keep=keep,
        confidence=confidence,
        threshold=None,
        samples=None,
        escalation_share=1.0,
        expected_cost_usd=teacher[0] if teacher else None,
        teacher_cost_usd=teacher[0] if teacher else None,
        violations_bound=None,
        n=n,
        needed_n=more,
        reason=_why_not(candidates, acting, nearest, more, keep),
        recommendation="teacher",
        n_teacher_success=max(one.n_teacher_success for one in candidates),
        least_escalation=_least_escalation(candidates, keep),
        unit=unit,
        candidates=tuple(candidates),
    )


def _missing(candidate: Candidate) -> int:
    """How many more labelled tasks; where a score is learned, some of them go into that."""
    tested = 1.0 - LEARNING if candidate.signal == LEARNED else 1.0
    return max(1, math.ceil(((candidate.needed_n or 0) - candidate.n) / tested))


def _why_not(
    candidates: Sequence[Candidate],
    acting: Sequence[Candidate],
    nearest: Candidate | None,
    more: int | None,
    keep: float,
) -> str:
    if max(one.n for one in candidates) == 0:
        return "No task has both a sample of the student and a label of the teacher: nothing can be certified."
    if max(one.n_teacher_success for one in candidates) == 0:
        return "The teacher succeeded at no labelled task: there is no success to keep, and nothing can be certified."
    if keep >= 1.0:
        return "No number of labelled tasks can prove that nothing is ever lost: give a --keep below 1."
    if nearest is not None:
        return (
            f"{more} more labelled tasks are needed: {nearest.losses:.4g} of {nearest.n_teacher_success:.4g} of the "
            f"teacher's successes are lost at {_at(nearest)}, which "
            f"is within the {1.0 - keep:.2%} allowed, but {nearest.n} tasks do not prove it."
        )
    if not acting:
        return "The student acts at no threshold that could be certified: it is never so sure."
    best = min(acting, key=lambda one: 1.0 if one.loss_rate is None else one.loss_rate)
    return (
        f"No number of labelled tasks would do: even at {_at(best)} the "
        f"student loses {best.loss_rate or 0.0:.2%} of the teacher's successes; {1.0 - keep:.2%} is allowed. "
        f"A better student{'' if best.signal == LIKELIHOOD else ', more samples'} or a smaller --keep would help."
    )


def _at(candidate: Candidate) -> str:
    if candidate.signal == LIKELIHOOD:
        return f"a probability of {candidate.threshold:.4g}"
    return f"{candidate.samples} samples and threshold {candidate.threshold:.4g}"
