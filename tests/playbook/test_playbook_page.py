"""What of a playbook's text may change when: unit cases, 300 batches as a curator writes them, any batches at all."""

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.distill.playbook import operations as ops
from potstill.distill.playbook.apply import apply
from potstill.distill.playbook.budget import Budget
from potstill.distill.playbook.operations import Batch, Bullet, Stage
from potstill.distill.playbook.page import Due, Setting, advance, compact, due, everybody_sees, open_page, text_of
from potstill.distill.playbook.render import read_back
from potstill.distill.playbook.sections import DEFAULT
from potstill.retrieval.tokens import EstimatedTokens

count = EstimatedTokens().count


class Book:
    """Bullets that batches change, by the real rules."""

    def __init__(self):
        self.bullets, self.revision = {}, 0

    def do(self, *operations, sources=()):
        self.revision += 1
        number = len(self.bullets) + 1
        batch = Batch(operations=operations, actor="curator", sources=sources)
        change = apply(self.bullets, batch, revision=self.revision, next_number=number)
        self.bullets |= {one.id: one for one in (*change.changed, *change.added)}
        return self

    def put(self, id, **fields):
        self.revision += 1
        self.bullets[id] = msgspec.structs.replace(self.bullets[id], **fields)
        return self

    def compacted(self, setting=None):
        epoch = compact(self.bullets.values(), revision=self.revision, setting=setting)
        return open_page(epoch, self.bullets.values(), setting)

    def after(self, page, setting=None, **more):
        return advance(page, self.bullets.values(), revision=self.revision, setting=setting, **more)


def add(content, section="strategies_and_hard_rules", stage=Stage.LIVE):
    return ops.Add(section=section, content=content, stage=stage)


@pytest.fixture
def book():
    return Book().do(
        add("one", "others"), add("two"), add("three", "others"), add("hidden", stage=Stage.SHADOW), sources=("s1",)
    )


def test_a_compaction_orders_and_later_bullets_stand_at_the_end(book):
    page = book.compacted()
    first = text_of(page)
    assert first == "## STRATEGIES & HARD RULES\n[b-2] two\n\n## OTHERS\n[b-1] one\n[b-3] three"
    book.do(add("five", "others"), add("six"), add("seven"), add("eight", "others"))
    page = book.after(page)
    assert text_of(page) == first + (
        "\n[b-5] five\n\n## STRATEGIES & HARD RULES\n[b-6] six\n[b-7] seven\n\n## OTHERS\n[b-8] eight"
    )
    assert page.tail == ("b-5", "b-6", "b-7", "b-8")
    assert text_of(book.compacted()).split("\n") == [
        "## STRATEGIES & HARD RULES",
        "[b-2] two",
        "[b-6] six",
        "[b-7] seven",
        "",
        "## OTHERS",
        "[b-1] one",
        "[b-3] three",
        "[b-5] five",
        "[b-8] eight",
    ]


def test_what_became_live_late_stands_behind_what_was_there(book):
    page = book.after(book.do(add("five")).compacted())
    before = text_of(page)
    page = book.do(ops.SetStage(id="b-4", stage=Stage.LIVE)).after(page)
    assert text_of(page) == before.replace("", "", 1) + "\n\n## STRATEGIES & HARD RULES\n[b-4] hidden"


def test_an_updated_line_stays_as_it_was_and_says_how_much_is_out_of_date(book):
    page = book.compacted()
    before = text_of(page)
    book.do(ops.Update(id="b-2", content="two, better", revision=1), sources=("s2",))
    book.do(ops.Tag(id="b-3", helpful=5, harmful=2), ops.Pin(id="b-3"))
    page = book.after(page)
    assert text_of(page) == before
    # "[b-2] two, better\n" to come, 18 bytes = 5 tokens; the text has 69 bytes = 18 tokens
    assert (page.stale, page.pending, page.tokens, page.behind) == (5, 5, 18, True)
    assert text_of(book.compacted()) == (
        "## STRATEGIES & HARD RULES\n[b-2] two, better\n\n## OTHERS\n[b-1] one\n[b-3] three"
    )


