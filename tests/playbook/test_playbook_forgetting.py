"""Forgetting a source: what goes, what stays, and the scan that proves it."""

from __future__ import annotations

import html
import json

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from playbook_logs import Log, add, logs

from potstill.distill.playbook import operations as ops
from potstill.distill.playbook.apply import Entry, named, replay
from potstill.distill.playbook.blame import blame
from potstill.distill.playbook.book import Forgotten as Decided
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.forgetting import Forgotten, forget, forget_bullets, source_digest
from potstill.distill.playbook.operations import Batch, Bullet, Stage
from potstill.distill.playbook.traces import TraceKind, fold, traces
from potstill.distill.playbook.undo import undo
from potstill.trajectories import Store

SECRET = "Ada Lovelace's invoice 4711 must be paid before Friday, she said on the phone"


@pytest.fixture
def log() -> Log:
    return Log()


def contents(forgotten: Forgotten) -> dict[str, str]:
    return {id: bullet.content for id, bullet in forgotten.bullets.items() if not bullet.removed}


def haystack(forgotten: Forgotten) -> list[tuple[str, str]]:
    """Every column, as the store has it."""
    rows = [(f"log {entry.revision}", msgspec.json.encode(entry).decode()) for entry in forgotten.entries]
    bullets = [(id, msgspec.json.encode(bullet).decode()) for id, bullet in forgotten.bullets.items()]
    return rows + bullets


def update(log: Log, id: str, content: str, **fields: object) -> None:
    log.do(ops.Update(id=id, content=content, revision=log.bullets[id].revision), **fields)


def merge(log: Log, into: str, *ids: str, content: str, **fields: object) -> None:
    revisions = tuple(log.bullets[id].revision for id in (into, *ids))
    log.do(ops.Merge(into=into, ids=ids, content=content, revisions=revisions), **fields)


# --- by hand --------------------------------------------------------------------------------------------------------


def test_texts_and_votes_of_the_source_go_and_those_of_others_stay(log):
    log.do(
        add(SECRET), add("call first", "tools"), sources=("t-1",), actor="ada@example.org", key="t-1:0", reason="ask"
    )
    log.do(add("measure twice"), sources=("t-2",))
    update(log, "b-2", "call before you write", sources=("t-2",))
    log.do(ops.Tag(id="b-3", helpful=3), ops.Tag(id="b-2", harmful=1), sources=("t-1",))
    log.do(ops.Tag(id="b-3", helpful=4), ops.Tag(id="b-1", helpful=1), sources=("t-2",))
    forgotten = forget(log.entries, "t-1")
    assert contents(forgotten) == {"b-2": "call before you write", "b-3": "measure twice"}
    assert forgotten.bullets["b-2"] == Bullet(
        id="b-2", number=2, section="tools", content="call before you write", sources=("t-2",), revision=2,
        added_in=1, changed_in=3,
    )  # fmt: skip
    assert forgotten.bullets["b-3"].helpful == 4
    assert (forgotten.gone, forgotten.kept, forgotten.recounted) == (("b-1",), ("b-2",), ("b-2", "b-3"))
    assert (forgotten.erased, forgotten.texts, forgotten.alike) == ((1, 4), (SECRET, "call first"), ())
    assert traces(forgotten.texts, "t-1", haystack(forgotten)) == ()
    assert list(forgotten.rows) == [1, 4]


def test_a_tombstone_says_when_it_was_and_of_what_kind_and_nothing_more(log):
    log.do(add(SECRET, "secret section"), sources=("t-1",), actor="ada@example.org", key="t-1:0", reason="ask Ada")
    log.do(ops.Remove(id="b-1", reason="Ada"), sources=("t-1",), actor="reflector")
    forgotten = forget(log.entries, "t-1")
    assert json.loads(msgspec.json.encode(forgotten.entries)) == [
        {
            "revision": 1, "at": 1.0, "ids": ["b-1"], "batch": {"operations": [], "actor": "user"},
            "erased": [{"kind": "ADD", "ids": ["b-1"]}],
        },
        {
            "revision": 2, "at": 2.0, "batch": {"operations": [], "actor": "reflector"},
            "erased": [{"kind": "REMOVE", "ids": ["b-1"]}],
        },
    ]  # fmt: skip


