"""The text of a playbook over time: what is fixed at a compaction, what is added after it, and what must go at once.

What it knows: an *epoch* (which bullets stand where, fixed at one revision of the book) and a *page* (an epoch's lines
as they were written, and the tail that came since). What it does not do: read the book, decide when to look.

Prompt caches pay for bytes that stay. So between two epochs a page only grows at its end:

| what happened since the epoch | in the text |
|---|---|
| a bullet was added, became live, or was restored | at the end, if what is left of the budget has room for it |
| a bullet was updated | as it was, until the next epoch or until a line before it changes |
| removed, quarantined, or taken back to canary or shadow | gone at once: it is wrong, or suspected of doing harm |
| merged into another one | gone at once; the other one's line is written anew, or comes in at the end |
| a source of the line was forgotten | the line is gone at once; what is left of the bullet takes its place |
| counters, pins, utility | nothing; the next epoch chooses by them |

Behind the first line that changes, a prompt cache holds nothing any more: all lines there are written as the bullets
are now, which costs nothing. How long an updated line may stand as it was is bounded (``due``): until such lines are
a tenth of the page, which is at once where the page is short, or until most of the prefix is lost for another reason,
or for 50 revisions, or for an hour of the epoch.

Bullets that come with one look at the book stand in the order of their numbers, those of a later look behind them: one
that was staged late has a low number and still stands at the end. Bullets that the epoch left out stay out until the
next one, unless they are pinned since.

An epoch holds ids and no text. So it may be kept anywhere without anything to erase when a source is forgotten; a page
lives in memory. A page that is opened again from its epoch shows every bullet as the book has it now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from itertools import takewhile

from potstill.distill.playbook.budget import Budget, Candidate, choose, prior_means
from potstill.distill.playbook.operations import Bullet, Stage
from potstill.distill.playbook.render import Entry, entry, header, ids_of, in_order, pieces, render
from potstill.distill.playbook.sections import DEFAULT, Sections
from potstill.protocols import TokenCounter
from potstill.retrieval.tokens import EstimatedTokens
from potstill.types import Struct

_MOST = 0.75
"""Share of a text behind its first change from which on its cached prefix counts as lost."""


class Epoch(Struct, frozen=True, kw_only=True):
    """What a compaction fixed."""

    revision: int
    """The book's, as it was read."""
    at: float = 0.0
    """Unix seconds; 0: long ago."""
    ids: tuple[str, ...] = ()
    """In the order of the text."""
    left_out: tuple[str, ...] = ()
    """Live bullets that did not fit, the best first."""
    pinned_out: tuple[str, ...] = ()
    """Pinned bullets that did not fit: together they are longer than the budget, and somebody should be told."""


class Page(Struct, frozen=True, kw_only=True):
    """A text and what it is made of. Equal pages give equal bytes."""

    epoch: Epoch
    revision: int
    """The book's, as it was last looked at."""
    entries: tuple[Entry, ...] = ()
    waiting: tuple[str, ...] = ()
    """Bullets that came since the epoch and found no room."""
    tokens: int = 0
    """Of the whole text."""
    stale: int = 0
    """Tokens of lines that are out of date."""
    pending: int = 0
    """Tokens that a compaction would put right: these, waiting bullets, headers that stand again."""
    lost: int = 0
    """Tokens of the text from the first line on that changed with the last look; 0: it only grew."""
    urgent: bool = False
    """A pinned bullet waits."""

    @property
    def ids(self) -> tuple[str, ...]:
        return ids_of(self.entries)

    @property
    def behind(self) -> bool:
        """Whether a compaction would make it say something else."""
        return self.stale > 0 or bool(self.waiting)

    @property
    def tail(self) -> tuple[str, ...]:
        """Bullets that came since the epoch, in the order of the text."""
        fixed = frozenset(self.epoch.ids)
        return tuple(one.id for one in self.entries if one.id not in fixed)


class Due(StrEnum):
    """Why a compaction is due."""

    PINNED_WAITS = "pinned-waits"
    STALE = "stale"
    """Much of the page is out of date."""
    BROKEN = "broken"
    """Something is to be put right, and most of the cached prefix is lost anyway."""
    PENDING = "pending"
    """Something is to be put right, and has been for many revisions."""
    OVERDUE = "overdue"
    """Something is out of date, and the epoch is old."""


class Setting(Struct, frozen=True, kw_only=True):
    """What a page is made with."""

    budget: Budget = Budget()
    sections: Sections = DEFAULT
    counter: TokenCounter = EstimatedTokens()


