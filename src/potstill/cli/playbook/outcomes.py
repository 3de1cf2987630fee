"""How the episodes ended that a learning run learnt from, as a cell of a table.

What it knows: that a run which plays says so itself, and that of recorded ones the store does. What it does not do:
judge an episode.
"""

from __future__ import annotations

from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.learn.journal import Journal, Kind
from potstill.distill.playbook.learn.result import Result


def success_cell(book: Playbook, result: Result) -> str | None:
    """``succeeded/known``; None: nobody said how any of them ended. Each recorded episode counts once."""
    if result.known:
        return f"{result.succeeded}/{result.known}"
    rows = (row for _, row in Journal(book, result.run).rows() if row.kind is Kind.LEARN)
    learnt = {id for row in rows for id in row.episodes}
    if not learnt:
        return None
    found = book.store.summaries(namespace=book.namespace)
    ends = [one.success for one in found if one.id in learnt and one.success is not None]
    return f"{sum(ends)}/{len(ends)}" if ends else None
