"""The gate's other question: does the exported policy still do the tasks? Both sides played the same episodes.

Knows outcomes in pairs. Does not play episodes (``run``), and says nothing about logits (``gate``).
"""

from __future__ import annotations

from collections.abc import Mapping

from potstill.errors import ConfigError
from potstill.measure.statistics import Interval, mcnemar_exact, paired_score_interval
from potstill.types import Struct

Outcomes = Mapping[tuple[str, int], bool]
"""(task, seed) -> whether the episode succeeded."""

NAMED = 10


class Success(Struct, frozen=True, kw_only=True):
    """Success of both sides on the episodes that both played.

    It passes if the exported side's success is at most ``margin`` lower. The interval says how much that is worth: with
    few episodes even equal sides may differ by more than the margin.
    """

    episodes: int
    trained: float
    exported: float
    difference: float
    """Exported minus trained."""
    interval: Interval
    """Of the difference, 95 % (Tango 1998)."""
    p_mcnemar: float
    margin: float
    lost: tuple[tuple[str, int], ...] = ()
    """Task and seed of episodes in which only the trained side succeeded, ``NAMED`` at most."""

    @property
    def passed(self) -> bool:
        return self.difference >= -self.margin - 1e-12


def success(trained: Outcomes, exported: Outcomes, *, margin: float = 0.02) -> Success:
    """Compare outcomes. Raises ``ConfigError`` where the sides did not play the same episodes, or none."""
    if not trained or trained.keys() != exported.keys():
        raise ConfigError(
            f"The trained side played {len(trained)} episodes and the exported one {len(exported)}, of which "
            f"{len(trained.keys() & exported.keys())} are the same. Play the same tasks and seeds, one at least."
        )
    lost = sorted(key for key in trained if trained[key] and not exported[key])
    won = sum(exported[key] and not trained[key] for key in trained)
    n = len(trained)
    interval = paired_score_interval(won, len(lost), n)
    assert interval is not None, "there are pairs"
    return Success(
        episodes=n,
        trained=sum(trained.values()) / n,
        exported=sum(exported.values()) / n,
        difference=(won - len(lost)) / n,
        interval=interval,
        p_mcnemar=mcnemar_exact(len(lost), won),
        margin=margin,
        lost=tuple(lost[:NAMED]),
    )
