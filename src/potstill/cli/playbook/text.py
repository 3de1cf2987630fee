"""``show --rendered``: the text of a book as a student is shown it.

What it knows: how a page is made of bullets, or goes on from the one that the store keeps. What it does not do:
canaries and hold-outs, which each episode draws for itself behind or out of this text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from potstill.cli.output import emit_json, emit_text, note
from potstill.cli.playbook.books import Place
from potstill.cli.playbook.shown import many

if TYPE_CHECKING:
    from potstill.distill.playbook.book import Playbook
    from potstill.distill.playbook.operations import Bullet
    from potstill.distill.playbook.page import Page, Setting


def print_text(
    book: Playbook, bullets: Sequence[Bullet], revision: int, budget: int, json_mode: bool, place: Place, *, past: bool
) -> None:
    """The text to stdout, what it is made of to stderr. ``past``: these bullets are not the present ones."""
    from potstill.distill.playbook.budget import Budget
    from potstill.distill.playbook.context import PlaybookConfig
    from potstill.distill.playbook.page import text_of

    setting = PlaybookConfig(budget=Budget(tokens=budget)).setting()
    page = None if past else _present(book, bullets, revision, setting)
    if page is None:
        page = _begun(None if past else book, bullets, revision, setting)
    text = text_of(page, setting)
    tokens = setting.counter.count(text)
    if json_mode:
        head = {"book": book.name, "namespace": book.namespace, "revision": revision, "tokens": tokens}
        left_out = [*page.epoch.pinned_out, *page.epoch.left_out]
        emit_json({**head, "budget": budget, "bullets": list(page.ids), "left_out": left_out, "text": text})
        return
    if text:
        emit_text(text)
    about = f"{many(len(page.ids), 'bullet')}, about {tokens:,} of {budget:,} tokens, revision {revision}"
    note(f"{about}." if text else f"The text is empty: {about}.{_why_empty(bullets, place)}")
    if page.epoch.left_out:
        note(f"{many(len(page.epoch.left_out), 'live bullet')} without room. Type for all: --budget N")
    if page.epoch.pinned_out:
        note(f"Pinned and yet without room: {', '.join(page.epoch.pinned_out)}. Unpin others, or raise the budget.")


def _present(book: Playbook, bullets: Sequence[Bullet], revision: int, setting: Setting) -> Page | None:
    """The page as it goes on from what the store keeps of it; None where it begins anew. Nothing is written."""
    from potstill.distill.playbook.keeper import EpochKeeper
    from potstill.distill.playbook.page import advance, due

    keeper = EpochKeeper(book, setting)
    kept = keeper.read().kept
    if kept is None or revision < kept.revision:
        return None
    page = keeper.open(kept, {bullet.id: bullet for bullet in bullets})
    page = advance(page, bullets, revision=revision, setting=setting)
    return None if due(page, setting.budget) else page


def _begun(book: Playbook | None, bullets: Sequence[Bullet], revision: int, setting: Setting) -> Page:
    """The page of a new epoch. ``book``: where not all fit, what was measured in it comes before votes."""
    from potstill.distill.playbook.credit.utility import Measured
    from potstill.distill.playbook.page import compact, open_page

    epoch = compact(bullets, revision=revision, setting=setting)
    if book is not None and (epoch.left_out or epoch.pinned_out):
        epoch = compact(bullets, revision=revision, setting=setting, utility=Measured(book)(bullets))
    return open_page(epoch, bullets, setting)


def _why_empty(bullets: Sequence[Bullet], place: Place) -> str:
    hidden = sum(not one.removed and not one.quarantined and one.stage == "shadow" for one in bullets)
    if not hidden:
        return ""
    typed = f"potstill playbook stage live ID{place.typed}"
    return f" {many(hidden, 'bullet')} in shadow, where nobody is shown them. Type: {typed}"
