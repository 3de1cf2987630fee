"""Result files hold what is needed to judge and repeat them, and tables show what the files hold."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import _results
import tables

ROWS = [
    {"arm": "zero-shot", "success": 0.18, "success_ci": [0.1, 0.3], "cost_of_pass_usd": None, "k": 1},
    {"arm": "a|b", "success": 0.41, "success_ci": [0.3, 0.5], "cost_of_pass_usd": 0.0123456, "k": 3},
]


@pytest.fixture
def results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    extra = {"differences": [{"of": "a|b", "difference": 0.23, "difference_ci": [0.1, 0.36]}]}
    _results.write("toy", ROWS, n=44, seeds=[0, 1], prices_date="2026-11-01", extra=extra, folder=tmp_path)
    return tmp_path


def test_a_result_holds_what_the_contract_names(results: Path) -> None:
    result = json.loads((results / "toy.json").read_text(encoding="utf-8"))
    assert list(result) == ["name", "command", "commit", "machine", "n", "seeds", "prices_date", "rows", "differences"]
    assert result["rows"] == ROWS
    assert set(result["machine"]) == {"cpu", "cores", "memory_gb", "python", "system"}
    assert result["machine"]["cores"] >= 1
    assert list(results.glob("*.tmp")) == []


def test_numbers_of_numpy_and_infinities_become_plain_json(tmp_path: Path) -> None:
    rows = [{"a": np.float32(0.5), "b": np.int64(2), "c": float("nan"), "d": (1, float("inf")), "e": np.array([1.0])}]
    path = _results.write("numbers", rows, folder=tmp_path)
    assert json.loads(path.read_text())["rows"] == [{"a": 0.5, "b": 2, "c": None, "d": [1, None], "e": [1.0]}]


def test_extra_cannot_overwrite_what_the_writer_knows(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="machine"):
        _results.write("toy", ROWS, extra={"machine": "fast"}, folder=tmp_path)


def test_the_command_holds_no_path_of_the_machine(tmp_path: Path, repository: Path) -> None:
    code = "import sys; sys.argv[0] = 'bench/toy.py'; import _results; print(_results.command())"
    arguments = ["--games", "/data/games/x", "--out=/tmp/y.json", "--n", "3", "--recipes", "film, recoloured"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=repository,
        env={"PYTHONPATH": str(repository / "bench")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "python bench/toy.py --games x --out=y.json --n 3 --recipes 'film, recoloured'"


def test_a_marker_becomes_a_table_with_intervals(results: Path) -> None:
    text = tables.render(
        '<!-- bench:toy columns="arm,success,cost_of_pass_usd:dollars" -->\nold\n<!-- /bench -->', results
    )
    lines = text.splitlines()
    assert lines[2:6] == [
        "| arm | success | dollars |",
        "| --- | ---: | ---: |",
        "| zero-shot | 0.18 [0.1, 0.3] | - |",
        "| a\\|b | 0.41 [0.3, 0.5] | 0.0123 |",
    ]
    assert lines[7].startswith("<sub>n = 44; seeds 0, 1; prices of 2026-11-01; ")
    assert tables.render(text, results) == text, "rendering twice changes nothing"


def test_rows_and_other_lists_can_be_chosen(results: Path) -> None:
    text = tables.render('<!-- bench:toy where="k=3" columns="k" -->\n<!-- /bench -->', results)
    assert "| 3 |" in text
    assert "| 1 |" not in text
    text = tables.render('<!-- bench:toy table="differences" -->\n<!-- /bench -->', results)
    assert "0.23 [0.1, 0.36]" in text


def test_rows_that_say_nothing_about_the_chosen_columns_are_left_out(tmp_path: Path) -> None:
    rows = [{"what": "speed", "median_s": 1.0}, {"what": "wins", "won": 3}, {"what": "broken", "median_s": None}]
    _results.write("mixed", rows, folder=tmp_path)
    text = tables.render('<!-- bench:mixed columns="what,median_s" -->\n<!-- /bench -->', tmp_path)
    assert "| speed | 1 |" in text
    assert "| broken | - |" in text, "measured but unknown is shown"
    assert "wins" not in text


def test_each_part_of_a_file_names_its_own_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three parts by two commands; the file's own is that of the last."""
    rows, measured = [], {}
    for part, command, seeds in (("a", "python one.py", [0]), ("b", "python one.py", [0]), ("c", "python two.py", [1])):
        monkeypatch.setattr(_results, "command", lambda command=command: command)
        rows.append({"way": part, "won": 1})
        measured[part] = _results.provenance(5, seeds)
    _results.write("parts", rows, n=5, seeds=[1], extra={"measured": measured}, folder=tmp_path)

    def footers(options: str) -> list[str]:
        text = tables.render(f"<!-- bench:parts {options} -->\n<!-- /bench -->", tmp_path)
        return [line for line in text.splitlines() if line.startswith("<sub>")]

    (of_a,) = footers('where="way=a"')
    assert of_a.startswith("<sub>n = 5; seeds 0; ")
    assert of_a.endswith("`python one.py`</sub>")
    first, last = footers("")
    assert first.startswith("<sub>a, b: n = 5; seeds 0; ")
    assert last.startswith("<sub>c: n = 5; seeds 1; ")
    assert last.endswith("`python two.py`</sub>")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ('columns="x"', "no column"),
        ('where="k=7"', "no row fits 'k=7' with k=7; k is one of: 1, 3"),
        ('where="k=3|7|9"', r"with k=7\|9; k is one of"),
        ('where="k=1|3,arm=zero-shot"', "with k=3"),
        ('rows="1"', "unknown options"),
    ],
)
def test_a_marker_that_cannot_be_filled_is_an_error(results: Path, options: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tables.render(f"<!-- bench:toy {options} -->\n<!-- /bench -->", results)


def test_what_was_not_measured_says_so(results: Path) -> None:
    text = tables.render("<!-- bench:absent -->\n<!-- /bench -->", results)
    assert "Not measured yet: `python bench/absent.py`." in text


def test_results_in_the_repository_keep_the_contract(repository: Path) -> None:
    for path in sorted((repository / "bench" / "results").glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        assert result["name"] == path.stem
        assert result.keys() >= _results.RESERVED
        assert result["rows"], path.name
        for one in (result, *result.get("measured", {}).values()):
            assert one.keys() >= _results.provenance().keys(), path.name
            assert (repository / one["command"].split()[1]).exists(), f"{path.name}: no such command"
