"""Counting uses, bullet by bullet.

What it knows: which episodes count for a bullet. Those that began before its present text, or before somebody
restored it, are another bullet's. What it does not do: read uses, judge counts. The order in which uses come does not
matter. A trial costs what it names; episodes with the same page are counted together.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from potstill.decide.evidence import Arm
from potstill.distill.playbook.credit.effect import Trials
from potstill.distill.playbook.credit.past import Begun
from potstill.distill.playbook.credit.use import Charge, Use
from potstill.measure.statistics import Interval, normal_quantile
from potstill.types import Struct

MOST_IDS = 1_000_000
"""Of pages that are held to be counted together, some 10 MB; students that are shown a choice have many pages."""


class Spread(Struct, frozen=True, kw_only=True):
    """Dollars of episodes."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    @property
    def mean(self) -> float | None:
        return self.total / self.n if self.n else None

    @property
    def variance(self) -> float:
        """Of one episode's, unbiased; needs two."""
        return max(0.0, self.squares - self.total * self.total / self.n) / (self.n - 1)


class Counts(Struct, frozen=True, kw_only=True):
    """What was seen of a bullet."""

    trials: Trials = Trials()
    """By lot: what its effect is estimated from."""
    unknown_shown: int = 0
    """Trials with it whose outcome is not known."""
    unknown_withheld: int = 0
    cost_shown: Spread = Spread()
    """Of trials whose cost is known."""
    cost_withheld: Spread = Spread()
    shown: int = 0
    """Episodes that were shown it, trials and others. From here on: observed, not by lot, so no cause."""
    cited: int = 0
    when_shown: Arm = Arm()
    """Those with a known outcome."""
    when_cited: Arm = Arm()
    at_stage: Arm = Arm()
    """Those since it has its stage."""
    beside: Arm = Arm()
    """Episodes since then with a known outcome that had nothing to do with it."""
    calls: int = 0
    unpriced_calls: int = 0
    usd_per_token: float = 0.0
    """What a token of it has cost in all priced calls together."""


NOTHING = Counts()


def cost_difference(counts: Counts, confidence: float = 0.95) -> tuple[float, Interval | None] | None:
    """Mean dollars of a trial with the bullet less those of one without, and Welch's interval with normal quantiles.

    A description: it is for one look, and for many trials. The bullet's rent is in it. None where one arm has no cost.
    """
    one, other = counts.cost_shown, counts.cost_withheld
    if one.mean is None or other.mean is None:
        return None
    gap = one.mean - other.mean
    if min(one.n, other.n) < 2:
        return gap, None
    half = normal_quantile(0.5 + confidence / 2) * math.sqrt(one.variance / one.n + other.variance / other.n)
    return gap, (gap - half, gap + half)


@dataclass(slots=True)
class _Money:
    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, usd: float | None) -> None:
        if usd is not None:
            self.n, self.total, self.squares = self.n + 1, self.total + usd, self.squares + usd * usd

    def frozen(self) -> Spread:
        return Spread(n=self.n, total=self.total, squares=self.squares)


@dataclass(slots=True)
class _Wins:
    n: int = 0
    successes: int = 0

    def add(self, success: bool | None) -> bool:
        """Whether it was known."""
        if success is None:
            return False
        self.n, self.successes = self.n + 1, self.successes + success
        return True

    def join(self, others: _Wins) -> None:
        self.n, self.successes = self.n + others.n, self.successes + others.successes

    def frozen(self) -> Arm:
        return Arm(n=self.n, successes=self.successes)


@dataclass(slots=True)
class _Alike:
    """Episodes that say the same of a bullet: of one revision, and shown it."""

    n: int = 0
    wins: _Wins = field(default_factory=_Wins)
    calls: int = 0
    unpriced_calls: int = 0
    usd_per_token: float = 0.0

    def add(self, success: bool | None, charge: Charge) -> None:
        self.n += 1
        self.wins.add(success)
        self.calls += charge.calls
        self.unpriced_calls += charge.unpriced_calls
        self.usd_per_token += charge.usd_per_token


@dataclass(slots=True)
class _Seen:
    """The counts of one bullet while they grow."""

    trial_shown: _Wins = field(default_factory=_Wins)
    trial_withheld: _Wins = field(default_factory=_Wins)
    unknown_shown: int = 0
    unknown_withheld: int = 0
    cost_shown: _Money = field(default_factory=_Money)
    cost_withheld: _Money = field(default_factory=_Money)
    shown: int = 0
    cited: int = 0
    when_shown: _Wins = field(default_factory=_Wins)
    when_cited: _Wins = field(default_factory=_Wins)
    at_stage: _Wins = field(default_factory=_Wins)
    withheld_at_stage: _Wins = field(default_factory=_Wins)
    calls: int = 0
    unpriced_calls: int = 0
    usd_per_token: float = 0.0


