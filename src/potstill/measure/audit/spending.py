"""Slices of the spending: sums by a name, with the dearest episodes as examples.

What it knows: sums whose parts may be unknown. What it does not do: decide what the names are.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import TypeVar, cast

import msgspec

from potstill.measure.audit.result import Example, Spend

Number = TypeVar("Number", int, float)

EXAMPLES = 3


class Slices:
    """Running sums, one for each name."""

    def __init__(self) -> None:
        self._slices: dict[str, _Slice] = {}

    def add(
        self,
        name: str,
        *,
        usd: float | None,
        calls: int,
        input_tokens: int | None,
        cached_tokens: int | None,
        output_tokens: int | None,
        example: str | None,
    ) -> None:
        """Add one episode to a slice."""
        found = self._slices.get(name)
        if found is None:
            found = self._slices[name] = _Slice()
        found.add(usd, calls, (input_tokens, cached_tokens, output_tokens), example)

    def spends(self) -> tuple[Spend, ...]:
        """The slices, the dearest first. Shares are of the dollars that are known."""
        total = sum(one.known_usd for one in self._slices.values())
        ordered = sorted(self._slices.items(), key=lambda item: (-item[1].known_usd, item[0]))
        return tuple(one.spend(name, total) for name, one in ordered)


class _Slice:
    __slots__ = ("best", "calls", "episodes", "known_usd", "tokens", "unknown")

    def __init__(self) -> None:
        self.known_usd = 0.0
        self.unknown = 0
        self.calls = 0
        self.episodes = 0
        self.tokens: list[int | None] = [0, 0, 0]
        self.best: list[tuple[float, str]] = []
        """The dearest examples, as a heap."""

    def add(self, usd: float | None, calls: int, tokens: tuple[int | None, ...], example: str | None) -> None:
        self.episodes += 1
        self.calls += calls
        if usd is None:
            self.unknown += 1
        else:
            self.known_usd += usd
        for number, value in enumerate(tokens):
            so_far = self.tokens[number]
            self.tokens[number] = None if value is None or so_far is None else so_far + value
        if example is not None:
            entry = (usd or 0.0, example)
            if len(self.best) < EXAMPLES:
                heapq.heappush(self.best, entry)
            elif entry > self.best[0]:
                heapq.heapreplace(self.best, entry)

    def spend(self, name: str, total: float) -> Spend:
        return Spend(
            name=name,
            usd=None if self.unknown else self.known_usd,
            share=self.known_usd / total if total > 0 and not self.unknown else None,
            calls=self.calls,
            episodes=self.episodes,
            input_tokens=self.tokens[0],
            cached_input_tokens=self.tokens[1],
            output_tokens=self.tokens[2],
            known_usd=self.known_usd,
            without_cost=self.unknown,
            examples=tuple(example for _, example in sorted(self.best, reverse=True)),
        )


def joined(
    first: tuple[Spend, ...],
    second: tuple[Spend, ...],
    plain: Mapping[str, Sequence[Example]],
) -> tuple[Spend, ...]:
    """Two lists of slices as one, the dearest first.

    ``plain``: attempts without calls that show a slice beside its own examples.
    """
    by_name: dict[str, list[Spend]] = {}
    for spend in (*first, *second):
        by_name.setdefault(spend.name, []).append(spend)
    sums = [_one(name, parts) for name, parts in by_name.items()]
    total = sum(spend.known_usd for spend in sums)
    done = []
    for spend in sums:
        dear = sorted(plain.get(spend.name, ()), key=lambda example: -(example.usd or 0.0))
        examples = (*spend.examples, *(example.id for example in dear))
        share = spend.usd / total if spend.usd is not None and total > 0 else None
        done.append(msgspec.structs.replace(spend, share=share, examples=tuple(dict.fromkeys(examples))[:EXAMPLES]))
    return tuple(sorted(done, key=lambda spend: (-spend.known_usd, spend.name)))


def _one(name: str, parts: list[Spend]) -> Spend:
    return Spend(
        name=name,
        usd=_sum([part.usd for part in parts]),
        share=None,
        calls=sum(part.calls for part in parts),
        episodes=sum(part.episodes for part in parts),
        input_tokens=_sum([part.input_tokens for part in parts]),
        cached_input_tokens=_sum([part.cached_input_tokens for part in parts]),
        output_tokens=_sum([part.output_tokens for part in parts]),
        known_usd=sum(part.known_usd for part in parts),
        without_cost=sum(part.without_cost for part in parts),
        examples=tuple(example for part in parts for example in part.examples),
    )


def _sum(values: Sequence[Number | None]) -> Number | None:
    known = [value for value in values if value is not None]
    return cast(Number, sum(known)) if len(known) == len(values) else None
