"""The data model: frozen, versioned structs that every layer shares.

What it knows: the shapes of tasks, episodes, steps, model calls and what they cost in tokens.
What it does not do: I/O, prices (tokens only; ``measure`` computes dollars from dated tables), validation of meaning.

Words (the field's): a *task* is what is to be done; an *episode* is one attempt, recorded as a *trajectory* of *steps*;
a *call* is one billed request to a model, with all the samples that it returned.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

import msgspec

SCHEMA_VERSION = 1
"""Version of the structs below as they are written to stores and files. Readers accept this version and older ones."""


class Struct(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of all data: immutable, compared by value, fields at their default are left out of encodings."""


# --- messages -------------------------------------------------------------------------------------------------------

Role = Literal["system", "user", "assistant", "tool"]


class Blob(Struct, frozen=True, kw_only=True):
    """A reference to bytes kept beside the text (an image in an observation), addressed by content."""

    digest: str
    """Lower-case hexadecimal SHA-256 of the bytes."""
    media_type: str
    """For example ``image/png``."""
    size_bytes: int


class ToolSpec(Struct, frozen=True, kw_only=True):
    """A tool that the model may call. ``parameters`` is a JSON Schema object."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = {}


class ToolCall(Struct, frozen=True, kw_only=True):
    """One call of a tool as the model wrote it. ``arguments`` is the raw JSON text: it may be invalid."""

    id: str
    name: str
    arguments: str = "{}"


class ToolResult(Struct, frozen=True, kw_only=True):
    """What a tool answered, joined to its call by ``call_id``."""

    call_id: str
    text: str


class Message(Struct, frozen=True, kw_only=True):
    """One chat message. A ``tool`` message answers the call ``tool_call_id``."""

    role: Role
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    images: tuple[Blob, ...] = ()


# --- asking a model -------------------------------------------------------------------------------------------------


class Purpose(StrEnum):
    """Why a model was called; the report splits spend by it."""

    PLAN = "plan"
    REASON = "reason"
    ACT = "act"
    SUMMARIZE = "summarize"
    CHECK = "check"
    REFLECT = "reflect"
    """A Reflector's call (arXiv 2510.04618)."""
    CURATE = "curate"


class Past(Struct, frozen=True, kw_only=True):
    """A finished turn as a policy reads it: what was seen, and what was done then."""

    observation: str
    action: str


class Situation(Struct, frozen=True, kw_only=True):
    """What a policy without a chat reads: the parts of a prompt apart (docs/design/008)."""

    goal: str = ""
    plan: str = ""
    observation: str = ""
    past: tuple[Past, ...] = ()
    """Oldest first."""


class Request(Struct, frozen=True, kw_only=True):
    """What a model is asked, free of any provider's dialect."""

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    admissible: tuple[str, ...] = ()
    """If not empty, the answer should be exactly one of these. Local models enforce it (grammar or likelihood)."""
    begun: str = ""
    """What the answer begins with already; the model goes on behind it. For models that can (``Capabilities.goes_on``)
    only: others would not heed it."""
    temperature: float = 0.0
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    seed: int | None = None
    top_logprobs: int = 0
    """0: no log-probabilities; k: the sampled token's and the k most likely alternatives'."""
    static_messages: int = 0
    """How many leading messages stay the same over the episode: where a cache breakpoint pays."""
    purpose: Purpose = Purpose.ACT
    situation: Situation | None = None
    """The same for a policy that reads no chat; None where nobody can tell the parts. Never sent or stored."""
    handle: Any = None
    """Opaque, made by the environment for its own expert (see ``protocols.ExpertHandle``); never sent or stored."""


class TokenLogprob(Struct, frozen=True, kw_only=True):
    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


class FinishReason(StrEnum):
    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"
    OTHER = "other"


class Reply(Struct, frozen=True, kw_only=True):
    """One sample of a model's answer."""

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str = ""
    finish_reason: FinishReason = FinishReason.STOP
    logprob: float | None = None
    """Sum of the answer's token log-probabilities, the end-of-generation token left out; None where unknown."""
    token_logprobs: tuple[TokenLogprob, ...] = ()
    candidates: tuple[tuple[str, float], ...] = ()
    """Likelihood scoring only: every admissible action with its log-probability, most likely first. Imported replies
    may hold some of the actions, such as the likeliest k."""


