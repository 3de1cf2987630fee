"""What a gateway is told, as frozen structs: upstreams, models, routes, tenants, limits.

What it knows: the shape, its defaults and what is allowed. What it does not do: read files (``settings_file``), hold
keys (``key_env`` names the environment's variable).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec

from potstill.models.tuned_file import SCHEME
from potstill.trajectories.exchange import Actions
from potstill.types import Struct


class Mode(StrEnum):
    """What a route does with a request."""

    RECORD = "record"
    """The teacher answers; nothing else is asked."""
    SHADOW = "shadow"
    """The teacher answers; a share also goes to the student, off the critical path."""
    CASCADE = "cascade"
    """The student answers where the calibrated cascade trusts it."""
    STUDENT = "student"
    """The student answers."""


class Upstream(Struct, frozen=True, kw_only=True):
    """Where requests are sent."""

    name: str
    base_url: str
    """Ends in ``/v1`` for the three dialects, as official SDKs want it (Anthropic's: without ``/v1``)."""
    dialect: str = "openai-chat"
    key_env: str | None = None
    """The environment's variable with the key. None: none is sent, or the client's own (``pass_key``)."""
    pass_key: bool = False
    timeout_s: float = 600.0
    connect_timeout_s: float = 10.0
    idle_timeout_s: float = 120.0
    """Longest silence within an answer."""
    retries: int = 2
    """Before the first byte of an answer only, and only where the request was certainly not processed or is safe."""
    retry_after_cap_s: float = 5.0
    """Longest wait that an upstream may ask for and still be asked again; a longer one is told to the client."""
    n_shares_prompt: bool = False
    stream_usage: bool = True
    """Ask for the usage of streamed chat completions where the client did not; the client never sees it then."""
    share_stored: bool = False
    """Let every holder of a virtual key fetch and delete by its id what any of them had this provider store."""
    omit: tuple[str, ...] = ()
    """Fields of a request that its models refuse, at the top of the body: never sent."""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = None
    """How its models call the limit of tokens of a chat completion; None: as the client wrote it."""
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    """Sent with every request."""
    forward_headers: tuple[str, ...] = ()
    """Names of clients' headers to pass on, beside those that the dialects' official clients send."""


class Model(Struct, frozen=True, kw_only=True):
    """A model at an upstream."""

    name: str
    """How routes call it."""
    upstream: str = ""
    model: str = ""
    """The upstream's name of it."""
    policy: str = ""
    """File of a trained policy that this process runs itself, in place of upstream and model: for students only."""
    price_as: str | None = None
    """Whose list price its tokens have; ``free``: none. None: its own, where it has one."""
    omit: tuple[str, ...] = ()
    """Beside those of the upstream."""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = None
    """None: as the upstream has it."""
    tuned: str | None = None
    """The student that is served there, where it was tuned (``distill weights --student lm``): its folder, or a file
    that it was exported to. Without upstream and model this process runs it itself: for students only."""
    allow_demonstrations: bool = False
    """Show a tuned student what it was not tuned with."""

    @property
    def runs_here(self) -> bool:
        """Whether this process is the model, so that no upstream is asked."""
        return bool(self.policy) or (self.tuned is not None and not self.upstream)

    @property
    def title(self) -> str:
        """What it is, for people and records."""
        return self.policy or self.model or f"{SCHEME}{self.tuned}"


class Cascade(Struct, frozen=True, kw_only=True):
    """When the student is trusted; ``calibration`` is the file that ``potstill calibrate --json`` wrote."""

    samples: int = 3
    threshold: float = 1.0
    temperature: float = 0.7
    rule: str = "json"
    mode: str = "step"
    keep_steps: int = 5
    calibration: str | None = None
    allow_uncertified: bool = False
    """Serve a calibration file that certifies nothing, with ``samples`` and ``threshold`` as they stand here; without a
    rollout, also one of another version of the policy."""
    deadline_s: float = 30.0
    """Seconds that all of the student's samples for one step may take; then the teacher answers."""
    cache_aware: bool = True
    """Mid-episode: leave a step to the teacher where its warm cache makes it cheaper than samples and escalations."""


class Context(Struct, frozen=True, kw_only=True):
    """Demonstrations for the student."""

    k: int = 0
    """0: none."""
    per: str = "task"
    """``task``: frozen in the prefix, which prompt caches reward; ``step``: at the tail."""
    max_tokens: int = 2000
    deadline_s: float = 1.0
    """Seconds that retrieval may take; then the student is asked without demonstrations."""


class Playbook(Struct, frozen=True, kw_only=True):
    """A playbook for the student: the tenant's own of this name, as it is in the gateway's store."""

    name: str = ""
    """Empty: none."""
    max_tokens: int = 10_000
    """Of the page, which stands frozen behind the instructions."""
    top_k: int = 0
    """Bullets that the page has no room for, for each request, at the tail; 0: none."""
    step_tokens: int = 1_000
    """Of these."""
    canary_share: float = 0.1
    """Share of the tasks that are shown a bullet whose stage is canary."""
    holdout_share: float = 0.1
    """Share of the episodes that are trials: about half of the bullets are left out, to see what they are worth."""
    deadline_s: float = 1.0
    """Seconds that reading it may take; then the student is asked without."""


class Route(Struct, frozen=True, kw_only=True):
    """What one model's name that clients ask for stands for."""

    name: str
    """As clients write it: ``gpt-6.1-sol``, ``potstill/auto``."""
    teacher: str
    student: str | None = None
    mode: Mode = Mode.RECORD
    cascade: Cascade = Cascade()
    context: Context = Context()
    playbook: Playbook = Playbook()
    actions: Actions | None = None
    """Where its requests list what may be done next: what policies choose from, and learn from."""
    shadow_share: float = 0.1
    allowed_loss: float = 0.02
    canary: tuple[float, ...] = (0.05, 0.2, 0.5)
    rollout: bool = True
    """In ``cascade`` mode: begin in shadow and advance on proof; False: serve the cascade to every episode at once."""
    checker: str | None = None
    """A plug-in that says how this route's episodes ended, where nobody else does."""


class Tenant(Struct, frozen=True, kw_only=True):
    name: str
    budget_usd_per_day: float | None = None
    budget_tokens_per_day: int | None = None
    requests_per_minute: int | None = None
    models: tuple[str, ...] = ()
    """Names that it may ask for, each exact or ending in ``*``: of routes, or of models that are passed on; empty:
    all."""


class Limits(Struct, frozen=True, kw_only=True):
    max_request_bytes: int = 32 * 1024 * 1024
    max_answer_bytes: int = 64 * 1024 * 1024
    max_inflight: int = 1000
    """Requests that are served at a time, and as many whose bodies are still coming; more are answered with 503 and
    ``retry-after``."""
    max_queue_bytes: int = 128 * 1024 * 1024
    """Of exchanges that are served or wait to be recorded, answers as they come; and, apart, of bodies that are still
    coming."""
    header_timeout_s: float = 15.0
    """For a request's head, and for the silence before it on a new connection."""
    body_timeout_s: float = 60.0
    """For a request's body."""
    write_timeout_s: float = 120.0
    """A client that takes nothing of its answer for so long has left."""
    idle_episode_s: float = 1800.0
    """An episode without a call for this long is over."""
    drain_s: float = 30.0


class Overflow(StrEnum):
    """What happens when exchanges come faster than the store takes them."""

    WAIT = "wait"
    """The client's answer waits: nothing is lost."""
    DROP = "drop"
    """The exchange is not recorded; counted, shown, and told in a response header."""


class Recording(Struct, frozen=True, kw_only=True):
    strict: bool = False
    """Answer only after the exchange is durable, with its sequence number in ``x-potstill-seq``."""
    overflow: Overflow = Overflow.WAIT
    redact: tuple[str, ...] = ()
    """Regular expressions whose matches are replaced before storage, beside the built-in rules."""
    builtin_redaction: bool = True


class Otel(Struct, frozen=True, kw_only=True):
    """Export of spans by OpenTelemetry's GenAI conventions (OTLP over HTTP)."""

    endpoint: str = ""
    """A collector's base address, such as ``http://localhost:4318``; ``/v1/traces`` is added. Empty: no export."""
    headers_env: dict[str, str] = msgspec.field(default_factory=dict)
    """Headers that it wants: name to the environment's variable that holds the whole value."""
    content: bool = False
    """Prompts, answers and definitions of tools too, redacted as the store has them."""
    service_name: str = ""
    """Empty: ``OTEL_SERVICE_NAME``, else ``potstill``."""
    timeout_s: float = 10.0
    """For one batch, retries included; and longest flush when the gateway stops."""
    max_queue_bytes: int = 32 * 1024 * 1024
    """Of exchanges that wait to become spans; beyond it spans are dropped and counted."""


class Gateway(Struct, frozen=True, kw_only=True):
    host: str = "127.0.0.1"
    port: int = 8000
    db: str = "potstill.db"
    upstreams: tuple[Upstream, ...] = ()
    models: tuple[Model, ...] = ()
    routes: tuple[Route, ...] = ()
    default_route: str | None = None
    """For names that no route has; None: they are answered with 404 and the names that there are."""
    passthrough: str | None = None
    """Upstream that unknown models are passed to under their own name (record mode)."""
    tenants: tuple[Tenant, ...] = ()
    keys_required: bool = False
    allowed_hosts: tuple[str, ...] = ()
    """Further names (``Host``, without port) under which a gateway that asks for no key may be reached; loopback names
    and ``host`` may always."""
    metrics_public: bool | None = None
    """``/metrics``, which tells spend, without the admin key. None: on a loopback address only."""
    admin_key_env: str = "POTSTILL_ADMIN_KEY"
    limits: Limits = Limits()
    recording: Recording = Recording()
    otel: Otel = Otel()
