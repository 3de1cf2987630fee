"""``potstill replay`` on files: the JSON contract, sweeps, and what it says on stderr."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from attempt_rows import row, stream, write

from potstill.cli.main import main

WHO = ("--student", "small", "--teacher", "large")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["replay", *arguments])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


@pytest.fixture
def by_hand(tmp_path: Path) -> str:
    """Two unanimous tasks, one of them wrong, and one that is split two to one for the wrong answer."""
    return write(tmp_path / "attempts.jsonl", stream(2, wrong=1, split=1))


def test_the_contract(by_hand: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, by_hand, *WHO, "--samples", "3", "--threshold", "1", "--json")
    told: dict[str, Any] = json.loads(out)
    assert code == 0
    assert (told["n"], told["escalation_share"]) == (3, pytest.approx(1 / 3))
    assert told["accuracy"] == pytest.approx(2 / 3)
    assert told["accuracy_ci"] == pytest.approx([0.2077, 0.9385], abs=1e-4)
    assert told["student_cost_usd"] == pytest.approx(0.009)
    assert told["teacher_cost_usd"] == pytest.approx(0.01)
    assert told["cost_usd"] == pytest.approx(0.019)
    assert told["always_teacher_cost_usd"] == pytest.approx(0.03)
    assert told["tasks_with_fewer_samples"] == told["tasks_left_out"] == 0
    assert not {"on_frontier", "frontier"} & told.keys()
    assert told["agreement_with_teacher"] == pytest.approx(2 / 3)


def test_several_values_are_a_sweep(by_hand: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, by_hand, *WHO, "--samples", "1,3", "--threshold", "0.6,1", "--json")
    told = json.loads(out)
    assert [(one["samples"], one["threshold"]) for one in told] == [(1, 0.6), (1, 1.0), (3, 0.6), (3, 1.0)]
    assert [one["on_frontier"] for one in told] == [True, True, False, True]
    # ($0.003, 1/3) and ($0.019, 2/3) for 3 tasks; the teacher alone is right at all for $0.03
    area = ((0.016 * 0.5) + 0.011 * 2 / 3) / 0.027
    for one in told:
        assert one["frontier"]["iso_quality_saving"] is None
        assert one["frontier"]["aiq_cost_range_usd"] == pytest.approx([0.003, 0.03])
        assert [one["frontier"][key] for key in ("aiq", "iso_cost_gain")] == pytest.approx([area, 2 / 3 - 1])
    _, out, err = run(capsys, by_hand, *WHO, "--sweep")
    assert "frontier: AIQ" in err
    assert "is not reached" in err
    lines = out.splitlines()
    assert lines[0].split("\t")[:2] == ["samples", "threshold"]
    assert len(lines) == 1 + 1 + 2 + 3


def test_missing_costs_and_outcomes_are_null_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row("1", "small", "a", None, None), row("1", "large", "b", True, 0.01)]
    code, out, err = run(capsys, write(tmp_path / "a.jsonl", rows), *WHO, "--samples", "3", "--json")
    told = json.loads(out)
    assert code == 0
    assert [told[name] for name in ("accuracy", "accuracy_ci", "cost_usd", "student_cost_usd")] == [None] * 4
    assert told["tasks_with_fewer_samples"] == 1
    assert "the cost of 1 attempts is not known" in err
    assert "'small' has no price" in err


def test_bad_rows_and_values_are_told_with_their_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.jsonl"
    write(path, [row("1", "small", "a", True, -1), row("1", "large", "a", True, 0.01)])
    with path.open("a", encoding="utf-8") as opened:
        opened.write('not json\n{"task_id": "2", "mo')
    code, out, err = run(capsys, str(path), *WHO, "--json")
    assert code == 0
    assert json.loads(out)["cost_usd"] is None
    assert "a.jsonl:1 (cost_usd is -1" in err
    assert "first in line 3" in err
    assert "first in line 4" in err


def test_costs_are_priced_from_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """GPT-4.1-mini: $0.40 and $1.60 for a million tokens."""
    tokens = {"input_tokens": 1_000_000, "output_tokens": 1_000_000}
    rows = [row("1", "gpt-4.1-mini", "a", True, None, **tokens), row("1", "large", "a", True, 1)]
    path = write(tmp_path / "a.jsonl", rows)
    _, out, _ = run(capsys, path, "--student", "gpt-4.1-mini", "--teacher", "large", "--date", "2026-11-21", "--json")
    assert json.loads(out)["student_cost_usd"] == pytest.approx(2.0)


def test_tasks_that_only_one_side_has_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = stream(2) + stream(3, start=10, teacher=False) + [row("x", "large", "a", True, 0.01)]
    _, out, err = run(capsys, write(tmp_path / "a.jsonl", rows), *WHO, "--json")
    told = json.loads(out)
    assert (told["n"], told["tasks_left_out"]) == (2, 4)
    assert told["left_out"] == {"no_teacher_answer": 3, "no_student_sample": 1}
    assert "3 decisions have no answer of the teacher" in err


def test_samples_without_any_answer_are_said_to_be_agreed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the rule has it, empty answers agree: one of them is right, so all count as right. The reader is told."""
    rows = [row("1", "small", None, ok, 0.001, sample=k) for k, ok in enumerate((True, False, False))]
    rows += [row("1", "large", "a", True, 0.01)]
    code, out, err = run(capsys, write(tmp_path / "a.jsonl", rows), *WHO, "--json")
    told = json.loads(out)
    assert (code, told["escalation_share"], told["accuracy"], told["agreement_with_teacher"]) == (0, 0.0, 1.0, None)
    assert "none of the 3 samples of 'small' has an answer" in err
    rows[0]["answer"] = "a"
    rows[1]["answer"] = ""
    _, out, err = run(capsys, write(tmp_path / "b.jsonl", rows), *WHO, "--threshold", "0.6", "--json")
    assert json.loads(out)["agreement_with_teacher"] == 0.0, "null and an empty text are the same vote"
    assert "2 of 3 samples of 'small' have no answer" in err