def test_ids_are_not_given_again(log):
    log.do(add(SECRET), sources=("t-1",))
    log.entries = list(forget(log.entries, "t-1").entries)
    log.bullets = replay(log.entries)
    assert log.do(add("new")) == ("b-2",)
    assert replay(log.entries)["b-2"].number == 2


def test_an_edit_by_hand_of_what_only_the_source_taught_goes_with_it(log):
    log.do(add(SECRET), add("measure twice"), sources=("t-1",))
    log.do(add("my own"), actor="admin")
    update(log, "b-1", "Pay A.L. soon", actor="admin")
    update(log, "b-3", "still my own", actor="admin")
    forgotten = forget(log.entries, "t-1")
    assert contents(forgotten) == {"b-3": "still my own"}
    assert "Pay A.L. soon" in forgotten.texts


def test_an_edit_by_hand_of_what_others_taught_too_goes_if_it_holds_a_piece(log):
    log.do(add("pay in time"), add("be quick"), sources=("t-2",))
    update(log, "b-1", SECRET, sources=("t-1",))
    update(log, "b-2", "be very quick", sources=("t-1",))
    update(log, "b-1", SECRET.upper() + "!", actor="admin")
    update(log, "b-2", "never hurry", actor="admin")
    assert contents(forget(log.entries, "t-1")) == {"b-1": "pay in time", "b-2": "never hurry"}


def test_a_merge_that_kept_the_sources_text_is_taken_apart(log):
    log.do(add(SECRET), sources=("t-1",))
    log.do(add("pay invoices"), add("pay bills"), sources=("t-2",))
    log.do(ops.Tag(id="b-2", helpful=5), sources=("t-2",))
    merge(log, "b-1", "b-2", "b-3", content=SECRET, actor="refine")
    forgotten = forget(log.entries, "t-1")
    assert contents(forgotten) == {"b-2": "pay invoices", "b-3": "pay bills"}
    assert (forgotten.bullets["b-2"].helpful, forgotten.bullets["b-2"].merged_into) == (5, "")
    assert (forgotten.gone, forgotten.returned) == (("b-1",), ("b-2", "b-3"))
    assert traces(forgotten.texts, "t-1", haystack(forgotten)) == ()


def test_only_the_copying_operation_of_a_batch_goes(log):
    log.do(add(SECRET), sources=("t-1",))
    log.do(add("pay invoices"), sources=("t-2",))
    copied = ops.Merge(into="b-2", ids=("b-1",), content=SECRET, revisions=(1, 1))
    log.do(add("one"), copied, add("two"), ops.Pin(id="b-2"), sources=("t-3",), key="k")
    forgotten = forget(log.entries, "t-1")
    assert contents(forgotten) == {"b-2": "pay invoices", "b-3": "one", "b-4": "two"}
    assert forgotten.bullets["b-2"].pinned
    assert forgotten.entries[2].batch == Batch(
        operations=(add("one"), add("two"), ops.Pin(id="b-2")), actor="curator", sources=("t-3",), key="k"
    )
    assert [(one.kind, one.ids, one.index) for one in forgotten.entries[2].erased] == [("MERGE", ("b-2", "b-1"), 1)]
    again = forget(forgotten.entries, "t-3")  # the row is found by its other source, and goes whole
    assert contents(again) == {"b-2": "pay invoices"}
    assert [one.kind for one in again.entries[2].erased] == ["ADD", "MERGE", "ADD", "PIN"]
    assert blame(again.entries, "b-4").lines[0].erased


def test_a_row_of_which_nothing_is_left_still_loses_its_sources(log):
    log.do(add(SECRET), sources=("t-1",))
    log.do(add("pay invoices"), sources=("t-2",))
    merge(log, "b-2", "b-1", content=SECRET, sources=("t-3",), reason="alike")
    once = forget(log.entries, "t-1")
    assert once.entries[2].batch.sources == ("t-3",)
    again = forget(once.entries, "t-3")
    assert (again.erased, again.entries[2].batch) == ((3,), Batch(operations=(), actor="curator"))


def test_what_nobody_is_left_to_have_taught_goes_in_any_order(log):
    log.do(add("one"), sources=("t-1",))
    log.do(add("two"), sources=("t-1", "t-2"))
    merge(log, "b-2", "b-1", content="both in a few words", actor="refine")
    for first, second in (("t-1", "t-2"), ("t-2", "t-1")):
        assert forget(forget(log.entries, first).entries, second).bullets == {}


