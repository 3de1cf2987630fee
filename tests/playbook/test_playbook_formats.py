"""What a format can carry comes back; sniffing; the whole way into a book."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.distill.playbook import formats, neutral
from potstill.distill.playbook.apply import check_batch
from potstill.distill.playbook.operations import MAX_OPERATIONS, Bullet, Pin, Quarantine, SetStage, Stage, Tag
from potstill.distill.playbook.sections import DEFAULT, section_key, sections_named
from potstill.errors import ConfigError, UnknownName

WORDS = st.sampled_from(
    ["- -", "***", "[x] ", "[calc-00001]", "helpful=3 harmful=1 :: ", "::", "## RULES", "<memory_item>", "```", "\n",
     "\n\n", "    ", "</description>", "** Count: 9", "b-12", "1. ", "\\", "\\- -", "<!-- x -->", "---", "&lt;", "|",
     "> ", "a", "Use the ledger.", "é", "\u2028", "\x00", "\t", "|a|b|\n|-|-|", "[a]: http://b", "+", "`code`"]
)  # fmt: skip
TEXTS = (st.lists(WORDS, min_size=1, max_size=6).map("".join) | st.text(min_size=1, max_size=60)).map(neutral.content)
TEXTS = TEXTS.filter(bool)
COUNTS = st.integers(0, 5000)
SECTIONS = st.sampled_from([section.key for section in DEFAULT.known]) | st.text(max_size=20).map(section_key)


@st.composite
def books(draw):
    made = st.builds(
        Bullet,
        id=st.just(""),
        number=st.just(1),
        section=SECTIONS,
        content=TEXTS,
        helpful=COUNTS,
        harmful=COUNTS,
        neutral=COUNTS,
        stage=st.sampled_from(Stage),
        pinned=st.booleans(),
        quarantined=st.booleans(),
        removed=st.booleans(),
        lineage=st.sampled_from([(), ("b-77",)]),
        sources=st.lists(st.from_regex(r"[a-z0-9:-]{1,12}", fullmatch=True), max_size=2, unique=True).map(tuple),
    )
    found = draw(st.lists(made, min_size=1, max_size=6))
    return [msgspec.structs.replace(each, id=f"b-{n}", number=n) for n, each in enumerate(found, start=1)]


def in_order(bullets):
    return sorted(bullets, key=lambda bullet: (DEFAULT.rank(bullet.section), bullet.number))


@pytest.mark.parametrize("name", formats.FORMATS)
@settings(max_examples=30)
@given(bullets=books())
def test_what_a_format_carries_comes_back(name, bullets):
    written = formats.exported(name, bullets, shadow=True)
    data = formats.write(name, bullets, shadow=True)
    if not written and name in ("markdown", "skill", "agents"):
        with pytest.raises(formats.BadPlaybookFile):
            formats.read(data, name)
        return
    found = formats.read(data, name)
    kept = [bullet for bullet in written if not bullet.removed]
    kept = kept if name == "json" else in_order(kept)
    single = name in ("ace", "ace-plain")
    want = [(b.section, " ".join(map(str.strip, b.content.split("\n"))) if single else b.content) for b in kept]
    assert [(item.section, item.content) for item in found.items] == want
    for field in formats.format_named(name).carries:
        assert [getattr(item, field) for item in found.items] == [getattr(bullet, field) for bullet in kept]


@pytest.mark.parametrize("name", formats.FORMATS)
@settings(max_examples=30)
@given(bullets=books())
def test_what_does_not_come_back_is_what_an_export_says(name, bullets):
    """Through the file and into a book: each field, bullet by bullet, is as it was, or is counted as dropped."""
    written = [b for b in formats.exported(name, bullets, shadow=True) if not b.removed]
    counted = dict(formats.dropped(name, written))
    data = formats.write(name, bullets, shadow=True)
    if name == "json":
        assert counted == {}
        assert formats.read_book(data).bullets == tuple(bullets)
        return
    want = in_order(written)
    items = formats.read(data, name).items if want else ()
    back = [imported_bullet(item) for item in items]
    assert len(back) == len(want)
    lost = {
        field: sum(getattr(a, field) != getattr(b, field) for a, b in zip(want, back, strict=True)) for field in KEPT
    }
    assert {field: count for field, count in lost.items() if count} == counted


def imported_bullet(item):
    """A bullet of a book as the batches of an import make it; what they do not say stays as ``Bullet`` begins."""
    said = {f: getattr(item, f) for f in KEPT if f in formats.ImportedBullet.__struct_fields__}
    said["stage"] = item.stage or Stage.SHADOW
    return Bullet(id="b-1", number=1, section=item.section, content=item.content, **said)


KEPT = tuple(formats.FIELDS)


def test_each_field_of_a_bullet_is_told_of_or_given_anew():
    told = {"section", "content", "removed", "quarantined", "merged_into", *formats.FIELDS, *formats.NEW_IN_EACH_BOOK}
    assert told == set(Bullet.__struct_fields__), "a new field is to be carried, or said to be dropped"
    for format in formats.FORMATS.values():
        assert format.carries <= {"quarantined", *formats.FIELDS}


@pytest.mark.parametrize("name", formats.FORMATS)
@given(bullets=books(), shadow=st.booleans())
def test_bullets_that_are_left_out_are_counted(name, bullets, shadow):
    out = formats.left_out(name, bullets, shadow=shadow)
    assert sum(out.values()) == len(bullets) - len(formats.exported(name, bullets, shadow=shadow))
    assert set(out) <= {*formats.HIDDEN} - ({"shadow"} if shadow else set())
    if name != "json":
        assert out.get("removed", 0) == sum(bullet.removed for bullet in bullets)


@given(bullets=books(), data=st.data())
def test_our_own_file_loses_nothing(bullets, data):
    sections = sections_named("House rules", "Tools")
    book = formats.read_book(formats.write("json", bullets, sections))
    assert (list(book.bullets), book.sections) == (bullets, sections.known)


@pytest.mark.parametrize("name", formats.FORMATS)
@settings(max_examples=8)
@given(bullets=books())
def test_a_written_file_is_recognised(name, bullets):
    bullets = [msgspec.structs.replace(bullet, quarantined=False, removed=False) for bullet in bullets]
    found = formats.sniff(formats.write(name, bullets, shadow=True))
    assert found == {"ace-plain": "ace"}.get(name, name)


@pytest.mark.parametrize("name", formats.FORMATS)
def test_bullets_that_nobody_may_see_stay_out_of_files_that_cannot_say_so(name):
    seen = [
        Bullet(id="b-1", number=1, section="others", content="live one", stage=Stage.LIVE),
        Bullet(id="b-2", number=2, section="others", content="shadow one"),
        Bullet(id="b-3", number=3, section="others", content="poison", stage=Stage.LIVE, quarantined=True),
        Bullet(id="b-4", number=4, section="others", content="gone", stage=Stage.LIVE, removed=True),
    ]
    text = formats.write(name, seen).decode()
    whole = name == "json"
    assert "live one" in text
    assert [word in text for word in ("shadow one", "poison", "gone")] == [whole] * 3
    assert len(formats.exported(name, seen)) == (4 if whole else 1)
    assert "shadow one" in formats.write(name, seen, shadow=True).decode()


def test_an_unknown_format_names_the_nearest():
    with pytest.raises(UnknownName, match="Did you mean 'markdown'"):
        formats.read(b"- a\n", "markdwn")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "file is empty"),
        (b" \n\t\n", "file is empty"),
        (b"- caf\xe9\n", "not UTF-8: byte 5 is 0xe9"),
        (b"- a\x00b\n", "character 3 is NUL"),
        (b"just some prose\n", "looks like none of the formats"),
        (b'{"skills": {', "begins like JSON and is not"),
        (b'{"things": []}', "JSON of an unknown kind"),
        (b"[" * 100_000, "none of the formats"),
        (b'{"a":' * 100_000, "begins like JSON and is not"),
    ],
)
def test_what_is_no_playbook_is_refused_whole(data, message):
    with pytest.raises(formats.BadPlaybookFile, match=message) as caught:
        formats.read(data)
    assert "Nothing was imported." in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", formats.FORMATS)
@settings(max_examples=30)
@given(data=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes_are_read_or_refused(name, data):
    try:
        found = formats.read(data, name)
    except formats.BadPlaybookFile:
        return
    assert found.items or found.warnings
    for item in found.items:
        assert item.content == neutral.content(item.content) != ""


@pytest.mark.parametrize("name", formats.FORMATS)
@settings(max_examples=12)
@given(bullets=books(), data=st.data())
def test_a_file_cut_anywhere_forges_nothing(name, bullets, data):
    whole = formats.write(name, bullets, shadow=True)
    part = whole[: data.draw(st.integers(0, len(whole)))]
    try:
        found = formats.read(part, name)
    except formats.BadPlaybookFile:
        return
    most = {field: max(getattr(b, field) for b in bullets) for field in ("helpful", "harmful", "neutral")}
    for item in found.items:
        assert all(getattr(item, field) <= most[field] for field in most)


# --- into a book ----------------------------------------------------------------------------------------------------


def apply_all(found, **options):
    """Ids as a book would give them, and the operations after the texts."""
    made = formats.batches(found, **options)
    for batch in made:
        check_batch(batch)
    count = sum(len(batch.operations) for batch in made)
    ids = [f"b-{number}" for number in range(1, count + 1)]
    after = formats.follow_up(found, ids, **options)
    for batch in after:
        check_batch(batch)
    return made, after


@given(bullets=books())
def test_batches_carry_everything_into_another_book(bullets):
    found = formats.read(formats.write("json", bullets))
    made, after = apply_all(found) if found.items else ((), ())
    adds = [(operation, batch.sources) for batch in made for operation in batch.operations]
    kept = [bullet for bullet in bullets if not bullet.removed]
    assert [(add.section, add.content, sources) for add, sources in adds] == [
        (bullet.section, bullet.content, bullet.sources) for bullet in kept
    ]
    stages = {f"b-{n}": add.stage for n, (add, _) in enumerate(adds, start=1)}
    pinned, quarantined, counts = set(), set(), {}
    for operation in (operation for batch in after for operation in batch.operations):
        match operation:
            case Tag(id=id):
                counts[id] = (operation.helpful, operation.harmful, operation.neutral)
            case Quarantine(id=id):
                assert stages[id] is Stage.SHADOW
                quarantined.add(id)
            case SetStage(id=id, stage=stage):
                assert id in quarantined
                stages[id] = stage
            case Pin(id=id):
                pinned.add(id)
    for number, bullet in enumerate(kept, start=1):
        id = f"b-{number}"
        assert stages[id] is bullet.stage
        assert (id in pinned, id in quarantined) == (bullet.pinned, bullet.quarantined)
        assert counts.get(id, (0, 0, 0)) == (bullet.helpful, bullet.harmful, bullet.neutral)


def test_large_imports_are_divided_and_their_keys_differ():
    lines = "\n".join(f"[misc-{n:05d}] helpful=1 harmful=0 :: rule {n}" for n in range(2 * MAX_OPERATIONS + 1))
    found = formats.read(f"## OTHERS\n{lines}\n".encode())
    made, after = apply_all(found)
    assert [len(batch.operations) for batch in made] == [MAX_OPERATIONS, MAX_OPERATIONS, 1]
    assert [len(batch.operations) for batch in after] == [MAX_OPERATIONS, MAX_OPERATIONS, 1]
    assert len({batch.key for batch in made + after}) == 6
    assert {batch.actor for batch in made + after} == {"import"}


def test_the_same_file_has_the_same_keys_and_another_one_others():
    first, again, other = (formats.read(data, "markdown") for data in (b"- a\n", b"- a\n", b"- b\n"))
    assert formats.batches(first) == formats.batches(again)
    assert formats.batches(first)[0].key != formats.batches(other)[0].key
    assert formats.batches(first, key="")[0].key == ""
    assert formats.batches(first, key="mine")[0].key == "mine-add-0"


def test_a_counter_over_one_tag_is_divided():
    found = formats.read(b"## OTHERS\n[misc-00001] helpful=2500000 harmful=1 :: x\n")
    _, (batch,) = apply_all(found)
    assert [(tag.helpful, tag.harmful) for tag in batch.operations] == [(1_000_000, 1), (1_000_000, 0), (500_000, 0)]


def test_a_twin_gets_counters_and_nothing_else():
    bullet = Bullet(id="b-1", number=1, section="others", content="x", helpful=2, pinned=True, quarantined=True)
    found = formats.read(formats.write("json", [bullet]))
    (batch,) = formats.follow_up(found, ["b-77"], twins=["b-77"])
    assert batch.operations == (Tag(id="b-77", helpful=2),)


def test_too_few_ids_are_refused():
    found = formats.read(b"- a\n- b\n")
    with pytest.raises(ConfigError, match="2 bullets and 1 ids came back"):
        formats.follow_up(found, ["b-1"])


def test_imported_bullets_begin_in_shadow_unless_told():
    found = formats.read(b"- a\n")
    assert [b.operations[0].stage for b in formats.batches(found)] == [Stage.SHADOW]
    assert [b.operations[0].stage for b in formats.batches(found, stage=Stage.LIVE)] == [Stage.LIVE]
