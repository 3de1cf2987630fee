"""``potstill audit`` as a user types it: the JSON contract, dirt with line numbers, real results, several files."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

DIRTY = """\
{"task_id":"a","model":"m1","run":"r","episode_id":"1","success":true,"cost_usd":0.5,"input_tokens":100,"output_tokens":10}
{"task_id":"b","model":"m1","run":"r","episode_id":"2","success":false,"cost_usd":0.25,"input_tokens":100,"output_tokens":10}
{"task_id":"b","model":"m1","run":"r","episode_id":"2","success":false,"cost_usd":0.25,"input_tokens":100,"output_tokens":10}
{"task_id":"c","model":"m1","run":"r","episode_id":"3","error":"timeout","cost_usd":0}
{"task_id":"a","model":"m2","run":"r","episode_id":"4","success":true,"cost_usd":NaN}
{"task_id":"b","model":"m2","run":"r","episode_id":"5","success":true,"cost_usd":-1}
{"task_id":"c"
not json at all
{"model":"m2"}
"""


def potstill(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "potstill", *arguments],
        capture_output=True,
        text=True,
        input=stdin,
        env={**os.environ, "NO_COLOR": "1"},
        check=False,
    )


def audited(*arguments: str, stdin: str | None = None) -> dict[str, Any]:
    done = potstill("audit", *arguments, "--json", stdin=stdin)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_contract_by_hand(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(DIRTY)
    found = audited(str(tmp_path / "log.jsonl"))
    first, second = found["groups"]
    assert {key: first[key] for key in ("model", "run", "n", "n_infrastructure_errors", "n_duplicates", "success")} == {
        "model": "m1",
        "run": "r",
        "n": 2,
        "n_infrastructure_errors": 1,
        "n_duplicates": 1,
        "success": 0.5,
    }
    assert first["cost_per_episode_usd"] == pytest.approx(0.75 / 3)
    assert first["cost_of_pass_usd"] == pytest.approx(0.75)
    assert first["success_ci"] == pytest.approx([0.0945, 0.9055], abs=1e-4)
    assert (first["input_tokens"], first["cached_input_tokens"], first["output_tokens"]) == (200, None, 20)
    assert second["success"] == 1.0
    assert second["cost_of_pass_usd"] is second["cost_per_episode_usd"] is second["input_tokens"] is None
    assert [row["on_hull"] for row in found["frontier"]] == [True, False]


def test_no_dirt_is_silent_and_each_names_its_lines(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(DIRTY)
    found = audited(str(tmp_path / "log.jsonl"))
    told = {(warned["kind"], warned["run"]): warned for warned in found["warnings"]}
    assert told["duplicate_episodes", "r"]["count"] == 1
    assert "log.jsonl:3" in told["duplicate_episodes", "r"]["detail"]
    assert told["infrastructure_errors", "r"]["count"] == 1
    assert "log.jsonl:6 cost_usd is -1" in told["bad_number", "r"]["detail"]
    assert told["missing_cost", "r"]["count"] == 2
    assert told["missing_tokens", "r"]["count"] == 2
    (file,) = found["files"]
    assert (file["rows"], file["understood"]) == (9, 6)
    skipped = {skips["reason"]: skips["lines"] for skips in file["skipped"]}
    assert skipped == {"not JSON": [7, 8], "no task_id": [9]}


def test_calls_and_outcomes_in_two_files_meet_in_the_episode(tmp_path: Path) -> None:
    """Outcomes are known to one system and calls to another: the episode's id joins them, in either order."""
    calls = [
        {
            "request": {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": f"task {n}"}]},
            "response": {
                "model": "gpt-4.1-mini",
                "choices": [{"message": {"role": "assistant", "content": "done"}}],
                "usage": {"prompt_tokens": 1_000_000, "completion_tokens": 0, "total_tokens": 1_000_000},
            },
            "metadata": {"session_id": f"s{n}"},
        }
        for n in range(3)
    ]
    outcomes = [
        {"task_id": f"t{n}", "model": "gpt-4.1-mini", "episode_id": f"s{n}", "success": n > 0} for n in range(2)
    ]
    (tmp_path / "calls.jsonl").write_text("".join(json.dumps(call) + "\n" for call in calls))
    (tmp_path / "outcomes.jsonl").write_text("".join(json.dumps(outcome) + "\n" for outcome in outcomes))
    for order in (("calls.jsonl", "outcomes.jsonl"), ("outcomes.jsonl", "calls.jsonl")):
        found = audited(*(str(tmp_path / name) for name in order))
        (group,) = found["groups"]
        assert (group["n"], group["successes"], group["unknown_outcomes"]) == (3, 1, 1)
        assert group["cost_usd"] == pytest.approx(3 * 0.4), "gpt-4.1-mini reads a million tokens for $0.40"
        assert {spend["name"]: spend["usd"] for spend in found["by_outcome"]} == pytest.approx(
            {"success": 0.4, "failure": 0.4, "unknown": 0.4}
        )
        assert sum(spend["usd"] for spend in found["by_model"]) == pytest.approx(1.2)


def test_a_table_in_a_pipe_and_standard_input() -> None:
    done = potstill("audit", "-", stdin=DIRTY)
    assert done.returncode == 0, done.stderr
    header, *rows = done.stdout.splitlines()
    assert header.split("\t")[:3] == ["model", "run", "n"]
    assert len(rows) == 2
    assert "skipped 2: not JSON" in done.stderr
    assert "warning: infrastructure_errors in r: 1" in done.stderr


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "empty"),
        ("hello\nworld\n", "no known format"),
        ('{"model": "m"}\n', "no known format"),
    ],
)
def test_nothing_understood_is_one_clear_line(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(content)
    done = potstill("audit", str(path))
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_file_and_an_impossible_confidence(tmp_path: Path) -> None:
    assert potstill("audit", str(tmp_path / "none.jsonl")).returncode == 2
    (tmp_path / "log.jsonl").write_text(DIRTY)
    done = potstill("audit", str(tmp_path / "log.jsonl"), "--confidence", "95")
    assert done.returncode == 2
    assert "0.95" in done.stderr


@pytest.fixture(scope="module")
def retail(tau2_retail: Path) -> dict[str, Any]:
    return audited(str(tau2_retail))


def test_real_results_with_their_real_dirt(retail: dict[str, Any], tau2_retail: Path) -> None:
    """Recomputed from the file with nothing but a loop: per run, after repeated simulations are left out."""
    seen: set[str] = set()
    expected: dict[str, list[float]] = {}
    for line in tau2_retail.read_text().splitlines():
        row = json.loads(line)
        sums = expected.setdefault(row["run"], [0, 0, 0, 0, 0.0])
        if row["simulation_id"] in seen:
            sums[2] += 1
            continue
        seen.add(row["simulation_id"])
        broke = row["termination"] == "agent_error"
        sums[0] += not broke
        sums[1] += broke
        sums[3] += not broke and row["reward"] == 1.0
        sums[4] += math.fsum(m.get("cost") or 0.0 for m in row["messages"] if m["role"] == "assistant")
    assert {group["run"] for group in retail["groups"]} == set(expected)
    for group in retail["groups"]:
        n, broke, duplicates, successes, usd = expected[group["run"]]
        assert (group["n"], group["n_infrastructure_errors"], group["n_duplicates"]) == (n, broke, duplicates)
        assert group["success"] == pytest.approx(successes / n)
        assert group["cost_of_pass_usd"] == pytest.approx(usd / successes)
        assert group["cost_per_episode_usd"] == pytest.approx(usd / (n + broke))
    kinds = {warned["kind"] for warned in retail["warnings"]}
    assert kinds >= {"duplicate_episodes", "infrastructure_errors", "different_harness", "different_user_model"}


def test_every_slice_of_the_spending_adds_up(retail: dict[str, Any]) -> None:
    for part in ("by_model", "by_step_type", "by_outcome"):
        assert sum(spend["usd"] for spend in retail[part]) == pytest.approx(retail["total_usd"])
        assert sum(spend["calls"] for spend in retail[part]) == retail["calls"]
    ids = {example["id"] for example in retail["examples"]}
    shown = [spend["examples"] for part in ("by_model", "by_step_type", "by_outcome") for spend in retail[part]]
    shown += [waste["examples"] for waste in retail["waste"] if waste["count"]]
    assert all(examples and set(examples) <= ids for examples in shown)


def test_the_json_page_names_every_warning(repository: Path) -> None:
    from potstill.measure.audit.dirt import MEANING

    page = (repository / "docs" / "reference" / "audit-json.md").read_text()
    assert [kind for kind in MEANING if f"| `{kind}` |" not in page] == []


def test_one_unknown_part_leaves_the_known_ones_to_be_seen(tmp_path: Path) -> None:
    rows = [{"task_id": str(n), "model": "m", "cost_usd": 1.0, "success": True} for n in range(9)]
    rows.append({"task_id": "9", "model": "m", "success": True})
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = audited(str(tmp_path / "log.jsonl"))
    (group,) = found["groups"]
    assert (group["cost_usd"], group["known_cost_usd"], group["attempts_without_cost"]) == (None, 9.0, 1)
    assert (found["total_usd"], found["known_usd"], found["partial"]) == (None, 9.0, False)
    (model,) = found["by_model"]
    assert (model["usd"], model["known_usd"], model["without_cost"]) == (None, 9.0, 1)


def test_duplicates_that_differ_and_runs_of_which_little_is_left_are_told(tmp_path: Path) -> None:
    broke = {"task_id": "a", "model": "m", "run": "r", "episode_id": "1", "error": "reset", "cost_usd": 0}
    retried = {"task_id": "a", "model": "m", "run": "r", "episode_id": "1", "success": True, "cost_usd": 0.05}
    other = {"task_id": "b", "model": "m", "run": "r", "episode_id": "2", "success": True, "cost_usd": 0.07}
    rows = [broke, retried, other, {**other, "run": "s"}, {**other, "run": "s", "task_id": "c", "episode_id": "3"}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = {(warned["kind"], warned["run"]): warned for warned in audited(str(tmp_path / "log.jsonl"))["warnings"]}
    assert "log.jsonl:2" in told["differing_duplicates", "r"]["detail"]
    assert "m: 1 of 2" in told["left_over", "s"]["detail"]


def test_usage_that_is_missing_names_the_line_of_the_call(tmp_path: Path) -> None:
    """An episode's second call has no usage: the warning about the call names line 2, not where the episode began."""
    rows = [
        {
            "request": {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": f"step {n}"}]},
            "response": {"choices": [{"message": {"role": "assistant", "content": "ok"}}], "object": "chat.completion"},
            "metadata": {"session_id": "s"},
        }
        for n in range(2)
    ]
    rows[0]["response"]["usage"] = {"prompt_tokens": 10, "completion_tokens": 1}  # type: ignore[index]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = {warned["kind"]: warned for warned in audited(str(tmp_path / "log.jsonl"))["warnings"]}
    assert told["calls_without_usage"]["count"] == 1
    assert "log.jsonl:2" in told["calls_without_usage"]["detail"]


def test_ctrl_c_keeps_what_was_read_and_says_that_it_is_partial(tmp_path: Path) -> None:
    """A pipe that stays open: what came through before Ctrl-C is told, with the exit code of an interruption."""
    process = subprocess.Popen(
        [sys.executable, "-m", "potstill", "audit", "-", "--json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert process.stdin is not None
    row = json.dumps({"task_id": "a", "model": "m", "success": True, "cost_usd": 1.0, "answer": "x" * 2000}) + "\n"
    process.stdin.write(row * 3000)
    process.stdin.flush()
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    found = json.loads(output)
    assert found["partial"] is True
    assert 0 < found["groups"][0]["n"] <= 3000
    assert "Interrupted" in errors


def test_a_report_without_a_folder_to_go_to_is_refused_before_reading(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(DIRTY)
    done = potstill("audit", str(tmp_path / "log.jsonl"), "--html", str(tmp_path / "none" / "report.html"))
    assert done.returncode == 2
    assert "no folder" in done.stderr
    assert "understood" not in done.stderr
