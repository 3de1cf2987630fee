"""Teacher and student in the same situations: how often they choose alike, and how far their distributions are apart.

It knows actions and scores over actions. It does not know episodes.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from potstill.distill.weights.fidelity.shares import Mean, Share, mean, same_length, share
from potstill.errors import ConfigError

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]


def top1(
    student: Sequence[Hashable | None],
    teacher: Sequence[Hashable | None],
    tasks: Sequence[str] | None = None,
    *,
    confidence: float = 0.95,
) -> Share:
    """The share of decisions in which both chose the same. None is no valid action and agrees with nothing."""
    same_length(student, teacher)
    hits = [ours is not None and ours == theirs for ours, theirs in zip(student, teacher, strict=True)]
    return share(hits, tasks, confidence=confidence)


def chosen(scores_NA: Floats, mask_NA: Bools | None = None) -> list[int]:
    """The index of each row's highest score among the admissible actions; of equal ones the first."""
    scores, mask = _checked(scores_NA, mask_NA)
    return [int(index) for index in np.where(mask, scores, -np.inf).argmax(axis=1)]


def kl(
    teacher_NA: Floats,
    student_NA: Floats,
    mask_NA: Bools | None = None,
    tasks: Sequence[str] | None = None,
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> Mean:
    """The mean of ``KL(teacher || student)`` over decisions, in nats, among admissible actions and at T = 1.

    Both are logits or log-probabilities, ``-inf`` for never. A student that never does what its teacher may do is
    infinitely far from it; such decisions are counted in ``infinite``.

    >>> round(kl(np.log([[0.5, 0.5]]), np.log([[0.25, 0.75]])).value, 5)
    0.14384
    """
    log_q, log_p = _log_shares(teacher_NA, mask_NA), _log_shares(student_NA, mask_NA)
    if log_q.shape != log_p.shape:
        raise ConfigError(
            f"The teacher's scores are {log_q.shape}, the student's {log_p.shape}. Both must know the same actions."
        )
    q = np.exp(log_q)
    with np.errstate(invalid="ignore"):
        rows_N = np.where(q > 0, q * (log_q - log_p), 0.0).sum(axis=1)
    return mean(np.maximum(rows_N, 0.0).tolist(), tasks, confidence=confidence, seed=seed)


def _log_shares(scores_NA: Floats, mask_NA: Bools | None) -> NDArray[np.float64]:
    scores, mask = _checked(scores_NA, mask_NA)
    masked = np.where(mask, scores, -np.inf)
    shifted = masked - masked.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _checked(scores_NA: Floats, mask_NA: Bools | None) -> tuple[NDArray[np.float64], Bools]:
    scores = np.asarray(scores_NA, dtype=np.float64)
    mask = np.ones(scores.shape, dtype=bool) if mask_NA is None else np.asarray(mask_NA, dtype=bool)
    if scores.ndim != 2 or mask.shape != scores.shape:
        raise ConfigError(
            f"Scores of shape {scores.shape} with a mask of {mask.shape}. Give both as (decisions, actions)."
        )
    lost = ((np.isnan(scores) | (scores == np.inf)) & mask).any(axis=1) | ~((scores > -np.inf) & mask).any(axis=1)
    if lost.any():
        raise ConfigError(
            f"Row {int(lost.argmax())} has a score that is NaN or infinite, or no admissible action with one. "
            "Leave such decisions out."
        )
    return scores, mask
