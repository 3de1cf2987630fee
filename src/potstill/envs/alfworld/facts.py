"""What is true in a game now, and the conjunctive queries that its grammar asks.

The order of answers is textworld's (facts sorted by name within each signature, signatures by its breadth-first walk of
subtypes): observations depend on it. Each predicate counts its changes, so that a text derived from facts
can be kept until one of them changes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from potstill.envs.alfworld import libraries

Placeholder = tuple[str, str]
"""A variable of a query: name and type."""

Mapping = dict[Placeholder, str]
"""What each placeholder stands for: the id of an entity."""

Condition = tuple[str, tuple[Placeholder, ...]]
Signature = tuple[str, tuple[str, ...]]
Arguments = tuple[str, ...]

NEGATION = "not_"


@lru_cache(maxsize=1024)
def parse_query(text: str) -> tuple[Condition, ...]:
    """A conjunctive query as (predicate, placeholders) pairs, parsed once a process."""
    return tuple(
        (predicate.name, tuple((parameter.name, parameter.type) for parameter in predicate.parameters))
        for predicate in libraries.parse_query(text)
    )


class Facts:
    """The facts of one game; arguments are entity ids, whose types ``objects`` gives."""

    def __init__(self, objects: dict[str, str], hierarchy: Any) -> None:
        self._types = objects
        self._hierarchy = hierarchy
        self._facts: defaultdict[Signature, set[Arguments]] = defaultdict(set)
        self._sorted: dict[Signature, list[Arguments]] = {}
        self._signatures: dict[Condition, list[Signature]] = {}
        self.versions: defaultdict[str, int] = defaultdict(int)

    def __iter__(self) -> Iterator[tuple[str, Arguments]]:
        """All facts, in a fixed order."""
        for name, types in sorted(self._facts):
            for arguments in self._rows((name, types)):
                yield name, arguments

    def named(self, name: str) -> Iterator[Arguments]:
        """The facts of one predicate."""
        for signature in sorted(signature for signature in self._facts if signature[0] == name):
            yield from self._rows(signature)

    def add(self, name: str, arguments: Arguments) -> None:
        signature = self._signature(name, arguments)
        if arguments not in self._facts[signature]:
            self._facts[signature].add(arguments)
            self._changed(signature)

    def remove(self, name: str, arguments: Arguments) -> None:
        signature = self._signature(name, arguments)
        if arguments in self._facts[signature]:
            self._facts[signature].remove(arguments)
            self._changed(signature)

    def become(self, name: str, arguments: Arguments) -> None:
        """A change of the game: the fact holds from now on and its opposite no longer does."""
        opposite = name.removeprefix(NEGATION) if name.startswith(NEGATION) else NEGATION + name
        self.remove(opposite, arguments)
        self.add(name, arguments)

    def matches(self, conditions: Iterable[Condition], bound: Mapping) -> Iterator[Mapping]:
        """Every way to bind the placeholders of the query to distinct entities, starting from ``bound``."""
        yield from self._matches(tuple(conditions), dict(bound), set(bound.values()))

    def _matches(self, conditions: tuple[Condition, ...], bound: Mapping, used: set[str]) -> Iterator[Mapping]:
        if not conditions:
            yield dict(bound)
            return
        placeholders = conditions[0][1]
        for signature in self._signatures_of(conditions[0]):
            for arguments in self._rows(signature):
                fresh = _bind(placeholders, arguments, bound, used)
                if fresh is None:
                    continue
                yield from self._matches(conditions[1:], bound, used)
                for placeholder in fresh:
                    used.discard(bound.pop(placeholder))

    def _rows(self, signature: Signature) -> list[Arguments]:
        rows = self._sorted.get(signature)
        if rows is None:
            rows = self._sorted[signature] = sorted(self._facts.get(signature, ()))
        return rows

    def _signatures_of(self, condition: Condition) -> list[Signature]:
        signatures = self._signatures.get(condition)
        if signatures is None:
            name, placeholders = condition
            types = [self._hierarchy.get(kind) for _, kind in placeholders]
            signatures = [
                (name, tuple(kind.name for kind in subtypes)) for subtypes in self._hierarchy.multi_subtypes(types)
            ]
            self._signatures[condition] = signatures
        return signatures

    def _signature(self, name: str, arguments: Arguments) -> Signature:
        return name, tuple(self._types[argument] for argument in arguments)

    def _changed(self, signature: Signature) -> None:
        self._sorted.pop(signature, None)
        self.versions[signature[0]] += 1


def _bind(
    placeholders: tuple[Placeholder, ...], arguments: Arguments, bound: Mapping, used: set[str]
) -> list[Placeholder] | None:
    """Bind in place what is not bound yet; None, with nothing changed, where the fact does not fit."""
    fresh: list[Placeholder] = []
    for placeholder, argument in zip(placeholders, arguments, strict=True):
        existing = bound.get(placeholder)
        if existing == argument:
            continue
        if existing is not None or argument in used:
            for undone in fresh:
                used.discard(bound.pop(undone))
            return None
        bound[placeholder] = argument
        used.add(argument)
        fresh.append(placeholder)
    return fresh
