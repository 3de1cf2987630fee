"""The extension points, and nothing else. Everything that potstill can be given is one of these.

Each has a conformance check (``potstill.models.check``, ``potstill.envs.check``, ...) and an entry-point group
(``potstill.models``, ``potstill.environments``, ``potstill.embedders``, ``potstill.checkers``) through which other
packages add their own.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from potstill.types import (
    Action,
    Blob,
    Completion,
    DemonstrationRef,
    Observation,
    Outcome,
    Reply,
    Request,
    Struct,
    Task,
    Trajectory,
)

FloatMatrix = NDArray[np.float32]


class Capabilities(Struct, frozen=True, kw_only=True):
    """What a model can do. ``potstill models check`` probes; nothing is assumed that was not stated or probed."""

    n_shares_prompt: bool = False
    """``n`` samples in one request are billed (or evaluated) as one prompt."""
    tools: bool = False
    logprobs: bool = False
    constrained: bool = False
    """``Request.admissible`` is enforced, not only hoped for."""
    scores_candidates: bool = False
    """``Reply.candidates`` can be filled: a log-probability for each admissible action."""
    goes_on: bool = False
    """Answers that were begun (``Request.begun``) are gone on with."""
    reasons_first: bool = False
    """Where actions are listed, it writes its reasoning and then weighs them behind it: ``Reply.reasoning`` is filled,
    and ``Reply.candidates`` are likelihoods given that reasoning."""
    reports_cache: bool = False
    images: bool = False
    actions_only: bool = False
    """Answers requests with a situation and admissible actions, and no others: a policy, not a language model."""
    context_tokens: int | None = None


@runtime_checkable
class Model(Protocol):
    """Something that answers: an endpoint, a local model, an expert, recorded answers.

    Contract: ``sample`` returns exactly ``n`` replies in order, or raises an error of ``potstill.errors.ModelError``.
    It may be called concurrently. Cancelling the awaiting task cancels the work and leaves the model usable.
    Each ``Call`` in the completion has ``answerer=Answerer.NOBODY``: the caller knows the role and sets it.
    """

    @property
    def name(self) -> str: ...

    @property
    def capabilities(self) -> Capabilities: ...

    async def sample(self, request: Request, n: int = 1) -> Completion: ...

    async def aclose(self) -> None: ...


@runtime_checkable
class CandidateScorer(Protocol):
    """A model that can say how likely each of ``Request.admissible`` is (``Capabilities.scores_candidates``).

    Contract: the completion has one reply, whose ``candidates`` hold every admissible action with its log-probability
    (end-of-generation token left out), most likely first, and whose text is the most likely one.
    """

    async def score(self, request: Request) -> Completion: ...


@runtime_checkable
class TokenCounter(Protocol):
    """Counts tokens as a model would see them (used to price experts 'as' a named model)."""

    @property
    def name(self) -> str: ...

    def count(self, text: str) -> int: ...


class ExpertHandle(Protocol):
    """Made by an environment, carried opaquely by ``Request.handle``: how its own expert is asked for an action."""

    async def expert_action(self) -> Action: ...


class Environment(Protocol):
    """Something that is acted upon, one episode at a time. Synchronous; the runner puts it in a worker process.

    Contract: ``reset`` may be called any number of times and makes the environment as new. After ``reset(task, seed)``
    the same actions give the same observations. An action that is not admissible does not raise: the environment says
    so in its next observation. ``step`` after ``done`` raises ``EnvError``. ``outcome`` may be called at any time.
    """

    @property
    def name(self) -> str: ...

    def reset(self, task: Task, seed: int) -> Observation: ...

    def step(self, action: Action) -> Observation: ...

    def outcome(self) -> Outcome: ...

    def expert_action(self) -> Action | None:
        """The next action of the environment's own expert in the present state; None where there is no expert."""

    def read_blob(self, blob: Blob) -> bytes:
        """The bytes of an image that an observation of this episode referred to. Raises ``KeyError`` for others."""

    def close(self) -> None: ...


class TaskSource(Protocol):
    """How an environment lists its tasks without starting a game. Registered beside the environment."""

    def splits(self) -> Sequence[str]: ...

    def tasks(self, split: str) -> Sequence[Task]:
        """All tasks of a split in a fixed order. Raises ``TaskNotFound`` with what to type."""


