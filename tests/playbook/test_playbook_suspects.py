"""A look at many texts at once finds what a look at each of them finds."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.distill.playbook.traces import traces

WORDS = st.sampled_from(
    ["call", "the", "Bank", "first", "trace-7", "é", "a", "of", "\\n", "&amp;", "7", "--", "x" * 45]
)
TEXTS = st.lists(WORDS, max_size=14).map(" ".join)
GLUE = st.sampled_from([" ", "  ", "\n", '", "', "_"])


@settings(deadline=None)
@given(
    st.lists(TEXTS, min_size=1, max_size=4),
    st.lists(st.tuples(TEXTS, GLUE, TEXTS), min_size=1, max_size=12),
    st.sampled_from([8, 16, 17, 21, 40]),
    st.data(),
)
def test_what_is_found_among_many_is_what_is_found_alone(texts, rest, fragment, data) -> None:
    held = [data.draw(st.sampled_from(texts)) if data.draw(st.booleans()) else "" for _ in rest]
    parts = [f"{a}{glue}{text}{glue}{b}" for (a, glue, b), text in zip(rest, held, strict=True)]
    haystack = [(f"row {number}", parts[number % len(parts)]) for number in range(40 + len(parts))]
    alone = [trace for one in haystack for trace in traces(texts, "trace-7", [one], fragment=fragment)]
    assert list(traces(texts, "trace-7", haystack, fragment=fragment)) == alone


def test_a_source_and_a_piece_are_found_in_one_row_of_three_thousand() -> None:
    lesson = "Ask the customer for the number of the order before you look for it anywhere."
    rows = [(f"row {number}", f"nothing of interest stands in row {number} of this book") for number in range(3000)]
    rows[1500] = ("row 1500", '{"content":"... NUMBER of the order, before you look for it ..."}')
    rows[2900] = ("row 2900", '["trace-8"]')
    assert [(trace.place, trace.kind.value) for trace in traces([lesson], "trace-8", rows)] == [
        ("row 1500", "fragment"),
        ("row 2900", "source"),
    ]


def test_rows_of_any_length_are_looked_at() -> None:
    lesson = "Ask the customer for the number of the order before you look for it anywhere."
    long, name = "a word and another " * 60_000, "trace-8 "
    rows = [(f"row {number}", long if number % 50 == 49 else f"{number}") for number in range(120)]
    rows[60], rows[100] = ("row 60", name + lesson), ("row 100", long + lesson)
    assert [(trace.place, trace.kind.value) for trace in traces([lesson], "trace-8", rows)] == [
        ("row 60", "source"),
        ("row 60", "text"),
        ("row 100", "text"),
    ]
