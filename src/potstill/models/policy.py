"""A small trained policy as a model: ``policy:FILE``. It reads no chat but the situation, and writes no text.

Satisfies ``protocols.Model`` and ``CandidateScorer``. The log-probabilities are the policy's own, calibrated where its
file says how. It has no list price: like every local model it is priced by its CPU time (``--cpu-hour-usd``), or as a
model that is named. As tokens count the words that it read and the action's, and usage says so. What a file must look
like, and the forward passes, are the runtime's (``potstill.edge``).
"""

from __future__ import annotations

import functools
import math
import random
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from potstill.edge import seal, words
from potstill.edge.film import Film
from potstill.edge.mlp import Mlp
from potstill.edge.policy import Network, Policy
from potstill.edge.policy import open_policy as open_file
from potstill.edge.ranker import Ranker
from potstill.edge.vectors import VectorReader
from potstill.errors import BadModelFile, ConfigError, ModelError
from potstill.models.likelihood import drawn_replies
from potstill.protocols import Capabilities
from potstill.types import Answerer, Call, Completion, Reply, Request, Situation, Usage

COUNTED_BY = "words-read-by-the-policy"
Reader = Film | Ranker | VectorReader
"""What answers a situation and candidates with logits."""


def open_policy(path: str | Path, *, seed: int | None = None) -> PolicyModel:
    """Load a policy. ``seed``: of the draws where a request has none.

    Raises ``ConfigError`` where there is no file, ``BadModelFile`` where it is no policy or was changed after it was
    written.
    """
    found = Path(path).expanduser()
    try:
        policy = open_file(found)
    except OSError as error:
        raise ConfigError(
            f"Cannot read the policy {found}: {error.strerror}. Type for example: policy:student.policy"
        ) from None
    except ValueError as error:
        raise BadModelFile(str(error)) from None
    return PolicyModel(f"policy:{path}", policy, reader_of(policy.network), seed=seed)


def reader_of(network: Network) -> Reader:
    """The network where situations come: one of vectors reads them out of the observation's text."""
    return VectorReader(network.actions, network.logits) if isinstance(network, Mlp) else network


class PolicyModel:
    """A policy in memory. A decision takes about a millisecond, so it is made where it is asked for."""

    def __init__(self, name: str, policy: Policy, network: Reader, *, seed: int | None = None) -> None:
        self._name, self._policy, self._network = name, policy, network
        self._random = random.Random(seed)
        # An episode repeats what it showed at every step: each text is counted once.
        self._count = functools.lru_cache(maxsize=4096)(_words)

    @property
    def name(self) -> str:
        return self._name

    @property
    def version(self) -> str:
        """The hash of the file's manifest: what its children and its history call it by."""
        return seal.text_sha256(seal.canonical(dict(self._policy.manifest)))

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(n_shares_prompt=True, constrained=True, scores_candidates=True, actions_only=True)

    async def sample(self, request: Request, n: int = 1) -> Completion:
        """``n`` draws from the softmax of the log-probabilities at the request's temperature (at 0: the likeliest).

        The first reply carries all candidates. Raises ``ModelError`` for a request that no policy can answer: without
        a situation, without admissible actions, or with tools.
        """
        if n < 1:
            raise ConfigError(f"n must be at least 1, got {n}.")
        situation, actions = self._asked(request)
        started, began, cpu = time.time(), time.perf_counter(), time.thread_time()
        candidates = self._candidates(situation, actions)
        seed = request.seed if request.seed is not None else self._random.getrandbits(31)
        replies = drawn_replies(candidates, request.temperature, n, seed)
        usage = self._usage(situation, actions, replies)
        call = Call(
            model=self._name,
            answerer=Answerer.NOBODY,
            purpose=request.purpose,
            prompt=request.messages,
            replies=replies,
            usage=usage,
            temperature=request.temperature,
            started_at=started,
            latency_s=time.perf_counter() - began,
            cpu_s=time.thread_time() - cpu,
        )
        return Completion(replies=replies, calls=(call,))

    async def score(self, request: Request) -> Completion:
        """The likeliest action, with every action's log-probability in ``candidates``, most likely first."""
        return await self.sample(msgspec.structs.replace(request, temperature=0.0))

    def probabilities(self, situation: Situation, actions: Sequence[str]) -> dict[str, float]:
        """Of each action, without a call: for whoever compares a policy with recorded decisions."""
        return {action: math.exp(found) for action, found in self._candidates(situation, tuple(dict.fromkeys(actions)))}

    async def aclose(self) -> None:
        self._count.cache_clear()

    def _asked(self, request: Request) -> tuple[Situation, tuple[str, ...]]:
        if request.tools:
            raise ModelError(f"{self._name} chooses among admissible actions and calls no tools.")
        if not request.admissible:
            raise ModelError(
                f"{self._name} chooses among admissible actions, and this request to {request.purpose.value} has none. "
                "A policy acts where the environment lists its actions; plans and reasons need a language model."
            )
        if request.situation is None:
            raise ModelError(
                f"{self._name} reads no chat, and this request has no situation (goal, observation and past apart). "
                "Use it in 'potstill run', or send Request(situation=...)."
            )
        return request.situation, tuple(dict.fromkeys(request.admissible))

    def _candidates(self, situation: Situation, actions: tuple[str, ...]) -> tuple[tuple[str, float], ...]:
        try:
            with np.errstate(all="ignore"):
                logits = self._network.logits(msgspec.to_builtins(situation), actions)
        except ValueError as error:
            raise ModelError(f"{self._name} cannot answer. {error}") from None
        try:
            scored = zip(actions, self._policy.log_probabilities(logits).tolist(), strict=True)
        except ValueError as error:
            raise BadModelFile(f"{self._name}: {error}") from None
        return tuple(sorted(scored, key=lambda pair: -pair[1]))

    def _usage(self, situation: Situation, actions: tuple[str, ...], replies: tuple[Reply, ...]) -> Usage:
        turns = [text for turn in situation.past for text in (turn.observation, turn.action)]
        read = (situation.goal, situation.observation, *turns, *actions)
        return Usage(
            input_tokens=sum(map(self._count, read)),
            output_tokens=sum(self._count(reply.text) for reply in replies),
            estimated=True,
            counted_by=COUNTED_BY,
        )


def _words(text: str) -> int:
    return len(words.split(text))
