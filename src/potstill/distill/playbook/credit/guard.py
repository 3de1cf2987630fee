"""The book as a whole: has it become worse since a revision?

Two questions, by e-values that may be looked at after every episode (``decide.evidence``):

- *Since a revision*: episodes after a checkpoint against the ``window`` before it. Checkpoints stand at changes of the
  book with at least ``every`` episodes between them; the k-th is tested at ``alpha / (k (k + 1))``, which adds up to
  ``alpha`` over all. Time is not drawn by lot: tasks that get harder look like a book that got worse.
- *As a whole*: episodes with the full book against trials, in which half of it is withheld by lot. Time and tasks are
  the same in both, but it does not say since when.

What it knows: outcomes by revision. What it does not do: decide on single bullets (``decide``), bring the book back
(``back``).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from potstill.decide.evidence import Arm, is_worse, needed
from potstill.distill.playbook.credit.use import Use
from potstill.errors import ConfigError
from potstill.types import Struct


class GuardPlan(Struct, frozen=True, kw_only=True):
    """Fixed before anything is looked at. Raises ``ConfigError`` for impossible values."""

    alpha: float = 0.05
    """Probability of ever bringing back a book that did not become worse, for each of the two questions."""
    margin: float = 0.05
    """How much worse than before is still borne: for what is not the book's doing. The comparison by lot has none."""
    every: int = 50
    """Episodes with a known outcome from one checkpoint to the next, at least."""
    window: int = 200
    """Episodes before a checkpoint that it is compared with, at most."""

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha < 1.0 or not 0.0 <= self.margin < 1.0:
            raise ConfigError(
                f"The guard's alpha is {self.alpha:g} and its margin {self.margin:g}; allowed: above 0 and below 1 (a "
                "margin may be 0)."
            )
        if self.every < 1 or self.window < 1:
            raise ConfigError(
                f"The guard's every is {self.every} and its window {self.window}; both must be 1 or more."
            )


class Kind(StrEnum):
    SINCE = "since"
    """Worse since a revision."""
    WHOLE = "whole"
    """Worse than half of itself."""


class Regression(Struct, frozen=True, kw_only=True):
    """A book that became worse, or is."""

    kind: Kind
    good: int | None
    """The last revision that is not accused; None: none can be named, so somebody has to look."""
    worse: Arm
    better: Arm
    log_evidence: float
    """Natural logarithm of the e-value."""

    @property
    def sentence(self) -> str:
        worse, better = (f"{arm.successes} of {arm.n}" for arm in (self.worse, self.better))
        if self.kind is Kind.SINCE:
            return f"{worse} episodes after revision {self.good} succeeded, {better} before it."
        return f"{worse} episodes with the whole book succeeded, {better} trials with half of it."


class Outcomes:
    """Episodes with a known outcome, some twenty bytes each. The order in which they come does not matter."""

    def __init__(self, uses: Iterable[Use] = ()) -> None:
        self._revisions, self._seqs, self._kinds = array("q"), array("q"), bytearray()
        for use in uses:
            self.add(use)

    def add(self, use: Use) -> None:
        if use.success is not None:
            self._revisions.append(use.revision)
            self._seqs.append(use.seq)
            self._kinds.append(use.success | use.trial << 1)

    def since(self, revision: int) -> tuple[_Full, Arm]:
        """Those of this revision of the book and later: with the full book, and trials."""
        revisions_N, kinds_N = np.array(self._revisions), np.frombuffer(bytes(self._kinds), dtype=np.uint8)
        order_N = np.lexsort((np.array(self._seqs), revisions_N))
        order_N = order_N[revisions_N[order_N] >= revision]
        success_N, trial_N = kinds_N[order_N] % 2 == 1, kinds_N[order_N] > 1
        half = Arm(n=int(trial_N.sum()), successes=int(success_N[trial_N].sum()))
        return _Full(revisions_N[order_N][~trial_N], success_N[~trial_N]), half


class _Full:
    """Episodes with the full book, in the order of its revisions."""

    def __init__(self, revisions_N: NDArray[np.int64], success_N: NDArray[np.bool_]) -> None:
        self.revisions_N = revisions_N
        self.ends = (np.flatnonzero(np.diff(revisions_N)) + 1).tolist()
        """How many there are up to the last of each revision but the last one."""
        self.n = len(revisions_N)
        self._wins_N = np.concatenate([[0], np.cumsum(success_N, dtype=np.int64)])

    def arm(self, start: int, end: int) -> Arm:
        return Arm(n=end - start, successes=int(self._wins_N[end] - self._wins_N[start]))


def regression(uses: Iterable[Use] | Outcomes, plan: GuardPlan, *, after: int = 0) -> Regression | None:
    """What the e-values say of the book; None: nothing is proven. ``after``: only episodes since this revision count,
    where the book was brought back (``past.last_back``). Names the checkpoint with the most evidence, in its own
    measure.
    """
    full, trials = (uses if isinstance(uses, Outcomes) else Outcomes(uses)).since(after)
    points = _checkpoints(full, plan)
    accused = [(one.log_evidence - _needed(k, plan), -k, one) for k, one in enumerate(points, 1)]
    best = max(accused, default=None)
    if best is not None and best[0] >= 0.0:
        return best[2]
    return _whole(full.arm(0, full.n), trials, best[2] if best is not None else None, plan)


def _needed(k: int, plan: GuardPlan) -> float:
    return needed(plan.alpha / (k * (k + 1)))


def _checkpoints(full: _Full, plan: GuardPlan) -> list[Regression]:
    """One for each checkpoint, oldest first: the last episode before each is the last of its revision."""
    found, last = [], 0
    for end in full.ends:
        if end - last < plan.every:
            continue
        last, before, since = end, full.arm(max(0, end - plan.window), end), full.arm(end, full.n)
        evidence = is_worse(since, before, plan.margin)
        good = int(full.revisions_N[end - 1])
        found.append(Regression(kind=Kind.SINCE, good=good, worse=since, better=before, log_evidence=evidence))
    return found


def _whole(whole: Arm, half: Arm, suspected: Regression | None, plan: GuardPlan) -> Regression | None:
    """``suspected``: the checkpoint with the most evidence. It is gone back to only if it shows a fall."""
    evidence = is_worse(whole, half)
    if evidence < needed(plan.alpha):
        return None
    good = suspected.good if suspected is not None and suspected.log_evidence > 0.0 else None
    return Regression(kind=Kind.WHOLE, good=good, worse=whole, better=half, log_evidence=evidence)
