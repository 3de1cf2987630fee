"""The reading frame: every kind of dirt is counted with its lines, and nothing ends in a stack trace."""

from __future__ import annotations

import gzip
import io
import json
import multiprocessing
import random
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill import zstandard
from potstill.errors import ConfigError, UnknownName
from potstill.logs import documents, reader
from potstill.logs.lines import numbered, pieces, split
from potstill.logs.pieces import Plan, read_range
from potstill.logs.reader import read
from potstill.logs.records import Attempt, LogCall
from potstill.logs.report import Tally


def zstd(data: bytes) -> bytes:
    packed = io.BytesIO()
    with zstandard.ZstdFile(packed, "w") as file:
        file.write(data)
    return packed.getvalue()


ROW = b'{"task_id": "1", "model": "m"}\n'


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def told(reading: reader.Reading) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Reason -> count and lines, of a reading of one file."""
    (file,) = reading.files
    assert file.rows == file.understood + sum(skipped.count for skipped in file.skipped)
    return {skipped.reason: (skipped.count, skipped.lines) for skipped in file.skipped}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b'{"task_id": "1", "mo\n', "not JSON"),
        (b"[1, 2]\n", "not an object"),
        (b'"text"\n', "not an object"),
        (b'{"model": "m"}\n', "no task_id"),
        (b'{"task_id": "1"}\n', "no model"),
        (b'{"task_id": "\xff", "model": "m"}\n', "not UTF-8"),
        (b'{"task_id": "1", "model": "m", "answer": ' + b"[" * 5000 + b"]" * 5000 + b"}\n", "nested too deeply"),
        (b"\x00\x01\x02\n", "not JSON"),
    ],
)
def test_a_bad_row_is_counted_with_its_line(tmp_path: Path, bad: bytes, reason: str) -> None:
    reading = read([put(tmp_path / "a.jsonl", ROW + b"\n" + bad + ROW + bad)])
    assert [record.source.line for record in reading] == [1, 4]
    assert told(reading) == {reason: (2, (3, 5))}


def test_a_line_that_was_cut_off(tmp_path: Path) -> None:
    reading = read([put(tmp_path / "a.jsonl", ROW + ROW[:-8])])
    assert len(list(reading)) == 1
    assert told(reading) == {"cut off": (1, (2,))}


def test_a_gigantic_line_is_passed_over(tmp_path: Path) -> None:
    giant = b'{"task_id": "' + b"x" * 5_000_000 + b'", "model": "m"}\n'
    reading = read([put(tmp_path / "a.jsonl", ROW + giant + ROW)], line_limit=1_000_000)
    assert [record.source.line for record in reading] == [1, 3]
    assert told(reading) == {"line too long": (1, (2,))}
    assert str(len(giant)) in reading.files[0].skipped[0].detail


def test_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    data = b"\xef\xbb\xbf" + ROW.replace(b"\n", b"\r\n") * 2
    for name in ("a.jsonl", "a.log"):
        assert len(list(read([put(tmp_path / name, data)]))) == 2
    table = b"\xef\xbb\xbftask_id,model\r\n1,m\r\n"
    assert len(list(read([put(tmp_path / "a.csv", table)]))) == 1


def test_nan_and_halves_of_characters_do_not_lose_a_row(tmp_path: Path) -> None:
    data = b'{"task_id": "1", "model": "m", "cost_usd": NaN}\n{"task_id": "2", "model": "m", "answer": "\\ud83d"}\n'
    data += b'{"task_id": "3", "model": "m", "cost_usd": 1e999}\n'
    first, second, third = read([put(tmp_path / "a.jsonl", data)])
    assert isinstance(first, Attempt)
    assert isinstance(second, Attempt)
    assert isinstance(third, Attempt)
    assert (first.cost_usd, first.problems) == (None, (("bad_number", "cost_usd is nan"),))
    assert second.answer == "\ufffd"
    assert third.problems == (("bad_number", "cost_usd is inf"),)


def test_only_the_first_lines_are_kept_and_all_are_counted(tmp_path: Path) -> None:
    reading = read([put(tmp_path / "a.jsonl", ROW + b"{}\n" * 50)])
    list(reading)
    assert told(reading) == {"no task_id": (50, tuple(range(2, 12)))}


def test_a_row_of_another_format_is_understood_and_counted(tmp_path: Path) -> None:
    episode = json.dumps(
        {"task_id": "0", "agent_model": "a", "messages": [], "reward": 0, "termination": "agent_error"}
    )
    reading = read([put(tmp_path / "a.jsonl", ROW + episode.encode() + b"\n" + ROW)])
    assert [record.model for record in reading] == ["m", "a", "m"]
    assert reading.files[0].format == "attempts"
    assert reading.files[0].mixed == {"tau2-episodes": 1}
    strict = read([tmp_path / "a.jsonl"], format="attempts")
    assert len(list(strict)) == 2
    assert told(strict) == {"no model": (1, (2,))}


@pytest.mark.parametrize(("suffix", "compress"), [("gz", gzip.compress), ("zst", zstd)])
def test_compressed(tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes]) -> None:
    assert len(list(read([put(tmp_path / f"a.jsonl.{suffix}", compress(ROW * 100))]))) == 100
    assert len(list(read([tmp_path]))) == 100, "found in a folder too"
    noise = random.Random(0)
    rows = b"".join(json.dumps({"task_id": noise.random(), "model": "m"}).encode() + b"\n" for _ in range(20_000))
    cut = read([put(tmp_path / f"b.jsonl.{suffix}", compress(rows)[:-2000])])
    assert 0 < len(list(cut)) < 20_000
    assert list(told(cut)) == ["file cut off or damaged"]


class _Stdin:
    def __init__(self, data: bytes) -> None:
        self.buffer = io.BufferedReader(io.BytesIO(data))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (ROW * 3, 3),
        (gzip.compress(ROW * 3, mtime=0), 3),
        (zstd(ROW * 3), 3),
        (b"task_id,model\n1,m\n", 1),
        (b'[{"task_id": 1,\n "model": "m"}]', 1),
        (ROW[:-1] + b"\n" + b"x" * 10, 1),
    ],
)
def test_standard_input(monkeypatch: pytest.MonkeyPatch, data: bytes, count: int) -> None:
    monkeypatch.setattr(sys, "stdin", _Stdin(data))
    assert len(list(read(["-"]))) == count


def test_a_large_document_on_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "SMALL_BYTES", 1000)
    monkeypatch.setattr(reader, "HEAD_BYTES", 100)
    monkeypatch.setattr(sys, "stdin", _Stdin(json.dumps([{"task_id": i, "model": "m"} for i in range(500)]).encode()))
    assert [record.task_id for record in read(["-"])] == [str(i) for i in range(500)]


def test_nothing_on_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", _Stdin(b""))
    with pytest.raises(ConfigError, match="standard input is empty"):
        list(read(["-"]))


def test_a_folder_is_walked(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    put(tmp_path / "a.jsonl", ROW)
    put(tmp_path / "deep" / "b.json", b"[" + ROW + b"]")
    put(tmp_path / "deep" / "settings.json", b'{"colour": "red"}')
    put(tmp_path / "notes.txt", b"nothing")
    reading = read([tmp_path])
    assert len(list(reading)) == 2
    assert [(Path(file.path).name, file.format) for file in reading.files] == [
        ("a.jsonl", "attempts"),
        ("b.json", "attempts"),
        ("settings.json", "unknown"),
    ]
    assert reading.files[2].skipped[0].reason == "no known format"


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no file .*nowhere"):
        read([tmp_path / "nowhere.jsonl"])
    with pytest.raises(ConfigError, match="has no logs"):
        read([tmp_path])
    with pytest.raises(ConfigError, match="Nothing to read"):
        read([])
    with pytest.raises(ConfigError, match=r"Nothing to read.*empty"):
        read([put(tmp_path / "a.jsonl", b" \n")])
    with pytest.raises(UnknownName, match="Did you mean 'attempts'"):
        read([put(tmp_path / "b.jsonl", ROW)], format="attempt")


def test_an_empty_file_among_others_is_reported(tmp_path: Path) -> None:
    reading = read([put(tmp_path / "a.jsonl", b""), put(tmp_path / "b.jsonl", ROW)])
    assert len(list(reading)) == 1
    assert [(file.format, file.rows) for file in reading.files] == [("empty", 0), ("attempts", 1)]


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.jsonl", b'{"task": "1", "model": "m"}\n', "name that column 'task_id'"),
        ("a.csv", b"taskid,model\n1,m\n", "name that column 'task_id'"),
        ("a.txt", b"hello\nworld\n", "neither JSON nor CSV"),
        ("a.zst", b"\x28\xb5\x2f\xfd1234", "cannot be read"),
        ("a.db", b"SQLite format 3\0", "SQLite"),
        ("a.csv", b"\xff\xfet\0a\0", "UTF-16"),
        ("a.json", b'{\n "colour": "red"\n}', "no format's rows"),
    ],
)
def test_an_unknown_format_says_what_to_type(tmp_path: Path, name: str, data: bytes, says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        list(read([put(tmp_path / name, data)]))
    assert says in str(raised.value)
    assert "--format NAME" in str(raised.value)
    assert "attempts" in str(raised.value)


# --- tables ---------------------------------------------------------------------------------------------------------


def test_a_dirty_table(tmp_path: Path) -> None:
    data = b'task_id,model,answer,cost_usd\n1,m,"a\nb",0.5\n\n2,m,x,1,9\n\xff,m,x,1\n3,m\n,m,x,1\n'
    reading = read([put(tmp_path / "a.csv", data)])
    found = list(reading)
    assert [(record.task_id, record.source.line) for record in found] == [("1", 2), ("3", 7)]
    assert told(reading) == {"too many cells": (1, (5,)), "not UTF-8": (1, (6,)), "no task_id": (1, (8,))}


# --- documents ------------------------------------------------------------------------------------------------------


def _tau2(count: int) -> dict[str, Any]:
    row = {"id": "s", "trial": 0, "reward_info": {"reward": 1.0}, "termination_reason": "user_stop", "messages": []}
    return {
        "simulations": [{**row, "task_id": str(i)} for i in range(count)],
        "tasks": [{"id": str(i)} for i in range(count)],
        "info": {"agent_info": {"llm": "gpt-x"}, "user_info": {"llm": "u"}},
    }


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("small", [10**9, 100])
def test_small_and_large_documents_read_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, indent: int | None, small: int
) -> None:
    """The head stands behind the rows here: it must be known all the same."""
    monkeypatch.setattr(documents, "SMALL_BYTES", small)
    path = put(tmp_path / "x.json", json.dumps(_tau2(300), indent=indent).encode())
    reading = read([path])
    found = list(reading)
    assert [record.task_id for record in found] == [str(i) for i in range(300)]
    assert [record.source.line for record in found] == list(range(1, 301))
    assert {record.model for record in found} == {"gpt-x"}
    assert (reading.files[0].format, reading.files[0].rows) == ("tau2-bench", 300)


def test_a_document_that_was_cut_off(tmp_path: Path) -> None:
    data = json.dumps([{"task_id": i, "model": "m"} for i in range(100)], indent=1).encode()
    reading = read([put(tmp_path / "a.json", data[: len(data) // 2])])
    count = len(list(reading))
    assert 40 < count < 60
    assert told(reading) == {"document cut off or damaged": (1, (count + 1,))}


def test_a_document_with_nan(tmp_path: Path) -> None:
    (found,) = read([put(tmp_path / "a.json", b'[{"task_id": 1, "model": "m", "cost_usd": NaN}]')])
    assert found.problems == (("bad_number", "cost_usd is nan"),)


def test_an_archive_that_is_none(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "whole.eval", "w") as opened:
        opened.writestr("samples/1.json", json.dumps({"task_id": "1", "model": "m"}))
    assert len(list(read([tmp_path / "whole.eval"]))) == 1
    broken = read([put(tmp_path / "a.eval", (tmp_path / "whole.eval").read_bytes()[:60])])
    assert list(broken) == []
    assert list(told(broken)) == ["document cut off or damaged"]


# --- pieces and processes -------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=40).filter(lambda line: b"\n" not in line), max_size=30), st.integers(1, 60))
def test_pieces_make_up_the_file(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], size: int) -> None:
    data = b"\n".join(lines)
    path = put(tmp_path_factory.mktemp("pieces") / "a", data)
    found = list(pieces(str(path), size))
    assert b"".join(data[piece.start : piece.stop] for piece in found) == data
    for piece in found:
        assert piece.start == 0 or data[piece.start - 1 : piece.start] == b"\n"
        assert piece.first_line == data[: piece.start].count(b"\n") + 1
    whole = [(number, line) for number, line in numbered(io.BytesIO(data))]
    parts = []
    for piece in found:
        parts += numbered(io.BytesIO(data[piece.start : piece.stop]), piece.first_line)
    assert parts == whole


def test_ranges_give_what_the_whole_gives(tmp_path: Path) -> None:
    path = put(tmp_path / "a.jsonl", b"\xef\xbb\xbf" + (ROW + b"{}\n\n") * 1000)
    tally = Tally()
    plan = Plan(path=str(path), format="attempts")
    parts = split(str(path), 7)
    assert len(parts) == 7
    found = [record for piece in parts for record in read_range(plan, piece, tally)]
    assert found == list(read([path]))
    assert tally.report(str(path), "attempts").skipped[0].lines[:3] == (2, 5, 8)


def _large(path: Path, rows: int = 600_000) -> Path:
    """100 bytes a row: attempts, a few episodes with calls, dirt."""
    episode = {
        "task_id": "e",
        "agent_model": "a",
        "reward": 1,
        "messages": [
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": "a", "usage": {"in": 5, "out": 2, "cached": 0}, "cost": 0.1},
        ],
    }
    with path.open("wb") as file:
        for number in range(rows):
            row: dict[str, Any] = {
                "task_id": number,
                "model": f"m{number % 3}",
                "answer": "x" * 50,
                "success": number % 2,
            }
            if number % 10_000 == 7:
                row = episode
            file.write(b"{broken\n" if number % 50_000 == 9 else json.dumps(row).encode() + b"\n")
    return path


@pytest.mark.slow
def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    path = _large(tmp_path / "a.jsonl")
    assert path.stat().st_size > reader.INLINE_BYTES
    seen: list[int] = []
    alone, together = read([path]), read([path], jobs=2, progress=seen.append)
    for one, other in zip(alone, together, strict=True):
        assert one == other
    assert alone.files == together.files
    assert isinstance(one, Attempt | LogCall)
    assert alone.files[0].mixed == {"tau2-episodes": 60}
    assert seen == sorted(seen)
    assert seen[-1] == together.total_bytes


@pytest.mark.slow
def test_processes_end_when_the_reading_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "INLINE_BYTES", 0)
    reading = read([_large(tmp_path / "a.jsonl", 100_000)], jobs=2)
    next(iter(reading))
    reading.close()
    deadline = time.monotonic() + 120
    while multiprocessing.active_children() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert multiprocessing.active_children() == []


def test_progress_reaches_the_total(tmp_path: Path) -> None:
    seen: list[int] = []
    reading = read(
        [put(tmp_path / "a.jsonl", ROW * 9), put(tmp_path / "b.csv", b"task_id,model\n1,m\n")], progress=seen.append
    )
    list(reading)
    assert seen == sorted(seen)
    assert seen[-1] == reading.total_bytes


def test_a_file_that_is_named_twice_is_read_once(tmp_path: Path) -> None:
    path = put(tmp_path / "a.jsonl", ROW)
    (tmp_path / "link.jsonl").symlink_to(path)
    assert len(list(read([path, tmp_path, path]))) == 1
