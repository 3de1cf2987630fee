"""Does a playbook shrink, or its text change, by more than near-duplicates and the budget explain? 300 deltas a seed.

Each delta is what a curator gives after an episode: a few lessons (made up by seed from a house's rules: a place, a
thing, what to do and why; 15 of 100 say an earlier one in nearly the same words), votes, now and then an edit, hardly
ever a removal, and every 75 deltas a collapse: all live bullets are to be merged into one sentence, and the next time
to be removed. It goes through what a Curator may do to live bullets, the near-duplicate gate, and into a store; every
50 deltas ``refine`` merges what is left of near-duplicates. After each delta the page is looked at: bullets and tokens
of the text, and its bytes.

- ``largest_drop``: bullets that the text lost at one delta, at most. ``by_budget``: those of all drops that a
  compaction left out or that wait for room; ``by_dedup``: merged into another one; ``by_curator``: staged back by a
  Curator's doubt; ``unexplained``: all others, of the text and of the book: removed by name, and staged back beyond
  a tenth of the live bullets in one delta (one in a short book). It must be 0.
- ``stable_share``: bytes of the text that are an unchanged beginning of the text before, of all its bytes, over the
  deltas (what a prompt cache can hold); ``stable_least``: the worst delta.

``potstill`` compacts when it is due; ``compacted at each delta`` orders and chooses anew each time, as a book that is
rewritten does. In the paper (arXiv 2510.04618, figure 2) a rewriting model took a context from 18,282 tokens to 122 at
one step: that is their number and no model runs here.

    python bench/playbook_collapse.py [--deltas 300] [--seeds 0 1 2 3 4] [--budgets 2000 10000]
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import _results
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.budget import Budget
from potstill.distill.playbook.gate import gated, refine
from potstill.distill.playbook.learn.live import SHARE, Alike, careful
from potstill.distill.playbook.operations import Add, Batch, Bullet, Merge, Operation, Remove, Stage, Tag, Update
from potstill.distill.playbook.page import Page, Setting, advance, compact, due, everybody_sees, open_page, text_of
from potstill.distill.playbook.sections import DEFAULT
from potstill.distill.playbook.twins import BookIndex, Gate
from potstill.trajectories import Store

SECTIONS = [section.key for section in DEFAULT.known]
REFINE_EVERY = 50
COLLAPSE_EVERY = 75
Row = dict[str, Any]

PLACES = [
    "warehouse",
    "order",
    "invoice",
    "refund",
    "calendar",
    "mailbox",
    "ledger",
    "kitchen",
    "garage",
    "clinic",
    "library",
    "parcel",
    "ticket",
    "contract",
]
THINGS = [
    "number",
    "date",
    "owner",
    "total",
    "currency",
    "status",
    "address",
    "batch",
    "label",
    "token",
    "page",
    "unit",
    "room",
    "shelf",
    "key",
    "signature",
]
ACTS = (
    "read the {t} of the {p} before you change anything in it",
    "ask for the {t} when the {p} does not name one, and wait for the answer",
    "compare the {t} with the one on the {q} and stop where they differ",
    "never guess the {t} of a {p}; search the {q} for it",
    "write the {t} into the {p} first and confirm it with the tool's own check",
    "open the {q} to look up the {t} of the {p}, since the summary leaves it out",
    "repeat the call for the {p} once when the {t} is missing, then report it",
    "sort by {t} and take the newest {p}, as older ones are archived in the {q}",
)
REASONS = (
    "because the tool returns {n} rows at most",
    "since a wrong {t} cannot be undone after {n} minutes",
    "as the {q} is updated every {n} hours only",
    "because {n} of the failed episodes missed it",
    "since the checker wants exactly {n} digits",
    "because the {q} shows it in another unit",
)


class Lessons:
    """What a reflector might have found: drawn by seed, some of it twice in other words."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.told: list[tuple[str, str]] = []

    def one(self) -> Add:
        if self.told and self.rng.random() < 0.15:
            section, content = self.rng.choice(self.told)
            return _add(section, self._again(content))
        section, content = self.rng.choice(SECTIONS), self.fresh()
        self.told.append((section, content))
        return _add(section, content)

    def fresh(self) -> str:
        rng = self.rng
        p, q = rng.sample(PLACES, 2)
        words = {"p": p, "q": q, "t": rng.choice(THINGS), "n": str(rng.randint(2, 60))}
        tail = rng.choice(REASONS).format(**words)
        more = f" Then {rng.choice(ACTS).format(**words)}." if rng.random() < 0.4 else ""
        return f"When you handle a {p}, {rng.choice(ACTS).format(**words)}, {tail}.{more}"

    def _again(self, content: str) -> str:
        swaps = (("When you handle a", "When handling a"), (", since", ", for"), ("search the", "look in the"))
        old, new = self.rng.choice(swaps)
        return content.replace(old, new, 1) if self.rng.random() < 0.7 else f"Remember: {content}"


