"""A playbook in a store, on both engines: whole batches or none, keys, tenants, reading on, erasing."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from playbook_workers import add, batch

from engines import raw
from potstill.distill.playbook import book as book_module
from potstill.distill.playbook.apply import Entry, Refused, Why
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.forgetting import Forgotten, source_digest
from potstill.distill.playbook.operations import Applied, Bullet, Merge, Tag, Update
from potstill.errors import DiskFull, StoreError
from potstill.trajectories import Store
from potstill.trajectories.playbooks import COLUMNS


def test_a_book_that_is_not_there_is_empty(book):
    assert (book.revision, book.bullets(), book.log(), book.check()) == (0, {}, [], [])
    assert book.store.playbooks(None) == []
    assert book.forget(lambda entries, bullets: pytest.fail("there is nothing to forget")) is None
    assert book.forget_source("t-1", actor="admin") == (Forgotten(entries=(), bullets={}), ())


def test_bullets_and_log_come_back_as_they_went_in(book):
    first = batch(add("Ask for the order first."), add('"quotes"\nand é 日本 😀'), sources=("t-1",), actor="ana")
    assert book.apply(first) == Applied(revision=1, ids=("b-1", "b-2"))
    second = batch(Update(id="b-1", content="Ask for its number.", revision=1), Tag(id="b-2", helpful=2))
    assert book.apply(second) == Applied(revision=2)
    assert book.log() == [
        Entry(revision=1, at=1001.0, batch=first, ids=("b-1", "b-2")),
        Entry(revision=2, at=1002.0, batch=second),
    ]
    bullets = book.bullets()
    assert list(bullets) == ["b-1", "b-2"]
    assert bullets["b-1"].content == "Ask for its number."
    assert (bullets["b-2"].content, bullets["b-2"].helpful) == ('"quotes"\nand é 日本 😀', 2)
    assert book.bullets(["b-2", "b-9", "no id\x00"]) == {"b-2": bullets["b-2"]}
    assert (book.revision, book.check()) == (2, [])
    assert list(book.as_of(1).values()) == [
        Bullet(id="b-1", number=1, section="strategies", content="Ask for the order first.",
               sources=("t-1",), added_in=1, changed_in=1),
        Bullet(id="b-2", number=2, section="strategies", content='"quotes"\nand é 日本 😀',
               sources=("t-1",), added_in=1, changed_in=1),
    ]  # fmt: skip
    assert [entry.revision for entry in book.log(after=1)] == [2]
    assert [entry.revision for entry in book.log(until=1)] == [1]


def test_a_check_ends_although_others_write_all_the_while(book, monkeypatch):
    book.apply(batch(add("one")))
    log, looks = book.log, []

    def busy(*where, **until):
        looks.append(found := log(*where, **until))
        if len(looks) < 20:
            book.apply(batch(add(f"while it looks {len(looks)}")))
        return found

    monkeypatch.setattr(book, "log", busy)
    assert book.checked() == (1, [])
    assert (len(looks), book.revision) == (1, 2)


def test_it_is_all_there_when_the_store_is_opened_again(tmp_path):
    with Store.open(tmp_path / "s.db") as store:
        Playbook(store, "default", "support").apply(batch(add("one"), add("two")))
    with Store.open(tmp_path / "s.db") as store:
        book = Playbook(store, "default", "support")
        assert book.apply(batch(add("three"))).ids == ("b-3",)  # no id is given twice
        assert book.check() == []
    with Store.read(tmp_path / "s.db") as store:
        book = Playbook(store, "default", "support")
        assert len(book.bullets()) == 3
        with pytest.raises(StoreError, match="opened for reading"):
            book.apply(batch(add("four")))


def test_one_bad_operation_leaves_nothing_of_its_batch(book):
    book.apply(batch(add("one"), add("two")))
    before = book.state_hash()
    bad = batch(add("three"), Tag(id="b-1", helpful=1), Update(id="b-2", content="x", revision=9), add("four"))
    with pytest.raises(Refused, match=r"Operation 3 .*b-2 is at revision 1 now"):
        book.apply(bad)
    with pytest.raises(Refused, match="at most 4000") as refused:
        book.apply(batch(add("three"), add("x" * 1_000_000)))
    assert (refused.value.index, refused.value.why) == (1, Why.INVALID)
    assert (book.state_hash(), book.revision, len(book.log())) == (before, 1, 1)
    assert book.apply(batch(add("three"))) == Applied(revision=2, ids=("b-3",))  # no number was used up


def test_a_refusal_harms_no_other_batch_of_the_same_commit(store, book):
    """While the writer is busy batches queue up and are committed together."""
    book.apply(batch(add("one")))
    busy, done = threading.Event(), threading.Event()
    store._writer.submit(lambda connection: (busy.set(), done.wait(60)))
    busy.wait(60)
    outcomes: dict[int, object] = {}

    def work(n: int) -> None:
        try:
            outcomes[n] = book.apply(batch(Update(id="b-1", content=f"by {n}", revision=1), add(f"with {n}")))
        except Refused as refused:
            outcomes[n] = refused.why

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    done.set()
    for thread in threads:
        thread.join()
    assert sorted(str(outcome) for outcome in outcomes.values() if isinstance(outcome, Why)) == ["stale"] * 5
    winner = next(n for n, outcome in outcomes.items() if isinstance(outcome, Applied))
    assert book.bullets()["b-1"].content == f"by {winner}"
    assert [bullet.content for bullet in book.bullets().values()] == [f"by {winner}", f"with {winner}"]
    assert book.check() == []


def test_two_editors_at_once_the_second_is_told_what_is_there_now(store):
    ana, ben = Playbook(store, "default", "support"), Playbook(store, "default", "support")
    ana.apply(batch(add("Ask first.")))
    seen_by_ana, seen_by_ben = ana.bullets()["b-1"], ben.bullets()["b-1"]
    ana.apply(batch(Update(id="b-1", content="Ask for the order.", revision=seen_by_ana.revision), actor="ana"))
    with pytest.raises(Refused, match="revision 2 now, this was written for 1") as refused:
        ben.apply(batch(Update(id="b-1", content="Never ask.", revision=seen_by_ben.revision), actor="ben"))
    assert (refused.value.why, refused.value.id) == (Why.STALE, "b-1")
    again = ben.bullets()["b-1"]
    assert again.content == "Ask for the order."
    ben.apply(batch(Update(id="b-1", content="Ask for its number.", revision=again.revision), actor="ben"))
    assert [entry.batch.actor for entry in ana.log()] == ["curator", "ana", "ben"]


def test_a_key_that_was_seen_changes_nothing_and_says_what_the_first_one_did(book):
    one = batch(add("one"), key="episode-7")
    assert book.apply(one) == Applied(revision=1, ids=("b-1",))
    assert book.apply(batch(add("another"))) == Applied(revision=2, ids=("b-2",))
    assert book.apply(one) == Applied(revision=1, ids=("b-1",), repeated=True)
    other_text = batch(add("something else"), Tag(id="b-1", helpful=1), key="episode-7")
    assert book.apply(other_text) == Applied(revision=1, ids=("b-1",), repeated=True)
    assert (book.revision, len(book.bullets())) == (2, 2)


def test_a_refused_batch_leaves_its_key_free(book):
    with pytest.raises(Refused):
        book.apply(batch(Tag(id="b-1", helpful=1), key="k"))
    assert book.apply(batch(add("one"), key="k")) == Applied(revision=1, ids=("b-1",))


def test_the_same_key_from_many_threads_is_applied_once(book):
    found: list[Applied] = []
    threads = [
        threading.Thread(target=lambda: found.append(book.apply(batch(add("one"), key="once")))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {(one.revision, one.ids) for one in found} == {(1, ("b-1",))}
    assert sorted(one.repeated for one in found) == [False] + [True] * 7


def test_tenants_and_books_share_nothing(store):
    books = [Playbook(store, *where) for where in (("acme", "a"), ("acme", "b"), ("other", "a"))]
    for n, book in enumerate(books):
        assert (
            book.apply(batch(*(add(f"{n} {part}") for part in range(n + 1)), sources=("t-1",), key="k")).revision == 1
        )
    books[0].apply(batch(Tag(id="b-1", helpful=1)))
    assert [(info.namespace, info.name, info.revision, info.bullets) for info in store.playbooks(None)] == [
        ("acme", "a", 2, 1), ("acme", "b", 1, 2), ("other", "a", 1, 3)
    ]  # fmt: skip
    assert [info.name for info in store.playbooks("other")] == ["a"]
    assert store.playbooks_of_source("acme", "t-1") == {"a": [1], "b": [1]}
    assert store.playbooks_of_source("other", "t-1") == {"a": [1]}
    assert store.playbooks_of_source("other", "t-2") == {}
    with pytest.raises(Refused, match="no bullet 'b-2'"):
        books[0].apply(batch(Tag(id="b-2", helpful=1)))


def test_what_was_written_since_can_be_read_alone(book):
    book.apply(batch(add("one"), add("two"), add("three")))
    book.apply(batch(Tag(id="b-1", helpful=1)))
    book.apply(batch(add("four")))
    since = book.since(1)
    assert (since.revision, since.erasures, list(since.bullets)) == (3, 0, ["b-1", "b-4"])
    assert book.since(3).bullets == {}


def test_merged_bullets_are_followed_however_far(book):
    book.apply(batch(*(add(f"bullet {n}") for n in range(30))))
    for n in range(1, 30):
        bullets = book.bullets()
        revisions = (bullets[f"b-{n + 1}"].revision, bullets[f"b-{n}"].revision)
        book.apply(batch(Merge(into=f"b-{n + 1}", ids=(f"b-{n}",), content=f"to {n}", revisions=revisions)))
    book.apply(batch(Tag(id="b-1", helpful=1)))
    assert {bullet.helpful for bullet in book.bullets().values()} == {1}
    assert book.check() == []


@pytest.mark.parametrize("name", ["", "a\x00b"])
def test_names_that_no_row_can_have_are_refused(store, name):
    with pytest.raises(StoreError, match="Cannot store a batch of playbook"):
        Playbook(store, "default", name).apply(batch(add("one")))
    with pytest.raises(StoreError, match="its namespace is"):
        Playbook(store, name, "book").apply(batch(add("one")))


def test_a_damaged_row_and_one_of_a_newer_version_say_so(book):
    book.apply(batch(add("one")))
    with raw(book.store) as connection:
        connection.execute("UPDATE playbook_bullets SET body = ? WHERE id = ?", ('{"id": 3}', "b-1"))
    with pytest.raises(StoreError, match=r"Playbook 'support' .*a bullet is damaged, or was written by a newer"):
        book.bullets()
    with pytest.raises(StoreError, match="damaged"):
        book.apply(batch(Tag(id="b-1", helpful=1)))
    newer = '{"batch": {"operations": [{"type": "FUSE", "id": "b-1"}], "actor": "x"}, "revision": 1, "at": 0.0}'
    with raw(book.store) as connection:
        connection.execute("UPDATE playbook_log SET body = ?", (newer,))
    with pytest.raises(StoreError, match="revision 1 is damaged, or was written by a newer potstill"):
        book.log()


def test_a_bullet_that_the_log_does_not_explain_is_found(book):
    book.apply(batch(add("one"), add("two")))
    forged = msgspec.structs.replace(book.bullets()["b-2"], helpful=999)
    with raw(book.store) as connection:
        connection.execute(
            "UPDATE playbook_bullets SET body = ? WHERE id = ?", (msgspec.json.encode(forged).decode(), "b-2")
        )
    assert book.check() == ["bullet b-2 is not what the log says"]


# --- erasing --------------------------------------------------------------------------------------------------------

SECRET = 'Meet "Zoltan Quux" at\nthe pier'


def told(book: Playbook) -> None:
    book.apply(batch(add(SECRET), add("secret two"), sources=("t-secret", "t-2"), key="t-secret"))
    book.apply(batch(add("mine"), sources=("t-3",)))
    book.apply(batch(Update(id="b-2", content="rewritten", revision=1), Tag(id="b-1", helpful=1), sources=("t-3",)))


def test_forgetting_rewrites_log_and_bullets_at_once(book):
    told(book)
    assert {place for place, _ in book.scan([SECRET])} == {
        "playbook_log.body of 1", "playbook_bullets.body of b-1"
    }  # fmt: skip
    assert ("playbook_sources.source of 1", "t-secret") in book.scan(["t-secret"])
    forgotten, left = book.forget_source("t-secret", actor="admin")
    assert (forgotten.erased, forgotten.gone, forgotten.kept, left) == ((1,), ("b-1",), ("b-2",), ())
    assert book.scan([SECRET, "secret two", "t-secret"]) == []
    assert {id: bullet.content for id, bullet in book.bullets().items()} == {"b-2": "rewritten", "b-3": "mine"}
    assert book.check() == []
    assert book.store.playbooks_of_source("default", "t-secret") == {}
    assert book.store.playbooks_of_source("default", "t-2") == {}
    assert book.store.playbooks_of_source("default", "t-3") == {"support": [2, 3]}
    entry = book.log()[3]
    assert (entry.forgot, entry.batch.operations, entry.batch.actor) == (source_digest("t-secret"), (), "admin")
    assert (book.since(0).erasures, book.revision) == (1, 4)
    again, left = book.forget_source("t-secret", actor="admin")
    assert (again.erased, left, book.revision, book.since(0).erasures) == ((), (), 4, 1)
    assert book.apply(batch(add("later"))) == Applied(revision=5, ids=("b-4",))


def test_a_row_that_is_erased_in_part_is_found_by_its_other_source(book):
    told(book)
    bullets = book.bullets()
    merge = Merge(into="b-3", ids=("b-1",), content=SECRET, revisions=(1, bullets["b-1"].revision))
    book.apply(batch(merge, add("mine too"), sources=("t-4",)))
    forgotten, left = book.forget_source("t-secret", actor="admin")
    assert (forgotten.erased, left, book.check()) == ((1, 4), (), [])
    assert book.store.playbooks_of_source("default", "t-4") == {"support": [4]}
    assert [bullet.content for bullet in book.bullets().values()] == ["rewritten", "mine", "mine too"]


def test_what_was_forgotten_is_not_learnt_again_by_a_late_repetition(book):
    told(book)
    book.forget_source("t-secret", actor="admin")
    again = book.apply(batch(add(SECRET), sources=("t-secret",), key="t-secret"))
    assert (again.repeated, again.revision, again.ids) == (True, 1, ("b-1", "b-2"))
    assert book.scan([SECRET]) == []


def test_a_forgetting_that_fails_changes_nothing(book):
    told(book)
    before = book.state_hash()

    def refused(entries: list[Entry], bullets: dict[str, Bullet]) -> book_module.Forgotten | None:
        raise Refused(None, Why.INVALID, "the source is not named")

    with pytest.raises(Refused, match="the source is not named"):
        book.forget(refused)
    with pytest.raises(Refused, match="its actor is empty"):
        book.forget_source("t-secret", actor="")
    assert (book.state_hash(), book.revision, book.check()) == (before, 3, [])


def test_no_byte_of_what_was_forgotten_is_left_in_the_file(tmp_path):
    path = tmp_path / "s.db"
    with Store.open(path) as store:
        book = Playbook(store, "default", "support")
        for n in range(200):
            book.apply(batch(add(f"filler {n} " + "f" * 200), sources=(f"t-{n}",)))
        told(book)
        book.apply(batch(add("ZOLTANQUUX " * 300), sources=("t-secret",)))
        ids = list(book.bullets())
        for id in ids[200:202]:
            book.apply(batch(*(Tag(id=id, helpful=1),) * 3))
        assert book.forget_source("t-secret", actor="admin")[1] == ()
        for file in (path, Path(f"{path}-wal")):
            held = file.read_bytes() if file.exists() else b""
            for words in (b"Zoltan Quux", b"secret two", b"ZOLTANQUUX", b"t-secret"):
                assert words not in held, f"{words!r} in {file.name}"


def test_the_scan_looks_at_every_text_column(tmp_path):
    with Store.open(tmp_path / "s.db"), closing(sqlite3.connect(tmp_path / "s.db")) as connection:
        query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'playbook%'"
        found = {
            table: {row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[2] == "TEXT"}
            for (table,) in connection.execute(query).fetchall()
        }
    del found["playbook_uses"]  # numbers and ids of bullets; it belongs to the trajectory's row and goes with it
    assert found == {table: set(columns) for table, columns in COLUMNS.items()}


def until_full(book: Playbook) -> int:
    """How many batches of five bullets were acknowledged before the disk was full."""
    for n in range(10_000):
        try:
            book.apply(batch(*(add(f"{n} {part} " + "x" * 500) for part in range(5))))
        except DiskFull:
            return n
    raise AssertionError("the disk was never full")


def test_a_book_may_be_as_large_as_the_store_and_no_larger(tmp_path):
    """Under the size limit as on a full disk: what was acknowledged stays, the rest is not there."""
    with Store.open(tmp_path / "s.db", max_bytes=1_000_000) as store:
        book = Playbook(store, "default", "support")
        done = until_full(book)
        assert done > 10
        assert (book.revision, len(book.bullets()), book.check()) == (done, 5 * done, [])
    with Store.open(tmp_path / "s.db") as store:
        book = Playbook(store, "default", "support")
        assert book.apply(batch(add("after"))) == Applied(revision=done + 1, ids=(f"b-{5 * done + 1}",))
        assert (book.check(), store.check()) == ([], [])