def test_what_is_removed_goes_at_once_and_what_stood_behind_it_is_written_as_it_is_now(book):
    page = book.compacted()
    book.do(ops.Update(id="b-2", content="two, better", revision=1), ops.Update(id="b-3", content="3", revision=1))
    page = book.do(ops.Remove(id="b-1")).after(page)
    assert text_of(page) == "## STRATEGIES & HARD RULES\n[b-2] two\n\n## OTHERS\n[b-3] 3"
    assert book.do(ops.Remove(id="b-2")).after(page).ids == ("b-3",)


def test_what_is_merged_away_goes_at_once_and_the_survivor_says_both(book):
    page = book.compacted()
    merged = ops.Merge(into="b-3", ids=("b-2",), content="both", revisions=(1, 1))
    assert text_of(book.do(merged).after(page)) == "## OTHERS\n[b-1] one\n[b-3] both"
    again = ops.Merge(into="b-1", ids=("b-3",), content="all", revisions=(1, 2))
    assert text_of(book.do(again).after(page)) == "## OTHERS\n[b-1] all", "the end of the chain, seen at one look"


def test_a_survivor_that_had_no_room_comes_in_for_what_was_merged_into_it():
    setting = Setting(budget=Budget(tokens=20, headroom=0))
    book = Book().do(add("x" * 20, "tools"), add("y" * 60, "tools"))
    page = book.compacted(setting)
    assert (page.ids, page.epoch.left_out) == (("b-1",), ("b-2",))
    merged = ops.Merge(into="b-2", ids=("b-1",), content="short", revisions=(1, 1))
    assert text_of(book.do(merged).after(page, setting)) == "## TOOLS\n[b-2] short"


@pytest.mark.parametrize(
    "operation",
    [
        ops.Quarantine(id="b-1"),
        ops.SetStage(id="b-1", stage=Stage.SHADOW),
        ops.SetStage(id="b-1", stage=Stage.CANARY),
        ops.Remove(id="b-1"),
    ],
)
def test_what_may_do_harm_goes_at_once_and_comes_back_at_the_end(book, operation):
    page = book.do(operation).after(book.compacted())
    page = book.after(page)
    assert text_of(page) == "## STRATEGIES & HARD RULES\n[b-2] two\n\n## OTHERS\n[b-3] three"
    gone = book.bullets["b-1"].quarantined or book.bullets["b-1"].removed
    book.do(ops.Restore(id="b-1") if gone else ops.SetStage(id="b-1", stage=Stage.LIVE))
    assert book.after(page).ids == ("b-2", "b-3", "b-1")


def test_what_a_forgotten_source_taught_goes_at_once(book):
    book.do(ops.Update(id="b-2", content="learnt from both", revision=1), sources=("s2",))
    page = book.compacted()
    # the store forgot s2: b-2 has what s1 taught again, b-3 is no more
    book.put("b-2", content="two", sources=("s1",))
    del book.bullets["b-3"]
    page = book.after(page)
    assert text_of(page) == "## STRATEGIES & HARD RULES\n[b-2] two\n\n## OTHERS\n[b-1] one"


def test_an_erasure_keeps_no_line_as_it_was(book):
    page = book.compacted()
    book.put("b-2", content="two, without a word")
    assert "[b-2] two\n" in text_of(book.after(page))
    assert "[b-2] two, without a word\n" in text_of(book.after(page, anew=True))


def test_new_bullets_take_what_is_left_and_the_others_wait():
    setting = Setting(budget=Budget(tokens=20, headroom=0, every=3))
    book = Book().do(add("x" * 20, "tools"))  # "## TOOLS\n[b-1] " and 20: 35 bytes
    page = book.compacted(setting)
    page = book.do(add("x" * 20, "tools")).after(page, setting)  # 62 bytes = 16 tokens
    assert (page.ids, page.waiting, page.pending) == (("b-1", "b-2"), (), 0)
    page = book.do(add("x" * 20, "tools"), add("y" * 6, "tools")).after(page, setting)  # 89 bytes = 23 tokens; 75 = 19
    assert (page.ids, page.waiting) == (("b-1", "b-2", "b-4"), ("b-3",))
    assert page.pending == 7  # "[b-3] ", 20 and a line end: 27 bytes
    assert due(page, setting.budget) is None
    page = book.do(ops.Quarantine(id="b-4")).after(page, setting)
    assert (page.ids, page.waiting) == (("b-1", "b-2"), ("b-3",))
    page = book.do(ops.Quarantine(id="b-1")).after(page, setting)
    assert (page.ids, page.waiting, page.pending) == (("b-2", "b-3"), (), 0)


