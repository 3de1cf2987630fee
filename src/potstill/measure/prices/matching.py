"""Match rules of the price snapshot: which names mean which model.

A rule is a list of alternatives. A string matches that exact name; ``[kind, text]`` with kind ``^`` (starts with),
``$`` (ends with), ``*`` (contains), ``~`` (regular expression) matches by pattern; ``["&", rules...]`` needs all.
Names are compared in lower case. Pure functions, no table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any


def matches(rule: list[Any], name: str) -> bool:
    """Whether any alternative of ``rule`` matches ``name`` (lower case)."""
    return any(_one(clause, name) for clause in rule)


def _one(clause: Any, name: str) -> bool:
    if isinstance(clause, str):
        return clause == name
    kind, *rest = clause
    if kind == "&":
        return all(_one(part, name) for part in rest)
    text = rest[0]
    if kind == "^":
        return name.startswith(text)
    if kind == "$":
        return name.endswith(text)
    if kind == "*":
        return text in name
    if kind == "~":
        return re.search(text, name) is not None
    raise ValueError(f"unknown match rule {kind!r} in the price snapshot")


def exact_names(rule: list[Any]) -> Iterator[str]:
    """The names that ``rule`` matches exactly."""
    for clause in rule:
        if isinstance(clause, str):
            yield clause


_COMPACT_DATE = re.compile(r"-(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")


def dashed_date(name: str) -> str:
    """``gpt-5.2-20251211`` as ``gpt-5.2-2025-12-11``: gateways write dates in the short form."""
    return _COMPACT_DATE.sub(r"-\1-\2-\3", name)
