"""Inputs that are damaged where it is easily missed: what is lost is told, and the rest is read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.errors import ConfigError
from potstill.logs.reader import Reading, read
from potstill.logs.records import Attempt, LogCall

HEAD = "task_id,model,success,answer\n"


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "a.csv"
    path.write_text(text)
    return path


def done(path: Path) -> tuple[list[Any], Reading]:
    reading = read([path])
    return list(reading), reading


def skipped(reading: Reading) -> dict[str, tuple[int, tuple[int, ...]]]:
    return {skip.reason: (skip.count, skip.lines) for skip in reading.files[0].skipped}


@pytest.mark.parametrize(
    "behind",
    ["t{},m,true,ok\n", 't{},m,true,"ok"\n', 't{},m,true,""\n', 't{},m,true,"two\nlines"\n'],
    ids=["no quotes", "quoted cells", "empty quoted cells", "cells of several lines"],
)
def test_a_quote_that_is_never_closed_costs_one_row(tmp_path: Path, behind: str) -> None:
    rows = [behind.format(number) for number in range(400)]
    rows[7] = 't7,m,true,"cut\n'
    records, reading = done(table(tmp_path, HEAD + "".join(rows)))
    assert [record.task_id for record in records] == [f"t{number}" for number in range(400) if number != 7]
    line = 2 + "".join(rows[:7]).count("\n")
    assert skipped(reading) == {"quote never closed": (1, (line,))}


def test_it_is_found_behind_a_cell_of_several_lines(tmp_path: Path) -> None:
    text = HEAD + 't0,m,true,"a\nb"\n' + 't1,"m\nn",true,"cut\n' + "t2,m,true,ok\n" * 50
    records, reading = done(table(tmp_path, text))
    assert [record.task_id for record in records] == ["t0", *["t2"] * 50]
    assert skipped(reading) == {"quote never closed": (1, (4,))}


def test_an_unclosed_quote_in_the_last_row_is_no_record(tmp_path: Path) -> None:
    records, reading = done(table(tmp_path, HEAD + 't0,m,true,ok\nt1,"m,true,ok\n'))
    assert len(records) == 1
    assert skipped(reading) == {"quote never closed": (1, (3,))}


def test_long_cells_and_sloppy_quotes_are_no_trouble(tmp_path: Path) -> None:
    patch = "\n".join(f"+ line {number}" for number in range(3000))
    records, reading = done(table(tmp_path, HEAD + f't0,m,true,"{patch}"\nt1,m,true,"a" b\nt2,m,true,a "b"\n'))
    assert [record.answer for record in records] == [patch, "a b", 'a "b"']
    assert skipped(reading) == {}


@settings(max_examples=60, deadline=None)
@given(
    answers=st.lists(st.text('ab",\n;', max_size=12), min_size=1, max_size=12),
    cut=st.integers(0, 11),
)
def test_rows_before_an_open_quote_are_all_read(
    tmp_path_factory: pytest.TempPathFactory, answers: list[str], cut: int
) -> None:
    quoted = ['t{},m,true,"{}"\n'.format(number, text.replace('"', '""')) for number, text in enumerate(answers)]
    cut = min(cut, len(quoted))
    path = table(tmp_path_factory.mktemp("t"), HEAD + "".join(quoted[:cut]) + 'lost,m,true,"cut\n' + "last,m,true,ok\n")
    records, reading = done(path)
    tasks = [record.task_id for record in records]
    assert tasks == [*(f"t{number}" for number in range(cut)), "last"]
    assert skipped(reading)["quote never closed"][0] == 1


ABSURD = [
    ({"cost_usd": 1e308}, "cost_usd"),
    ({"cost_usd": 1.1e9}, "cost_usd"),
    ({"input_tokens": 10**12 + 1}, "input_tokens"),
    ({"output_tokens": 10**18}, "output_tokens"),
    ({"latency_s": 2e9}, "latency_s"),
    ({"started_at": 1e25}, "started_at"),
]


@pytest.mark.parametrize(("fields", "name"), ABSURD)
def test_numbers_beyond_any_are_unknown_and_told(tmp_path: Path, fields: dict[str, Any], name: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"task_id": "t", "model": "m", **fields}) + "\n")
    ((record,), _) = done(path)
    assert getattr(record, name) is None
    assert [problem.detail.split()[0] for problem in record.problems] == [name]


def _completion(**usage: int) -> dict[str, Any]:
    return {
        "request": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
        "response": {
            "model": "m",
            "choices": [{"message": {"role": "assistant", "content": "ho"}}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 5, **usage},
        },
    }


def test_absurd_numbers_of_a_call(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [_completion(prompt_tokens=10**15), _completion() | {"cost_usd": 1e300}, _completion() | {"latency_s": 1e10}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    records, _ = done(path)
    assert [record.usage is None for record in records] == [True, False, False]
    assert [record.cost_usd for record in records] == [None, None, None]
    assert [record.latency_s for record in records] == [None, None, None]
    assert [[problem.kind for problem in record.problems] for record in records] == [["bad_number"]] * 3


def test_absurd_numbers_of_an_episode(tmp_path: Path) -> None:
    said = {"role": "assistant", "content": "ho", "usage": {"in": 10**13, "out": 1}, "cost": 1e12}
    row = {"task_id": 1, "agent_model": "m", "reward": 1.0, "messages": [{"role": "user", "content": "hi"}, said]}
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row) + "\n")
    ((record,), _) = done(path)
    assert isinstance(record, Attempt)
    assert (record.input_tokens, record.cost_usd) == (None, None)
    assert {problem.kind for problem in record.problems} == {"bad_number"}


@pytest.mark.parametrize("model", [["x"], {"a": 1}, True])
def test_a_model_that_is_no_text(tmp_path: Path, model: Any) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"task_id": "t", "model": "m"}, {"task_id": "t", "model": model}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    records, reading = done(path)
    assert len(records) == 1
    assert skipped(reading) == {"no model": (1, (2,))}


def test_a_small_gzip_file_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps({"task_id": "t", "model": "m", "answer": "cut"}).encode())[:40])
    with pytest.raises(ConfigError, match="cut off or damaged before its first row is complete"):
        done(path)


def _span(number: int) -> dict[str, Any]:
    told = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}
    attributes = [{"key": key, "value": {"stringValue": value}} for key, value in told.items()]
    return {"traceId": "a" * 32, "spanId": f"{number:016x}", "attributes": attributes, "status": {}}


def _export() -> str:
    def resource(service: str, *groups: list[dict[str, Any]]) -> dict[str, Any]:
        name = [{"key": "service.name", "value": {"stringValue": service}}]
        return {"resource": {"attributes": name}, "scopeSpans": [{"scope": {}, "spans": spans} for spans in groups]}

    first = resource("one", [_span(1), _span(2)])
    return json.dumps({"resourceSpans": [first, resource("two", [_span(3)], [_span(4), _span(5), _span(6)])]}, indent=1)


def test_spans_before_the_cut_of_an_export(tmp_path: Path) -> None:
    whole = _export()
    path = tmp_path / "a.json"
    for cut in range(300, len(whole) - 1, 37):
        path.write_text(whole[:cut])
        ids = [f"{number:016x}" for number in range(1, 7)]
        ends = [whole.index('"status": {}', whole.index(identity)) for identity in ids]
        ends = [whole.index("}", end + len('"status": {}')) + 1 for end in ends]
        before = [identity for identity, end in zip(ids, ends, strict=True) if end <= cut]
        if not before:
            with pytest.raises(ConfigError, match="cut off or damaged before its first row is complete"):
                done(path)
            continue
        records, reading = done(path)
        assert all(isinstance(record, LogCall) for record in records)
        assert [record.call_id for record in records] == before
        assert [record.run for record in records] == ["one", "one", "two", "two", "two", "two"][: len(before)]
        (skip,) = reading.files[0].skipped
        assert skip.reason == "document cut off or damaged"
        assert skip.detail.removesuffix("; what stands whole before that is read") == "parse error: premature EOF"


def test_a_text_file_with_carriage_returns_in_its_first_line_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "terminal.log"
    path.write_bytes(b"10 %\r20 %\r100 %, done\nnext line\n")
    with pytest.raises(ConfigError, match="neither JSON nor CSV"):
        done(path)