class Usage(Struct, frozen=True, kw_only=True):
    """Tokens of one billed request. The parts add up: ``uncached + cache_read + cache_write == input``.

    ``reasoning_tokens`` are a part of ``output_tokens``; ``cache_write_1h_tokens`` a part of ``cache_write_tokens``.
    """

    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cache_reported: bool = False
    """The endpoint itself said what came from its cache. If False, cached prices can only be simulated."""
    estimated: bool = False
    """The counts are ours (a tokenizer or a stated estimator), not the provider's."""
    counted_by: str = ""
    """Who counted, where the counts are estimated: a model whose tokenizer it was, or an estimator."""

    def __post_init__(self) -> None:
        counts = (
            self.input_tokens,
            self.cache_read_tokens,
            self.cache_write_tokens,
            self.cache_write_1h_tokens,
            self.output_tokens,
            self.reasoning_tokens,
        )
        if min(counts) < 0:
            raise ValueError(f"token counts cannot be negative: {self}")
        if self.uncached_input_tokens < 0:
            raise ValueError(
                f"cache reads ({self.cache_read_tokens}) and writes ({self.cache_write_tokens}) "
                f"exceed the input of {self.input_tokens} tokens"
            )
        if self.cache_write_1h_tokens > self.cache_write_tokens:
            raise ValueError("one-hour cache writes exceed all cache writes")
        if self.reasoning_tokens > self.output_tokens:
            raise ValueError(f"reasoning ({self.reasoning_tokens}) exceeds output ({self.output_tokens}) tokens")

    @property
    def uncached_input_tokens(self) -> int:
        return self.input_tokens - self.cache_read_tokens - self.cache_write_tokens


class Answerer(StrEnum):
    """Who decided an action."""

    TEACHER = "teacher"
    STUDENT = "student"
    CONTROL = "control"
    """A policy without a language model (copy the nearest demonstration's action)."""
    NOBODY = "nobody"


class Call(Struct, frozen=True, kw_only=True):
    """One billed request to a model and everything that came back: a row of the ledger.

    ``n`` samples that share one billed prompt are one call with ``n`` replies; asked for apart they are ``n`` calls.
    """

    model: str
    """The name that was asked for, such as ``local:smollm2-135m``."""
    answerer: Answerer
    purpose: Purpose = Purpose.ACT
    prompt: tuple[Message, ...] = ()
    tools: tuple[ToolSpec, ...] = ()
    replies: tuple[Reply, ...] = ()
    usage: Usage | None = None
    """None: the endpoint did not report tokens and nothing estimated them. Never zero for unknown."""
    raw_usage: dict[str, Any] | None = None
    """The provider's own usage object, kept so that the call can be priced again."""
    priced_as: str | None = None
    """Name of the price row where the model itself has no list price (experts, local models)."""
    temperature: float | None = None
    started_at: float = 0.0
    """Unix seconds."""
    latency_s: float = 0.0
    cpu_s: float | None = None
    """CPU seconds where the model ran in this process; None elsewhere."""
    attempts: int = 1
    request_id: str | None = None
    error: ErrorRecord | None = None


class Completion(Struct, frozen=True, kw_only=True):
    """What ``Model.sample`` returns: the samples in order, and the billed calls that they came from."""

    replies: tuple[Reply, ...]
    calls: tuple[Call, ...]


# --- acting on an environment ---------------------------------------------------------------------------------------


class Action(Struct, frozen=True, kw_only=True):
    """What the agent does: a text, or tool calls (then ``text`` is what it says beside them)."""

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    listed: str = ""
    """Which of the admissible actions this is, where a client writes them as calls of tools; empty: ``text`` says."""


class Observation(Struct, frozen=True, kw_only=True):
    """What the environment shows after ``reset`` or ``step``."""

    text: str = ""
    admissible: tuple[str, ...] | None = None
    """The actions that the environment accepts now; None where they cannot be listed (tool calling)."""
    tools: tuple[ToolSpec, ...] = ()
    tool_results: tuple[ToolResult, ...] = ()
    images: tuple[Blob, ...] = ()
    done: bool = False
    score: float = 0.0
    """Cumulative score in [0, 1] where the environment gives one."""
    shown: str | None = None
    """What a policy reads of it, where the text holds more (a goal, the list of actions); None: all."""


class Task(Struct, frozen=True, kw_only=True):
    """What is to be done. ``id`` is unique within its environment and stable between runs."""

    id: str
    environment: str
    goal: str = ""
    """May be empty until ``reset`` (games that state the goal in their first observation)."""
    split: str = ""
    kind: str = ""
    """The type of task, where the environment has types (ALFWorld's six)."""
    data: dict[str, Any] = {}
    """What the environment needs to build the task again: a relative path, a level name, a seed."""


# --- why something was decided --------------------------------------------------------------------------------------


class EscalationMode(StrEnum):
    """How far the teacher takes over when the student is not trusted (arXiv 2512.02543 uses ``step``)."""

    STEP = "step"
    STICKY = "sticky"
    RESTART = "restart"
    COMPACT = "compact"
    TASK = "task"
    TEACHER_FIRST = "teacher-first"


