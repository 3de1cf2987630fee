"""The generic format: what is written reads back, and what is odd is told with its column."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.logs.formats.base import Skipped
from potstill.logs.formats.generic import GENERIC
from potstill.logs.reader import read
from potstill.logs.records import Attempt, Source

HERE = Source("f.jsonl", 7)


def one(**row: Any) -> Attempt:
    (found,) = GENERIC.records(json.dumps({"task_id": "t", "model": "m", **row}).encode(), HERE, {})
    assert isinstance(found, Attempt)
    return found


words = st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda text: not text.isspace())
amounts = st.floats(0, 1e9)
counts = st.integers(0, 10**9)


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


rows = st.fixed_dictionaries(
    {"task_id": words, "model": words},
    optional={
        "run": words,
        "episode_id": optional(words),
        "sample": optional(counts),
        "step": optional(counts),
        "answer": optional(st.text(st.characters(codec="utf-8"))),
        "success": optional(st.booleans()),
        "cost_usd": optional(amounts),
        "output_tokens": optional(counts),
        "latency_s": optional(amounts),
        "started_at": optional(st.floats(0, 9e10)),
        "step_type": optional(words),
        "harness": optional(words),
        "user_model": optional(words),
    },
)


@given(rows)
def test_a_written_row_reads_back(row: dict[str, Any]) -> None:
    (found,) = GENERIC.records(json.dumps(row).encode(), HERE, {})
    assert {name: getattr(found, name) for name in row} == row
    assert found.problems == ()
    assert found.source == HERE


@given(rows)
def test_the_patient_way_gives_what_the_swift_one_gives(row: dict[str, Any]) -> None:
    """A feature as text sends a row down the slow path; nothing else may change."""
    (swift,) = GENERIC.records(json.dumps({**row, "similarity": 1.0}).encode(), HERE, {})
    (patient,) = GENERIC.records(json.dumps({**row, "similarity": "1.0"}).encode(), HERE, {})
    assert swift == patient


table_words = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1).filter(
    lambda text: text == text.strip() and text.lower() not in {"none", "null"} and text
)
table_rows = st.fixed_dictionaries(
    {
        "task_id": table_words,
        "model": table_words,
        "answer": st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])),
        "success": st.booleans(),
        "cost_usd": optional(amounts),
        "input_tokens": optional(counts),
    }
)


@given(written=st.lists(table_rows, min_size=1, max_size=5), mark=st.sampled_from(",;\t"))
def test_a_written_table_reads_back(tmp_path_factory: pytest.TempPathFactory, written: list[Any], mark: str) -> None:
    path = tmp_path_factory.mktemp("table") / "a.csv"
    text = io.StringIO()
    writer = csv.DictWriter(text, list(written[0]), delimiter=mark)
    writer.writeheader()
    writer.writerows(written)
    path.write_text(text.getvalue(), encoding="utf-8", newline="")
    found = list(read([path]))
    assert [{name: getattr(each, name) for name in written[0]} for each in found] == written


@pytest.mark.parametrize(
    ("value", "success"),
    [
        (True, True),
        (1, True),
        (0, False),
        ("true", True),
        ("False", False),
        ("yes", True),
        ("no", False),
        (1.0, True),
        (2.5, True),
        (-0.5, False),
        ("", None),
        (None, None),
    ],
)
def test_spellings_of_success(value: Any, success: bool | None) -> None:
    found = one(success=value)
    assert (found.success, found.problems) == (success, ())


@pytest.mark.parametrize("value", [0.5, "0.5", "perhaps", [1]])
def test_a_score_in_between_is_no_known_outcome(value: Any) -> None:
    found = one(success=value)
    assert found.success is None
    assert [problem.kind for problem in found.problems] == ["bad_value"]


@pytest.mark.parametrize("value", [None, "", False, "false", "False", "none", "null", 0, "0", {}, []])
def test_no_error(value: Any) -> None:
    assert one(error=value).error is None


@pytest.mark.parametrize(
    ("value", "error"),
    [(True, "error"), ("true", "error"), ("timeout", "timeout"), ({"b": 1, "a": 2}, '{"a":2,"b":1}')],
)
def test_errors(value: Any, error: str) -> None:
    assert one(error=value).error == error


@pytest.mark.parametrize("column", ["cost_usd", "input_tokens", "cached_input_tokens", "output_tokens", "latency_s"])
@pytest.mark.parametrize(("value", "shown"), [(-1, "-1"), ("NaN", "NaN"), ("inf", "inf"), ("x", "x"), (True, "true")])
def test_bad_numbers_are_unknown_and_named(column: str, value: Any, shown: str) -> None:
    found = one(**{column: value})
    assert getattr(found, column) is None
    assert found.problems == (("bad_number", f"{column} is {shown}"),)


def test_half_a_token_is_a_bad_number() -> None:
    assert one(output_tokens=1.5).problems == (("bad_number", "output_tokens is 1.5"),)
    assert one(output_tokens=12.0).output_tokens == 12
    assert one(output_tokens="12").output_tokens == 12


def test_token_counts_that_contradict_each_other_are_all_unknown() -> None:
    found = one(input_tokens=10, cached_input_tokens=8, cache_write_tokens=3, output_tokens=5)
    assert (found.input_tokens, found.cached_input_tokens, found.cache_write_tokens, found.output_tokens) == (None,) * 4
    assert [problem.kind for problem in found.problems] == ["bad_usage"]


@pytest.mark.parametrize(
    "value", [1_700_000_000, 1_700_000_000_000, "1700000000", "2023-11-14T22:13:20Z", "2023-11-14T22:13:20"]
)
def test_times(value: Any) -> None:
    assert one(started_at=value).started_at == 1_700_000_000


def test_a_time_that_is_none() -> None:
    found = one(started_at="yesterday")
    assert (found.started_at, found.problems) == (None, (("bad_value", "started_at is yesterday"),))


@pytest.mark.parametrize(
    ("value", "answer"),
    [("", ""), (None, None), (5, "5"), (5.0, "5"), (True, "true"), ([2, {"b": 1, "a": 2}], '[2,{"a":2,"b":1}]')],
)
def test_answers_are_texts(value: Any, answer: str | None) -> None:
    assert one(answer=value).answer == answer


def test_numbers_as_names() -> None:
    found = one(task_id=7, model=3)
    assert (found.task_id, found.model) == ("7", "3")


def test_features() -> None:
    found = one(logprob_margin=-0.5, repeated=True, invalid="no", similarity=None)
    assert found.features == (("logprob_margin", -0.5), ("repeated", 1.0), ("invalid", 0.0))


@pytest.mark.parametrize("row", [{"model": "m"}, {"task_id": "", "model": "m"}, {"task_id": None, "model": "m"}])
def test_no_task(row: dict[str, Any]) -> None:
    with pytest.raises(Skipped, match="no task_id"):
        GENERIC.records(json.dumps(row).encode(), HERE, {})


def test_a_column_that_is_nearly_right_is_named() -> None:
    with pytest.raises(Skipped, match=r"'task_id', but 'task'"):
        GENERIC.records(b'{"task": "1", "model": "m"}', HERE, {})


def test_unknown_columns_are_listed_once(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"task_id": 1, "model": "m", "colour": 1}\n' * 3)
    reading = read([path])
    assert len(list(reading)) == 3
    (note,) = reading.files[0].notes
    assert "colour" in note


def test_an_empty_answer_in_a_table_is_an_answer(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("task_id,model,answer,cost_usd\n1,m,,\n")
    (found,) = read([path])
    assert isinstance(found, Attempt)
    assert (found.answer, found.cost_usd) == ("", None)