def _add(section: str, content: str) -> Add:
    return Add(section=section, content=content, stage=Stage.LIVE)


def curated(lessons: Lessons, bullets: Mapping[str, Bullet]) -> list[Operation]:
    rng = lessons.rng
    live = [one for one in bullets.values() if everybody_sees(one)]
    made: list[Operation] = [lessons.one() for _ in range(rng.choice((1, 1, 2, 3, 5)))]
    drawn = rng.sample(live, min(len(live), 6))
    made += [Tag(id=b.id, helpful=int(rng.random() < 0.6), harmful=int(rng.random() < 0.2)) for b in drawn[2:]]
    if drawn and rng.random() < 0.2:
        made.append(Update(id=drawn[0].id, content=lessons.fresh(), revision=drawn[0].revision))
    if len(drawn) > 1 and rng.random() < 0.03:
        made.append(Remove(id=drawn[1].id, reason="wrong"))
    return made


def collapse(bullets: Mapping[str, Bullet], number: int) -> list[Operation]:
    """What a Curator says that would leave nothing."""
    live = [one for one in bullets.values() if everybody_sees(one)]
    if number // COLLAPSE_EVERY % 2:
        return [Remove(id=one.id, reason="nothing matters") for one in live]
    ids, revisions = [one.id for one in live], tuple(one.revision for one in live)
    return [Merge(into=ids[0], ids=tuple(ids[1:]), content="Nothing matters.", revisions=revisions)]


# --- one book ---------------------------------------------------------------------------------------------------------