def test_what_the_epoch_left_out_stays_out_until_it_is_pinned():
    setting = Setting(budget=Budget(tokens=20, headroom=0.5))
    book = Book().do(add("x" * 20, "tools"), add("x" * 60, "tools"), add("y" * 6, "tools"))
    page = book.compacted(setting)
    assert page.ids == ("b-3",)
    assert page.epoch.left_out == ("b-1", "b-2")
    page = book.do(ops.Tag(id="b-1", helpful=9)).after(page, setting)
    assert page.ids == ("b-3",)
    page = book.do(ops.Pin(id="b-1")).after(page, setting)
    assert page.ids == ("b-3", "b-1")
    page = book.do(ops.Pin(id="b-2")).after(page, setting)
    assert due(page, setting.budget) is Due.PINNED_WAITS
    page = book.compacted(setting)
    assert (page.ids, page.epoch.pinned_out) == (("b-1",), ("b-2",))
    page = book.do(ops.Tag(id="b-1", helpful=1)).after(page, setting)
    assert due(page, setting.budget) is None, "pinned in vain: another compaction changes nothing"


def test_a_compaction_is_due_when_much_of_the_page_is_out_of_date_however_small_the_page():
    book = Book().do(*(add("x" * 60, "tools") for _ in range(9)))
    page = book.compacted()
    assert page.tokens == 153  # "## TOOLS" and nine times 67 bytes: 611
    page = book.do(ops.Update(id="b-4", content="y", revision=1)).after(page)
    assert page.stale == 17  # 67 bytes
    assert due(page, Budget()) is Due.STALE
    assert due(page, Budget(slack=0.12)) is None, "17 of 153 are 0.111"
    assert due(page, Budget(slack=0.0)) is Due.STALE
    assert due(book.compacted(), Budget(slack=0.0)) is None


def test_a_compaction_is_due_for_anything_after_so_many_revisions():
    book = Book().do(*(add("x" * 60, "tools") for _ in range(20)))
    page = book.compacted()
    page = book.do(ops.Update(id="b-4", content="y", revision=1)).after(page)
    for _ in range(48):
        page = book.do(ops.Tag(id="b-1", helpful=1)).after(page)
        assert due(page, Budget()) is None
    page = book.do(ops.Tag(id="b-1", helpful=1)).after(page)
    assert due(page, Budget()) is Due.PENDING
    page = book.compacted()
    for _ in range(60):
        page = book.do(ops.Tag(id="b-1", helpful=1)).after(page)
    assert due(page, Budget()) is None, "nothing to put right"


def test_a_compaction_is_due_where_most_of_the_prefix_is_lost_anyway():
    book = Book().do(*(add("x" * 60, "tools") for _ in range(20)))
    page = book.compacted()
    page = book.do(ops.Update(id="b-1", content="x" * 59 + "y", revision=1)).after(page)
    assert (page.lost, due(page, Budget())) == (0, None)
    assert due(book.do(ops.Remove(id="b-18")).after(page), Budget()) is None
    page = book.do(ops.Remove(id="b-3")).after(page)
    assert page.lost > 0.75 * page.tokens
    assert due(page, Budget()) is Due.BROKEN
    assert due(book.do(ops.Tag(id="b-4", helpful=1)).after(page), Budget()) is None, "that was a look ago"


