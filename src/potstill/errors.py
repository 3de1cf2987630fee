"""The exceptions that potstill raises, and the exit code that each gives the command line.

    PotstillError                 1
    ├── ConfigError               2   a wrong option, file or name: nothing was started
    │   ├── UnknownName               a name that is not registered, with the nearest one that is
    │   ├── MissingExtra              a feature whose optional packages are not installed
    │   └── UnknownPrice              a model without a price row (never priced at zero)
    ├── ModelError                3   a model could not answer
    │   ├── ModelTimeout
    │   ├── KeyRefused                401/403: the key is wrong or absent
    │   ├── RateLimited               429 after all retries
    │   ├── ModelUnavailable          connection refused, 5xx after all retries
    │   ├── BadResponse               the endpoint answered something that is not its dialect
    │   ├── BadModelFile              not a model file, or its hash is wrong
    │   └── ContextOverflow           the prompt is longer than the model takes
    ├── EnvError                  4   an environment could not be used
    │   ├── TaskNotFound
    │   ├── BadTask                   a corrupt or unreadable task
    │   └── EnvCrashed                its worker process died or hung
    ├── StoreError                5   the store could not be read or written
    │   ├── DiskFull
    │   └── SchemaTooNew
    ├── BudgetReached             6   --max-cost was reached; what was recorded is kept
    └── BadRequest                2   a client's request that is not its dialect
        └── Untranslatable            it holds something that the upstream's dialect cannot say

Ctrl-C exits with 130. A message says what happened, what is allowed, and what to type.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from potstill.types import Call


NOT_JSON = (msgspec.MsgspecError, UnicodeError, RecursionError)
"""What reading somebody's text as JSON may raise: malformed, of another shape, not UTF-8, or nested too deeply."""


class PotstillError(Exception):
    exit_code = 1


class ConfigError(PotstillError):
    exit_code = 2


class UnknownName(ConfigError):
    """A name that nothing is registered under.

    >>> raise UnknownName("agreement rule", "jsn", ["exact", "json"])
    Traceback (most recent call last):
    potstill.errors.UnknownName: No agreement rule named 'jsn'. Did you mean 'json'? Available: exact, json.
    """

    def __init__(self, what: str, name: str, available: Iterable[str]) -> None:
        names = sorted(available)
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        super().__init__(f"No {what} named '{name}'.{hint} Available: {', '.join(names) or 'none'}.")
        self.name = name
        self.available = names


def one_of(what: str, name: str, allowed: Iterable[str]) -> None:
    """Raise ``UnknownName`` unless ``name`` is allowed."""
    names = list(allowed)
    if name not in names:
        raise UnknownName(what, name, names)


class MissingExtra(ConfigError):
    """A feature needs packages of an extra that is not installed. ``also``: what pip is asked for beside the extra."""

    def __init__(self, feature: str, extra: str, also: str = "") -> None:
        command = f"pip install 'potstill[{extra}]'" + (f" && pip install {also}" if also else "")
        super().__init__(f"{feature} needs the extra '{extra}'. Type: {command}")
        self.extra = extra


class UnknownPrice(ConfigError):
    pass


class ModelError(PotstillError):
    exit_code = 3
    calls: tuple[Call, ...] = ()
    """Requests that were answered, and may be billed, before the failure: they belong into the ledger all the same."""


class ModelTimeout(ModelError):
    pass


class KeyRefused(ModelError):
    pass


class RateLimited(ModelError):
    pass


class ModelUnavailable(ModelError):
    pass


class BadResponse(ModelError):
    pass


class BadModelFile(ModelError):
    pass


class ContextOverflow(ModelError):
    pass


class EnvError(PotstillError):
    exit_code = 4


class TaskNotFound(EnvError):
    pass


class BadTask(EnvError):
    pass


class EnvCrashed(EnvError):
    pass


class StoreError(PotstillError):
    exit_code = 5


class DiskFull(StoreError):
    pass


class SchemaTooNew(StoreError):
    pass


class BudgetReached(PotstillError):
    exit_code = 6


class BadRequest(PotstillError):
    """The message names the field at fault; the gateway answers it as a 400 in the client's dialect."""

    exit_code = 2


class Untranslatable(BadRequest):
    """The message names what cannot be said, where it stands, and in which dialect it could be."""
