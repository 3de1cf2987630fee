"""Is an answer right? By tolerance for numbers and by name for tags, or as the paper's release does it.

What it knows: the two graders. What it does not do: find the answer in what was said (``answers``).

The release of arXiv 2510.04618 compares floats for equality, so that ``15.00%``, ``$15`` and ``0.333`` for a third are
wrong, and hands a model's words to ``eval`` where a list is graded. Nothing is evaluated here; ``exact`` gives the same
verdicts on plain numbers and names, for numbers to compare with published ones.
"""

from __future__ import annotations

import re
from enum import StrEnum
from fractions import Fraction
from typing import NamedTuple

from potstill.envs.finance.amounts import equal, parse_number
from potstill.envs.finance.answers import number_in, parts_of

TOLERANCE = Fraction(1, 1000)
"""Of the label: 0.333 is a third, 14.98 is 15, 14.97 is not."""

_NUMBERED = re.compile(r"^\(?[0-9]{1,2}\s*[.):]\s+")
_LISTED = re.compile(r"^[-*]\s+")
_PREFIX = re.compile(r"^us[-_]gaap[:_]")


class Grader(StrEnum):
    TOLERANT = "tolerant"
    EXACT = "exact"
    """As the paper's release, without its ``eval``."""


class Grade(NamedTuple):
    """Which of the parts of the answer are right. ``extra``: how many more were given than asked for."""

    right: tuple[bool, ...]
    extra: int = 0

    @property
    def score(self) -> float:
        """The share of parts that are right, in [0, 1]."""
        return sum(self.right) / len(self.right)

    @property
    def success(self) -> bool:
        return all(self.right) and not self.extra


def grade(answer: str, label: str, grader: Grader = Grader.TOLERANT, tolerance: Fraction = TOLERANCE) -> Grade:
    """Judge an answer by its label: one part, or one for each item where the label is a list.

    >>> grade("1. InterestExpense, 2. Goodwill", "InterestExpense,LineOfCredit").right
    (True, False)
    >>> grade("15.00%", "15.0").success, grade("15.00%", "15.0", Grader.EXACT).success
    (True, False)
    """
    wanted = label_parts(label)
    if grader is Grader.EXACT:
        return _exact(answer, label, len(wanted) > 1)
    if len(wanted) == 1:
        return Grade((_same(answer, wanted[0], tolerance),))
    given = parts_of(answer, len(wanted))
    padded = [*given[: len(wanted)], *[""] * (len(wanted) - len(given))]
    right = tuple(_same(one, other, tolerance) for one, other in zip(padded, wanted, strict=True))
    return Grade(right, max(0, len(given) - len(wanted)))


def label_parts(label: str) -> list[str]:
    """The items of a label; a number with thousands in it is one."""
    if parse_number(label) is not None:
        return [label.strip()]
    return [part.strip() for part in label.split(",")]


def _same(answer: str, label: str, tolerance: Fraction) -> bool:
    wanted = parse_number(label)
    if wanted is not None:
        given = number_in(answer) or number_in(_NUMBERED.sub("", answer.strip()))
        return given is not None and equal(given, wanted, tolerance)
    return tag(answer) == tag(label) != ""


def tag(text: str) -> str:
    """A tag's name without numbering, namespace, quotes and case.

    >>> tag("2. `us-gaap:InterestExpense`.")
    'interestexpense'
    """
    bare = _NUMBERED.sub("", _LISTED.sub("", text.strip())).strip(" \t\n*`\"'.[]").lower()
    return _PREFIX.sub("", bare).replace(" ", "")


def _exact(answer: str, label: str, listed: bool) -> Grade:
    """A list is compared item by item, with what is too much cut off; anything else as floats, else as texts."""
    if not listed:
        return Grade((_equal_floats(answer.replace(",", ""), label.replace(",", ""), answer == label),))
    wanted = [part.strip() for part in label.lower().split(",")]
    given = [part.strip() for part in answer.lower().split(",")][: len(wanted)]
    given += [""] * (len(wanted) - len(given))
    pairs = zip(given, wanted, strict=True)
    return Grade(tuple(_equal_floats(one.replace("$", ""), other, one == other) for one, other in pairs))


def _equal_floats(one: str, other: str, otherwise: bool) -> bool:
    try:
        return float(one) == float(other)
    except ValueError:
        return otherwise