def everybody_sees(bullet: Bullet) -> bool:
    """Whether it belongs into the text that all episodes share."""
    return bullet.shown and bullet.stage is Stage.LIVE


def compact(
    bullets: Iterable[Bullet],
    *,
    revision: int,
    setting: Setting | None = None,
    utility: Mapping[str, float] | None = None,
) -> Epoch:
    """Choose and order anew. ``utility``: of ids, in any one unit; those it does not name have ``prior_means``.

    The text of the epoch never has more than ``budget.tokens`` tokens as the counter counts the whole of it.
    """
    setting = setting or Setting()
    live = {one.id: one for one in bullets if everybody_sees(one)}
    worth = {**prior_means(live.values()), **(utility or {})}
    candidates = [_candidate(one, worth[one.id], setting) for one in live.values()]
    keys = {one.section for one in candidates}
    headers = {key: setting.counter.count(f"\n\n{header(key, setting.sections)}\n") for key in keys}
    chosen = choose(candidates, setting.budget, headers)
    ordered = in_order((live[one.id] for one in chosen), setting.sections)
    while ordered and _tokens([entry(one) for one in ordered], setting) > setting.budget.tokens:
        last = live[chosen.pop().id]  # the parts counted less than the whole: tokenizers may
        ordered.remove(last)
    taken = {one.id for one in ordered}
    out = sorted((one for one in candidates if one.id not in taken), key=lambda one: one.preference)
    return Epoch(
        revision=revision,
        ids=tuple(one.id for one in ordered),
        left_out=tuple(one.id for one in out if not one.pinned),
        pinned_out=tuple(one.id for one in out if one.pinned),
    )


def open_page(epoch: Epoch, bullets: Iterable[Bullet], setting: Setting | None = None) -> Page:
    """An epoch's page as the book has its bullets now; ``advance`` brings what came since.

    Bullets that nobody may see any more are left out. Where bullets grew since, the last ones wait.
    """
    setting = setting or Setting()
    present = {one.id: one for one in bullets}
    kept = [entry(present[id]) for id in epoch.ids if id in present and everybody_sees(present[id])]
    fitting, waiting = _within(kept, (), setting)
    tokens = _tokens(fitting, setting)
    return Page(epoch=epoch, revision=epoch.revision, entries=tuple(fitting), waiting=waiting, tokens=tokens)


def advance(
    page: Page, bullets: Iterable[Bullet], *, revision: int, setting: Setting | None = None, anew: bool = False
) -> Page:
    """The page after another look at the book, by the table above. ``bullets``: all that the book has now.

    ``anew``: something was erased from the book; no line is kept as it was.
    """
    setting = setting or Setting()
    present = {one.id: one for one in bullets}
    heirs = _heirs(page.entries, present)
    kept = _kept(page.entries, present, heirs, anew)
    room = len(kept) < len(page.entries)
    coming = [entry(one) for one in _newcomers(page, kept, present, heirs, room)]
    entries, refused = _within(kept, coming, setting)
    waiting = _still_waiting(page, refused, present, ids_of(entries))
    stale = sum(_amiss(one, present[one.id], setting) for one in entries)
    return Page(
        epoch=page.epoch,
        revision=revision,
        entries=tuple(entries),
        waiting=waiting,
        tokens=_tokens(entries, setting),
        stale=stale,
        lost=_lost(page.entries, entries, setting),
        pending=stale + _pending(entries, waiting, present, setting),
        urgent=any(present[id].pinned for id in waiting),
    )


def due(page: Page, budget: Budget, now: float = 0.0) -> Due | None:
    """Why the page should be compacted now; None: it need not be. ``now``: Unix seconds; 0: no epoch is too old."""
    if page.urgent and page.epoch.revision < page.revision:
        return Due.PINNED_WAITS
    if page.stale > 0 and page.stale >= budget.slack * page.tokens:
        return Due.STALE
    if page.pending > 0 and page.lost >= _MOST * page.tokens:
        return Due.BROKEN
    if page.pending > 0 and page.revision - page.epoch.revision >= budget.every:
        return Due.PENDING
    if page.stale > 0 and now - page.epoch.at >= budget.patience_s:
        return Due.OVERDUE
    return None


def standing_as(line: Entry, now: Bullet) -> bool:
    """Whether the line says what the bullet says."""
    fresh = entry(now)
    return (fresh.line, fresh.section) == (line.line, line.section)


def text_of(page: Page, setting: Setting | None = None, without: Iterable[str] = ()) -> str:
    """The page's bytes. ``without``: ids that one episode is not shown (a hold-out)."""
    hidden = frozenset(without)
    return render((one for one in page.entries if one.id not in hidden), (setting or Setting()).sections)