def test_a_merge_in_others_words_stays_without_the_sources_votes(log):
    log.do(add(SECRET), sources=("t-1",))
    log.do(add("pay invoices"), sources=("t-2",))
    log.do(ops.Tag(id="b-1", helpful=2), sources=("t-1",))
    log.do(ops.Tag(id="b-1", helpful=7), sources=("t-2",))
    merge(log, "b-1", "b-2", content="pay what is due", sources=("t-2",))
    forgotten = forget(log.entries, "t-1")
    assert contents(forgotten) == {"b-1": "pay what is due"}
    survivor = forgotten.bullets["b-1"]
    assert (survivor.helpful, survivor.lineage, survivor.sources) == (7, ("b-2",), ("t-2",))


def test_going_back_to_the_sources_text_does_not_bring_a_rejected_one_back(log):
    log.do(add(SECRET, stage=Stage.LIVE), sources=("t-1",))
    update(log, "b-1", "poison", sources=("t-2",))
    log.append(undo(log.entries, 1))
    assert log.bullets["b-1"].content == SECRET
    forgotten = forget(log.entries, "t-1")
    assert forgotten.bullets == {}
    assert traces(forgotten.texts, "t-1", haystack(forgotten)) == ()
    update(log, "b-1", "pay invoices", sources=("t-3",))
    assert contents(forget(log.entries, "t-1")) == {"b-1": "pay invoices"}


def test_going_back_from_the_sources_text_stays(log):
    log.do(add("measure twice"), sources=("t-2",))
    update(log, "b-1", SECRET, sources=("t-1",))
    log.append(undo(log.entries, 1))
    assert contents(forget(log.entries, "t-1")) == {"b-1": "measure twice"}


def test_a_text_that_another_source_taught_too_stays_and_is_named(log):
    log.do(add("Measure twice, cut once."), add(SECRET), sources=("t-1",))
    log.do(add("measure twice; cut once"), add(f"Remember: {SECRET}"), sources=("t-2",))
    forgotten = forget(log.entries, "t-1")
    assert contents(forgotten) == {"b-3": "measure twice; cut once", "b-4": f"Remember: {SECRET}"}
    assert (forgotten.alike, forgotten.texts) == (("b-3", "b-4"), (SECRET,))


def test_who_wrote_a_text_first_keeps_it(log):
    log.do(add("measure twice"), actor="import")
    update(log, "b-1", "measure", sources=("t-1",))
    update(log, "b-1", "measure twice", sources=("t-1",))
    update(log, "b-1", "measure twice", actor="admin")
    assert contents(forget(log.entries, "t-1")) == {"b-1": "measure twice"}


def test_decisions_on_the_sources_word_are_taken_back_and_listed(log):
    log.do(add("one"), add("two"), add("three", stage=Stage.LIVE), sources=("t-2",))
    log.do(ops.Quarantine(id="b-1"), ops.Remove(id="b-2"), sources=("t-1",))
    log.do(ops.SetStage(id="b-3", stage=Stage.SHADOW), ops.Pin(id="b-3"), sources=("t-1",))
    forgotten = forget(log.entries, "t-1")
    assert forgotten.returned == ("b-1", "b-2", "b-3")
    assert forgotten.bullets == replay([*log.entries[:1]]) | {
        id: msgspec.structs.replace(bullet, revision=revision)
        for (id, bullet), revision in zip(replay(log.entries[:1]).items(), (2, 2, 3), strict=True)
    }


def test_reasons_of_others_lose_the_sources_words(log):
    log.do(add(SECRET), add("two"), sources=("t-1",))
    log.do(ops.Remove(id="b-1", reason=f"who wrote {SECRET!r}?"), actor="admin", reason="see T-1", key="x/t-1")
    log.do(ops.Remove(id="b-2", reason="too short"), actor="admin", reason="tidy, t-10 said so", key="y")
    forgotten = forget(log.entries, "t-1")
    assert forgotten.entries[1].batch == Batch(operations=(ops.Remove(id="b-1"),), actor="admin")
    assert forgotten.entries[2].batch == log.entries[2].batch
    assert forgotten.erased == (1, 2)


def test_a_source_that_the_book_does_not_name_changes_nothing(log):
    log.do(add("one"), sources=("t-2",))
    forgotten = forget(log.entries, "t-1")
    assert (forgotten.entries, forgotten.bullets) == (tuple(log.entries), log.bullets)
    assert (forgotten.erased, forgotten.gone, forgotten.texts) == ((), (), ())


