"""What credit is given of one episode: which bullets it was shown and was not, how it ended, what it cost.

What it knows: fields. What it does not do: read them (``read``), count them (``tally``).

A bullet is in ``shown`` or ``withheld`` of a trial only if the episode would have been shown it whatever the lots said:
the two are compared, so a bullet that had no room, or was not near to the task, belongs into neither.
"""

from __future__ import annotations

from potstill.types import Struct


class Charge(Struct, frozen=True, kw_only=True):
    """What one token costs that stands in the prompts of an episode."""

    calls: int = 0
    """Requests that it stands in."""
    unpriced_calls: int = 0
    """Those among them whose tokens or price are not known."""
    usd_per_token: float = 0.0
    """Over the priced calls together."""


class Use(Struct, frozen=True, kw_only=True):
    """One episode with a playbook."""

    episode: str
    """Id of the trajectory."""
    seq: int = 0
    """Its place in the order in which episodes came in."""
    revision: int = 0
    """The book's when it began."""
    shown: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()
    trial: bool = False
    """Lots were drawn in it."""
    cited: tuple[str, ...] = ()
    success: bool | None = None
    """None: not known, or only a model's opinion."""
    cost_usd: float | None = None
    """Of the whole episode, all models; None: not known."""
    charge: Charge = Charge()
    """Of a token of the page."""
    step_charges: tuple[tuple[str, Charge], ...] = ()
    """Of tokens of those bullets that were shown at single steps instead: by their ids."""