class Growing:
    """A book in a store, with its index for the gate."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.store = Store.open(folder / f"book-{seed}.db")
        self.book = Playbook(self.store, "default", "book")
        self.index, self.lessons, self.bullets = BookIndex(), Lessons(seed), dict[str, Bullet]()
        self.revision, self.decided = 0, Counter[str]()

    def delta(self, number: int) -> tuple[Batch, ...]:
        """Apply one; the batches that were written."""
        said = collapse(self.bullets, number) if number % COLLAPSE_EVERY == COLLAPSE_EVERY - 1 else []
        allowed = self._allowed(said or curated(self.lessons, self.bullets))
        written = [self._apply(Batch(operations=allowed, actor="curator"))] if allowed else []
        if number % REFINE_EVERY == REFINE_EVERY - 1:
            merges = refine(self.index)
            if merges.operations:
                written.append(self._apply(merges))
        return tuple(written)

    def _allowed(self, said: Sequence[Operation]) -> tuple[Operation, ...]:
        alike = Alike(Gate())
        fit = [one for one in said if not (isinstance(one, Merge) and alike.against(one, self.bullets))]
        return careful([(one, Stage.LIVE) for one in fit], self.bullets, alike).operations

    def _apply(self, batch: Batch) -> Batch:
        batch, decisions = gated(batch, self.index)
        self.decided.update(one.what.value for one in decisions)
        self.book.apply(batch)
        since = self.book.since(self.revision)
        self.revision = since.revision
        self.bullets |= since.bullets
        self.index.put(since.bullets.values())
        return batch


class Text:
    """What the students are shown, delta by delta."""

    def __init__(self, arm: str, tokens: int) -> None:
        self.arm, self.setting = arm, Setting(budget=Budget(tokens=tokens))
        self.page: Page = open_page(compact((), revision=0, setting=self.setting), (), self.setting)
        self.text, self.kept, self.shown, self.least, self.compactions = "", 0, 0, 1.0, 0
        self.drops: list[Counter[str]] = []
        self.sizes: list[tuple[int, int]] = []

    def look(self, bullets: Mapping[str, Bullet], revision: int) -> None:
        before = self.page
        self.page = advance(before, bullets.values(), revision=revision, setting=self.setting)
        if self.arm != OURS or due(self.page, self.setting.budget):
            epoch = compact(bullets.values(), revision=revision, setting=self.setting)
            self.page, self.compactions = open_page(epoch, bullets.values(), self.setting), self.compactions + 1
        self.drops.append(self._gone(before, bullets))
        self._compare(text_of(self.page, self.setting))

    def _gone(self, before: Page, bullets: Mapping[str, Bullet]) -> Counter[str]:
        """Bullets that the text lost, by reason."""
        budget = {*self.page.epoch.left_out, *self.page.epoch.pinned_out, *self.page.waiting}
        return Counter(_why(bullets.get(id), id in budget) for id in set(before.ids) - set(self.page.ids))

    def _compare(self, text: str) -> None:
        old, new = self.text.encode(), text.encode()
        same = _same_beginning(old, new)
        self.kept, self.shown, self.text = self.kept + same, self.shown + len(new), text
        if old:
            self.least = min(self.least, same / len(new) if new else 0.0)
        self.sizes.append((len(self.page.ids), self.setting.counter.count(text)))


def _why(bullet: Bullet | None, budget: bool) -> str:
    if bullet is None:
        return "unexplained"
    if bullet.merged_into:
        return "by_dedup"
    if bullet.removed:
        return "unexplained"
    if bullet.stage is Stage.CANARY:
        return "by_curator"
    return "by_budget" if budget else "unexplained"


def _same_beginning(one: bytes, other: bytes) -> int:
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low


# --- all --------------------------------------------------------------------------------------------------------------

OURS, REWRITTEN = "potstill", "compacted at each delta"


def run(seed: int, deltas: int, budgets: Sequence[int], folder: Path) -> tuple[list[Row], list[Row]]:
    growing = Growing(folder, seed)
    texts = [Text(arm, tokens) for tokens in budgets for arm in (OURS, REWRITTEN)]
    lost, standing = 0, 0
    for number in range(deltas):
        live = {id for id, one in growing.bullets.items() if everybody_sees(one)}
        written = growing.delta(number)
        back = sum(growing.bullets[id].stage is Stage.CANARY for id in live)
        lost += max(0, back - max(1, int(SHARE * len(live))))
        for text in texts:
            text.look(growing.bullets, growing.revision)
        now = sum(not one.removed for one in growing.bullets.values())
        lost, standing = lost + max(0, standing - now - _named(written)), now
    if problems := growing.book.check():
        raise SystemExit(f"The book is not what its log says: {problems[:3]}")
    growing.store.close()
    rows = [_row(seed, text, growing, standing, lost) for text in texts]
    return rows, [_series(seed, text) for text in texts if text.arm == OURS]


def _named(batches: Sequence[Batch]) -> int:
    """How many bullets these merge into others."""
    operations = [one for batch in batches for one in batch.operations]
    return sum(len(one.ids) for one in operations if isinstance(one, Merge))


def _row(seed: int, text: Text, growing: Growing, standing: int, lost: int) -> Row:
    total: Counter[str] = sum(text.drops, Counter())
    return {
        "arm": text.arm,
        "budget": text.setting.budget.tokens,
        "seed": seed,
        "bullets_of_book": standing,
        "bullets_of_text": text.sizes[-1][0],
        "tokens": text.sizes[-1][1],
        "most_tokens": max(tokens for _, tokens in text.sizes),
        "largest_drop": max(sum(drop.values()) for drop in text.drops),
        **{why: total[why] for why in ("by_budget", "by_dedup", "by_curator")},
        "unexplained": total["unexplained"] + lost,
        "stable_share": round(text.kept / text.shown, 4),
        "stable_least": round(text.least, 4),
        "compactions": text.compactions,
        "adds_kept_out": growing.decided["tag"] + growing.decided["drop"],
    }


def _series(seed: int, text: Text) -> Row:
    """The text's size after every tenth delta."""
    bullets, tokens = zip(*text.sizes[9::10], strict=True)
    return {"budget": text.setting.budget.tokens, "seed": seed, "bullets": bullets, "tokens": tokens}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deltas", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--budgets", type=int, nargs="+", default=[2_000, 10_000], help="tokens")
    parser.add_argument("--dry-run", action="store_true", help="print the rows and keep none")
    options = parser.parse_args()
    rows: list[Row] = []
    series: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in options.seeds:
            found, sizes = run(seed, options.deltas, options.budgets, Path(folder))
            rows += found
            series += sizes
            for row in found:
                print(row, file=sys.stderr)
    if not options.dry_run:
        _results.write("playbook_collapse", rows, n=options.deltas, seeds=options.seeds, extra={"series": series})


if __name__ == "__main__":
    main()
