"""A learned score: how likely the student's voted answer is good, from at most a few signals.

What it knows: logistic regression with a ridge on standardised signals, calibrated by isotonic regression of its
log-odds (for cascades: UCCI, arXiv 2605.18796). The score is the mean of the logistic and the isotonic chance: the
isotonic one is right where the curve is not logistic, but has few steps, and the logistic one orders within a step.
What it does not do: promise anything. Whatever it learns, the guarantee comes from tests on tasks that it never saw
(``certify``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from potstill.decide.calibration.isotonic import Isotonic, isotonic
from potstill.decide.calibration.units import Units, Votes
from potstill.types import Struct

Floats = NDArray[np.float64]

MOST_FEATURES = 5
MOST_STEP_TYPES = 4
AGREEMENT = "agreement"
_RIDGE = 1.0
_STEPS = 25


class Score(Struct, frozen=True, kw_only=True):
    """A fitted score, as plain numbers: it can be written to a file and read back."""

    features: tuple[str, ...]
    means: tuple[float, ...]
    """Of each feature where it was known; it stands in where it is not."""
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    """Of the standardised features, in log-odds; the last one is the constant."""
    starts: tuple[float, ...]
    levels: tuple[float, ...]
    """The isotonic steps from log-odds to the share of good answers."""

    def __call__(self, table: Table) -> Floats:
        """The calibrated chance that the answer is good, for each unit."""
        values_UF = table.values_UF[:, [table.names.index(name) for name in self.features]]
        log_odds_U = self._log_odds(values_UF)
        return np.asarray((Isotonic(self.starts, self.levels)(log_odds_U) + _chance(log_odds_U)) / 2.0)

    def _log_odds(self, values_UF: Floats) -> Floats:
        filled_UF = np.where(np.isnan(values_UF), np.asarray(self.means), values_UF)
        standard_UF = (filled_UF - np.asarray(self.means)) / np.asarray(self.scales)
        return np.asarray(standard_UF @ np.asarray(self.weights[:-1]) + self.weights[-1])


class Table(NamedTuple):
    """Signals of units: names and values, shape (U, F); NaN where unknown."""

    names: tuple[str, ...]
    values_UF: Floats


def table(units: Units, votes: Votes, k: int) -> Table:
    """Agreement, each recorded feature (mean over the first ``k`` samples) and the commonest types of step."""
    names, columns = [AGREEMENT], [votes.share_U]
    for name, values_US in sorted(units.features.items()):
        known_UK = ~np.isnan(values_US[:, :k])
        sums_U = np.where(known_UK, values_US[:, :k], 0.0).sum(axis=1)
        counts_U = known_UK.sum(axis=1)
        names.append(name)
        columns.append(np.divide(sums_U, counts_U, out=np.full(len(units), np.nan), where=counts_U > 0))
    for kind in _step_types(units):
        assert units.step_type_U is not None
        names.append(f"step_type={kind}")
        columns.append((units.step_type_U == kind).astype(np.float64))
    return Table(tuple(names), np.stack(columns, axis=1))


def _step_types(units: Units) -> list[str]:
    if units.step_type_U is None:
        return []
    kinds, counts = np.unique(units.step_type_U, return_counts=True)
    by_count = sorted(zip(counts.tolist(), kinds.tolist(), strict=True), key=lambda pair: (-pair[0], pair[1]))
    return [kind for _, kind in by_count if kind][:MOST_STEP_TYPES] if len(kinds) > 1 else []


def fit(signals: Table, good_U: NDArray[np.bool_]) -> Score | None:
    """Fit on units whose truth is known. ``None`` where no signal varies or all answers are equally good."""
    good = good_U.astype(np.float64)
    chosen = _most_telling(signals, good)
    if not chosen:
        return None
    values_UF = signals.values_UF[:, chosen]
    means = np.nanmean(values_UF, axis=0)
    scales = np.nanstd(values_UF, axis=0)
    standard_UF = (np.where(np.isnan(values_UF), means, values_UF) - means) / scales
    weights = _logistic(standard_UF, good)
    steps = isotonic(standard_UF @ weights[:-1] + weights[-1], good)
    return Score(
        features=tuple(signals.names[index] for index in chosen),
        means=tuple(means.tolist()),
        scales=tuple(scales.tolist()),
        weights=tuple(weights.tolist()),
        starts=steps.starts,
        levels=steps.levels,
    )


def _most_telling(signals: Table, good: Floats) -> Sequence[int]:
    """The features that correlate most with being good, at most ``MOST_FEATURES``."""
    if good.min() == good.max():
        return []
    found = []
    for index in range(signals.values_UF.shape[1]):
        column = signals.values_UF[:, index]
        known = ~np.isnan(column)
        if known.sum() < 2 or column[known].std() < 1e-12 or good[known].std() == 0:
            continue
        found.append((abs(float(np.corrcoef(column[known], good[known])[0, 1])), index))
    return sorted(index for _, index in sorted(found, reverse=True)[:MOST_FEATURES])


def _chance(log_odds: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(log_odds, -30, 30))))


def _logistic(standard_UF: Floats, good: Floats) -> Floats:
    """Newton's method on the penalised log-likelihood; the constant is not penalised."""
    design = np.column_stack([standard_UF, np.ones(len(good))])
    ridge = np.diag([_RIDGE] * standard_UF.shape[1] + [1e-9])
    weights = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        chance = _chance(design @ weights)
        gradient = design.T @ (good - chance) - ridge @ weights
        curvature = (design * (chance * (1 - chance))[:, None]).T @ design + ridge
        step = np.linalg.solve(curvature, gradient)
        weights = weights + step
        if np.abs(step).max() < 1e-10:
            break
    return weights