def _candidate(bullet: Bullet, utility: float, setting: Setting) -> Candidate:
    made = entry(bullet)
    return Candidate(
        id=bullet.id,
        number=bullet.number,
        section=made.section,
        tokens=setting.counter.count(f"{made.line}\n"),
        utility=utility,
        pinned=bullet.pinned,
    )


def _tokens(entries: Sequence[Entry], setting: Setting) -> int:
    return setting.counter.count(render(entries, setting.sections))


def _heirs(entries: Sequence[Entry], present: Mapping[str, Bullet]) -> set[str]:
    """Bullets into which a line of the page was merged, each at the end of its chain."""
    found = set()
    for one in entries:
        now = present.get(one.id)
        while now is not None and now.merged_into and now.merged_into not in found:
            found.add(now.merged_into)
            now = present.get(now.merged_into)
    return found


def _kept(old: Sequence[Entry], present: Mapping[str, Bullet], heirs: set[str], anew: bool) -> list[Entry]:
    """The page's lines after a look at the book, in their order: those that went left out, and from the first change
    on as the bullets are now."""
    kept: list[Entry] = []
    changed = anew
    for one in old:
        now = present.get(one.id)
        if now is None or not everybody_sees(now):
            changed = True
            continue
        line = entry(now) if changed or one.id in heirs or _unlearnt(one, now) else one
        changed = changed or line.line != one.line
        kept.append(line)
    return kept


def _lost(before: Sequence[Entry], now: Sequence[Entry], setting: Setting) -> int:
    """Tokens from the first line on that is another one; of a text that only grew none."""
    same = sum(1 for _ in takewhile(lambda pair: pair[0].line == pair[1].line, zip(before, now, strict=False)))
    return _tokens(now[same:], setting) if same < len(before) else 0


def _unlearnt(old: Entry, now: Bullet) -> bool:
    """Sources only grow while a book goes on. One that the line had and the bullet has no more was forgotten."""
    return not set(old.sources) <= set(now.sources)


def _newcomers(
    page: Page, kept: Sequence[Entry], present: Mapping[str, Bullet], heirs: set[str], room: bool
) -> list[Bullet]:
    """Bullets that may be added now, by number. Waiting ones are asked again only where lines went (``room``)."""
    never = {*ids_of(kept), *page.epoch.pinned_out}
    out = {*page.epoch.left_out, *(() if room else page.waiting)} - heirs
    new = (one for one in present.values() if one.id not in never and (one.pinned or one.id not in out))
    return sorted((one for one in new if everybody_sees(one)), key=lambda one: one.number)


def _within(kept: Sequence[Entry], coming: Sequence[Entry], setting: Setting) -> tuple[list[Entry], tuple[str, ...]]:
    """What fits, and the ids of what does not. The limit holds for the text as a whole."""
    entries, refused = list(kept), []
    spent = _tokens(entries, setting)
    for one in coming:
        after = entries[-1].section if entries else None
        cost = setting.counter.count(pieces([one], setting.sections, after)[0])
        if spent + cost <= setting.budget.tokens:
            entries.append(one)
            spent += cost
        else:
            refused.append(one.id)
    while entries and _tokens(entries, setting) > setting.budget.tokens:
        refused.append(entries.pop().id)
    return entries, tuple(refused)


def _still_waiting(
    page: Page, refused: Sequence[str], present: Mapping[str, Bullet], standing: Sequence[str]
) -> tuple[str, ...]:
    shown = set(standing)
    every = dict.fromkeys((*page.waiting, *refused))
    return tuple(id for id in every if id not in shown and id in present and everybody_sees(present[id]))


def _pending(entries: Sequence[Entry], waiting: Sequence[str], present: Mapping[str, Bullet], setting: Setting) -> int:
    """Tokens of waiting bullets, and of headers that stand again."""
    count = setting.counter.count
    wanting = sum(count(f"{entry(present[id]).line}\n") for id in waiting)
    keys = [one.section for one in entries]
    starts = [key for before, key in zip([None, *keys], keys, strict=False) if key != before]
    again = sum(count(f"\n\n{header(key, setting.sections)}\n") * (starts.count(key) - 1) for key in set(starts))
    return wanting + again


def _amiss(standing: Entry, now: Bullet, setting: Setting) -> int:
    """Tokens of a line that is out of date: its own, or those that it does not say yet where they are more."""
    if standing_as(standing, now):
        return 0
    return max(setting.counter.count(f"{line}\n") for line in (standing.line, entry(now).line))