PHONE = "Customer Jane Roe, phone 555-0134, wants no calls."


def test_short_pieces_that_tell_of_somebody_go_from_reasons_and_are_named_in_bullets(log):
    log.do(add(PHONE), sources=("t-1",))
    log.do(add("Be polite."), sources=("t-2",), reason="Jane Roe, phone 555-0134, complained", key="roe")
    log.do(add("Jane Roe (phone 555-0134) gets letters."), add("Send letters."), sources=("t-3",), reason="tidy")
    log.do(ops.Remove(id="b-2", reason="as jane roe said"), actor="admin", reason="tidy")
    forgotten = forget(log.entries, "t-1")
    assert forgotten.alike == ("b-3",)
    assert [entry.batch.reason for entry in forgotten.entries] == ["", "", "tidy", ""]
    assert "roe" not in str([entry.batch for entry in forgotten.entries if entry.revision != 3]).lower()


def test_an_edit_by_hand_that_keeps_the_number_goes(log):
    log.do(add("Be polite."), sources=("t-2",))
    update(log, "b-1", PHONE, sources=("t-1",))
    update(log, "b-1", "No calls to 5550134.", actor="admin")
    assert contents(forget(log.entries, "t-1")) == {"b-1": "Be polite."}


# --- at random ------------------------------------------------------------------------------------------------------


@given(logs())
def test_nothing_of_the_source_is_left(log):
    forgotten = forget(log.entries, "t-1")
    assert traces(forgotten.texts, "t-1", haystack(forgotten)) == ()
    assert "t-1" not in str(forgotten.entries) + str(forgotten.bullets)
    for id in forgotten.bullets:
        answer = blame(forgotten.entries, id)
        assert all("t-1" not in votes.sources for votes in answer.votes)


@given(logs())
def test_nothing_is_left_of_two_sources_and_their_order_does_not_matter(log):
    one, other = forget(log.entries, "t-1"), forget(log.entries, "t-2")
    both, as_well = forget(one.entries, "t-2"), forget(other.entries, "t-1")
    assert not any(f"t-{number}" in str(both.entries) + str(both.bullets) for number in (1, 2))
    assert {id: bullet.content for id, bullet in both.bullets.items()} == {
        id: bullet.content for id, bullet in as_well.bullets.items()
    }


@given(logs())
def test_forgetting_again_changes_nothing(log):
    once = forget(log.entries, "t-1")
    again = forget(once.entries, "t-1")
    assert (again.entries, again.bullets) == (once.entries, once.bullets)
    assert (again.erased, again.texts, again.gone, again.kept, again.returned, again.recounted) == ((),) * 6


@given(logs(), logs(sourced=True))
def test_bullets_at_hand_spare_a_replay_and_change_nothing(log, other):
    once = forget(log.entries, "t-1")
    for entries, held in ((log.entries, log.bullets), (once.entries, once.bullets), (other.entries, other.bullets)):
        for source in ("t-1", "t-2"):
            quick, slow = forget(entries, source, held), forget(entries, source)
            assert quick == slow
            assert list(quick.bullets) == list(slow.bullets)


@given(logs())
def test_numbers_go_on_and_the_book_is_what_its_log_says(log):
    forgotten = forget(log.entries, "t-1")
    assert [(old.revision, old.at, old.ids) for old in log.entries] == [
        (new.revision, new.at, new.ids) for new in forgotten.entries
    ]
    assert replay(forgotten.entries) == forgotten.bullets
    assert forgotten.bullets.keys() <= log.bullets.keys()
    decoded = msgspec.json.decode(msgspec.json.encode(forgotten.entries), type=tuple[Entry, ...])
    assert replay(decoded) == forgotten.bullets
    for id, bullet in forgotten.bullets.items():
        assert bullet.number == log.bullets[id].number
        assert bullet.revision == log.bullets[id].revision


@given(logs())
def test_what_is_left_adds_up(log):
    forgotten = forget(log.entries, "t-1")
    assert set(forgotten.gone) | forgotten.bullets.keys() == log.bullets.keys()
    for id, bullet in forgotten.bullets.items():
        answer = blame(forgotten.entries, id)
        assert sum(votes.helpful for votes in answer.votes) == bullet.helpful
        assert answer.current is not None
        assert answer.lines[answer.current].content == bullet.content


PLACEHOLDER = "\x00"


