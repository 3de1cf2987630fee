"""``potstill calibrate`` on files: the JSON contract, exit codes, and what it says on stderr."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from attempt_rows import row, stream, write

from potstill.cli.main import main

WHO = ("--student", "small", "--teacher", "large")
CONTRACT = {
    "certified",
    "keep",
    "confidence",
    "threshold",
    "samples",
    "escalation_share",
    "expected_cost_usd",
    "teacher_cost_usd",
    "violations_bound",
    "n",
    "needed_n",
    "reason",
}


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["calibrate", *arguments])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


def calibrated(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    code, out, _ = run(capsys, *arguments, "--json")
    assert code == 0
    told: dict[str, Any] = json.loads(out)
    assert told.keys() >= CONTRACT
    return told


def test_a_certificate_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """300 tasks: 240 unanimous, 2 of them wrong, and 60 split. At 3 of 3 two of 300 are lost, at 2 of 3 62.

    0.95 allows fifteen: P(X <= 2 | 300, 0.05) is about 0.00002. The bound: the p at which P(X <= 2 | 300, p) = 0.05.
    """
    path = write(tmp_path / "a.jsonl", stream(240, wrong=2, split=60))
    told = calibrated(capsys, path, *WHO, "--keep", "0.95")
    assert (told["certified"], told["threshold"], told["samples"], told["n"]) == (True, 1.0, 3, 300)
    assert told["escalation_share"] == pytest.approx(0.2)
    assert told["expected_cost_usd"] == pytest.approx(0.003 + 0.2 * 0.01)
    assert told["teacher_cost_usd"] == pytest.approx(0.01)
    assert told["violations_bound"] == pytest.approx(0.02085, abs=1e-4)
    assert told["needed_n"] is None
    assert told["recommendation"] == "cascade"


def test_not_certified_is_a_result_unless_required(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.jsonl", stream(100))
    told = calibrated(capsys, path, *WHO)
    assert (told["certified"], told["threshold"], told["samples"], told["violations_bound"]) == (
        False,
        None,
        None,
        None,
    )
    assert (told["needed_n"], told["escalation_share"]) == (49, 1.0)
    assert told["expected_cost_usd"] == told["teacher_cost_usd"] == pytest.approx(0.01)
    code, _, err = run(capsys, path, *WHO, "--require")
    assert code == 1
    assert "49 more labelled tasks" in err
    code, _, err = run(capsys, path, *WHO, "--require", "--keep", "0.9")
    assert code == 0
    assert "Certified: 3 samples of small" in err


def test_the_threshold_to_type_is_never_above_the_certified_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{**one, "success": True} for one in stream(0, split=200)]
    _, _, err = run(capsys, write(tmp_path / "a.jsonl", rows), *WHO, "--threshold", str(2 / 3))
    assert "potstill run --samples 3 --threshold 0.6666" in err


def test_several_numbers_of_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every answer is right, so one sample is the cheapest; all four candidates are certified."""
    told = calibrated(capsys, write(tmp_path / "a.jsonl", stream(300)), *WHO, "--samples", "1,3")
    assert (told["certified"], told["samples"]) == (True, 1)
    assert told["expected_cost_usd"] == pytest.approx(0.001)
    assert [one["certified"] for one in told["candidates"]] == [True] * 4


def test_more_samples_than_were_recorded_cannot_be_certified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "a.jsonl", stream(300))
    told = calibrated(capsys, path, *WHO, "--samples", "3,5")
    assert {one["samples"] for one in told["candidates"]} == {3}
    assert any("larger numbers were left out" in text for text in told["notes"])
    code, _, err = run(capsys, path, *WHO, "--samples", "5")
    assert code == 2
    assert "Type: --samples 3" in err


def test_the_order_of_the_rows_does_not_matter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = stream(240, wrong=2, split=60)
    one = calibrated(capsys, write(tmp_path / "a.jsonl", rows), *WHO, "--keep", "0.95")
    random.Random(1).shuffle(rows)
    other = calibrated(capsys, write(tmp_path / "b.jsonl", rows), *WHO, "--keep", "0.95")
    numbers = {name: value for name, value in one.items() if isinstance(value, int | float)}
    assert {name: other[name] for name in numbers} == pytest.approx(numbers)
    assert len(numbers) >= 10


def test_without_outcomes_agreement_with_the_teacher_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{**one, "success": None} for one in stream(240, wrong=2, split=60)]
    told = calibrated(capsys, write(tmp_path / "a.jsonl", rows), *WHO, "--keep", "0.95")
    assert (told["certified"], told["n"], told["losses"]) == (True, 300, 2)


