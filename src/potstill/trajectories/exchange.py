"""What the gateway records: one exchange with a client, as bytes, and the upstream calls that it took.

What it knows: the shape, and what the journal says about an episode. What it does not do: any dialect, SQL
(``journal``), or prices.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from potstill.types import Answerer, Decision, DemonstrationRef, ErrorRecord, Outcome, PlaybookUse, Purpose, Struct


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
    may_be_billed: bool = False
    """No answer came, but the request was on its way: cut off by the client, or after a time-out."""
    n: int = 1
    raw_usage: dict[str, Any] | None = None
    request: bytes | None = None
    response: bytes | None = None
    error: ErrorRecord | None = None
    shadow: bool = False
    """Asked beside the teacher, off the client's path."""


class Actions(Struct, frozen=True, kw_only=True):
    """Where a client's requests list what may be done next: in one of the four ways.

    A policy chooses among these; where a request lists nothing, nobody but the teacher can answer it.
    """

    tool: str = ""
    """A tool of which one argument is an enum: its values are the actions."""
    argument: str = ""
    """The name of that argument."""
    tools: bool = False
    """Each tool is an action, and none wants arguments."""
    pattern: str = ""
    """A regular expression with one group, an action, for each place where it fits what was shown last; ``^`` and
    ``$`` stand for the ends of lines."""
    always: tuple[str, ...] = ()
    """The same actions at every step."""
    hide: tuple[str, ...] = ()
    """Regular expressions: what they fit is not shown to the policy (a list of actions, a standing request)."""


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
    playbook: PlaybookUse | None = None
    """What the student was shown of one, and what it named; None: it was not asked, or was given none."""
    bullets: tuple[str, ...] = ()
    """Those of them that stood beside the page, for this request alone."""
    stage: str = ""
    """Stage of the rollout and how the episode was assigned, such as ``canary/cascade``."""
    notes: tuple[str, ...] = ()
    """What failed open, in words."""
    error: ErrorRecord | None = None
    key_id: str | None = None
    """Which of the tenant's keys: its public id, never the key."""
    request_id: str = ""
    actions: Actions | None = None
    """How the client listed what may be done, as the route's settings say."""
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


class Episode(Struct, frozen=True, kw_only=True):
    """All that the journal knows of an episode, as of one moment: what a trajectory is folded from."""

    namespace: str
    episode_id: str
    exchanges: tuple[Recorded, ...] = ()
    """In the order in which they were acknowledged; those that were folded already are not among them."""
    damaged: tuple[int, ...] = ()
    """Sequence numbers of exchanges that cannot be read any more."""
    outcome: Outcome | None = None
    """Told since the last fold."""
    trajectory_id: str | None = None
    """Where earlier exchanges were folded to: these continue that trajectory."""
    folded_seq: int = 0
    """Up to which sequence number; ``Store.fold`` takes it as ``after_seq``."""


class Folded(StrEnum):
    """What ``Store.fold`` did."""

    DONE = "done"
    """The trajectory is in the store and the exchanges are gone from the journal."""
    ALREADY = "already"
    """The journal holds none of these exchanges: they were folded, or pruned, before. Nothing was changed."""
    STALE = "stale"
    """Others folded a part of the episode since it was read. Nothing was changed: read it and fold again."""


class OutcomePlace(StrEnum):
    """Where ``Store.set_episode_outcome`` put an outcome."""

    JOURNAL = "journal"
    """It waits for the fold."""
    TRAJECTORY = "trajectory"
    """The episode was folded: its trajectory has it."""
    BOTH = "both"
    """The episode was folded and goes on: its trajectory has it, and what it is folded into next will."""
    UNSEEN = "unseen"
    """No exchange of this episode is recorded yet: it is kept for them."""
