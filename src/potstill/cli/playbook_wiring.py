"""A playbook of a store as a context for episodes: what ``run`` and ``distill playbook`` show their students.

What it knows: that a book must be there to be shown, and which options say how. What it does not do: play, or change
the book; the page's place is kept in the store, so that every process shows the same bytes. Where not all bullets fit,
those come first whose help was measured (``credit.utility``).
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.budget import Budget
from potstill.distill.playbook.context import PlaybookConfig, PlaybookContext
from potstill.distill.playbook.credit.utility import Measured
from potstill.errors import ConfigError, UnknownName
from potstill.trajectories.opening import shown

if TYPE_CHECKING:
    from potstill.trajectories import Store


def playbook_config(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of ``run_options.playbook_options`` as plain data. Raises ``ConfigError`` for impossible values."""
    config = PlaybookConfig(
        budget=Budget(tokens=options["playbook_budget"]),
        top_k=options["playbook_per_step"],
        ranker=options["ranker"],
        canary_share=options["canary_share"],
        holdout_share=options["holdout_share"],
    )
    plain: dict[str, Any] = msgspec.to_builtins(config)
    return plain


def playbook_context(
    store: Store, namespace: str, name: str, config: Mapping[str, Any], *, new: bool = False
) -> PlaybookContext:
    """Raises ``ConfigError`` where the tenant has no book of this name, unless it may be a new one."""
    names = [info.name for info in store.playbooks(namespace)]
    if not names and not new:
        place = shlex.quote(shown(store.path))
        raise ConfigError(
            f"There is no playbook in namespace '{namespace}' of {place}. Type: potstill playbook import FILE --book "
            f"{shlex.quote(name)} --db {place}, or potstill distill playbook --book {shlex.quote(name)} ..."
        )
    if name not in names and not new:
        raise UnknownName("playbook", name, names)
    book = Playbook(store, namespace, name)
    return PlaybookContext.of(book, msgspec.convert(config, PlaybookConfig), utility=Measured(book))
