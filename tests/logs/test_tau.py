"""Results of tau-bench and tau2-bench: made-up rows with known sums, and the recorded episodes."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.logs.conversation import Thread, told
from potstill.logs.reader import read
from potstill.logs.records import Attempt

TAU_NAME = "tool-calling-gpt-4o-0.0_range_0--1_user-gpt-4o-mini-llm_0312101112.json"


def attempts(path: Path, data: Any) -> list[Attempt]:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    return [record for record in read([path]) if isinstance(record, Attempt)]


def said(role: str, content: str | None, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


CALL = {"id": "c1", "name": "find", "arguments": {"id": 1}, "requestor": "assistant"}
USER_CALL = {"id": "u1", "name": "toggle", "arguments": {}, "requestor": "user"}
MESSAGES = [
    said("assistant", "Hi!", cost=0.0, timestamp="2026-01-01T00:00:00"),
    said(
        "user",
        "Find it.",
        usage={"prompt_tokens": 9, "completion_tokens": 9},
        cost=9.0,
        timestamp="2026-01-01T00:00:05",
    ),
    said(
        "assistant",
        None,
        tool_calls=[CALL],
        usage={"prompt_tokens": 100, "completion_tokens": 10},
        raw_data={
            "usage": {"prompt_tokens": 100, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 64}}
        },
        cost=0.25,
        generation_time_seconds=1.5,
        timestamp="2026-01-01T00:00:07",
    ),
    said("tool", "found", id="c1", requestor="assistant", timestamp="2026-01-01T00:00:08"),
    said("user", None, tool_calls=[USER_CALL]),
    said("tool", "toggled", id="u1", requestor="user"),
    said(
        "assistant",
        "Done.",
        usage={"prompt_tokens": 120, "completion_tokens": 5},
        raw_data={
            "usage": {"prompt_tokens": 120, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 0}}
        },
        cost=0.5,
        timestamp="2026-01-01T00:00:20",
    ),
]


def simulation(**changes: Any) -> dict[str, Any]:
    return {
        "id": "sim-1",
        "task_id": "7",
        "trial": 2,
        "reward_info": {"reward": 1.0},
        "agent_cost": None,
        "user_cost": 9.0,
        "termination_reason": "user_stop",
        "duration": 21.0,
        "start_time": "2026-01-01T00:00:00",
        "messages": MESSAGES,
        **changes,
    }


def results(*simulations: dict[str, Any]) -> dict[str, Any]:
    info = {"agent_info": {"llm": "gpt-x", "implementation": "llm_agent"}, "user_info": {"llm": "gpt-u"}}
    return {"timestamp": "t", "info": info, "tasks": [{"id": "7"}], "simulations": list(simulations)}


def test_a_tau2_episode_with_its_calls(tmp_path: Path) -> None:
    (found,) = attempts(tmp_path / "night.json", results(simulation()))
    assert (found.task_id, found.model, found.run, found.episode_id) == ("7", "gpt-x", "night", "sim-1")
    assert (found.sample, found.success, found.error) == (2, True, None)
    assert (found.harness, found.user_model) == ("llm_agent", "gpt-u")
    assert (found.latency_s, found.started_at) == (21.0, 1767225600.0)
    assert found.cost_usd == 0.75, "the agent's calls, not the user's"
    assert (found.input_tokens, found.cached_input_tokens, found.output_tokens) == (220, 64, 15)
    first, second = found.calls
    assert (first.roles, second.roles) == ("au", "auat"), "the agent does not see the user's own tools"
    assert first.tool_calls[0][0] == "find"
    assert (first.started_at, first.latency_s) == (1767225605.0, 1.5)
    assert first.after == second.prefixes[2], "the first answer is a part of the second prompt"


@pytest.mark.parametrize(
    ("end", "error"),
    [
        ("user_stop", None),
        ("max_steps", None),
        ("too_many_errors", None),
        ("timeout", None),
        ("agent_error", "agent_error"),
        ("user_error", "user_error"),
        ("infrastructure_error", "infrastructure_error"),
    ],
)
def test_only_infrastructure_is_an_error(tmp_path: Path, end: str, error: str | None) -> None:
    (found,) = attempts(tmp_path / "a.json", results(simulation(termination_reason=end, reward_info={"reward": 0.0})))
    assert (found.error, found.success) == (error, False)


def test_nothing_sent_cost_nothing(tmp_path: Path) -> None:
    (found,) = attempts(tmp_path / "a.json", results(simulation(termination_reason="agent_error", messages=[])))
    assert (found.cost_usd, found.input_tokens, found.calls) == (0.0, 0, ())


def test_a_partial_reward_is_no_success(tmp_path: Path) -> None:
    (found,) = attempts(tmp_path / "a.json", results(simulation(reward_info={"reward": 0.5})))
    assert found.success is False


def test_what_is_unknown_stays_unknown(tmp_path: Path) -> None:
    bare = [said("user", "q"), said("assistant", "a")]
    (found,) = attempts(tmp_path / "a.json", results(simulation(messages=bare, reward_info=None)))
    assert (found.cost_usd, found.input_tokens, found.success) == (None, None, None)
    assert len(found.calls) == 1


def test_a_zero_beside_tokens_is_an_unknown_price(tmp_path: Path) -> None:
    free = [said("user", "q"), said("assistant", "a", usage={"prompt_tokens": 9, "completion_tokens": 1}, cost=0.0)]
    (found,) = attempts(tmp_path / "a.json", results(simulation(messages=free, agent_cost=0.0)))
    assert (found.cost_usd, found.input_tokens) == (None, 9)


def test_dirt_in_a_tau2_episode(tmp_path: Path) -> None:
    wrong = [said("user", "q"), said("assistant", "a", usage={"prompt_tokens": -1, "completion_tokens": 1}, cost=-1)]
    (found,) = attempts(tmp_path / "a.json", results(simulation(messages=wrong, agent_cost="x", duration=-3)))
    assert {problem.kind for problem in found.problems} == {"bad_usage", "bad_number"}
    assert (found.cost_usd, found.latency_s, found.input_tokens) == (None, None, None)


def test_a_simulation_in_a_file_of_its_own(tmp_path: Path) -> None:
    (found,) = attempts(tmp_path / "run-9" / "simulations" / "sim-1.json", simulation())
    assert (found.model, found.run) == ("unknown", "run-9")
    assert found.problems[0].kind == "bad_value"


def test_tau_bench_tells_its_model_in_the_files_name(tmp_path: Path) -> None:
    traj = [said("system", "policy"), said("user", "q"), said("assistant", "a"), said("user", "###STOP###")]
    rows = [
        {"task_id": 0, "reward": 1.0, "info": {"user_cost": 0.1}, "traj": traj, "trial": 1},
        {"task_id": 1, "reward": 0.0, "info": {"error": "boom", "traceback": "..."}, "traj": [], "trial": 0},
    ]
    done, broken = attempts(tmp_path / TAU_NAME, rows)
    assert (done.task_id, done.model, done.user_model, done.harness) == ("0", "gpt-4o", "gpt-4o-mini", "tool-calling")
    assert (done.success, done.sample, done.cost_usd, done.input_tokens) == (True, 1, None, None)
    assert [call.roles for call in done.calls] == ["su"]
    assert (broken.error, broken.cost_usd) == ("boom", 0.0)
    (renamed, _) = attempts(tmp_path / "renamed.json", rows)
    assert renamed.model == "unknown"
    assert "file's name" in renamed.problems[0].detail


arguments = (
    st.none() | st.text(max_size=5) | st.dictionaries(st.sampled_from("ab"), st.floats(0, 5) | st.text(max_size=3))
)
tool_calls = st.fixed_dictionaries(
    {"id": st.text(max_size=3), "name": st.sampled_from(["find", "buy"])}, optional={"arguments": arguments}
)
answers = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": st.none() | st.text() | st.just([{"type": "text", "text": "a"}])},
    optional={
        "tool_calls": st.none()
        | st.lists(tool_calls | tool_calls.map(lambda call: {"id": "f", "function": call}), max_size=2),
        "refusal": st.text(max_size=3),
    },
)


@given(st.lists(answers, min_size=1, max_size=4))
def test_hashing_an_answer_once_changes_nothing(said: list[dict[str, Any]]) -> None:
    thread, before = Thread(), [{"role": "user", "content": "q"}]
    thread.add(before[0])
    for message in said:
        expected = told(before, copy.deepcopy(message))
        assert thread.answered(copy.deepcopy(message)) == expected
        before.append(message)


@pytest.fixture(scope="module")
def recorded(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Attempt]:
    archive = data_dir / "tau2_retail" / "episodes.jsonl.zst"
    if not archive.exists():
        pytest.skip("no tau2_retail/episodes.jsonl.zst in the folder of POTSTILL_TEST_DATA")
    if shutil.which("zstd") is None:
        pytest.skip("zstd is not installed. Type: apt-get install zstd (or brew install zstd)")
    path = tmp_path_factory.mktemp("tau2") / "episodes.jsonl"
    subprocess.run(["zstd", "-dqo", str(path), str(archive)], check=True)
    reading = read([path])
    found = [record for record in reading if isinstance(record, Attempt)]
    (file,) = reading.files
    assert (file.format, file.rows, file.understood, file.skipped) == ("tau2-episodes", 1262, 1262, ())
    return found


def test_recorded_episodes_are_all_there(recorded: list[Attempt]) -> None:
    assert len(recorded) == 1262
    assert sum(found.success is True for found in recorded) == 609
    assert Counter(found.error for found in recorded)["agent_error"] == 47
    repeated = len(recorded) - len({found.episode_id for found in recorded})
    assert repeated == 96, "to leave duplicates out is the audit's part"


def test_recorded_episodes_add_up(recorded: list[Attempt]) -> None:
    assert sum(len(found.calls) for found in recorded) == 9285 + 8790
    for found in recorded:
        costs = [call.cost_usd for call in found.calls]
        assert None not in costs
        assert found.cost_usd == pytest.approx(sum(cost or 0.0 for cost in costs), abs=1e-9)
        assert found.input_tokens == sum(call.usage.input_tokens for call in found.calls if call.usage)
        assert found.problems == ()


def test_each_recorded_answer_is_in_the_next_prompt(recorded: list[Attempt]) -> None:
    for found in recorded:
        for call, following in zip(found.calls, found.calls[1:], strict=False):
            assert call.after in following.prefixes
