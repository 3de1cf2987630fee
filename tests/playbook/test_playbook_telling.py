"""What tells of somebody in fewer characters than a piece of a text has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.distill.playbook.telling import Telling, runs_shared

TEXT = "Customer Jane Roe, phone 555-0134, wants no calls. Write to jane.roe@example.org (order 4711)."


@pytest.mark.parametrize(
    ("text", "piece"),
    [
        ("Jane Roe (phone 555-0134) gets letters.", "5550134"),
        ("call (555) 0134", "5550134"),
        ("call 555 01 34", "5550134"),
        ("call +1 555-0134", "5550134"),
        ("extension 0134", "0134"),
        ("see order 4711", "4711"),
        ("see order 47112", ""),
        ("ask jane  ROE", "jane roe"),
        ("ask Roe, Jane", ""),
        ("mail Jane.Roe@Example.org", "jane roe"),
        ("mail jane_roe@example.org", "jane roe"),
        ("no calls, phone 55", ""),
        ("", ""),
    ],
)
def test_numbers_addresses_and_names_are_found(text: str, piece: str) -> None:
    assert Telling([TEXT]).piece(text) == piece


def test_an_address_is_found_without_a_name() -> None:
    telling = Telling(["write to x17@example.org today"])
    assert telling.piece("reach X17@EXAMPLE.ORG") == "x17 example org"
    assert telling.piece("example.org") == ""


def test_a_pair_that_many_texts_have_is_the_books_own_word() -> None:
    text = "Credit Card numbers are never said."
    kept = ["Ask for the Credit Card."] * 3
    assert Telling([text], kept).piece("credit card first") == "credit card"
    assert Telling([text], [*kept, "A credit card."]).piece("credit card first") == ""


def test_numbers_are_telling_however_often_they_stand() -> None:
    assert Telling(["call 555-0134"], ["call 555-0134"] * 9).piece("5550134") == "5550134"


def test_words_without_names_and_numbers_tell_nobody() -> None:
    telling = Telling(["open the fridge before you put things in it", "DO NOT RUN", "I am 12"])
    assert (bool(telling), telling.piece("do not run, open the fridge before")) == (False, "")


def test_runs_of_four_words_are_shared_unless_many_texts_have_them() -> None:
    text = "She wants no telephone calls before noon."
    kept = [("b-1", "He wants no telephone calls."), ("b-2", "no calls before noon"), ("b-3", "wants no telephone")]
    assert runs_shared([text], kept) == ("b-1",)
    assert runs_shared([text], [(f"b-{n}", "She wants no telephone calls") for n in range(4)]) == ()
    assert runs_shared([], kept) == ()


@given(st.integers(10**5, 10**12), st.text("abc .,;\n", max_size=20), st.text("abc .,;\n", max_size=20))
def test_a_long_number_is_found_wherever_it_stands(number: int, before: str, after: str) -> None:
    spelt = str(number)
    telling = Telling([f"number {spelt}."])
    assert telling.piece(f"{before}x{spelt}x{after}")
    assert telling.piece(f"{before}x{spelt[:3]}-{spelt[3:]}x{after}")
