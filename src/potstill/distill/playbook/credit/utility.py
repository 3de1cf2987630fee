"""What credit has measured, as utilities by which a page's bullets are chosen (``budget.choose``).

What it knows: which effects count as measured, where they stand beside opinions, and for how long a measurement is good
enough. What it does not do: measure effects (``effect``), choose or order bullets.

Opinions are shares of votes from 0 to 1 (``budget.prior_means``). An effect counts where its interval, which holds
whenever one looks, excludes 0: proven help ranks above every opinion of its length, proven harm below all. Nothing else
is said of a bullet, so the others keep their votes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.credit.decide import CreditPlan
from potstill.distill.playbook.credit.effect import Effect, effects
from potstill.distill.playbook.credit.past import begun
from potstill.distill.playbook.credit.read import Reader
from potstill.distill.playbook.credit.report import Report
from potstill.distill.playbook.credit.tally import Tally
from potstill.distill.playbook.operations import Bullet

log = logging.getLogger(__name__)


def utilities(found: Mapping[str, Effect]) -> dict[str, float]:
    """Of the bullets whose effect is known to be help or harm: 1 and the lower bound, or the upper bound below 0.

    >>> from potstill.distill.playbook.credit.effect import Trials
    >>> helped, unknown = Effect(trials=Trials(), interval=(0.05, 0.3)), Effect(trials=Trials())
    >>> harmed = Effect(trials=Trials(), interval=(-0.4, -0.125))
    >>> utilities({"b-1": helped, "b-2": unknown, "b-3": harmed})
    {'b-1': 1.05, 'b-3': -0.125}
    """
    worth = {}
    for id, one in found.items():
        low, high = one.interval
        if not one.uneven and low > 0.0:
            worth[id] = 1.0 + low
        elif not one.uneven and high < 0.0:
            worth[id] = high
    return worth


def utilities_of(report: Report) -> dict[str, float]:
    """The same of a report that was made already."""
    return utilities({line.bullet.id: line.decision.effect for line in report.lines})


def effects_of(book: Playbook, alpha: float = CreditPlan().alpha) -> dict[str, Effect]:
    """Of the book's bullets that were in a trial: reads all of its episodes, some 40,000 a second. Raises
    ``StoreError``."""
    bullets = book.bullets()
    tally = Tally(begun(book.log(), bullets)).add_all(Reader(book.store, book.namespace, book.name).uses())
    counts = {id: one.trials for id, one in tally.counts().items() if id in bullets and one.trials.n}
    return dict(zip(counts, effects(list(counts.values()), alpha), strict=True))


def measured(book: Playbook, alpha: float = CreditPlan().alpha) -> dict[str, float]:
    """Utilities from a book's episodes, as ``effects_of`` reads them."""
    return utilities(effects_of(book, alpha))


class Measured:
    """``looking.Utility`` of one book. Safe to use from threads.

    A measurement is good for ``fresh_s`` seconds. ``beside``: a new one is made in a thread of its own, and whoever
    asks meanwhile is given the one before, or nothing; for those who cannot wait. A measurement that fails is logged,
    and votes decide.
    """

    def __init__(
        self,
        book: Playbook,
        *,
        beside: bool = False,
        fresh_s: float = 3600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._book, self._beside, self._fresh_s, self._clock = book, beside, fresh_s, clock
        self._lock = threading.Lock()
        self._running: threading.Thread | None = None
        self._known: Mapping[str, float] = {}
        self._at: float | None = None

    def __call__(self, bullets: Sequence[Bullet]) -> Mapping[str, float]:
        self.refresh()
        return self._known

    def refresh(self) -> None:
        """Measure where the last time is long ago."""
        with self._lock:
            now = self._clock()
            if self._at is not None and now - self._at < self._fresh_s:
                return
            self._at = now
            if self._beside:
                self._running = threading.Thread(target=self._measure, name="potstill-credit", daemon=True)
                self._running.start()
                return
        self._measure()

    def wait(self, timeout_s: float | None = None) -> None:
        """Until a measurement that is under way has ended."""
        if self._running is not None:
            self._running.join(timeout_s)

    def _measure(self) -> None:
        try:
            self._known = measured(self._book)
        except Exception:  # votes decide, as they do where nothing was measured
            log.warning("the effects of playbook %s could not be read", self._book.name, exc_info=True)