def counterfactual(entries: list[Entry], source: str) -> dict[str, Bullet]:
    """The same log without the source, worked out otherwise: its ``ADD``s add a placeholder, the rest is not there."""

    def without(entry: Entry) -> Entry:
        if source not in entry.batch.sources:
            return entry
        adds = [one for one in entry.batch.operations if isinstance(one, ops.Add)]
        placeholders = tuple(msgspec.structs.replace(one, content=PLACEHOLDER) for one in adds)
        return msgspec.structs.replace(entry, batch=Batch(operations=placeholders, actor=entry.batch.actor))

    bullets = replay(map(without, entries))
    return {id: bullet for id, bullet in bullets.items() if bullet.content != PLACEHOLDER}


@given(logs(sourced=True))
def test_where_every_text_has_its_source_the_book_is_as_if_the_source_had_never_been(log):
    expected = counterfactual(log.entries, "t-1")
    forgotten = forget(log.entries, "t-1")
    plain = {id: msgspec.structs.replace(bullet, revision=0) for id, bullet in forgotten.bullets.items()}
    assert plain == {id: msgspec.structs.replace(bullet, revision=0) for id, bullet in expected.items()}


@given(logs(), st.data())
def test_a_book_can_go_back_after_it_forgot(log, data):
    forgotten = forget(log.entries, "t-1")
    log.entries, log.bullets = list(forgotten.entries), dict(forgotten.bullets)
    batch = undo(log.entries, data.draw(st.integers(0, len(log.entries))))
    assume(batch.operations)
    log.append(batch)
    assert replay(log.entries) == log.bullets
    assert not traces(forgotten.texts, "t-1", [("batch", msgspec.json.encode(batch).decode())])


# --- the scan -------------------------------------------------------------------------------------------------------


def forms(text: str) -> dict[str, str]:
    once = json.dumps({"content": text})
    return {
        "as it is": text,
        "in another text": f"... {text} ...",
        "case": text.upper(),
        "spaces": text.replace(" ", "\n  "),
        "JSON": once,
        "JSON in JSON": json.dumps([once]),
        "JSON with every character escaped": '"' + "".join(f"\\u{ord(char):04x}" for char in text) + '"',
        "HTML": html.escape(text),
        "markup": "**" + text.replace(" ", "** _") + "_",
    }


WORDLESS = "☎☎☎ !!!"
"""Without a word a text is looked for as it is: other spaces or markup make another text of it."""
FORMS = [
    (text, form)
    for text in (SECRET, 'Sag "Grüße"\nund \\ dann: 5 < 6 & 7', "数える 前に 測る", WORDLESS)
    for form in forms("")
    if text != WORDLESS or form not in ("spaces", "markup")
]


@pytest.mark.parametrize(("text", "form"), FORMS)
def test_a_text_is_found_in_every_form(text, form):
    found = traces([text], "t-1", [("here", forms(text)[form]), ("there", "quite another text about phones")])
    assert [(trace.place, trace.kind) for trace in found] == [("here", TraceKind.TEXT)]


def test_a_piece_is_found_from_its_length_on():
    folded = fold(SECRET)
    for start in range(len(folded) - 41):
        piece = folded[start : start + 40].strip()
        found = traces([SECRET], "t-1", [("here", f"x{piece}x")])
        assert [trace.kind for trace in found] == ([TraceKind.FRAGMENT] if len(piece) >= 40 else [])
    assert traces([SECRET], "t-1", [("here", SECRET[:30])]) == ()
    assert traces([SECRET], "t-1", [("here", SECRET[:30])], fragment=20)[0].excerpt == fold(SECRET[:30])
    with pytest.raises(ValueError, match="fragment is 7 characters; allowed is 8 or more"):
        traces([SECRET], "t-1", [], fragment=7)


@given(
    st.text(min_size=60, max_size=90), st.integers(0, 30), st.integers(30, 50), st.text(), st.text(), st.integers(0, 2)
)
def test_any_long_piece_is_found_however_often_it_is_escaped(text, start, length, before, after, escaped):
    piece = text[start : start + length]
    assume(len(fold(piece)) >= 22)
    hay = f"{before} {piece} {after}"
    for _ in range(escaped):
        hay = json.dumps(hay)
    assert traces([text], "no such source", [("here", hay)], fragment=20)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"sources":["t-1"]}', True),
        ("see T-1.", True),
        ("run/t-1/step-3", True),
        ("t\\u002d1", True),
        ("t-10", False),
        ("at-1", False),
        ("t-2", False),
    ],
)
def test_a_source_is_found_as_a_word(text, found):
    assert [trace.kind for trace in traces([], "t-1", [("here", text)])] == [TraceKind.SOURCE] * found


