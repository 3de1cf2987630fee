"""Numbers as people write them, and answers judged by hand: right or wrong, and what the release would say."""

from __future__ import annotations

import os
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.envs.finance.amounts import equal, parse_number
from potstill.envs.finance.answers import MOST_CHARACTERS, answer_text, number_in, parts_of
from potstill.envs.finance.grading import Grader, grade, tag

TENTH_PERCENT = Fraction(1, 1000)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("15", 15),
        ("15.00", 15),
        ("1,234.5", Fraction(2469, 2)),
        ("1,234,567", 1234567),
        (".5", Fraction(1, 2)),
        ("5.", 5),
        ("$15", 15),
        ("US$ 15", 15),
        ("15 USD", 15),
        ("15 dollars", 15),
        ("€2.5", Fraction(5, 2)),
        ("-3.2", Fraction(-16, 5)),
        ("\u22123.2", Fraction(-16, 5)),
        ("(3.2)", Fraction(-16, 5)),
        ("($3.2)", Fraction(-16, 5)),
        ("$(3.2)", Fraction(-16, 5)),
        ("-$3.2", Fraction(-16, 5)),
        ("$-3.2", Fraction(-16, 5)),
        ("$5 million", 5_000_000),
        ("5.2mn", 5_200_000),
        ("5.2M", 5_200_000),
        ("3 bn", 3_000_000_000),
        ("3 billion dollars", 3_000_000_000),
        ("12k", 12_000),
        ("(1.5 million)", -1_500_000),
        ("(1.5) million", -1_500_000),
        ("1.2e3", 1200),
        ("1.2E-1", Fraction(3, 25)),
        ("1/3", Fraction(1, 3)),
        ("-1/4", Fraction(-1, 4)),
        ("2.3x", Fraction(23, 10)),
        ("12 times", 12),
        ("**15.0**.", 15),
        ("`15.0`", 15),
        ("\\boxed{15.0}", 15),
        ("$15.0$", 15),
        ("\\$15.0", 15),
        ("1\u00a0000", None),
    ],
)
def test_a_number_is_read_as_it_is_meant(text: str, value: object) -> None:
    number = parse_number(text)
    assert (None if number is None else number.value) == value


@pytest.mark.parametrize("text", ["15%", "15.0 %", "15 percent", "15 per cent", "15pct"])
def test_percent_is_kept_apart(text: str) -> None:
    number = parse_number(text)
    assert number is not None
    assert (number.value, number.percent) == (15, True)


NEITHER = ("", "x", "1,2", "12,34", "1,234,5", "-(3)", "(3", "3)", "--3", "5% million", "$5%", "5 million billion")
NOT_ONE = ("1/0", "0x1f", "1 2", "1.2.3", "1_000", "nan", "inf", "٣", "1e999", "9" * 60, "5 m²", "1+1", "3 apples")


@pytest.mark.parametrize("text", [*NEITHER, *NOT_ONE, "__import__('os')"])
def test_what_is_no_number_or_could_be_two_is_none(text: str) -> None:
    assert parse_number(text) is None


TABLE = [  # answer, label, right, right to the release
    ("15.0", "15.0", True, True),
    ("15", "15.0", True, True),
    ("15.00%", "15.0", True, False),  # the percent sign is a unit, not another number
    ("15%", "0.15", True, False),
    ("0.15", "15%", True, False),
    ("0.15", "15.0", False, False),  # neither has a sign: a hundredth is wrong
    ("15%", "15%", True, True),
    ("0.15%", "15%", False, False),
    ("$15", "15.0", True, False),
    ("1,234.5", "1234.5", True, True),
    ("(3.2)", "-3.2", True, False),
    ("3.2", "-3.2", False, False),
    ("5 million", "5000000.0", True, False),
    ("5", "5000000.0", False, False),
    ("1/3", "0.33", True, False),  # 0.0033 off, half of a hundredth is allowed
    ("0.333", "0.33", True, False),
    ("0.333", "1/3", True, False),  # a thousandth of a third off, exactly
    ("0.332", "1/3", False, False),
    ("0.34", "0.33", False, False),
    ("0.335", "0.33", True, False),
    ("14.985", "15.0", True, False),  # a thousandth of 15 is 0.015
    ("14.984", "15.0", False, False),
    ("0.004", "0", True, False),  # 0.00 to two digits
    ("0.006", "0", False, False),
    ("1000.9", "1000", True, False),
    ("1001.1", "1000", False, False),
    ("The margin is 15.0.", "15.0", True, False),
    ("In 2019 it was 15.0", "15.0", False, False),  # two numbers: nobody knows which one is meant
    ("nan", "15.0", False, False),
    ("", "15.0", False, False),
    ("InterestExpense,Goodwill", "InterestExpense,Goodwill", True, True),
    ("interestexpense, goodwill", "InterestExpense,Goodwill", True, True),
    ("1. InterestExpense\n2. Goodwill", "InterestExpense,Goodwill", True, False),
    ("us-gaap:InterestExpense; `Goodwill`", "InterestExpense,Goodwill", True, False),
    ('["InterestExpense", "Goodwill"]', "InterestExpense,Goodwill", True, False),
    ("Goodwill,InterestExpense", "InterestExpense,Goodwill", False, False),  # the order is asked for
    ("InterestExpense", "InterestExpense,Goodwill", False, False),
    ("InterestExpense,Goodwill,Revenues", "InterestExpense,Goodwill", False, True),  # the release cuts what is too much
    ("Revenues", "Revenues", True, True),
    ("2.0,$3", "2,3", True, True),
    ("66.7%, 0.5", "0.667,0.5", True, False),
]


