"""The corpus, rendered as bullets and read by several readers: none may find an entry that potstill did not write."""

import json
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from injection_corpus import PAYLOADS

from potstill.distill.playbook import neutral
from potstill.distill.playbook.border import cited, read_curation
from potstill.distill.playbook.lookalikes import skeleton
from potstill.distill.playbook.operations import Add, Bullet
from potstill.distill.playbook.render import entry, read_back, render
from potstill.distill.playbook.sections import DEFAULT

NAMES = sorted(PAYLOADS)
HEADER = re.compile(r"\s*#{1,6}(\s|$)")
SETEXT_OR_RULE = re.compile(r" {0,3}([=*_+~`-])\1{2,}")
OWN_ID = re.compile(r"\[b-[0-9]+\]")
ACE_ENTRY = re.compile(r"\[([^\]]+)\]\s*helpful=(\d+)\s*harmful=(\d+)\s*::")
TURN = re.compile(r"\s*(system|user|assistant|human|### ?\w+)\s*:", re.IGNORECASE)
TOKEN = re.compile(
    r"<\|[\w ]+\|?>|<\w+\|>|</?(s|bos|eos|pad|unk|sop|think|tool_call|tool_response|start_of_turn|end_of_turn|system"
    r"|playbook|bullet|script)\b|\[/?[A-Z_]{3,}\]|\[gMASK\]|<</?SYS>>|\[\|\w+\||\]~b\]|\[e~\[|>>[A-Z]+<<|<!--|-->"
)


def book_with(text: str) -> str:
    made = neutral.content(text)
    return f"## COMMON MISTAKES\n[b-6] Before.\n[b-7] {made}\n[b-8] After.\n\n## OTHERS\n[b-9] Last."


def forged(book: str) -> list[str]:
    """Lines that a reader would take for a header, entry or turn, beyond the six that were written."""
    found = []
    for line in book.split("\n"):
        if line in ("## COMMON MISTAKES", "[b-6] Before.", "[b-8] After.", "", "## OTHERS", "[b-9] Last."):
            continue
        own = line.startswith("[b-7] ")
        rest = line.removeprefix("[b-7] ")
        look = skeleton(rest)
        starts = HEADER.match(look) or SETEXT_OR_RULE.match(look) or ACE_ENTRY.match(look.lstrip()) or TURN.match(look)
        if starts or OWN_ID.search(look) or TOKEN.search(look) or not (own or line.startswith("    ")):
            found.append(line)
    return found


def test_the_corpus_is_large_enough_and_the_readers_do_find_what_is_forged() -> None:
    assert len(PAYLOADS) >= 100
    raw = [name for name in NAMES if forged(f"[b-7] {PAYLOADS[name]}")]
    assert len(raw) > 0.7 * len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_forged_by(name: str) -> None:
    book = book_with(PAYLOADS[name])
    assert forged(book) == []
    assert len(book) < 4200
    assert [line[:5] for line in book.splitlines() if OWN_ID.match(line)] == ["[b-6]", "[b-7]", "[b-8]", "[b-9]"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_rendered_is_visible_and_stays(name: str) -> None:
    made = neutral.content(PAYLOADS[name])
    assert neutral.content(made) == made
    assert unicodedata.is_normalized("NFC", made)
    assert all(each == "\n" or unicodedata.category(each) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") for each in made)


@pytest.mark.parametrize("name", NAMES)
def test_a_curator_s_bullet_is_one_bullet_or_refused(name: str) -> None:
    said = {"type": "ADD", "section": PAYLOADS[name][:500], "content": PAYLOADS[name], "id": "b-1", "helpful": 999}
    proposal = read_curation(json.dumps({"operations": [said]}), {"b-1": 1})
    if proposal.refused:
        assert proposal.operations == ()
        assert forged(f"[b-7] {proposal.refused[0]}") == []
        return
    (add,) = proposal.operations
    assert isinstance(add, Add)
    assert add.section in {section.key for section in DEFAULT.known}
    bullets = [Bullet(id=f"b-{n}", number=n, section=add.section, content=add.content) for n in (7, 8)]
    text = render([entry(bullet) for bullet in bullets])
    title = DEFAULT.title(add.section)
    assert read_back(text) == [(title, "b-7", add.content), (title, "b-8", add.content)]
    assert cited(text, {f"b-{n}" for n in range(200)}) == ("b-7", "b-8")


@pytest.mark.parametrize("name", NAMES)
def test_a_section_named_by(name: str) -> None:
    made = neutral.section(PAYLOADS[name])
    assert "\n" not in made
    assert forged(f"[b-7] {made}") == []


@given(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4), st.text(max_size=10))
def test_nothing_is_forged_by_payloads_joined(names: list[str], between: str) -> None:
    assert forged(book_with(between.join(PAYLOADS[name][:300] for name in names))) == []


@given(st.text())
def test_nothing_is_forged_by_any_text(text: str) -> None:
    assert forged(book_with(text)) == []
    assert cited(neutral.content(text), {f"b-{number}" for number in range(100)}) == ()
