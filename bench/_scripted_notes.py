"""Notes in plain words that a scripted student can follow and a scripted Curator can generalise: what a bullet says.

    When material is glass or wool and quantity is 31 to 58: for `ship` use `get the note` or `ship by sea`, not
    `ship by van` (against `the gate stayed shut`).

What it knows: how such a sentence is written and read, whether its condition fits an order, and the most specific
sentence that covers two of them. What it does not do: know any environment. Fields, values and actions are whatever
stands in the texts that it is given.

Generalising is Find-S (Mitchell 1982, "Generalization as search", Artificial Intelligence 18:203) over conditions: a
field keeps one or two values, and is dropped with the third one; numbers keep the range from the least to the most.
What helps is what helped in all cases so far (the intersection).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from potstill.types import Struct

Fields = Mapping[str, str]
MOST_VALUES = 2
"""Of a field within a condition: with more it is taken to be of no account."""

_SENTENCE = re.compile(
    r"(?:When (?P<when>.+?)|Always): for `(?P<verb>[^`]+)` (?P<advice>.+?)(?: \(against `(?P<trouble>[^`]+)`\))?\."
)
_QUOTED = re.compile(r"`([^`]+)`")
_FIELD = re.compile(r"^\s*([a-z][a-z ]*): (.+)$", re.MULTILINE)


class Range(Struct, frozen=True, kw_only=True):
    low: int
    high: int


Condition = dict[str, tuple[str, ...] | Range]


class Note(Struct, frozen=True, kw_only=True):
    """Under a condition, what to do and not to do at a kind of action, and the trouble that this is against."""

    when: Condition
    verb: str
    use: tuple[str, ...] = ()
    """Actions, one of which is enough; the likeliest first."""
    avoid: tuple[str, ...] = ()
    trouble: str = ""
    """Empty: it went well like this."""

    def fits(self, fields: Fields) -> bool:
        return all(name in fields and _within(part, fields[name]) for name, part in self.when.items())

    def __str__(self) -> str:
        condition = " and ".join(f"{name} is {_part(part)}" for name, part in self.when.items())
        use = "use " + " or ".join(f"`{action}`" for action in self.use) if self.use else ""
        avoid = "not " + " nor ".join(f"`{action}`" for action in self.avoid) if self.avoid else ""
        against = f" (against `{self.trouble}`)" if self.trouble else ""
        head = f"When {condition}" if condition else "Always"
        return f"{head}: for `{self.verb}` {', '.join(filter(None, (use, avoid)))}{against}."


def read_note(text: str) -> Note | None:
    """The note that a line or a bullet holds; None: it says something else."""
    found = _SENTENCE.search(" ".join(text.split()))
    if found is None:
        return None
    use, _, avoid = f" {found['advice']}".partition(" not ")
    return Note(
        when=_condition(found["when"] or ""),
        verb=found["verb"],
        use=tuple(_QUOTED.findall(use)),
        avoid=tuple(_QUOTED.findall(avoid)),
        trouble=found["trouble"] or "",
    )


def fields_of(text: str) -> dict[str, str]:
    """``name: value`` lines, such as a goal has."""
    return {name: value.strip() for name, value in _FIELD.findall(text)}


def exactly(fields: Fields) -> Condition:
    """The condition that these fields meet, and hardly any others."""
    return {
        name: Range(low=int(value), high=int(value)) if value.isdecimal() else (value,)
        for name, value in fields.items()
    }


def general(one: Note, other: Note) -> Note:
    """The most specific note of this language that covers both; its ``use`` and ``avoid`` may be empty."""
    when = {
        name: wider for name in one.when if name in other.when for wider in _wider(one.when[name], other.when[name])
    }
    return Note(
        when=when,
        verb=one.verb,
        use=_both(one.use, other.use),
        avoid=_both(one.avoid, other.avoid),
        trouble=one.trouble,
    )


def _both(one: Iterable[str], other: Iterable[str]) -> tuple[str, ...]:
    kept = set(other)
    return tuple(action for action in one if action in kept)


def _wider(one: tuple[str, ...] | Range, other: tuple[str, ...] | Range) -> list[tuple[str, ...] | Range]:
    """One part that covers both; none where they have too little in common."""
    if isinstance(one, Range) and isinstance(other, Range):
        return [Range(low=min(one.low, other.low), high=max(one.high, other.high))]
    if isinstance(one, Range) or isinstance(other, Range):
        return []
    values = tuple(dict.fromkeys((*one, *other)))
    return [values] if len(values) <= MOST_VALUES else []


def _within(part: tuple[str, ...] | Range, value: str) -> bool:
    if isinstance(part, Range):
        return value.isdecimal() and part.low <= int(value) <= part.high
    return value in part


def _part(part: tuple[str, ...] | Range) -> str:
    if isinstance(part, Range):
        return str(part.low) if part.low == part.high else f"{part.low} to {part.high}"
    return " or ".join(part)


def _condition(text: str) -> Condition:
    made: Condition = {}
    for each in text.split(" and ") if text else ():
        name, _, value = each.partition(" is ")
        numbers = re.fullmatch(r"(\d+)(?: to (\d+))?", value)
        if numbers:
            made[name] = Range(low=int(numbers[1]), high=int(numbers[2] or numbers[1]))
        else:
            made[name] = tuple(value.split(" or "))
    return made
