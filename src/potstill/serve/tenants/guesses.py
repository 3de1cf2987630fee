"""What calls probably cost of which nobody can say it: models without a price, answers that were cut off.

What it knows: moving means of what was billed, by tenant, route and model. What it does not do: prices of models
(``recording.settling``), budgets (``gate``).

A call without a price is charged for its tokens at the mean rate of the priced calls of its tenant and route; before
any was seen at ``FALLBACK_USD_PER_MTOK``. A call whose tokens were never told (cut off, timed out) is charged what
calls of its model cost on the average there; before any was seen, as the priced calls of the route.
"""

from __future__ import annotations

from potstill.serve.tenants.limits import Means
from potstill.wire.dialect import Problem

FALLBACK_USD_PER_MTOK = 1.0
"""US dollars per million tokens of models without a price, where nothing on the route has one."""
SOON_S = 1.0
"""A connection that is lost so soon was closed already, or by a server that hardly began: nothing to bill. A guess
about money only: a request is asked again on stricter grounds (``upstreams.endpoints``)."""

_LATE = frozenset({"bad_http", "cut_off", "too_long"})
"""Codes of problems that come when the request was taken already."""

Whose = tuple[str, str]
"""A tenant and a route."""


class Guesses:
    """One per gateway process. Bounded, as ``limits.Means`` is."""

    def __init__(self) -> None:
        self._priced, self._models = Means(), Means()

    def seen(self, whose: Whose, model: str, usd: float, tokens: int, *, priced: bool) -> None:
        """A call was billed. ``priced``: by a price that is not zero, so that it says what tokens cost here."""
        self._models.see(_model(whose, model), usd, tokens)
        if priced and tokens:
            self._priced.see(whose, usd, tokens)

    def without_price(self, whose: Whose, tokens: int) -> float:
        """Dollars for tokens of a model without a price."""
        usd, mean = self._priced.get(whose) or (FALLBACK_USD_PER_MTOK, 1e6)
        return tokens * usd / mean

    def without_usage(self, whose: Whose, model: str) -> tuple[float, int] | None:
        """Dollars and tokens of a call that told neither; None: nothing was seen that says it."""
        mean = self._models.get(_model(whose, model)) or self._priced.get(whose)
        return None if mean is None else (mean[0], round(mean[1]))


def _model(whose: Whose, model: str) -> tuple[str, str]:
    return whose[0], f"{whose[1]}\0{model}"


def may_be_billed(problem: Problem | None, waited_s: float) -> bool:
    """Whether a request that got no answer may be billed. ``problem`` None: we cut it off ourselves.

    Not where no connection came about, or a kept one had been closed; after a time-out or a late loss it may.
    """
    if problem is None:
        return True
    if problem.code == "connection_lost":
        return waited_s >= SOON_S
    return problem.code in _LATE or (problem.kind == "timeout" and problem.code != "unreachable")
