import re
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from potstill.distill.playbook import neutral
from potstill.distill.playbook.lookalikes import imitates, skeleton
from potstill.distill.playbook.operations import MAX_CONTENT_CHARACTERS, MAX_SECTION_CHARACTERS

PIECES = st.sampled_from(
    [
        "\n",
        "\r\n",
        "\t",
        " ",
        "  ",
        "b-",
        "12",
        "b-1",
        "B-7",
        "## ",
        "[",
        "]",
        "<",
        ">",
        "---",
        "--",
        "```",
        "User:",
        "\\",
    ]
)
ODD = st.sampled_from(
    "\u0301\u0338\u0440\u044c\uff0d\uff11\u30fc\u207b\u33c2\u200d\u202e\ufeff\u00e9\u2028\uff1c\uff5c\u3000"
)
TEXTS = st.one_of(st.text(), st.lists(st.one_of(PIECES, ODD, st.characters()), max_size=40).map("".join))


@given(TEXTS)
@example("a\n      x\n  y")
@example("<\u0338b")
@example("\u212a\u1fef\u1fef\u1fef")
def test_content_twice_is_content_once(text: str) -> None:
    once = neutral.content(text)
    assert neutral.content(once) == once
    assert len(once) <= MAX_CONTENT_CHARACTERS


@given(TEXTS, st.integers(min_value=100, max_value=400))
@example("a\n" + " " * 8 + "[" * 200, 100)
def test_a_capped_content_is_within_its_limit_and_stays(text: str, limit: int) -> None:
    once = neutral.content(text * 20, limit)
    assert len(once) <= limit
    assert neutral.content(once, limit) == once


@given(TEXTS)
def test_content_has_one_line_that_is_not_indented_and_nothing_that_is_not_seen(text: str) -> None:
    first, *rest = neutral.content(text).split("\n")
    assert all(line.startswith("    ") and line.strip() for line in rest)
    for character in first + "".join(rest):
        assert unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
    neutral.content(text).encode()


@given(TEXTS)
def test_content_never_holds_an_id_or_a_template_s_token(text: str) -> None:
    made = neutral.content(text)
    assert not re.search(neutral.ID, made)
    look = skeleton(made)
    assert not re.search(r"<[|/!?A-Za-z]|\[/?INST\]|\[\|", look)
    assert not re.search(r"^\s*(#+ |---|```|\[[a-z])", look, re.MULTILINE)


@given(TEXTS)
@example("A\u0430" * 60)
@example("\u041c\u0301A")
@example("x " + "ﷺ" * 20)
def test_a_section_s_name_twice_is_the_name_once(text: str) -> None:
    once = neutral.section(text)
    assert neutral.section(once) == once
    assert "\n" not in once
    assert len(once) <= MAX_SECTION_CHARACTERS
    assert not re.search(neutral.ID, once)
    assert not once.startswith(("#", "[", "-", ">"))


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("vitamin b-12", "vitamin b - 12"),
        ("B-12", "B - 12"),
        ("ь-12", "ь - 12"),
        ("\uff42\u2011\uff11", "\uff42 \u2011 \uff11"),
        ("b\u0336-\u03361", "b\u0336 -\u0336 1"),
        ("b\u200d-\u200b1", "b - 1"),
        ("b\u00ad-1", "b - 1"),
        ("b-\u0661\u0662", "b - \u0661\u0662"),
        ("\u15f7\u2212\u2cd2", "\u15f7 \u2212 \u2cd2"),
        ("x\u207b\u00b9 b\u207b\u00b2", "x\u207b\u00b9 b\u207b\u00b2"),
        ("web-12 and sub_b-12", "web-12 and sub_b-12"),
        ("a*b - 12", "a*b - 12"),
        ("\u2014b-12", "\u2014b - 12"),
        ("\u33c2b-12", "\u33c2b - 12"),
    ],
)
def test_what_looks_like_an_id_is_broken_visibly(text: str, made: str) -> None:
    assert neutral.content(text) == made


@pytest.mark.parametrize(
    "text",
    [
        "Use get_price(day=5) before x < 5, x <= 5 or x << 2; a - b > 0 and f(b) -> 12.",
        "Round at the end:\n    total = sum(xs)\n      if total > 3:\n    return total",
        "Überprüfe die Größe — «точно» und 日本語も。",
        "हिन्दी में लिखें",
        "1. first; 2. second",
        "- a list\n    - of lines",
    ],
)
def test_a_harmless_lesson_is_left_as_it_is(text: str) -> None:
    assert neutral.content(text) == text


def test_code_keeps_its_indentation_among_its_lines() -> None:
    made = neutral.content("Do:\n  for x in xs:\n\n    print(x)\n")
    assert made == "Do:\n    for x in xs:\n      print(x)"


def test_a_megabyte_ends_in_a_mark_that_says_how_long_it_was() -> None:
    made = neutral.content("word " * 200_000)
    assert len(made) <= MAX_CONTENT_CHARACTERS
    assert made.endswith("[... 999999 characters, cut here]")


def test_variation_selectors_go() -> None:
    assert neutral.content("x\ufe0f\U000e0141y\u180b\u034f") == "xy"


def test_marks_do_not_pile_up() -> None:
    assert neutral.content("Z" + "\u0335" * 500) == "Z" + "\u0335" * 4


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("## OTHERS", "OTHERS"),
        ("ＯＴＨＥＲＳ", "OTHERS"),
        ("O\u0422HER\u0405", "OTHERS"),
        ("Общее", "Общее"),
        ("Größe & Maß", "Größe & Maß"),
        ("a\n[b-9] x", "a b - 9 x"),
        ("हिन्दी", "हिन्दी"),
        ("\u200b \u202e", ""),
    ],
)
def test_a_section_s_name(text: str, name: str) -> None:
    assert neutral.section(text) == name


def test_imitating_letters_are_named() -> None:
    assert imitates("ь-12") == "U+044C"
    assert imitates("b-12") == ""


@settings(max_examples=30)
@given(st.text(min_size=1))
def test_a_skeleton_is_as_long_as_its_text(text: str) -> None:
    assert len(skeleton(text)) == len(text)


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("\x1b[31mred\x1b[0m \x1b]0;title\x07end", "red end"),
        ("\x1b[38;5;196mred\x1b[m", "red"),
        ("a\x1b]8;;https://example.org\x1b\\link\x1b]8;;\x1b\\ b", "alink b"),
        ("\x1bPq#0\x1b\\x \x9b1mbold\x9b0m \x9d0;t\x9cend", "x bold end"),
        ("\x1b(Bplain\x1b[K\x1b[?25l\x1b=", "plain"),
        ("a title without an end: \x1b]0;keep this\nand this", "a title without an end: keep this\n    and this"),
        ("\x1b\x1b[31mred", "red"),
        ("index[31m], x[0m", "index[31m], x[0m"),
        ("â\x80\x9csaidâ\x80\x9d and â\x80\x9cdoneâ\x80\x9d", "âsaidâ and âdoneâ"),
    ],
)
def test_orders_to_a_terminal_go_whole(text: str, made: str) -> None:
    assert neutral.content(text) == made


@given(
    st.lists(st.sampled_from(["\x1b", "[", "]", "0;", "31m", "P", "\\", "\x07", "\x9b", "\x9d", "\x9c", "\n", "b-1"]))
)
def test_content_of_broken_orders_twice_is_content_once(parts: list[str]) -> None:
    once = neutral.content("".join(parts))
    assert neutral.content(once) == once
    assert not re.search(neutral.ID, once)
