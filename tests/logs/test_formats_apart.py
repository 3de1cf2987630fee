"""No format takes another's rows, none takes what is no log, and none breaks at whatever stands in a row."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.logs import reader
from potstill.logs.formats.base import Skipped
from potstill.logs.formats.registry import formats
from potstill.logs.records import PROBLEMS, LogCall, Record, Source

SAMPLES = Path(__file__).parent / "samples"
EXPECTED = {
    "anthropic.jsonl": "anthropic",
    "anthropic_batch.jsonl": "anthropic",
    "astropy__astropy-12907.traj.json": "swe-agent",
    "django__django-11099.traj": "swe-agent",
    "inspect_ai.json": "inspect-ai",
    "langfuse_blob.jsonl": "langfuse",
    "langfuse_observations.json": "langfuse",
    "langfuse_trace.json": "langfuse",
    "litellm.json": "litellm",
    "openai_batch_input.jsonl": "openai-chat",
    "openai_batch_output.jsonl": "openai-chat",
    "openai_chat.jsonl": "openai-chat",
    "openai_responses.jsonl": "openai-responses",
    "otel.json": "otel",
    "otel_older.jsonl": "otel",
    "otel_spans.jsonl": "otel",
}


def rows(name: str) -> list[dict[str, Any]]:
    """The rows of a sample, and those that stand in the arrays of a whole document."""
    text = (SAMPLES / name).read_text()
    if name.endswith("l"):
        return [json.loads(line) for line in text.splitlines()]
    document = json.loads(text)
    if isinstance(document, list):
        return list(document)
    known = next(known for known in formats() if known.name == EXPECTED[name])
    inner = [document[path] for path in known.arrays if isinstance(document.get(path), list)]
    return [row for group in inner for row in group] + ([document] if known.fits(document) else [])


ROWS = [(name, row) for name in EXPECTED for row in rows(name)]


def test_every_sample_is_expected_and_has_rows() -> None:
    assert {name for name, _ in ROWS} == set(EXPECTED) == {path.name for path in SAMPLES.iterdir()}


@pytest.mark.parametrize(("name", "row"), ROWS, ids=[f"{name}-{index}" for index, (name, _) in enumerate(ROWS)])
def test_the_first_format_that_fits_a_row_is_its_own(name: str, row: dict[str, Any]) -> None:
    fitting = [known.name for known in formats() if known.fits(row)]
    assert fitting[0] == EXPECTED[name]
    stolen = set(fitting[1:]) - {"openai-chat", "anthropic", "openai-responses"}
    assert not stolen, "only the shapes that any proxy may write are left to the order of the registry"


@pytest.mark.parametrize(
    ("name", "rows_of_file", "understood", "reasons"),
    [
        ("anthropic.jsonl", 3, 3, []),
        ("anthropic_batch.jsonl", 3, 1, ["failed, and no model is named"]),
        ("django__django-11099.traj", 1, 1, []),
        ("inspect_ai.json", 3, 3, []),
        ("langfuse_observations.json", 4, 3, ["not a generation"]),
        ("langfuse_trace.json", 1, 1, []),
        (
            "litellm.json",
            5,
            3,
            ["answered out of LiteLLM's own cache: nothing was billed", "not a call of a chat model"],
        ),
        ("openai_batch_input.jsonl", 1, 0, ["a batch's request, without its answer"]),
        ("openai_chat.jsonl", 3, 3, []),
        ("otel.json", 1, 1, []),
        ("otel_older.jsonl", 4, 3, ["no span is a call of a model"]),
    ],
)
def test_whole_files_are_read_and_tell_what_was_skipped(
    name: str, rows_of_file: int, understood: int, reasons: list[str]
) -> None:
    reading = reader.read([SAMPLES / name])
    assert all(reading)
    (report,) = reading.files
    assert (report.format, report.rows, report.understood) == (EXPECTED[name], rows_of_file, understood)
    assert [skipped.reason for skipped in report.skipped] == reasons


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=8), json_values))
def test_what_is_no_log_fits_nothing(row: dict[str, Any]) -> None:
    assert [known.name for known in formats() if known.fits(row)] == []


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
        {"prompt": "a", "completion": "b"},
        {"instruction": "a", "input": "b", "output": "c"},
        {"id": 1, "type": "click", "timestamp": "2026-01-01", "message": "error"},
        {"level": "info", "msg": "started", "request": {"method": "GET"}, "response": {"status": 200}},
        {"task": "a", "result": {"score": 1}},
    ],
)
def test_training_data_and_other_logs_fit_nothing(row: dict[str, Any]) -> None:
    assert [known.name for known in formats() if known.fits(row)] == []


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where every part of a value stands."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(path for key, inner in pairs for path in paths(inner, (*at, key)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    changed = dict(value) if isinstance(value, dict) else list(value)
    changed[path[0]] = replaced(value[path[0]], path[1:], new)
    return changed


def checked(record: Record) -> None:
    calls = [record] if isinstance(record, LogCall) else record.calls
    for call in calls:
        assert call.model
        assert len(call.roles) == len(call.sizes) == len(call.prefixes)
        assert {problem.kind for problem in call.problems} <= set(PROBLEMS)
        for amount in (call.cost_usd, call.latency_s, call.started_at):
            assert amount is None or amount >= 0
        assert call.usage is None or call.usage.uncached_input_tokens >= 0


@settings(max_examples=400)
@given(st.data())
def test_a_row_in_which_anything_stands_anywhere_gives_records_or_a_reason(data: st.DataObject) -> None:
    _, row = data.draw(st.sampled_from(ROWS))
    for _ in range(data.draw(st.integers(1, 3))):
        row = replaced(row, data.draw(st.sampled_from(paths(row)[1:])), data.draw(json_values))
        if not isinstance(row, dict):
            return
    for known in formats():
        if known.fits(row):
            with contextlib.suppress(Skipped):
                for record in known.records(json.dumps(row).encode(), Source("log.jsonl", 1), {}):
                    checked(record)
            return
