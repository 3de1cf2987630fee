"""What a book's rows still hold of a source: words of its erased texts anywhere, its id where an episode may be meant.

What it knows: which fields of a row are said, and which are the book's own or name who did something. What it does not
do: know how a piece of a text is found (``traces``), read rows, erase.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import msgspec

from potstill.distill.playbook.traces import Trace, traces
from potstill.errors import NOT_JSON

_OWN = frozenset({"actor", "type", "kind", "stage", "id", "ids", "into", "lineage", "merged_into", "forgot"})
"""Fields whose words no episode brought: who did it, what was done, to which bullets."""
_OWN_PLACES = ("playbooks.", "playbook_log.name", "playbook_log.namespace", "playbook_sources.name")
_OWN_COLUMNS = (*_OWN_PLACES, "playbook_sources.namespace", "playbook_bullets.n", "playbook_bullets.id")


def left(texts: Collection[str], source: str, rows: Iterable[tuple[str, str]]) -> tuple[Trace, ...]:
    """Every place of ``rows`` (a name and what stands there) that holds one of the texts, a piece of one, or the id.

    An id that is also a name of the book, of an actor or of an operation is no trace where that is meant.
    """
    rows = list(rows)
    found = traces(texts, "", rows) if texts else ()
    return (*traces((), source, _said(rows)), *found) if source else found


def _said(rows: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for place, text in rows:
        if not place.startswith(_OWN_COLUMNS):
            yield from ((place, word) for word in _leaves(text))


def _leaves(text: str) -> Iterator[str]:
    if not text.startswith(("{", "[")):
        yield text
        return
    try:
        yield from _words(msgspec.json.decode(text))
    except NOT_JSON:
        yield text


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from _words(one)
    elif isinstance(value, dict):
        for key, one in value.items():
            if key not in _OWN:
                yield from _words(one)