class Tally:
    """Counts uses one by one. ``begun``: since which revision what is seen of a bullet is about it."""

    def __init__(self, begun: Mapping[str, Begun] | None = None) -> None:
        self._begun = begun or {}
        self._seen: dict[str, _Seen] = {}
        self._by_revision: dict[int, _Wins] = {}
        self._pages: dict[tuple[int, tuple[str, ...]], _Alike] = {}
        """Episodes that are no trials, by what they were shown; added up bullet by bullet in ``_spread``."""
        self._held = 0
        """Ids in these."""
        self._ids: dict[str, str] = {}
        """Each id once, however many pages name it."""
        self.episodes = 0
        self.trials = 0
        self.last = 0
        """The greatest ``Use.seq``."""

    def add(self, use: Use) -> None:
        self.episodes += 1
        self.trials += use.trial
        self.last = max(self.last, use.seq)
        self._by_revision.setdefault(use.revision, _Wins()).add(use.success)
        if use.trial or use.step_charges:
            self._one(use)
        else:
            self._paged(use)
        for id in dict.fromkeys(use.cited):
            if (seen := self._of(id, use.revision)) is not None:
                seen.cited += 1
                seen.when_cited.add(use.success)

    def add_all(self, uses: Iterable[Use]) -> Tally:
        for use in uses:
            self.add(use)
        return self

    def _paged(self, use: Use) -> None:
        page = (use.revision, use.shown)
        if page not in self._pages:
            if self._held > MOST_IDS:
                self._spread()
            page = (use.revision, tuple(self._ids.setdefault(id, id) for id in use.shown))
            self._pages[page] = _Alike()
            self._held += len(use.shown)
        self._pages[page].add(use.success, use.charge)

    def _spread(self) -> None:
        for (revision, ids), some in self._pages.items():
            for id in dict.fromkeys(ids):
                self._shown(id, revision, some)
        self._pages.clear()
        self._held = 0

    def _one(self, use: Use) -> None:
        """An episode that is like no other."""
        steps = dict(use.step_charges)
        for id in dict.fromkeys(use.shown):
            alone = _Alike()
            alone.add(use.success, steps.get(id, use.charge))
            seen = self._shown(id, use.revision, alone)
            if seen is not None and use.trial:
                seen.unknown_shown += not seen.trial_shown.add(use.success)
                seen.cost_shown.add(use.cost_usd)
        if use.trial:
            for id in dict.fromkeys(use.withheld):
                self._withheld(id, use)

    def _of(self, id: str, revision: int) -> _Seen | None:
        begun = self._begun.get(id)
        if begun is not None and revision < begun.text:
            return None
        return self._seen.setdefault(id, _Seen())

    def _at_stage(self, id: str, revision: int) -> bool:
        begun = self._begun.get(id)
        return begun is None or revision >= begun.stage

    def _shown(self, id: str, revision: int, some: _Alike) -> _Seen | None:
        seen = self._of(id, revision)
        if seen is None:
            return None
        seen.shown += some.n
        seen.when_shown.join(some.wins)
        if self._at_stage(id, revision):
            seen.at_stage.join(some.wins)
        seen.calls += some.calls
        seen.unpriced_calls += some.unpriced_calls
        seen.usd_per_token += some.usd_per_token
        return seen

    def _withheld(self, id: str, use: Use) -> None:
        seen = self._of(id, use.revision)
        if seen is None:
            return
        if self._at_stage(id, use.revision):
            seen.withheld_at_stage.add(use.success)
        seen.unknown_withheld += not seen.trial_withheld.add(use.success)
        seen.cost_withheld.add(use.cost_usd)

    # --- what came of it --------------------------------------------------------------------------------------------

    def counts(self) -> dict[str, Counts]:
        """As of now, by id; bullets of which nothing was seen are left out."""
        self._spread()
        revisions = sorted(self._by_revision)
        arms = [self._by_revision[revision] for revision in reversed(revisions)]
        tails = list(zip(accumulate(arm.n for arm in arms), accumulate(arm.successes for arm in arms), strict=True))[
            ::-1
        ]

        def since(revision: int) -> tuple[int, int]:
            place = bisect_left(revisions, revision)
            return tails[place] if place < len(tails) else (0, 0)

        return {id: self._frozen(seen, since(self._since(id))) for id, seen in self._seen.items()}

    def _since(self, id: str) -> int:
        begun = self._begun.get(id)
        return 0 if begun is None else max(begun.text, begun.stage)

    def _frozen(self, seen: _Seen, everything: tuple[int, int]) -> Counts:
        own = seen.at_stage, seen.withheld_at_stage
        return Counts(
            trials=Trials(shown=seen.trial_shown.frozen(), withheld=seen.trial_withheld.frozen()),
            unknown_shown=seen.unknown_shown,
            unknown_withheld=seen.unknown_withheld,
            cost_shown=seen.cost_shown.frozen(),
            cost_withheld=seen.cost_withheld.frozen(),
            shown=seen.shown,
            cited=seen.cited,
            when_shown=seen.when_shown.frozen(),
            when_cited=seen.when_cited.frozen(),
            at_stage=seen.at_stage.frozen(),
            beside=Arm(
                n=everything[0] - sum(arm.n for arm in own),
                successes=everything[1] - sum(arm.successes for arm in own),
            ),
            calls=seen.calls,
            unpriced_calls=seen.unpriced_calls,
            usd_per_token=seen.usd_per_token,
        )