# --- in a store -----------------------------------------------------------------------------------------------------


def test_a_store_forgets_every_trace_and_goes_on(tmp_path):
    def decide(entries: list[Entry], bullets: dict[str, Bullet]) -> Decided | None:
        forgotten = forget(entries, "t-1")
        answers.append(forgotten)
        row = Batch(operations=(), actor="admin", reason="asked by its owner")
        return Decided(row, source_digest("t-1"), forgotten.rows, forgotten.bullets) if forgotten.erased else None

    answers: list[Forgotten] = []
    with Store.open(tmp_path / "s.db") as store:
        book = Playbook(store, "default", "support")
        taught = Batch(operations=(add(SECRET), add("call first")), actor="ada", sources=("t-1",), key="t-1:0")
        book.apply(taught)
        book.apply(Batch(operations=(ops.Update(id="b-2", content="write", revision=1),), actor="x", sources=("t-2",)))
        book.apply(Batch(operations=(ops.Remove(id="b-1", reason=SECRET),), actor="admin"))
        assert traces([SECRET, "call first"], "t-1", book.texts())
        assert book.forget(decide) == 4
        assert traces(answers[0].texts, "t-1", book.texts()) == ()
        assert book.check() == []
        assert {id: bullet.content for id, bullet in book.bullets().items()} == {"b-2": "write"}
        assert book.forget(decide) is None
        assert book.apply(taught).repeated  # sent again, it teaches nothing again
        assert book.apply(Batch(operations=(add("new"),), actor="x")).ids == ("b-3",)
        assert book.check() == []
    for file in tmp_path.iterdir():
        assert SECRET.encode() not in file.read_bytes()


# --- bullets --------------------------------------------------------------------------------------------------------


def test_a_bullet_is_forgotten_with_all_its_texts_whoever_taught_them(log):
    log.do(add("measure twice"), add("an earlier text of the same"), actor="import")
    update(log, "b-2", SECRET, sources=("t-1",))
    log.do(ops.Tag(id="b-2", helpful=2), ops.Pin(id="b-1"), sources=("t-1",))
    log.do(ops.Quarantine(id="b-2", reason="the owner asked"), actor="admin", reason="the owner asked", key="k")
    log.do(add(SECRET), actor="import")
    forgotten = forget_bullets(log.entries, ["b-2"])
    assert contents(forgotten) == {"b-1": "measure twice"}
    assert forgotten.bullets["b-1"].pinned
    assert (forgotten.gone, set(forgotten.texts)) == (("b-2", "b-3"), {"an earlier text of the same", SECRET})
    assert traces(forgotten.texts, "", haystack(forgotten)) == ()
    assert "owner" not in str(forgotten.entries)
    assert forgotten.entries[2].batch.sources == ("t-1",), "what else it taught can still be forgotten"
    again = forget_bullets(forgotten.entries, ["b-2"])
    assert (again.erased, again.bullets) == ((), forgotten.bullets)


def test_a_merge_in_others_words_stays_where_a_bullet_is_forgotten(log):
    log.do(add(SECRET), add("pay invoices"), add("pay bills"), actor="admin")
    merge(log, "b-2", "b-1", content="pay what is due", actor="admin")
    merge(log, "b-3", "b-2", content=f"{SECRET}, so pay", actor="admin")
    forgotten = forget_bullets(log.entries, ["b-1"])
    assert contents(forgotten)["b-2"] == "pay what is due"


@given(logs(), st.integers(1, 6))
def test_nothing_of_a_forgotten_bullet_is_left(log, number):
    id = f"b-{number}"
    assume(id in log.bullets)
    quick, slow = forget_bullets(log.entries, [id], log.bullets), forget_bullets(log.entries, [id])
    assert quick == slow
    assert id in quick.gone
    assert replay(quick.entries) == quick.bullets
    assert all(id not in named(one) for entry in quick.entries for one in entry.batch.operations if alone(one))
    assert traces(quick.texts, "", [(str(one), one.content) for one in quick.bullets.values()]) == () or quick.alike


def alone(step: ops.Operation) -> bool:
    return not isinstance(step, ops.Merge)
