"""The same bytes from every process on a store: pages that were left in it, whoever looked when."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines import raw
from potstill.distill.playbook import operations as ops
from potstill.distill.playbook.apply import Refused
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.budget import Budget
from potstill.distill.playbook.context import PlaybookConfig, PlaybookContext
from potstill.distill.playbook.keeper import KIND, EpochKeeper, Kept
from potstill.distill.playbook.operations import Batch, Stage
from potstill.distill.playbook.page import Epoch
from potstill.distill.playbook.undo import undo
from potstill.errors import StoreError
from potstill.protocols import ContextQuery
from potstill.trajectories import Store
from potstill.types import Task

PATIENT = Budget(slack=1.0)
"""These books are so short that an edit is a tenth of the text."""
CONFIG = PlaybookConfig(holdout_share=0.0, budget=PATIENT)


@pytest.fixture
def book(tmp_path):
    with Store.open(tmp_path / "s.db") as store:
        yield Playbook(store, "default", "support")


def add(content, section="others", stage=Stage.LIVE):
    return ops.Add(section=section, content=content, stage=stage)


def change(book, *operations, sources=()):
    return book.apply(Batch(operations=operations, actor="ana", sources=sources)).ids


def text(context):
    asked = ContextQuery(task=Task(id="t", environment="house"), goal="g", namespace="default")
    return asyncio.run(context.for_task(asked)).text


def fresh(book, config=CONFIG):
    """As another process has it, which has seen nothing of the book."""
    return PlaybookContext.of(book, config)


def test_a_process_that_comes_later_shows_the_bytes_of_the_first(book):
    change(book, add("one"), add("two", "rules"), add("late", stage=Stage.CANARY))
    nobody = msgspec.structs.replace(CONFIG, canary_share=0.0)
    first = fresh(book, nobody)
    text(first)
    change(book, add("four", "rules"))
    text(first)
    change(book, ops.SetStage(id="b-3", stage=Stage.LIVE), ops.Update(id="b-1", content="one, better", revision=1))
    shown = text(first)
    assert shown == "## RULES\n[b-2] two\n\n## OTHERS\n[b-1] one\n\n## RULES\n[b-4] four\n\n## OTHERS\n[b-3] late"
    assert text(fresh(book, nobody)) == shown
    alone = PlaybookContext(book, CONFIG)
    assert text(alone) != shown, "one that keeps nothing begins with an order of its own"


def test_two_that_run_beside_each_other_show_what_the_first_one_saw(book):
    change(book, add("one"), add("staged late", stage=Stage.SHADOW))
    one, other = fresh(book), fresh(book)
    assert text(one) == text(other)
    change(book, add("three"))
    text(one)
    change(book, ops.SetStage(id="b-2", stage=Stage.LIVE), ops.Update(id="b-3", content="3", revision=1))
    assert text(other) == text(one) == "## OTHERS\n[b-1] one\n[b-3] three\n[b-2] staged late"


def test_a_compaction_anywhere_is_one_everywhere(book):
    change(book, add("one"))
    one, other = fresh(book), fresh(book)
    text(one), text(other)
    change(book, ops.Update(id="b-1", content="one, better", revision=1), add("two"))
    assert text(one) == text(other) == "## OTHERS\n[b-1] one\n[b-2] two"
    fresh(book).compact()
    assert text(one) == text(other) == "## OTHERS\n[b-1] one, better\n[b-2] two"
    assert one.page().epoch == other.page().epoch


def test_an_edit_of_an_old_page_is_seen_by_all_at_the_next_look_and_not_twice_an_hour(book):
    now = [1_000_000.0]
    change(book, *(add(f"lesson {number}, as long as lessons are") for number in range(40)))
    one, other = (PlaybookContext.of(book, CONFIG, clock=lambda: now[0]) for _ in range(2))
    text(one), text(other)
    now[0] += 600
    change(book, ops.Update(id="b-30", content="better", revision=1))
    old = text(one)
    assert "better" not in old
    now[0] += 3000
    assert "[b-30] better" in text(one), "nothing was written meanwhile"
    assert text(other) == text(one)
    now[0] += 1000
    change(book, ops.Update(id="b-1", content="best", revision=1))
    assert "best" not in text(other)
    now[0] += 2600
    assert "[b-1] best" in text(other)


def test_removed_edited_and_rolled_back_bullets_reach_a_short_page_in_every_process(book):
    for number in range(5):
        change(book, add(f"good rule number {number}"))
    usual = PlaybookConfig(holdout_share=0.0)
    running = fresh(book, usual)
    text(running)
    good = book.revision
    change(book, add("BAD: always delete the database"))
    assert "BAD" in text(running)
    book.apply(undo(book.log(), good, actor="admin"))
    assert "BAD" not in text(running)
    assert "BAD" not in text(fresh(book, usual))
    change(book, ops.Update(id="b-1", content="corrected", revision=book.bullets()["b-1"].revision))
    assert "[b-1] corrected" in text(running)
    assert text(fresh(book, usual)) == text(running)


def test_settings_and_tenants_and_books_have_pages_of_their_own(book):
    change(book, add("x" * 40), add("y" * 40))
    small = msgspec.structs.replace(CONFIG, budget=Budget(tokens=20))
    stranger = Playbook(book.store, "acme", "support")
    assert text(fresh(book)).count("[b-") == 2
    assert text(fresh(book, small)).count("[b-") == 1
    stranger.apply(Batch(operations=(add("of acme"),), actor="bob"))
    asked = ContextQuery(task=Task(id="t", environment="house"), goal="g", namespace="acme")
    assert asyncio.run(fresh(stranger).for_task(asked)).text == "## OTHERS\n[b-1] of acme"
    keys = [json.loads(key) for key in book.store.states(KIND)]
    assert sorted(key[:2] for key in keys) == [["acme", "support"], ["default", "support"], ["default", "support"]]
    assert len({key[2] for key in keys}) == 2


def test_a_look_that_changes_no_line_writes_nothing(book):
    nobody = fresh(Playbook(book.store, "default", "none"))
    assert text(nobody) == ""
    assert book.store.states(KIND) == {}
    change(book, add("one"))
    context = fresh(book)
    text(context)
    for _ in range(3):
        change(book, ops.Tag(id="b-1", helpful=1), add("seen by nobody", stage=Stage.SHADOW))
        text(context)
    (held,) = book.store.states(KIND).values()
    assert held.version == 1


def test_no_text_is_kept(book):
    change(book, add("the red key"))
    text(fresh(book))
    change(book, ops.Update(id="b-1", content="the blue key", revision=1))
    text(fresh(book))
    with raw(book.store) as connection:
        rows = connection.execute("SELECT body FROM state").fetchall()
    assert rows
    assert "key" not in str(rows)


def test_what_a_source_taught_comes_back_from_no_kept_page(book):
    change(book, add("ask"), sources=("s1",))
    change(book, ops.Update(id="b-1", content="ask for the red key", revision=1), sources=("s2",))
    change(book, add("the red lamp"), sources=("s2",))
    running = fresh(book)
    assert "red key" in text(running)
    change(book, ops.Update(id="b-1", content="ask twice", revision=2), sources=("s3",))
    assert "red key" in text(running), "stale until the next epoch"
    assert text(fresh(book)) == text(running)
    book.forget_source("s2", actor="ana")
    shown = text(fresh(book))
    assert "red" not in shown
    assert text(running) == shown == "## OTHERS\n[b-1] ask twice"


def test_a_lost_race_is_looked_at_again(book, monkeypatch):
    change(book, add("one"))
    one = fresh(book)
    text(one)
    change(book, ops.Update(id="b-1", content="1", revision=1), add("two"), add("three"))
    write, other = EpochKeeper.write, fresh(book)
    lost = []

    def slow(self, kept, version):
        if not lost:
            lost.append(text(other))
        return write(self, kept, version)

    keeper = one._looker._keeper
    monkeypatch.setattr(keeper, "write", lambda kept, version: slow(keeper, kept, version))
    assert text(one) == lost[0] == "## OTHERS\n[b-1] one\n[b-2] two\n[b-3] three"


def test_a_race_that_is_always_lost_is_told(book, monkeypatch):
    change(book, add("one"))
    context = fresh(book)
    monkeypatch.setattr(context._looker._keeper, "write", lambda kept, version: False)
    with pytest.raises(StoreError, match="could not be kept"):
        text(context)


def test_a_page_of_a_newer_potstill_is_told(book):
    change(book, add("one"))
    text(fresh(book))
    (key,) = book.store.states(KIND)
    book.store.put_state(KIND, key, {"epoch": "by another shape"}, 1)
    with pytest.raises(StoreError, match="written by a newer potstill"):
        text(fresh(book))


def test_a_book_that_was_begun_anew_begins_a_new_page(book):
    for number in range(3):
        change(book, add(f"lesson {number}"))
    text(fresh(book))
    with raw(book.store) as connection:
        for table in ("playbooks", "playbook_log", "playbook_bullets"):
            connection.execute(f"DELETE FROM {table}")
    change(book, add("another book"))
    assert text(fresh(book)) == "## OTHERS\n[b-1] another book"


def test_a_kept_page_reads_back():
    kept = Kept(epoch=msgspec.convert({"revision": 3, "ids": ["b-1"]}, Epoch), revision=4, lines=(("b-1", 2),))
    assert msgspec.convert(msgspec.to_builtins(kept), Kept) == kept


# --- any history ----------------------------------------------------------------------------------------------------

BULLET = st.integers(1, 8)
CONTENT = st.sampled_from(["mug", "open the fridge", "look " * 12, "ask first"])
DO = st.one_of(
    st.tuples(st.just("add"), CONTENT, st.sampled_from(list(Stage)), st.sampled_from(["rules", "others"])),
    st.tuples(st.just("update"), BULLET, CONTENT),
    st.tuples(st.just("stage"), BULLET, st.sampled_from(list(Stage))),
    st.tuples(st.sampled_from(["remove", "quarantine", "restore", "pin"]), BULLET),
    st.tuples(st.just("forget"), st.integers(0, 12)),
    st.tuples(st.sampled_from(["look", "look", "restart", "compact"]), st.integers(0, 1)),
)


def operation(book, done):
    kind, *told = done
    if kind == "add":
        return add(told[0], told[2], told[1])
    id = f"b-{told[0]}"
    bullet = book.bullets([id]).get(id)
    match kind:
        case "update":
            return ops.Update(id=id, content=told[1], revision=0 if bullet is None else bullet.revision)
        case "stage":
            return ops.SetStage(id=id, stage=told[1])
        case "remove":
            return ops.Remove(id=id)
        case "quarantine":
            return ops.Quarantine(id=id)
        case "restore":
            return ops.Restore(id=id)
    return ops.Pin(id=id)


def written(book, done, at):
    try:
        book.apply(Batch(operations=(operation(book, done),), actor="ana", sources=(f"s{at}",)))
    except Refused:
        return  # of a bullet that is not there, or gone


@settings(max_examples=60)
@given(st.lists(DO, max_size=25), st.sampled_from([15, 40, 10_000]))
def test_whoever_looks_whenever_all_show_the_same(history, tokens):
    config = PlaybookConfig(holdout_share=0.0, canary_share=0.0, budget=Budget(tokens=tokens, every=2, slack=0.2))
    with TemporaryDirectory() as folder, Store.open(Path(folder) / "s.db") as store:
        book = Playbook(store, "default", "b")
        running = [fresh(book, config), fresh(book, config)]
        for at, done in enumerate(history):
            match done:
                case ("look", who):
                    text(running[who])
                case ("restart", who):
                    running[who] = fresh(book, config)
                case ("compact", who):
                    running[who].compact()
                case ("forget", source):
                    book.forget_source(f"s{source}", actor="ana")
                case _:
                    written(book, done, at)
        shown = [text(one) for one in (*running, fresh(book, config))]
        assert shown[0] == shown[1] == shown[2]
        assert text(running[0]) == shown[0]
