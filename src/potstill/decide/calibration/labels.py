"""Whether the teacher's labels look as if they were given at random, as every guarantee needs them to be.

A cascade in use asks its teacher where the student's samples disagree: its log has labels for exactly the decisions
that were doubted, and says nothing of those at which the student acted. What it knows: units with and without labels.
What it does not do: repair such data; no method can.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from potstill.decide.calibration.units import CLOSE, Units, vote

DOUBT = 4.0
"""Standard errors between the two shares from which on chance is no explanation (p < 0.0001)."""


class LabelShares(NamedTuple):
    """How many of the decisions have a label, by whether the samples were unanimous."""

    unanimous: float
    split: float
    z: float

    @property
    def suspicious(self) -> bool:
        return abs(self.z) > DOUBT


def label_shares(labelled: Units, unlabelled: Units, k: int) -> LabelShares | None:
    """Compare the label shares of unanimous and split votes of ``k`` samples; ``None`` where one kind is missing."""
    with_U = vote(labelled, k).share_U >= 1.0 - CLOSE
    without_U = vote(unlabelled, k).share_U >= 1.0 - CLOSE
    table = np.array([[with_U.sum(), without_U.sum()], [(~with_U).sum(), (~without_U).sum()]], dtype=np.float64)
    totals = table.sum(axis=1)
    if totals.min() == 0:
        return None
    shares = table[:, 0] / totals
    pooled = table[:, 0].sum() / totals.sum()
    error = math.sqrt(pooled * (1 - pooled) * (1 / totals[0] + 1 / totals[1]))
    z = 0.0 if error == 0 else float((shares[0] - shares[1]) / error)
    return LabelShares(float(shares[0]), float(shares[1]), z)