@pytest.mark.parametrize(("answer", "label", "tolerant", "exact"), TABLE)
def test_the_table_worked_by_hand(answer: str, label: str, tolerant: bool, exact: bool) -> None:
    assert grade(answer, label).success is tolerant
    assert grade(answer, label, Grader.EXACT).success is exact


def test_a_list_scores_the_share_of_its_tags() -> None:
    label = "InterestExpense,Goodwill,Revenues,DebtInstrumentFaceAmount"
    graded = grade("InterestExpense, Goodwill, LeaseCost, DebtInstrumentFaceAmount", label)
    assert (graded.score, graded.success, graded.right) == (0.75, False, (True, True, False, True))
    assert grade("InterestExpense", label).score == 0.25
    assert grade(label + ",More", label)[1:] == (1,)
    assert not grade(label + ",More", label).success
    assert grade(label, label).success


def test_a_tolerance_of_nothing_still_grants_the_labels_own_rounding() -> None:
    nothing = Fraction(0)
    assert grade("0.333", "0.33", tolerance=nothing).success
    assert not grade("15.01", "15.0", tolerance=nothing).success


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ('{"reasoning": "r", "bullet_ids": [], "final_answer": "0.15"}', "0.15"),
        ('```json\n{"final_answer": 15.5}\n```', "15.5"),
        ('Well: {"answer": ["A", "B"]} is it', "A,B"),
        ("I divide.\nAnswer: 4\nNo.\n**Final answer:** $5", "$5"),
        ("The answer is 7", "7"),
        ("7", "7"),
        ("A\nB", "A\nB"),
        ('{"reasoning": "cut off", "final_answer": "15', '"15'),
        ('{"final_answer": {"deep": 1}}', '{"deep": 1}}'),
        ('{"final_answer": true}', "true}"),
        ("", ""),
    ],
)
def test_the_answer_is_found_in_what_was_said(said: str, answer: str) -> None:
    assert answer_text(said) == answer


def test_reasoning_with_commas_before_a_list_does_not_spoil_it() -> None:
    said = "First, it is interest, then, it is goodwill.\nInterestExpense, Goodwill"
    assert parts_of(said, 2) == ["InterestExpense", "Goodwill"]


def test_a_number_behind_an_equals_sign() -> None:
    number = number_in("We divide.\n30 / 200 = 15%")
    assert number is not None
    assert (number.value, number.percent) == (15, True)


def test_nothing_that_a_model_wrote_is_evaluated(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    evil = "__import__('os').system('touch made')"
    for label in ("15.0", "1,2", "InterestExpense,Goodwill"):
        for grader in Grader:
            assert not grade(f"{evil},{evil}", label, grader).success
    assert not os.listdir(tmp_path)


@given(st.text(max_size=60) | st.from_regex(r"[-+($€.,0-9 %/kmbe)]{1,30}", fullmatch=True))
def test_no_text_makes_it_raise(text: str) -> None:
    parse_number(text)
    for label in ("15.0", "A,B", "1,234"):
        for grader in Grader:
            assert 0 <= grade(answer_text(text), label, grader).score <= 1


@pytest.mark.parametrize("piece", ["(", " ", "-", "$", "1,", "```a\n", "{", "answer:", "**", "\\boxed{", "1/", "%"])
def test_a_long_answer_is_read_in_no_time(piece: str) -> None:
    text = piece * MOST_CHARACTERS
    for label in ("15.0", "A,B,C,D"):
        assert not grade(answer_text(text), label).success


amounts = st.decimals(min_value=-(10**9), max_value=10**9, places=2, allow_nan=False)


@given(amounts)
def test_every_way_to_write_an_amount_is_the_same_number(amount) -> None:
    size = f"{abs(amount):,.2f}"
    ways = [f"{amount:.2f}", f"{amount:,.2f}", f"(${size})" if amount < 0 else f"${size}", f"{amount:.2f} USD"]
    ways.append(f"({size})" if amount < 0 else f"+{size}")
    values = {parse_number(way).value for way in ways}
    assert values == {Fraction(amount)}


@given(amounts.filter(lambda amount: amount != 0), st.sampled_from(["thousand", "million", "bn"]))
def test_scale_words_multiply(amount, word: str) -> None:
    power = {"thousand": 3, "million": 6, "bn": 9}[word]
    assert parse_number(f"{amount:.2f} {word}").value == Fraction(amount) * 10**power


@given(amounts, st.integers(min_value=-2000, max_value=2000))
def test_the_tolerance_is_where_it_says(amount, thousandths_of_a_percent: int) -> None:
    label = parse_number(f"{amount:.2f}")
    moved = Fraction(amount) * (1 + Fraction(thousandths_of_a_percent, 1_000_000))
    answer = label._replace(value=moved)
    allowed = max(abs(Fraction(amount)) / 1000, Fraction(1, 200))
    assert equal(answer, label, TENTH_PERCENT) is (abs(moved - Fraction(amount)) <= allowed)


@given(st.lists(st.sampled_from(["InterestExpense", "Goodwill", "Revenues", "LeaseCost"]), min_size=2, max_size=6))
def test_a_list_is_right_to_itself_however_it_is_laid_out(tags: list[str]) -> None:
    label = ",".join(tags)
    numbered = "\n".join(f"{place}. {name}" for place, name in enumerate(tags, start=1))
    for answer in (label, ", ".join(tags), "; ".join(tags), "\n".join(tags), numbered, label.upper()):
        assert grade(answer, label).success
    assert {tag(name) for name in tags} == {name.lower() for name in tags}
