"""What the gateway records: one exchange with a client, as bytes, and the upstream calls that it took.

What it knows: the shape. What it does not do: any dialect, SQL (``journal``), or prices.
"""

from __future__ import annotations

from typing import Any

import msgspec

from potstill.types import Answerer, Decision, DemonstrationRef, ErrorRecord, Purpose, Struct


class Upstream(Struct, frozen=True, kw_only=True):
    """One billed request to an upstream. ``request`` and ``response`` are None where they are the client's bytes."""

    model: str
    """The upstream's own name of the model."""
    upstream: str
    """Name of the upstream in the settings."""
    answerer: Answerer
    dialect: str
    price_as: str | None = None
    purpose: Purpose = Purpose.ACT
    started_at: float = 0.0
    """Unix seconds."""
    latency_s: float = 0.0
    first_byte_s: float | None = None
    status: int = 0
    """HTTP status; 0: no answer came."""
    n: int = 1
    raw_usage: dict[str, Any] | None = None
    request: bytes | None = None
    response: bytes | None = None
    error: ErrorRecord | None = None
    shadow: bool = False
    """Asked beside the teacher, off the client's path."""


class Exchange(Struct, frozen=True, kw_only=True):
    """A client's request and the answer it got. Never holds a key: the recorder redacts before."""

    namespace: str
    """The tenant."""
    episode_id: str
    route: str
    """The model's name that the client asked for."""
    dialect: str
    """Of the client: one of ``wire.dialect.NAMES``."""
    started_at: float
    latency_s: float = 0.0
    first_byte_s: float | None = None
    status: int = 200
    streamed: bool = False
    complete: bool = True
    """False: the answer was cut off (the client left, the upstream broke)."""
    request: bytes = b""
    response: bytes = b""
    answerer: Answerer = Answerer.TEACHER
    decision: Decision | None = None
    calls: tuple[Upstream, ...] = ()
    demonstrations: tuple[DemonstrationRef, ...] = ()
    stage: str = ""
    """Stage of the rollout and how the episode was assigned, such as ``canary/cascade``."""
    notes: tuple[str, ...] = ()
    """What failed open, in words."""
    error: ErrorRecord | None = None
    key_id: str | None = None
    """Which of the tenant's keys: its public id, never the key."""
    request_id: str = ""
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)
    """What the client said about the episode: goal, task id, tags."""


class Recorded(Struct, frozen=True, kw_only=True):
    """An exchange as the journal holds it."""

    seq: int
    exchange: Exchange


class OpenEpisode(Struct, frozen=True, kw_only=True):
    """A light row: an episode that is still in the journal."""

    namespace: str
    episode_id: str
    exchanges: int
    first_at: float
    last_at: float
    outcome_known: bool = False
