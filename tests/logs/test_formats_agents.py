"""Whole episodes: SWE-agent, mini-swe-agent, and a log that inspect_ai 0.3.285 wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from potstill.logs import reader
from potstill.logs.formats.base import LogFormat, Skipped
from potstill.logs.formats.inspect_ai import InspectAI
from potstill.logs.formats.swe_agent import SweAgent
from potstill.logs.records import Attempt, Record, Source
from potstill.logs.zipped import zipfile

SAMPLES = Path(__file__).parent / "samples"
MINI = "astropy__astropy-12907.traj.json"
FULL = "django__django-11099.traj"


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SAMPLES / name).read_text())
    return found


def read(known: LogFormat, row: dict[str, Any], file: str, head: dict[str, Any] | None = None) -> list[Record]:
    assert known.fits(row)
    return list(known.records(json.dumps(row).encode(), Source(file, 1), head or {}))


def trajectory(row: dict[str, Any], file: str) -> Attempt:
    (attempt,) = read(SweAgent(), row, file)
    assert isinstance(attempt, Attempt)
    return attempt


def test_mini_swe_agent() -> None:
    attempt = trajectory(load(MINI), f"runs/sonnet/astropy__astropy-12907/{MINI}")
    assert (attempt.task_id, attempt.model) == ("astropy__astropy-12907", "anthropic/claude-sonnet-4-5-20250929")
    assert (attempt.run, attempt.harness, attempt.cost_usd) == ("sonnet", "mini-swe-agent 2.0.0", 0.0123)
    assert (attempt.success, attempt.error) == (None, None), "only the evaluation knows"
    assert attempt.answer == "diff --git a/x.py b/x.py\n"
    assert (attempt.input_tokens, attempt.cached_input_tokens, attempt.output_tokens) == (2060, 997, 50)
    assert (attempt.cache_write_tokens, attempt.started_at) == (997 + 60, 1767225601.5)
    first, second = attempt.calls
    assert (first.roles, second.roles) == ("su", "suau")
    assert first.after == second.prefixes[2]
    assert (first.cost_usd, first.call_id) == (0.008, "chatcmpl-m1")
    assert second.usage is not None
    assert (second.usage.input_tokens, second.usage.cache_read_tokens) == (1060, 997)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("LimitsExceeded", None),
        ("ContextWindowExceeded", None),
        ("AuthenticationError", "AuthenticationError"),
        (None, "the trajectory was broken off"),
    ],
)
def test_a_limit_is_a_failure_and_an_exception_is_not(status: str | None, error: str | None) -> None:
    row = load(MINI)
    row["info"]["exit_status"] = status
    assert trajectory(row, MINI).error == error


def test_swe_agent() -> None:
    attempt = trajectory(load(FULL), f"trajectories/me/default__gpt-4.1/django__django-11099/{FULL}")
    assert (attempt.task_id, attempt.model, attempt.run) == ("django__django-11099", "gpt-4.1", "default__gpt-4.1")
    assert (attempt.cost_usd, attempt.input_tokens, attempt.output_tokens) == (0.21, 2100, 50)
    assert (attempt.error, attempt.harness, attempt.cached_input_tokens) == (None, "SWE-agent 1.1.0", None)
    first, second = attempt.calls
    assert (first.roles, second.roles) == ("su", "suat")
    assert first.after == second.prefixes[2]
    assert [name for name, _ in first.tool_calls] == ["bash"]
    assert second.answer_preview == "Done, I submit."


def test_swe_agent_without_queries_model_or_cost() -> None:
    row = load(FULL)
    expected = trajectory(row, FULL)
    for step in row["trajectory"]:
        del step["query"]
    del row["replay_config"]
    row["info"] |= {"exit_status": "exit_environment_error", "resolved": False}
    row["info"]["model_stats"]["instance_cost"] = 0
    attempt = trajectory(row, "x.traj")
    assert [call.prefixes for call in attempt.calls] == [call.prefixes for call in expected.calls]
    assert (attempt.model, attempt.cost_usd, attempt.success) == ("unknown", None, False)
    assert attempt.error == "exit_environment_error"
    assert [problem.kind for problem in attempt.problems] == ["bad_value"]


def test_a_trajectory_without_steps_says_so() -> None:
    with pytest.raises(Skipped, match="without steps: exit_environment_error"):
        read(SweAgent(), {"trajectory": [], "info": {"exit_status": "exit_environment_error"}}, "x.traj")


def samples(row: dict[str, Any]) -> list[Attempt]:
    attempts = read(InspectAI(), row, "log.json")
    assert all(isinstance(attempt, Attempt) for attempt in attempts)
    return [attempt for attempt in attempts if isinstance(attempt, Attempt)]


def test_inspect_ai() -> None:
    first, second, third = samples(load("inspect_ai.json"))
    assert [attempt.task_id for attempt in (first, second, third)] == ["orders/o17", "orders/o18", "orders/o17"]
    assert [attempt.sample for attempt in (first, second, third)] == [0, 0, 1]
    assert [attempt.success for attempt in (first, second, third)] == [True, False, True]
    assert (first.model, first.harness, first.answer) == ("mockllm/model", "inspect_ai 0.3.285", "shipped")
    assert (first.input_tokens, first.cached_input_tokens, first.output_tokens) == (120 + 150, 128, 24)
    assert first.run == second.run
    assert len({attempt.episode_id for attempt in (first, second, third)}) == 3
    one, two = first.calls
    assert (one.roles, two.roles) == ("u", "uat")
    assert one.after == two.prefixes[1], "the pool of messages gives the prompt back"
    assert [name for name, _ in one.tool_calls] == ["get_order"]
    assert two.usage is not None
    assert (two.usage.input_tokens, two.usage.cache_read_tokens) == (150, 128)


def test_samples_of_an_inspect_log_are_rows_with_the_log_as_head() -> None:
    log = load("inspect_ai.json")
    head = dict(InspectAI().head({name: value for name, value in log.items() if name != "samples"}))
    alone = [record for sample in log["samples"] for record in read(InspectAI(), sample, "log.json", head)]
    assert alone == samples(log)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_ZSTANDARD])
def test_an_eval_file_gives_what_the_json_log_gives(tmp_path: Path, method: int) -> None:
    log = load("inspect_ai.json")
    path = tmp_path / "log.eval"
    with zipfile.ZipFile(path, "w", method) as archive:
        for sample in log.pop("samples"):
            archive.writestr(f"samples/{sample['id']}_epoch_{sample['epoch']}.json", json.dumps(sample))
        archive.writestr("header.json", json.dumps(log))
    found = [record for record in reader.read([path]) if isinstance(record, Attempt)]
    expected = samples(load("inspect_ai.json"))
    assert [attempt.episode_id for attempt in found] == [attempt.episode_id for attempt in expected]
    assert [attempt.task_id for attempt in found] == [attempt.task_id for attempt in expected]
    assert [attempt.input_tokens for attempt in found] == [attempt.input_tokens for attempt in expected]


def test_long_texts_of_an_inspect_log_are_put_back() -> None:
    log = load("inspect_ai.json")
    expected = samples(log)[0].calls
    text = log["samples"][0]["events_data"]["messages"][2]["content"]
    log["samples"][0]["events_data"]["messages"][2]["content"] = "attachment://0123"
    log["samples"][0]["attachments"] = {"0123": text}
    assert samples(log)[0].calls == expected


@pytest.mark.parametrize(
    ("value", "success", "kinds"),
    [
        ("C", True, []),
        ("I", False, []),
        (1, True, []),
        (0.5, False, []),
        (7, None, ["bad_value"]),
        ({}, None, ["bad_value"]),
    ],
)
def test_scores_of_an_inspect_log(value: Any, success: bool | None, kinds: list[str]) -> None:
    log = load("inspect_ai.json")
    log["samples"][0]["scores"] = {"match": {"value": value}}
    attempt = samples(log)[0]
    assert attempt.success is success
    assert [problem.kind for problem in attempt.problems] == kinds


def test_a_broken_inspect_sample_is_an_infrastructure_error() -> None:
    log = load("inspect_ai.json")
    log["samples"][0] |= {"scores": None, "error": {"message": "connection lost", "traceback": "…"}}
    attempt = samples(log)[0]
    assert (attempt.error, attempt.success) == ("connection lost", None)


def test_counts_of_an_inspect_log_that_give_no_total_are_unknown() -> None:
    log = load("inspect_ai.json")
    log["samples"][0]["model_usage"]["mockllm/model"] |= {"input_tokens_cache_read": 500}
    attempt = samples(log)[0]
    assert (attempt.input_tokens, [problem.kind for problem in attempt.problems]) == (None, ["bad_usage"])
