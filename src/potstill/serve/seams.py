"""The seams of the gateway: what the hot path asks of keys, episodes, decisions and upstreams.

What it knows: shapes and contracts. What it does not do: any of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol

from potstill.record.outline import Outline
from potstill.record.placement import Placement as Placement
from potstill.serve.settings import Model, Route
from potstill.trajectories.exchange import Exchange, Upstream
from potstill.types import Decision, DemonstrationRef, PlaybookUse, Struct
from potstill.wire.dialect import Problem
from potstill.wire.events import Event
from potstill.wire.neutral import Answer, Prompt

# --- who may ask ------------------------------------------------------------------------------------------------------


class Admission(Struct, frozen=True, kw_only=True):
    """A request that may proceed."""

    tenant: str = "default"
    key_id: str | None = None
    route: str = ""
    ticket: int = 0
    """The gate's number of what it holds for this request until ``settle``."""


class Gate(Protocol):
    """Virtual keys, budgets, rate limits (``tenants.gate``)."""

    async def admit(self, key: str | None, route: str, at: float) -> Admission | Problem:
        """``key`` as the client sent it (bearer token or ``x-api-key``); ``at`` is Unix seconds.

        ``route`` empty: the request asks no model, costs nothing and needs no ``settle``.
        """

    def settle(
        self,
        admission: Admission,
        *,
        usd: float | None,
        tokens: int,
        at: float,
        unknown: bool = False,
        guessed: bool = False,
    ) -> None:
        """Add what an exchange cost once it is known. Never waits for the store.

        Call it once for every admission, whatever became of the request (``usd=0.0, tokens=0``: nothing was billed);
        calls after that (a shadow's cost) only add. ``unknown``: something was billed beside ``usd`` and nobody can say
        how much; then what requests before it cost on the average is added. ``usd`` None: nothing but that.
        ``guessed``: a part of ``usd`` is a guess; it is counted.
        """


# --- which episode ----------------------------------------------------------------------------------------------------


class Episodes(Protocol):
    """``record.live``. Quick: it is on the critical path."""

    async def ready(
        self, namespace: str, headers: Mapping[str, str], body: bytes, now: float, asked: Outline | None = None
    ) -> None:
        """Before ``place``: ask other processes where that is needed, for milliseconds."""

    def place(
        self,
        namespace: str,
        headers: Mapping[str, str],
        dialect: str,
        body: bytes,
        now: float,
        asked: Outline | None = None,
    ) -> Placement:
        """``asked``: the body's outline, where it is known."""

    def answered(
        self, namespace: str, placement: Placement, dialect: str, response: bytes, *, streamed: bool, now: float
    ) -> None:
        """The exchange ended with this answer: the next request of the episode will start with it."""


# --- asking upstreams -------------------------------------------------------------------------------------------------


CUT = "Cancelled"
"""The kind of error of a call that was cut off on our side."""


class CutShort(asyncio.CancelledError):
    """Cancelled while the student was asked, with the calls that it took until then."""

    def __init__(self, calls: tuple[Upstream, ...]) -> None:
        super().__init__()
        self.calls = calls


class Asked(Struct, frozen=True, kw_only=True):
    answer: Answer
    call: Upstream
    candidates: tuple[tuple[str, float], ...] = ()
    """Every action that was offered with its log-probability, where a policy says it."""


class Ask(Protocol):
    """Sends a neutral prompt to a model, whichever dialect its upstream speaks. Raises ``errors.ModelError``."""

    async def ask(
        self, model: Model, prompt: Prompt, *, n: int = 1, told: Callable[[Upstream], None] = lambda call: None
    ) -> list[Asked]:
        """``n`` choices in all: one request where the upstream bills the prompt once, else several at a time.

        ``told`` hears of each call when it ends, before this returns, raises or is cancelled: also of those that failed
        or were cut off (``error.kind`` is ``CUT``).
        """

    def stream(self, model: Model, prompt: Prompt) -> AsyncIterator[Event]: ...


# --- who answers ------------------------------------------------------------------------------------------------------


class Loaded(Struct, frozen=True, kw_only=True):
    """What an operator is shown of a policy that this process runs."""

    file: str
    version: str
    """The hash of its manifest, as ``distill retrain`` and ``lineage show`` name it."""
    loaded_at: float
    """Unix seconds."""
    problem: str = ""
    """Why a newer file is not served."""


class Decided(Struct, frozen=True, kw_only=True):
    """``answer``: the student's, to be sent to the client. None: the teacher is to be asked, with ``prompt`` where that
    is not None (a compact hand-off), else with the client's own bytes."""

    answer: Answer | None = None
    prompt: Prompt | None = None
    decision: Decision | None = None
    calls: tuple[Upstream, ...] = ()
    demonstrations: tuple[DemonstrationRef, ...] = ()
    playbook: PlaybookUse | None = None
    bullets: tuple[str, ...] = ()
    stage: str = ""
    notes: tuple[str, ...] = ()


class Decider(Protocol):
    """Cascade, shadow, rollout (``deciding.decider``). Never raises because of the student, the store or retrieval."""

    async def decide(
        self,
        route: Route,
        prompt: Prompt,
        placement: Placement,
        admission: Admission,
        said: Mapping[str, Any] | None = None,
    ) -> Decided:
        """``said``: what the client's headers said of the episode (``goal``, ``plan``, ``observation``, ``task``), as
        in ``Exchange.metadata``; it counts more than what the messages say."""

    def finished(self, route: Route, prompt: Prompt, exchange: Exchange) -> None:
        """The client has its answer. Starts what is off the critical path (shadow) and never waits."""

    async def aclose(self) -> None:
        """Let shadow work end, within the drain time."""