def test_unlabelled_tasks_are_not_evidence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.jsonl", stream(100) + stream(400, start=1000, teacher=False))
    told = calibrated(capsys, path, *WHO)
    assert (told["n"], told["needed_n"]) == (100, 49)


def test_labels_only_where_the_student_was_doubted_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = stream(20, split=200) + stream(300, start=1000, teacher=False)
    told = calibrated(capsys, write(tmp_path / "a.jsonl", rows), *WHO)
    assert any("labels do not look random" in text for text in told["notes"])
    fair = stream(100, split=100) + stream(100, split=100, start=1000, teacher=False)
    told = calibrated(capsys, write(tmp_path / "b.jsonl", fair), *WHO)
    assert not any("labels do not look random" in text for text in told["notes"])


def test_two_runs_are_two_candidates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The hot run is right everywhere, the cold one nowhere."""
    rows = []
    for task in range(300):
        rows += [row(f"t{task}", "small", "a", True, 0.001, run="hot"), row(f"t{task}", "large", "a", True, 0.01)]
        rows += [row(f"t{task}", "small", "b", False, 0.001, run="cold")]
    path = write(tmp_path / "a.jsonl", rows)
    both = ("--student", "small@hot", "--student", "small@cold", "--teacher", "large")
    told = calibrated(capsys, path, *both)
    assert (told["certified"], told["student"], told["samples"]) == (True, "small@hot", 1)
    assert {one["student"] for one in told["candidates"]} == {"small@hot", "small@cold"}


def test_signals_are_learned_from_where_votes_say_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    luck = random.Random(4)
    rows = []
    for task in range(3000):
        margin = luck.random()
        good = margin > 0.5 or luck.random() < 0.5
        answer = "a" if good else "b"
        rows.append(row(f"t{task}", "small", answer, good, 0.001, logprob_margin=margin))
        rows.append(row(f"t{task}", "large", "a", True, 0.01))
    path = write(tmp_path / "a.jsonl", rows)
    told = calibrated(capsys, path, *WHO, "--keep", "0.95")
    assert (told["certified"], told["signal"], told["n"]) == (True, "learned", 2250)
    assert told["score"]["features"] == ["logprob_margin"]
    assert not calibrated(capsys, path, *WHO, "--keep", "0.95", "--score", "votes")["certified"]


def test_episodes_without_answers_can_only_act_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = []
    for task in range(200):
        rows += [row(f"t{task}", "small", None, True, 0.001) for _ in range(3)]
        rows.append(row(f"t{task}", "large", None, True, 0.01))
    told = calibrated(capsys, write(tmp_path / "a.jsonl", rows), *WHO)
    assert (told["certified"], told["samples"]) == (True, 1)
    assert any("no answers to vote on" in text for text in told["notes"])


def test_the_result_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = write(tmp_path / "a.jsonl", stream(200)), tmp_path / "calibration.json"
    told = calibrated(capsys, path, *WHO, "--out", str(out))
    assert json.loads(out.read_text()) == told
    code, _, err = run(capsys, path, *WHO, "--out", str(tmp_path / "no" / "where.json"))
    assert code == 1
    assert "Cannot write --out" in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--keep", "1.2"), "--keep 0.98"),
        (("--keep", "nan"), "--keep 0.98"),
        (("--confidence", "1"), "between 0 and 1"),
        (("--samples", "0"), "allowed: 1 or more"),
        (("--threshold", "1.5"), "allowed: 0 to 1"),
        (("--score", "vote"), "Did you mean 'votes'?"),
        (("--teacher", "larg"), "Did you mean 'large'?"),
    ],
)
def test_wrong_options_say_what_to_type(
    tmp_path: Path, options: tuple[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, write(tmp_path / "a.jsonl", stream(3)), *WHO, *options)
    assert (code, out) == (2, "")
    assert said in err


def test_a_store_compares_whole_episodes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from potstill.trajectories import Store
    from potstill.types import Outcome, Task, Trajectory, TrajectoryKind

    path = tmp_path / "potstill.db"
    with Store.open(path) as store:
        for number in range(160):
            for kind in (TrajectoryKind.TEACHER, TrajectoryKind.STUDENT, TrajectoryKind.CASCADE):
                store.append(
                    Trajectory(
                        id=f"{kind}-{number}",
                        task=Task(id=f"task-{number}", environment="toy"),
                        kind=kind,
                        arm=kind.value,
                        teacher="large",
                        student="small",
                        outcome=Outcome(success=kind is not TrajectoryKind.CASCADE),
                    )
                )
    told = calibrated(capsys, str(path), *WHO)
    assert (told["certified"], told["n"], told["samples"]) == (True, 160, 1)