def test_a_compaction_is_due_for_one_line_once_the_epoch_is_old():
    book = Book().do(*(add("x" * 60, "tools") for _ in range(20)))
    page = book.compacted()
    page = msgspec.structs.replace(page, epoch=msgspec.structs.replace(page.epoch, at=1000.0))
    page = book.do(ops.Update(id="b-4", content="y", revision=1)).after(page)
    assert due(page, Budget(), 1000.0 + 3599.0) is None
    assert due(page, Budget(), 1000.0 + 3600.0) is Due.OVERDUE
    assert due(book.after(book.compacted()), Budget(), 1e9) is None


def test_headers_that_stand_again_are_pending():
    book = Book().do(add("a", "tools"), add("b", "rules"))
    page = book.do(add("c", "tools"), add("d", "rules")).after(Book.compacted(book))
    fresh = open_page(compact([], revision=0), [])
    page = advance(fresh, book.bullets.values(), revision=2)
    # rules, tools, rules, tools: "\n\n## TOOLS\n" and "\n\n## RULES\n" once too often, 11 bytes = 3 tokens each
    assert page.pending == 6


def test_a_page_opened_from_its_epoch_has_the_same_bytes(book):
    page = book.compacted()
    kept = msgspec.json.decode(msgspec.json.encode(page.epoch), type=type(page.epoch))
    assert text_of(open_page(kept, book.bullets.values())) == text_of(page)
    assert b"three" not in msgspec.json.encode(page.epoch)


def test_a_held_out_bullet_is_not_in_the_text(book):
    assert text_of(book.compacted(), without={"b-2"}) == "## OTHERS\n[b-1] one\n[b-3] three"


# --- 300 batches ----------------------------------------------------------------------------------------------------

SECTIONS = [section.key for section in DEFAULT.known]
WORDS = [
    "always",
    "check",
    "the",
    "unit",
    "of",
    "the",
    "amount",
    "before",
    "you",
    "sum",
    "fees",
    "because",
    "the",
    "tool",
    "returns",
    "cents",
    "ask",
    "for",
    "the",
    "order",
    "number",
    "first",
    "when",
    "an",
    "access",
    "token",
    "expires",
    "log",
    "in",
    "again",
    "and",
    "repeat",
    "the",
    "call",
    "never",
    "page",
    "by",
    "guessing",
    "read",
    "the",
    "last",
    "page",
    "flag",
]


def lesson(rng):
    """A bullet of 80 to 400 characters; those of the paper's shipped playbooks have about 200."""
    words = " ".join(rng.choices(WORDS, k=rng.randint(16, 80)))
    return words[: rng.randint(80, 400)].strip() or "check"


def curated(rng, book):
    """A batch as a reflector and a curator give it after an episode: a few lessons, votes, now and then an edit, and
    hardly ever a removal, which takes a line out of the middle of the text."""
    live = [one for one in book.bullets.values() if everybody_sees(one)]
    made = [add(lesson(rng), rng.choice(SECTIONS)) for _ in range(rng.choice((0, 1, 1, 2, 3, 5)))]
    drawn = rng.sample(live, min(len(live), 8))
    for one in drawn[4:]:
        made.append(ops.Tag(id=one.id, helpful=int(rng.random() < 0.6), harmful=int(rng.random() < 0.2)))
    if len(drawn) > 0 and rng.random() < 0.25:
        made.append(ops.Update(id=drawn[0].id, content=lesson(rng), revision=drawn[0].revision))
    if len(drawn) > 1 and rng.random() < 0.03:
        made.append(ops.Remove(id=drawn[1].id))
    return made or [add(lesson(rng))]


def refined(rng, book):
    """The merges of near-duplicates, which are looked for now and then and not after each episode."""
    live = [one for one in book.bullets.values() if everybody_sees(one)]
    drawn = rng.sample(live, min(len(live), 4))
    return [
        ops.Merge(into=a.id, ids=(b.id,), content=lesson(rng), revisions=(a.revision, b.revision))
        for a, b in zip(drawn[::2], drawn[1::2], strict=False)
    ]


