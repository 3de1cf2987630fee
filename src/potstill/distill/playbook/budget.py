"""Which bullets stand in the text when not all fit: pinned first, then utility per token.

What it knows: a hard limit of tokens, what a bullet and its section's header take of it. What it does not do: measure
utility (whoever measures hands in a number for each id; without one, ``prior_means``), change the book: what does not
fit stays there.

The limit is hard: nothing, not even a pinned bullet, makes the text longer. Pinned bullets that do not fit are named in
the epoch (``Epoch.pinned_out``), so that whoever pinned too much can be told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from potstill.distill.playbook.operations import Bullet
from potstill.errors import ConfigError
from potstill.types import Struct


class Budget(Struct, frozen=True, kw_only=True):
    """How long the text may be, and when it is put in order again. Raises ``ConfigError`` for impossible values."""

    tokens: int = 10_000
    """Hard limit of the text. The paper's accuracy with 10,000 is that with 100,000 (arXiv 2510.04618, table 21)."""
    headroom: float = 0.1
    """Share of the limit that a compaction leaves free for later bullets, where not all bullets fit. Pinned ones may
    take it."""
    slack: float = 0.1
    """A compaction is due when lines that are out of date have this share of the text's tokens: at once where a few
    bullets stand there, and seldom in a long text, whose prompt cache is worth more. 0: with the first one."""
    every: int = 50
    """A compaction is due for anything that it would put right (lines that are out of date, bullets that wait for
    room, headers that stand twice) after so many revisions without one."""
    patience_s: float = 3600.0
    """Seconds without a compaction after which one is due for a single line that is out of date. So in a book that
    hardly changes an edit is seen at once, and no cache is lost more than once an hour for this reason."""

    def __post_init__(self) -> None:
        if self.tokens < 0:
            raise ConfigError(f"A playbook's budget is {self.tokens} tokens; it must be 0 or more (0: no text).")
        for name, share in (("headroom", self.headroom), ("slack", self.slack)):
            if not 0 <= share <= 1:
                raise ConfigError(f"A playbook's {name} is {share:g}; it must be a share from 0 to 1, such as 0.1.")
        if self.every < 1:
            raise ConfigError(f"A playbook's distance of compactions is {self.every} revisions; it must be 1 or more.")
        if not self.patience_s >= 0:
            raise ConfigError(f"A playbook's patience is {self.patience_s:g} s; it must be 0 or more.")

    @property
    def filled(self) -> int:
        """Tokens to which a compaction fills the text where not all bullets fit."""
        return int(self.tokens * (1 - self.headroom))


class Candidate(Struct, frozen=True, kw_only=True):
    """A bullet that could stand in the text."""

    id: str
    number: int
    section: str
    tokens: int
    """Of its line."""
    utility: float
    pinned: bool = False

    @property
    def preference(self) -> tuple[bool, float, int]:
        """Sorts the best first. A bullet that does harm costs its utility times its length, not divided by it."""
        tokens = max(1, self.tokens)
        worth = self.utility / tokens if self.utility >= 0 else self.utility * tokens
        return not self.pinned, -worth, self.number


def choose(candidates: Sequence[Candidate], budget: Budget, headers: Mapping[str, int]) -> list[Candidate]:
    """Those that fit, the best first. ``headers``: tokens of each section's header, paid once.

    All, if all fit into the limit. Else pinned ones up to the limit, and then others up to the limit without its
    headroom; one that is too long is passed over, and shorter ones after it still come in.
    """
    best = sorted(candidates, key=lambda candidate: candidate.preference)
    everything = sum(one.tokens for one in best) + sum(headers[section] for section in {one.section for one in best})
    if everything <= budget.tokens:
        return best
    chosen, spent, open_sections = [], 0, set[str]()
    for one in best:
        cost = one.tokens + (0 if one.section in open_sections else headers[one.section])
        if spent + cost <= (budget.tokens if one.pinned else budget.filled):
            chosen.append(one)
            spent += cost
            open_sections.add(one.section)
    return chosen


def prior_means(bullets: Iterable[Bullet], helpful: float = 1.0, harmful: float = 1.0) -> dict[str, float]:
    """Utility from the counters: the mean of a Beta distribution that begins with these two votes.

    (helpful votes + 1) / (helpful votes + harmful votes + 2): a new bullet has 0.5, and one vote does not decide.
    Neutral votes count for nothing. Opinions of a model: a measured utility is better where there is one.

    >>> prior_means([Bullet(id="b-1", number=1, section="tools", content="", helpful=2, harmful=0)])
    {'b-1': 0.75}
    """
    return {one.id: (one.helpful + helpful) / (one.helpful + one.harmful + helpful + harmful) for one in bullets}
