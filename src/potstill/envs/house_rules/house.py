"""A house and its hidden rules, drawn by a seed; what a rule asks of an order.

What it knows: which stages, ways and acts a house has, which rules it keeps, whether an action breaks one. What it does
not do: play an episode (``environment``), draw orders (``tasks``).

A rule has a condition (fields of the order: one or two, equality, one of two values, or more than a number) and asks
one of four things of a stage: that one way alone is used (``only``), that a way is not used (``not``), that an act was
done before it (``before``), that an act was not done before it (``without``). Several hundred thousand different rules
can be drawn. Rules of one house never contradict each other, so every order can be got out without trouble.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from functools import lru_cache

from potstill.envs.house_rules.words import ACTS, FIELDS, QUANTITIES, QUANTITY, STAGES, TROUBLES
from potstill.errors import ConfigError
from potstill.types import Struct

Order = Mapping[str, str | int]
"""Fields of an order and their values."""

MAX_RULES = 16
_STAGES_IN_A_HOUSE = 4
_WAYS_OF_A_STAGE = 4
_ACTS_IN_A_HOUSE = 6
_THRESHOLDS = (10, 15, 20, 25, 30, 35, 40)


class Asks(StrEnum):
    """What a rule asks of a stage."""

    ONLY = "only"
    """One way, and no other."""
    NOT = "not"
    """Any way but one."""
    BEFORE = "before"
    """An act, done before it."""
    WITHOUT = "without"
    """An act not done before it."""


class Term(Struct, frozen=True, kw_only=True):
    """One part of a condition: the field has one of these values, or is more than a number."""

    field: str
    values: tuple[str, ...] = ()
    above: int | None = None

    def holds(self, order: Order) -> bool:
        value = order[self.field]
        if self.above is not None:
            return isinstance(value, int) and value > self.above
        return value in self.values

    def __str__(self) -> str:
        if self.above is not None:
            return f"{self.field} is above {self.above}"
        return f"{self.field} is {' or '.join(self.values)}"


class Rule(Struct, frozen=True, kw_only=True):
    """A house rule. ``action``: the way or the act that it is about, as an action."""

    when: tuple[Term, ...]
    asks: Asks
    stage: str
    action: str
    trouble: str

    def applies(self, order: Order) -> bool:
        return all(term.holds(order) for term in self.when)

    def broken(self, order: Order, way: str, acts: Collection[str]) -> bool:
        """Whether doing its stage this way, after these acts, breaks it."""
        if not self.applies(order):
            return False
        wrong = {
            Asks.ONLY: way != self.action,
            Asks.NOT: way == self.action,
            Asks.BEFORE: self.action not in acts,
            Asks.WITHOUT: self.action in acts,
        }
        return wrong[self.asks]

    def __str__(self) -> str:
        """The rule in words, for people and for a playbook that somebody writes by hand. An agent is never shown it."""
        condition = " and ".join(map(str, self.when))
        asked = {
            Asks.ONLY: f"to {self.stage}, use only '{self.action}'",
            Asks.NOT: f"to {self.stage}, do not use '{self.action}'",
            Asks.BEFORE: f"before you {self.stage}, do '{self.action}'",
            Asks.WITHOUT: f"before you {self.stage}, do not '{self.action}'",
        }
        return f"When {condition}: {asked[self.asks]}."


class House(Struct, frozen=True, kw_only=True):
    """The stages in their order with their ways as actions, the acts, and the rules that nobody tells."""

    seed: int
    stages: dict[str, tuple[str, ...]]
    acts: tuple[str, ...]
    rules: tuple[Rule, ...]

    def broken(self, order: Order, stage: str, way: str, acts: Collection[str]) -> Rule | None:
        """The first rule that this breaks."""
        rules = (rule for rule in self.rules if rule.stage == stage)
        return next((rule for rule in rules if rule.broken(order, way, acts)), None)

    def right_way(self, order: Order, stage: str) -> str:
        """The first way that no rule of this order forbids."""
        ways = self.stages[stage]
        rules = [one for one in self.rules if one.stage == stage and one.asks in (Asks.ONLY, Asks.NOT)]
        return next(way for way in ways if not any(rule.broken(order, way, ()) for rule in rules))

    def needed(self, order: Order, stage: str) -> list[str]:
        """The acts that must be done before a stage."""
        asked = [rule for rule in self.rules if rule.stage == stage and rule.asks is Asks.BEFORE]
        return [rule.action for rule in asked if rule.applies(order)]


@lru_cache(maxsize=256)
def draw_house(seed: int, rules: int = 10) -> House:
    """The house of this seed; the same on every machine. Raises ``ConfigError`` for an impossible number of rules.

    >>> print(draw_house(1).rules[1])
    When customer is a museum: before you pack, do 'dry it overnight'.
    """
    if not 0 <= rules <= MAX_RULES:
        raise ConfigError(f"A house cannot have {rules} rules. Allowed: 0 to {MAX_RULES}.")
    chance = random.Random(f"house {seed}")
    verbs = sorted(chance.sample(sorted(STAGES), _STAGES_IN_A_HOUSE), key=list(STAGES).index)
    stages = {verb: tuple(f"{verb} {way}" for way in chance.sample(STAGES[verb], _WAYS_OF_A_STAGE)) for verb in verbs}
    acts = tuple(chance.sample(ACTS, _ACTS_IN_A_HOUSE))
    return House(seed=seed, stages=stages, acts=acts, rules=tuple(_Draw(chance, stages, acts).rules(rules)))


class _Draw:
    """Draws rules that agree with each other.

    Every order can keep two rules about the ways of one stage because no order meets both: such rules of a stage share
    a field and have different values of it. At one stage that field may be the quantity, and then there is one rule.
    An act is in one rule at most.
    """

    def __init__(self, chance: random.Random, stages: Mapping[str, tuple[str, ...]], acts: Sequence[str]) -> None:
        self._chance = chance
        self._stages = stages
        self._acts = list(acts)
        fields = [*chance.choices(list(FIELDS), k=len(stages) - 1), chance.choice([*FIELDS, QUANTITY])]
        self._field = dict(zip(chance.sample(list(stages), len(stages)), fields, strict=True))
        self._values = {stage: list(FIELDS.get(field, (QUANTITY,))) for stage, field in self._field.items()}

    def rules(self, count: int) -> list[Rule]:
        troubles = self._chance.sample(TROUBLES, len(TROUBLES))
        made: list[Rule] = []
        while len(made) < count:
            rule = self._rule(troubles[len(made)])
            if rule is not None:
                made.append(rule)
        return made

    def _rule(self, trouble: str) -> Rule | None:
        """One more; None: nothing of what was drawn is left."""
        chance = self._chance
        asks = chance.choices(list(Asks), weights=(5, 2, 4, 1))[0]
        stage = chance.choice(list(self._stages))
        two = chance.random() < 0.3
        if asks in (Asks.ONLY, Asks.NOT):
            if not self._values[stage]:
                return None
            when, action = [self._own_term(stage)], chance.choice(self._stages[stage])
        else:
            if not self._acts:
                return None
            when, action = [_term(chance, chance.choice([*FIELDS, QUANTITY]))], chance.choice(self._acts)
            self._acts.remove(action)
        if two:
            when.append(_term(chance, chance.choice([name for name in (*FIELDS, QUANTITY) if name != when[0].field])))
        return Rule(when=tuple(when), asks=asks, stage=stage, action=action, trouble=trouble)

    def _own_term(self, stage: str) -> Term:
        """Of the field that rules about this stage's ways share, with values that none of them has yet."""
        left = self._values[stage]
        if self._field[stage] == QUANTITY:
            left.clear()
            return _term(self._chance, QUANTITY)
        values = self._chance.sample(left, min(len(left), _how_many(self._chance)))
        self._values[stage] = [value for value in left if value not in values]
        return Term(field=self._field[stage], values=tuple(values))


def _how_many(chance: random.Random) -> int:
    """Values in a term: mostly one."""
    return 2 if chance.random() < 0.25 else 1


def _term(chance: random.Random, field: str) -> Term:
    if field == QUANTITY:
        return Term(field=field, above=chance.choice(_THRESHOLDS))
    return Term(field=field, values=tuple(chance.sample(FIELDS[field], _how_many(chance))))


def draw_order(seed: int) -> dict[str, str | int]:
    """The order of this seed: every field at random, each value as likely as another."""
    chance = random.Random(f"order {seed}")
    order: dict[str, str | int] = {field: chance.choice(values) for field, values in FIELDS.items()}
    order[QUANTITY] = chance.choice(QUANTITIES)
    return order