def same_beginning(one, other):
    """How many bytes two texts begin with in common, by bisection."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low


def kept_share(tokens, seed, deltas=300):
    """Over the deltas: bytes of the new text that are an unchanged beginning, of all its bytes; and the compactions."""
    rng, book = random.Random(seed), Book()
    setting = Setting(budget=Budget(tokens=tokens))
    page, text, kept, shown, compactions = book.compacted(setting), "", 0, 0, 0
    for number in range(deltas):
        book.do(*(refined(rng, book) if number % 50 == 49 else curated(rng, book)))
        page = book.after(page, setting)
        if due(page, setting.budget):
            page, compactions = book.compacted(setting), compactions + 1
        before, text = text, text_of(page)
        assert count(text) <= tokens
        kept += same_beginning(before.encode(), text.encode())
        shown += len(text.encode())
    assert count(text) > 0.8 * min(tokens, sum(count(one.content) for one in book.bullets.values()))
    return kept / shown, compactions, len(book.bullets)


@pytest.mark.parametrize(
    ("tokens", "seed"), [(2_000, 0), (2_000, 1), (10_000, 0), (10_000, 1), (10_000, 2), (100_000, 0)]
)
def test_over_300_batches_95_percent_of_the_bytes_are_an_unchanged_beginning(tokens, seed):
    share, compactions, bullets = kept_share(tokens, seed)
    assert bullets > 400
    assert share >= 0.95, f"{share:.4f} with {compactions} compactions"


# --- any batches ----------------------------------------------------------------------------------------------------

changes = st.one_of(
    st.tuples(st.just("add"), st.sampled_from(SECTIONS), st.text(max_size=40)),
    st.tuples(
        st.sampled_from(["update", "remove", "merge", "quarantine", "restore", "pin", "shadow", "live", "forget"]),
        st.integers(0, 30),
        st.text(max_size=40),
    ),
)
URGENT = {"remove", "merge", "quarantine", "shadow", "forget"}


def changed(bullets, kind, what, content):
    """A bullet more, or one of them changed; the rest of the book as it was."""
    if kind == "add" or not bullets:
        number = max((one.number for one in bullets), default=0) + 1
        section = what if kind == "add" else "others"
        sources = (f"s{number}",)
        return [
            *bullets,
            Bullet(
                id=f"b-{number}", number=number, section=section, content=content, stage=Stage.LIVE, sources=sources
            ),
        ]
    place = what % len(bullets)
    one = bullets[place]
    fields = {
        "update": {"content": content, "sources": (*one.sources, "more")},
        "remove": {"removed": True},
        "merge": {"removed": True, "merged_into": "b-1"},
        "quarantine": {"quarantined": True},
        "restore": {"quarantined": False, "removed": False},
        "pin": {"pinned": True},
        "shadow": {"stage": Stage.SHADOW},
        "live": {"stage": Stage.LIVE},
    }
    if kind == "forget":
        return bullets[:place] + bullets[place + 1 :]
    return [*bullets[:place], msgspec.structs.replace(one, **fields[kind]), *bullets[place + 1 :]]


@given(st.lists(changes, max_size=30), st.sampled_from([0, 30, 100, 10_000]))
def test_any_history_only_appends_unless_it_is_urgent(history, tokens):
    setting = Setting(budget=Budget(tokens=tokens))
    bullets, page = [], open_page(compact([], revision=0), [], setting)
    for revision, (kind, what, content) in enumerate(history, start=1):
        before = text_of(page)
        bullets = changed(bullets, kind, what, content)
        page = advance(page, bullets, revision=revision, setting=setting)
        text = text_of(page)
        assert count(text) <= tokens
        assert kind in URGENT or text.startswith(before)
        present = {one.id: one for one in bullets}
        assert [id for _, id, _ in read_back(text)] == list(page.ids)
        assert len(set(page.ids)) == len(page.ids)
        for id in page.ids:
            assert id in present
            assert everybody_sees(present[id])
        missing = {one.id for one in bullets if everybody_sees(one)} - set(page.ids)
        assert missing <= {*page.waiting, *page.epoch.left_out, *page.epoch.pinned_out}
    again = compact(bullets, revision=99, setting=setting)
    assert again == compact(reversed(bullets), revision=99, setting=setting)