class AsyncEnvironment(Protocol):
    """An environment as the episode loop sees it: the calls of ``Environment``, awaited, in a worker process."""

    async def reset(self, task: Task, seed: int) -> Observation: ...

    async def step(self, action: Action) -> Observation: ...

    async def outcome(self) -> Outcome: ...

    async def expert_action(self) -> Action: ...

    async def read_blob(self, blob: Blob) -> bytes: ...

    async def aclose(self) -> None: ...


class Embedder(Protocol):
    """Turns texts into unit vectors, shape (len(texts), dimension), float32, rows of Euclidean norm 1."""

    @property
    def name(self) -> str: ...

    @property
    def dimension(self) -> int: ...

    def embed(self, texts: Sequence[str]) -> FloatMatrix: ...


class Ranker(Protocol):
    """Scores stored texts against a query; BM25 and vector search are both rankers. Positions are insertion order."""

    def __len__(self) -> int: ...

    def add(self, texts: Sequence[str]) -> None: ...

    def scores(self, query: str) -> NDArray[np.float32]:
        """One score for each stored text, higher is nearer, shape (len(self),)."""


class ContextQuery(Struct, frozen=True, kw_only=True):
    """What the agent knows when it asks for context."""

    task: Task
    goal: str
    plan: str = ""
    observation: str = ""
    reasoning: str = ""
    step_index: int = 0
    history: tuple[str, ...] = ()
    """The actions so far, oldest first."""
    namespace: str = "default"
    episode: str = ""
    """Which episode asks: the same in all its questions, another one in others of the same task. Empty: not told."""


class ContextBlock(Struct, frozen=True, kw_only=True):
    """Text to put into a prompt, and where it came from. Empty text: nothing fitting was found."""

    text: str = ""
    demonstrations: tuple[DemonstrationRef, ...] = ()
    bullets: tuple[str, ...] = ()
    """Ids of the playbook's bullets in the text, in its order."""
    withheld: tuple[str, ...] = ()
    """Ids of bullets that would stand in it and were left out by lot."""
    trial: bool = False
    """Whether lots were drawn (``types.PlaybookUse``)."""
    playbook: str = ""
    """Name of the book; empty: none."""
    revision: int = 0
    """The book's as the text was made."""


class Context(Protocol):
    """Knowledge handed down in the prompt: demonstrations, playbooks, memory.

    ``for_task`` is asked once per episode (its text is a frozen prefix, which prompt caches reward), ``for_step`` at
    every step. Either may return an empty block. ``observe`` tells how the episode ended, for utility counts.
    """

    @property
    def name(self) -> str: ...

    async def for_task(self, query: ContextQuery) -> ContextBlock: ...

    async def for_step(self, query: ContextQuery) -> ContextBlock: ...

    async def observe(self, shown: Sequence[DemonstrationRef], success: bool) -> None: ...


@runtime_checkable
class BulletObserver(Protocol):
    """A context with a playbook in it, which counts what became of episodes that were shown its bullets.

    Contract: told once per episode, after it ended, with every id of ``ContextBlock.bullets`` that it was shown, each
    once. Beside ``Context.observe``, which tells of demonstrations.
    """

    async def observe_bullets(self, shown: Sequence[str], success: bool) -> None: ...


@runtime_checkable
class BulletReader(Protocol):
    """A context with a playbook in it, which knows how a text names a bullet.

    Contract: the ids among ``shown`` that are named, in the order of their first mention; pure. It is given the model's
    own words only: an observation that quotes an id cites nothing.
    """

    def cited(self, said: str, shown: Sequence[str]) -> tuple[str, ...]: ...


class AgreementRule(Protocol):
    """When two samples are the same decision: they are if their keys are equal."""

    @property
    def name(self) -> str: ...

    def key(self, reply: Reply, admissible: Sequence[str] | None) -> Hashable | None:
        """Canonical form of the reply's action; None if it is not a valid action."""

    def action(self, reply: Reply, admissible: Sequence[str] | None) -> Action:
        """The action to execute for a valid reply."""


class Control(Protocol):
    """A policy without a language model, such as copying the nearest demonstration's action."""

    @property
    def name(self) -> str: ...

    async def act(self, query: ContextQuery, admissible: Sequence[str]) -> tuple[Action, ContextBlock]: ...


class Checker(Protocol):
    """Says how an episode that a gateway recorded ended, out of its trajectory.

    Contract: may block, is called from several threads at once, and may be asked again about an episode that went on.
    True or False: the task was done or not; None: it cannot tell; an ``Outcome`` says more (``score``, ``detail``).
    What it raises counts as None and is noted.
    """

    def __call__(self, trajectory: Trajectory) -> bool | Outcome | None: ...


JsonObject = dict[str, Any]
