"""Rules that answer: what a situation and an action must be like for the action to be the one.

What it knows: conditions on words and measures, and the first rule that singles out one admissible action. What it does
not do: learn or certify rules (``distill.weights.rules``), read files or be a model (``models.rules``). Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

import msgspec

from potstill.edge.words import split
from potstill.types import Situation, Struct

FORMAT, VERSION = "potstill/rules", 1


class Of(StrEnum):
    """What a condition looks at."""

    GOAL = "goal"
    OBSERVATION = "observation"
    OFFERED = "offered"
    """All admissible actions."""
    DONE = "done"
    """All actions that were done before."""
    LAST = "last"
    """The action that was done last."""
    ACTION = "action"
    """The action in question."""


_SITUATIONS = frozenset(Of) - {Of.ACTION}


class Measure(StrEnum):
    """Numbers about the action in question."""

    TIMES_DONE = "times done"
    IN_GOAL = "share of its words in the goal"
    IN_OBSERVATION = "share of its words in the observation"


class Condition(Struct, frozen=True, kw_only=True):
    """One of: ``of`` has some words in a row; the number after some words in ``of`` is above something; a measure is
    above something. ``holds`` false: it must not be so. Words are those of ``edge.words``; case and signs do not count.
    """

    of: Of = Of.ACTION
    has: str = ""
    number_after: str = ""
    measure: Measure | None = None
    above: float | None = None
    holds: bool = True

    def __post_init__(self) -> None:
        kinds = [bool(split(self.has)), bool(self.number_after), self.measure is not None]
        if sum(kinds) != 1 or (self.above is None) != kinds[0]:
            raise ValueError(
                'a condition has one of "has": WORDS, "number_after": WORD with "above": NUMBER, "measure" with "above"'
            )

    @property
    def of_action(self) -> bool:
        """Whether it differs between the actions of a situation."""
        return self.of is Of.ACTION or self.measure is not None


class Rule(Struct, frozen=True, kw_only=True):
    """The action is the one for which all conditions hold, if there is just one such action."""

    when: tuple[Condition, ...]
    name: str = ""

    def __post_init__(self) -> None:
        if not self.when:
            raise ValueError("a rule needs a condition")


class Certificate(Struct, frozen=True, kw_only=True):
    """What held-out tasks say: of the tasks in which the rules answered, in how many every answer was the teacher's."""

    rules_sha256: str
    tasks: int
    wrong: int
    """Tasks with an answer that was not the teacher's."""
    lower: float
    """The exact one-sided lower bound (Clopper and Pearson 1934) of the share without one, at ``confidence``."""
    precision: float
    """The share that was asked for."""
    confidence: float
    share: float
    """Of the held-out decisions, those that the rules answered."""
    environment: str = ""
    data_sha256: str = ""
    """Of the ids of all episodes that were looked at."""


class RuleList(Struct, frozen=True, kw_only=True):
    """What a file holds. The first rule that singles out an action answers."""

    format: str = FORMAT
    version: int = VERSION
    rules: tuple[Rule, ...]
    certificate: Certificate | None = None


class Answer(NamedTuple):
    action: str
    rule: int
    """Its position."""


def rules_sha256(rules: Sequence[Rule]) -> str:
    """The hash that a certificate is bound to."""
    return hashlib.sha256(msgspec.json.encode(list(rules))).hexdigest()


def answer(rules: Sequence[Rule], situation: Situation, admissible: Sequence[str]) -> Answer | None:
    """What the first rule that singles out one action says; None where no rule does.

    >>> rule = Rule(when=(Condition(of="goal", has="museum"), Condition(has="dry it")))
    >>> answer([rule], Situation(goal="An order of a museum"), ["dry it overnight", "wash it"])
    Answer(action='dry it overnight', rule=0)
    """
    reading = Reading(situation, admissible)
    for position, rule in enumerate(rules):
        chosen = reading.chosen(rule)
        if chosen is not None:
            return Answer(chosen, position)
    return None


class Reading:
    """A situation and its admissible actions as rules read them: each text is split once."""

    def __init__(self, situation: Situation, admissible: Sequence[str]) -> None:
        self._admissible = tuple(dict.fromkeys(admissible))
        self._done = [turn.action for turn in situation.past]
        self.words: dict[Of, tuple[str, ...]] = {
            Of.GOAL: words_of(situation.goal),
            Of.OBSERVATION: words_of(situation.observation),
            Of.OFFERED: _joined(self._admissible),
            Of.DONE: _joined(self._done),
            Of.LAST: _joined(self._done[-1:]),
        }

    def chosen(self, rule: Rule) -> str | None:
        """The one action for which the rule holds."""
        here = [one for one in rule.when if not one.of_action]
        if not all(_says(one, self.words[one.of]) is one.holds for one in here):
            return None
        apart = [one for one in rule.when if one.of_action]
        fit = [action for action in self._admissible if all(self._holds(one, action) for one in apart)]
        return fit[0] if len(fit) == 1 else None

    def _holds(self, condition: Condition, action: str) -> bool:
        if condition.measure is None:
            return _says(condition, words_of(action)) is condition.holds
        assert condition.above is not None
        return (self.measured(condition.measure, action) > condition.above) is condition.holds

    def measured(self, measure: Measure, action: str) -> float:
        if measure is Measure.TIMES_DONE:
            return float(self._done.count(action))
        place = Of.GOAL if measure is Measure.IN_GOAL else Of.OBSERVATION
        known, words = set(self.words[place]), words_of(action)
        return sum(word in known for word in words) / len(words) if words else 0.0


@lru_cache(maxsize=4096)
def words_of(text: str) -> tuple[str, ...]:
    return tuple(split(text))


def _joined(texts: Sequence[str]) -> tuple[str, ...]:
    """The words of several texts; what stands between them keeps words of two texts from being in a row."""
    return tuple(word for text in texts for word in (*words_of(text), ""))


def _says(condition: Condition, words: tuple[str, ...]) -> bool:
    if condition.above is None:
        return _at(words_of(condition.has), words) is not None
    number = number_after(condition.number_after, words)
    return number is not None and number > condition.above


def number_after(word: str, words: Sequence[str]) -> float | None:
    """The first number that follows the words at once.

    >>> number_after("quantity", ("quantity", "29"))
    29.0
    """
    sought = words_of(word)
    at = _at(sought, words)
    following = None if at is None else words[at + len(sought) : at + len(sought) + 1]
    return float(following[0]) if following and following[0].isdigit() and len(following[0]) < 16 else None


def _at(sought: Sequence[str], words: Sequence[str]) -> int | None:
    """Where a row of words begins."""
    size = len(sought)
    if size == 1:
        return words.index(sought[0]) if sought[0] in words else None
    places = (at for at in range(len(words) - size + 1) if tuple(words[at : at + size]) == tuple(sought))
    return next(places, None)