class Reason(StrEnum):
    """Why the answerer of a step answered."""

    STUDENT_ONLY = "student-only"
    TEACHER_ONLY = "teacher-only"
    CONTROL_ONLY = "control-only"
    AGREED = "agreed"
    CONFIDENT = "confident"
    DISAGREED = "disagreed"
    NOT_CONFIDENT = "not-confident"
    REPEATED = "repeated"
    """The student wanted an action already taken in the same situation: a loop that agreement cannot see."""
    INVALID = "invalid"
    """At least one sample was not a valid action, which counts as disagreement."""
    STUDENT_FAILED = "student-failed"
    CONTEXT_FAILED = "context-failed"
    TEACHER_FAILED = "teacher-failed"
    TEACHER_KEEPS = "teacher-keeps"
    """The teacher still holds the steps it was given (``sticky``, ``restart``, ``task``)."""
    TEACHER_FIRST = "teacher-first"
    TASK_TRUSTED = "task-trusted"
    RANDOM_ESCALATION = "random-escalation"
    RANDOM_STUDENT = "random-student"
    LABELLED = "labelled"
    """The student acted; the teacher was asked too, for a label to learn from (``Decision.label``)."""
    BUDGET = "budget"


class Vote(Struct, frozen=True, kw_only=True):
    """One sample as the agreement rule saw it."""

    key: str | None
    """Canonical form under the rule; None if the sample was not a valid action."""
    text: str = ""
    logprob: float | None = None


class Decision(Struct, frozen=True, kw_only=True):
    """The record of who acted and why."""

    answerer: Answerer
    reason: Reason
    mode: EscalationMode | None = None
    rule: str | None = None
    votes: tuple[Vote, ...] = ()
    agreement: float | None = None
    """Share of all samples that fell on the most common valid action, in [0, 1]."""
    confidence: float | None = None
    """Probability of the chosen action among the admissible ones, where likelihoods were scored."""
    samples: int = 0
    label: str | None = None
    """What the teacher would have done, where it was asked and the student's action was taken all the same."""


class DemonstrationRef(Struct, frozen=True, kw_only=True):
    """Which piece of which trajectory was shown: steps ``start`` (inclusive) to ``stop`` (exclusive)."""

    trajectory_id: str
    start: int
    stop: int
    score: float = 0.0


class ErrorRecord(Struct, frozen=True, kw_only=True):
    """A failure kept as data. ``kind`` is the exception's class name in ``potstill.errors`` or a foreign one."""

    kind: str
    message: str


# --- what happened --------------------------------------------------------------------------------------------------


class Step(Struct, frozen=True, kw_only=True):
    """One turn of the loop: what was seen, what was done, who decided it, and every call that this took."""

    index: int
    observation: Observation
    action: Action
    answerer: Answerer
    reasoning: str = ""
    decision: Decision | None = None
    calls: tuple[Call, ...] = ()
    demonstrations: tuple[DemonstrationRef, ...] = ()
    bullets: tuple[str, ...] = ()
    """Ids of the playbook's bullets that this step was shown beside the episode's page."""
    latency_s: float = 0.0
    error: ErrorRecord | None = None


class PlaybookUse(Struct, frozen=True, kw_only=True):
    """Which of a playbook's bullets an episode was shown, which were withheld by lot, and which it named."""

    name: str
    revision: int = 0
    """The book's when the episode began."""
    shown: tuple[str, ...] = ()
    """On the page or at any step, in the order in which they were first shown."""
    withheld: tuple[str, ...] = ()
    trial: bool = False
    """Lots were drawn for this episode: each bullet that may be withheld was so with a known probability, although
    perhaps none was. Only such episodes compare a bullet's presence with its absence."""
    cited: tuple[str, ...] = ()


class OutcomeSource(StrEnum):
    ENVIRONMENT = "environment"
    CHECKER = "checker"
    HUMAN = "human"
    JUDGE = "judge"


class Outcome(Struct, frozen=True, kw_only=True):
    """Whether the task was done, and who says so. ``success`` None: not known (yet)."""

    success: bool | None
    source: OutcomeSource = OutcomeSource.ENVIRONMENT
    score: float | None = None
    detail: str = ""


class TrajectoryKind(StrEnum):
    TEACHER = "teacher"
    STUDENT = "student"
    CASCADE = "cascade"
    CONTROL = "control"


class Trajectory(Struct, frozen=True, kw_only=True):
    """One recorded episode."""

    id: str
    task: Task
    kind: TrajectoryKind
    arm: str = ""
    """Name of the configuration that was compared (``zero-shot``, ``context+cascade``, ...)."""
    run_id: str = ""
    namespace: str = "default"
    """The tenant. Demonstrations, playbooks and models never cross it."""
    seed: int = 0
    teacher: str | None = None
    student: str | None = None
    goal: str = ""
    plan: str = ""
    steps: tuple[Step, ...] = ()
    final_observation: Observation | None = None
    outcome: Outcome | None = None
    playbook: PlaybookUse | None = None
    error: ErrorRecord | None = None
    """Set when the episode broke (a crashed game, a model that did not answer): data, not a crash."""
    config_digest: str = ""
    prices_date: str | None = None
    started_at: float = 0.0
    duration_s: float = 0.0
    schema: int = SCHEMA_VERSION
    metadata: dict[str, Any] = {}

    @property
    def succeeded(self) -> bool:
        return self.outcome is not None and self.outcome.success is True
