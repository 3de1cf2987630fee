"""The log-probability of every admissible action, or the likeliest one, from next-token distributions alone.

llama.cpp has no log-probabilities of prompt tokens, so the actions are laid out as a tree of tokens and each inner node
is asked for the distribution of its next token: one evaluated token a node, because the prompt and the node above
are in the prefix cache. Shared beginnings ("go to cabinet ...") are evaluated once. Sums are exact.

The best action alone is found best first: log-probabilities only fall along a path, so the first complete action that
is taken off the queue beats all that are still in it.

Knows trees and the one question it asks of the server. Does not know messages or templates.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, Protocol

from potstill.errors import BadResponse
from potstill.types import Reply, Struct

TOP = 400
"""Alternatives read per node; an action's token outside them costs one more evaluation."""
FORCE = 1000.0
"""A logit bias that makes any token the sampled one; reported log-probabilities are those before the bias."""

Tokens = tuple[int, ...]


class Completer(Protocol):
    """The part of ``LlamaServer`` that scoring needs."""

    async def complete(self, path: str, body: dict[str, Any], timeout_s: float) -> list[dict[str, Any]]: ...


class Scores(Struct, frozen=True, kw_only=True):
    """Candidates, most likely first, and what finding them took."""

    candidates: tuple[tuple[str, float], ...]
    cached: int = 0
    """Prompt tokens that the first evaluation found in the prefix cache."""
    evaluations: int = 0
    evaluated: int = 0
    """Tokens evaluated in all, the uncached part of the prompt included."""


def children(actions: Mapping[str, Tokens]) -> dict[Tokens, set[int]]:
    """The tree: for every proper beginning of an action's tokens, the tokens that may follow.

    >>> children({"a b": (1, 2), "a c": (1, 3)})
    {(): {1}, (1,): {2, 3}}
    """
    tree: dict[Tokens, set[int]] = {}
    for tokens in actions.values():
        for depth, token in enumerate(tokens):
            tree.setdefault(tokens[:depth], set()).add(token)
    return tree


def ranked(actions: Mapping[str, Tokens], steps: Mapping[Tokens, float]) -> tuple[tuple[str, float], ...]:
    """Sum the steps of every action. ``steps`` has, for each beginning, the log-probability of its last token."""
    sums = [
        (action, math.fsum(steps[tokens[: depth + 1]] for depth in range(len(tokens))))
        for action, tokens in actions.items()
    ]
    return tuple(sorted(sums, key=lambda pair: -pair[1]))


def draw(candidates: Sequence[tuple[str, float]], temperature: float, n: int, seed: int) -> list[tuple[str, float]]:
    """``n`` draws from the softmax of the scores at a temperature; at 0 the likeliest, ``n`` times.

    The log-probability of each draw is the candidate's own, so that it means the same as in free sampling.
    """
    if temperature <= 0:
        return [candidates[0]] * n
    best = candidates[0][1]
    weights = [math.exp((logprob - best) / temperature) for _, logprob in candidates]
    return random.Random(seed).choices(list(candidates), weights=weights, k=n)


def drawn_replies(
    candidates: tuple[tuple[str, float], ...], temperature: float, n: int, seed: int
) -> tuple[Reply, ...]:
    """``n`` draws as replies; the first carries all candidates."""
    return tuple(
        Reply(text=text, logprob=logprob, candidates=candidates if index == 0 else ())
        for index, (text, logprob) in enumerate(draw(candidates, temperature, n, seed))
    )


async def every_action(server: Completer, prompt: Tokens, actions: Mapping[str, Tokens], timeout_s: float) -> Scores:
    """The log-probability of every action. The nodes are asked in depth-first order: each differs least from the last.

    One after the other on purpose: another slot would have to read the whole prompt first.
    """
    tree = children(actions)
    asker = _Asker(server, prompt, tree, timeout_s)
    steps: dict[Tokens, float] = {}
    for node in sorted(tree):
        steps |= await asker.next_tokens(node, tree[node])
    return asker.scores(ranked(actions, steps))


