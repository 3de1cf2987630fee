"""Which formats of log there are, in the order in which they are tried.

What it knows: names of modules; each is imported when formats are first asked for, so that starting a command costs
nothing. What it does not do: read rows, or open files.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from potstill.errors import one_of

if TYPE_CHECKING:
    from potstill.logs.formats.base import LogFormat

MODULES: Sequence[str] = (
    # One a line, each a file of this folder.
    "trajectory",
    "tau",
    "inspect_ai",
    "swe_agent",
    "otel",
    "litellm",
    "langfuse",
    "anthropic",
    "openai_responses",
    "openai_chat",
    "generic",
)
"""Files of this folder with a tuple ``FORMATS`` each. The order matters: the first format that fits a row is taken, so
what asks for much stands before what asks for little, and ``generic`` last."""


@cache
def formats() -> tuple[LogFormat, ...]:
    """Every format, in the order in which they are tried."""
    found: list[LogFormat] = []
    for module in MODULES:
        found.extend(import_module(f"potstill.logs.formats.{module}").FORMATS)
    return tuple(found)


def format_named(name: str) -> LogFormat:
    """The format of that name. Raises ``UnknownName`` with the nearest one that exists."""
    one_of("log format", name, (known.name for known in formats()))
    return next(known for known in formats() if known.name == name)
