"""One request while it is served: what is known of it so far, and the exchange that it becomes.

What it knows: how the record is made out of what happened. What it does not do: make it happen (``forward``).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from potstill.serve.answer_bytes import Kept
from potstill.serve.clients.client import Client
from potstill.serve.clients.problems import Headers
from potstill.serve.clients.request_fields import Outline
from potstill.serve.recording.room import Ticket
from potstill.serve.routes import Target
from potstill.serve.seams import Admission, Decided, Placement
from potstill.trajectories.exchange import Exchange, Upstream
from potstill.types import Answerer, ErrorRecord
from potstill.wire.dialect import Problem
from potstill.wire.neutral import Prompt


@dataclass(slots=True)
class Incoming:
    """A request that was read."""

    request_id: str
    dialect: str
    headers: Headers
    body: bytes
    outline: Outline
    at: float
    """Unix seconds."""
    started: float
    """By ``time.perf_counter``."""


@dataclass(slots=True)
class Work:
    """A request that was admitted and is served."""

    incoming: Incoming
    target: Target
    admission: Admission
    placement: Placement
    client: Client
    ticket: Ticket
    prompt: Prompt | None = None
    """The request in the neutral form, where somebody needed it."""
    decided: Decided = field(default_factory=Decided)
    answerer: Answerer = Answerer.TEACHER
    calls: list[Upstream] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    status: int = 0
    chunks: Kept = field(default_factory=Kept)
    """The answer as the client got it."""
    streamed: bool = False
    complete: bool = True
    error: ErrorRecord | None = None
    waited_s: float = 0.0
    """For the heads of upstreams' answers: not the gateway's own time."""
    recorded: bool = False

    def broke(self, kind: str, message: str) -> None:
        self.complete = False
        self.error = ErrorRecord(kind=kind, message=message)

    def failed(self, problem: Problem) -> None:
        self.status = problem.status
        self.error = ErrorRecord(kind=problem.kind, message=problem.message)

    def exchange(self) -> Exchange:
        """What is recorded, as of now."""
        incoming, first = self.incoming, self.client.first_byte_at
        return Exchange(
            namespace=self.admission.tenant,
            episode_id=self.placement.episode_id,
            route=self.target.route.name,
            dialect=incoming.dialect,
            started_at=incoming.at,
            latency_s=time.perf_counter() - incoming.started,
            first_byte_s=None if first is None else first - incoming.started,
            status=self.status,
            streamed=self.streamed,
            complete=self.complete,
            request=incoming.body,
            response=self.chunks.joined(),
            answerer=self.answerer,
            decision=self.decided.decision,
            calls=(*self.decided.calls, *self.calls),
            demonstrations=self.decided.demonstrations,
            playbook=self.decided.playbook,
            bullets=self.decided.bullets,
            stage=self.decided.stage,
            notes=(*_noted(self.placement.note), *self.decided.notes, *self.notes),
            error=self.error,
            key_id=self.admission.key_id,
            request_id=incoming.request_id,
            actions=self.target.route.actions,
            metadata=self.placement.metadata,
        )


def _noted(note: str) -> tuple[str, ...]:
    return (note,) if note else ()


def answerer_header(work: Work) -> tuple[bytes, bytes]:
    """Who answered, for the client."""
    return b"x-potstill-answerer", work.answerer.value.encode()