async def best_action(server: Completer, prompt: Tokens, actions: Mapping[str, Tokens], timeout_s: float) -> Scores:
    """The likeliest action only, best first: exact, and mostly a few evaluations however many actions there are."""
    tree = children(actions)
    ends = {tokens: action for action, tokens in reversed(list(actions.items()))}
    asker = _Asker(server, prompt, tree, timeout_s)
    order = count()
    queue: list[tuple[float, int, Tokens, bool]] = [(0.0, next(order), (), False)]
    while True:
        cost, _, node, complete = heapq.heappop(queue)
        if complete:
            return asker.scores(((ends[node], -cost),))
        for tokens, logprob in (await asker.next_tokens(node, tree[node])).items():
            if tokens in ends:
                heapq.heappush(queue, (cost - logprob, next(order), tokens, True))
            if tokens in tree:
                heapq.heappush(queue, (cost - logprob, next(order), tokens, False))


class _Asker:
    """Asks for next-token distributions behind one prompt and keeps count."""

    def __init__(self, server: Completer, prompt: Tokens, tree: Mapping[Tokens, set[int]], timeout_s: float) -> None:
        self.server, self.prompt, self.timeout_s = server, prompt, timeout_s
        self.tokens = sorted(set().union(*tree.values()))
        self.cached: int | None = None
        self.evaluations = self.evaluated = 0

    async def next_tokens(self, node: Tokens, wanted: set[int]) -> dict[Tokens, float]:
        """Log-probabilities of the wanted tokens after the prompt and ``node``, keyed by the longer beginning."""
        top = await self._distribution(node, wanted)
        found = {token["id"]: token["logprob"] for token in top["top_logprobs"]}
        for token in sorted(wanted - found.keys()):
            forced = await self._ask(node, {"n_probs": 1, "logit_bias": [[token, FORCE]]})
            if forced is None or forced["id"] != token:
                raise BadResponse(f"llama.cpp gave no log-probability of the token {token}, which was forced.")
            found[token] = forced["logprob"]
        return {(*node, token): found[token] for token in wanted}

    async def _distribution(self, node: Tokens, wanted: set[int]) -> dict[str, Any]:
        """The likeliest tokens after ``node``. One that ends within a letter is kept back by the server, and its
        alternatives with it: then a token of the actions is forced, which changes none of the numbers."""
        forced = ({"logit_bias": [[token, FORCE]]} for token in (*sorted(wanted), *self.tokens))
        for extra in ({}, *forced):
            top = await self._ask(node, {"n_probs": TOP, **extra})
            if top is not None:
                return top
        raise BadResponse("llama.cpp gave no log-probabilities for a token that it was asked to write.")

    async def _ask(self, node: Tokens, extra: dict[str, Any]) -> dict[str, Any] | None:
        body = {
            "prompt": [*self.prompt, *node],
            "n_predict": 1,
            "temperature": 0.0,
            "samplers": ["temperature"],
            "cache_prompt": True,
            **extra,
        }
        events = await self.server.complete("/completion", body, self.timeout_s)
        first = next((event for event in events if event.get("completion_probabilities")), None)
        final = next((event for event in events if event.get("stop")), None)
        if final is None:
            raise BadResponse("llama.cpp ended its answer before it was complete. Try again.")
        timings = final["timings"]
        self.evaluations += 1
        self.evaluated += int(timings["prompt_n"])
        if self.cached is None:
            self.cached = int(timings["cache_n"])
        return None if first is None else dict(first["completion_probabilities"][0])

    def scores(self, candidates: tuple[tuple[str, float], ...]) -> Scores:
        return Scores(
            candidates=candidates,
            cached=self.cached or 0,
            evaluations=self.evaluations,
            evaluated=self.evaluated,
        )
