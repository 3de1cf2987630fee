"""A file's bullets in a real book: whole, twice, after a crash, through the gate, and forgotten."""

from __future__ import annotations

import json

import pytest

from potstill.distill.playbook import formats
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.gate import gated
from potstill.distill.playbook.operations import Add, Batch, Bullet, Stage
from potstill.distill.playbook.sections import DEFAULT
from potstill.distill.playbook.twins import BookIndex
from potstill.trajectories import Store

ACE = b"""\
## FORMULAS & CALCULATIONS
[calc-00001] helpful=5 harmful=1 :: Divide by the mean of both balance dates.
## HOUSE RULES
[hou-00002] helpful=0 harmful=0 :: Ask before a refund.
"""


@pytest.fixture
def book(tmp_path):
    with Store.open(tmp_path / "s.db") as store:
        yield Playbook(store, "default", "support")


def take(book, found, **options):
    ids = [id for batch in formats.batches(found, **options) for id in book.apply(batch).ids]
    for batch in formats.follow_up(found, ids, **options):
        book.apply(batch)


def seen(book):
    return [(b.section, b.content, b.helpful, b.harmful, b.stage) for b in book.bullets().values()]


WANTED = [
    ("formulas_and_calculations", "Divide by the mean of both balance dates.", 5, 1, Stage.SHADOW),
    ("house_rules", "Ask before a refund.", 0, 0, Stage.SHADOW),
]


def test_an_import_is_in_the_book_and_a_second_one_changes_nothing(book):
    take(book, formats.read(ACE))
    assert seen(book) == WANTED
    revision = book.revision
    take(book, formats.read(ACE))
    assert (seen(book), book.revision, book.check()) == (WANTED, revision, [])
    take(book, formats.read(ACE), key="")
    assert seen(book) == WANTED * 2


def test_an_import_that_stopped_in_the_middle_is_finished_by_the_next(book):
    found = formats.read(ACE)
    for batch in formats.batches(found):
        book.apply(batch)
    assert [row[2] for row in seen(book)] == [0, 0]
    take(book, found)
    assert seen(book) == WANTED


def own_book():
    return [
        Bullet(id="b-3", number=3, section="others", content="one", helpful=2, stage=Stage.LIVE, sources=("t-1",)),
        Bullet(id="b-5", number=5, section="others", content="two", pinned=True, stage=Stage.CANARY, sources=("t-2",)),
        Bullet(id="b-9", number=9, section="others", content="three", quarantined=True, stage=Stage.LIVE, neutral=1),
    ]


def test_our_own_file_moves_a_book(book):
    take(book, formats.read(formats.write("json", own_book())))
    fields = ("section", "content", "helpful", "harmful", "neutral", "stage", "pinned", "quarantined", "sources")
    moved = [[getattr(b, f) for f in fields] for b in book.bullets().values()]
    assert moved == [[getattr(b, f) for f in fields] for b in own_book()]
    again = formats.read_book(formats.write("json", list(book.bullets().values())))
    assert {b.id: b for b in again.bullets} == book.bullets()


def test_a_quarantined_bullet_is_never_shown_on_its_way_in(book):
    found = formats.read(formats.write("json", own_book()))
    for batch in formats.batches(found):
        book.apply(batch)
        assert "three" not in [b.content for b in book.bullets().values() if b.shown]


def test_an_imported_source_can_be_forgotten_and_does_not_come_back(book):
    found = formats.read(formats.write("json", own_book()))
    take(book, found)
    _, left = book.forget_source("t-1", actor="admin")
    assert left == ()
    take(book, found)
    texts = json.dumps([text for _, text in book.texts()])
    assert '"one' not in texts
    assert "two" in texts


def through_gate(book, found):
    ids, twins = [], set()
    for batch in formats.batches(found):
        written, decisions = gated(batch, BookIndex(book.bullets().values()))
        those, known = formats.became(decisions, book.apply(written))
        ids += those
        twins |= known
    for batch in formats.follow_up(found, ids, twins=twins):
        book.apply(batch)


def test_counters_of_a_near_duplicate_go_to_its_twin(book):
    book.apply(Batch(operations=(Add(section="house_rules", content="Ask before a refund."),), actor="ana"))
    found = formats.read(ACE.replace(b"[hou-00002] helpful=0", b"[hou-00002] helpful=7"))
    through_gate(book, found)
    assert [(b.content, b.helpful) for b in book.bullets().values()] == [
        ("Ask before a refund.", 7),
        ("Divide by the mean of both balance dates.", 5),
    ]


def test_the_gate_after_a_crash_still_pins_what_was_imported(book):
    found = formats.read(formats.write("json", own_book()))
    for batch in formats.batches(found):
        book.apply(batch)
    through_gate(book, found)
    assert [(b.content, b.pinned, b.quarantined) for b in book.bullets().values()] == [
        ("one", False, False),
        ("two", True, False),
        ("three", False, True),
    ]


def test_items_that_say_the_same_are_one_bullet_with_both_their_counters(book):
    data = (
        b"## OTHERS\n[misc-00001] helpful=1 harmful=0 :: Say please.\n[misc-00002] helpful=2 harmful=0 :: Say please.\n"
    )
    through_gate(book, formats.read(data))
    (bullet,) = book.bullets().values()
    assert (bullet.content, bullet.helpful) == ("Say please.", 3)


@pytest.mark.parametrize("name", formats.FORMATS)
def test_a_book_in_any_format_fills_another_one(name, book, tmp_path):
    take(book, formats.read(ACE), stage=Stage.LIVE)
    data = formats.write(name, list(book.bullets().values()), DEFAULT)
    with Store.open(tmp_path / "other.db") as store:
        other = Playbook(store, "default", "copy")
        take(other, formats.read(data, name))
        assert [row[:2] for row in seen(other)] == [row[:2] for row in WANTED]
        assert other.check() == []
