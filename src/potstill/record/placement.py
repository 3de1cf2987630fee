"""Where a live request was placed: its episode, and how that was found.

What it knows: the shape. What it does not do: placing (``live``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from potstill.types import Struct


class Placement(Struct, frozen=True, kw_only=True):
    episode_id: str
    how: str
    """``header``, ``session``, or how ``record.stitch`` placed it."""
    step: int = 0
    """How many requests of the episode were seen before, as far as this process knows."""
    note: str = ""
    """What was wrong with what the client said; for the exchange's ``notes``."""
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)
    """What the client's headers said of the episode: ``goal``, ``plan``, ``observation``, ``task``, ``environment``,
    ``tags``; for the exchange's ``metadata``."""
    seat: Any = None
    """For ``LiveEpisodes.answered`` only."""


class Shared(Protocol):
    """What processes on one database tell each other, so that calls of one episode meet wherever they arrive.

    Hashes are those of conversations (``logs.conversation``): numbers below 2**64, equal in every process. All are
    called on the event loop, ``fetch`` and ``find`` only for a request that goes on from an answer that this process
    has not seen, ``publish`` for each request and after each answer (it must not wait: put rows into a queue).
    """

    async def fetch(self, namespace: str, hashes: Sequence[int]) -> None:
        """Ask the others, so that ``find`` knows. Never raises, and waits for half a second at most."""

    def find(self, namespace: str, hashes: Sequence[int]) -> str | None:
        """The episode that published the first of these hashes that exactly one open episode published."""

    def publish(self, namespace: str, episode_id: str, hashes: Sequence[int], now: float) -> None:
        """Requests that hold a conversation with one of these hashes go on from this episode."""