def test_without_a_recorded_success_the_agreement_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row(task, "small", answer, None, 0.001) for task, answer in (("1", "a"), ("2", "b"))]
    rows += [row(task, "large", "a", None, 0.01) for task in ("1", "2")]
    code, out, err = run(capsys, write(tmp_path / "a.jsonl", rows), *WHO, "--samples", "1", "--json")
    told = json.loads(out)
    assert (code, told["accuracy"], told["agreement_with_teacher"]) == (0, None, 0.5)
    assert "50.0% of the decisions end with the teacher's" in err
    assert "'potstill calibrate' takes the teacher's answer as right" in err


def test_dollars_of_the_table_have_six_digits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row("1", "small", "a", True, 0.1, sample=0), row("1", "small", "a", True, 0.2, sample=1)]
    rows += [row("1", "large", "a", True, 1)]
    path = write(tmp_path / "a.jsonl", rows)
    header, cells = (line.split("\t") for line in run(capsys, path, *WHO, "--samples", "2")[1].splitlines())
    assert cells[header.index("cost_usd")] == "0.3"
    assert json.loads(run(capsys, path, *WHO, "--samples", "2", "--json")[1])["cost_usd"] == 0.1 + 0.2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--samples", "x"), "--samples 3"),
        (("--samples", "0"), "allowed: 1 or more"),
        (("--threshold", "2"), "allowed: 0 to 1"),
        (("--student", "smal"), "Did you mean 'small'?"),
        (("--student", "large"), "are both 'large'"),
    ],
)
def test_wrong_options_say_what_to_type(
    by_hand: str, options: tuple[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, by_hand, *WHO, *options)
    assert (code, out) == (2, "")
    assert said in err


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, str(tmp_path / "none.jsonl"), *WHO)
    assert code != 0
    assert "none.jsonl" in err
    assert "Traceback" not in err
