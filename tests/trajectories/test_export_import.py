"""Files of episodes: exact round trips, bad lines by number, the formats of others."""

from __future__ import annotations

import io
import json

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trajectory_fakes import episode
from trajectory_strategies import trajectories

from potstill.durable import replacing
from potstill.errors import ConfigError, MissingExtra, StoreError
from potstill.trajectories import Store
from potstill.trajectories.export import export
from potstill.trajectories.importing import import_file
from potstill.trajectories.jsonl import BadLine, encode_line, read_jsonl, write_jsonl
from potstill.trajectories.openai_chat import conversation, read_openai_chat, write_openai_chat
from potstill.trajectories.parquet import write_parquet
from potstill.trajectories.splits import split_by_task, split_of
from potstill.types import (
    Action,
    Answerer,
    Observation,
    Outcome,
    Reply,
    Step,
    Task,
    ToolCall,
    ToolResult,
    ToolSpec,
    Trajectory,
    TrajectoryKind,
)


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "store.db") as opened:
        yield opened


def jsonl(*some: Trajectory) -> io.BytesIO:
    target = io.BytesIO()
    write_jsonl(some, target)
    return io.BytesIO(target.getvalue())


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(trajectories, max_size=3))
def test_jsonl_round_trip_is_exact(some):
    file = jsonl(*some)
    assert len(file.getvalue().splitlines()) == len(some)
    assert [item for _, item in read_jsonl(file)] == some


def test_a_line_is_linear_in_new_text():
    ten, forty, seventy = (len(encode_line(episode("a", steps=n))) for n in (10, 40, 70))
    assert (seventy - forty) == pytest.approx(forty - ten, rel=0.05)


def test_store_to_file_to_store(store, tmp_path):
    some = [episode(f"e{i}", steps=i + 1, outcome=Outcome(success=i != 1)) for i in range(4)]
    for trajectory in some:
        store.append(trajectory)
    target = io.BytesIO()
    assert export(store.select(), target, "jsonl") == 4
    with Store.open(tmp_path / "other.db") as other:
        report = import_file(other, io.BytesIO(target.getvalue()))
        assert (report.added, report.unchanged, report.bad) == (4, 0, ())
        assert list(other.select()) == some
        again = import_file(other, io.BytesIO(target.getvalue()))
        assert (again.added, again.unchanged) == (0, 4)


GOOD = encode_line(episode("good", steps=1))


def changed(**fields: object) -> bytes:
    return json.dumps({**json.loads(GOOD), **fields}).encode()


BAD_LINES = {
    "no JSON": b"{not json",
    "text": b'"hello"',
    "array": b"[]",
    "another format": changed(format="other"),
    "no format": b'{"trajectory": {}}',
    "newer version": changed(version=99),
    "unknown field": changed(surprise=1),
    "missing trajectory": b'{"format":"potstill/trajectory","version":1}',
    "NaN": GOOD.replace(b'"started_at":1790000000.0', b'"started_at":NaN'),
    "Infinity": GOOD.replace(b'"started_at":1790000000.0', b'"started_at":1e999'),
    "wrong type": GOOD.replace(b'"index":0', b'"index":"0"'),
    "unknown kind": GOOD.replace(b'"kind":"teacher"', b'"kind":"wizard"'),
    "tokens that do not add up": GOOD.replace(b'"input_tokens":50', b'"input_tokens":50,"cache_read_tokens":60'),
    "reference to nowhere": changed(refs=[[0, 0, 999, -1]]),
    "parent after child": changed(nodes=[[1, 0], [-1, 0]]),
    "invalid UTF-8": GOOD.replace(b"house", b"\xff\xfe"),
    "cut off": GOOD[: len(GOOD) // 2],
    "deep nesting": GOOD.replace(b'"id":"good"', b'"metadata":{"x":' + b"[" * 5000 + b"]" * 5000 + b'},"id":"good"'),
}


@pytest.mark.parametrize("line", BAD_LINES.values(), ids=BAD_LINES.keys())
def test_a_bad_line_is_named_and_the_good_ones_are_kept(store, line):
    assert line != GOOD
    file = b"\n".join([GOOD.strip(), line.strip(), b"", encode_line(episode("last")).strip()])
    report = import_file(store, io.BytesIO(file))
    assert [bad.line for bad in report.bad] == [2]
    assert report.bad[0].problem
    assert store.ids() == ["good", "last"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_json_does_not_know_is_named(number):
    line = encode_line(episode("a")).replace(b'"version":1', b'"version":%s' % number.encode())
    ((_, bad),) = read_jsonl(io.BytesIO(line))
    assert f"JSON has no {number.strip('-')}; write null" in bad.problem
    ((_, chat),) = read_openai_chat(io.BytesIO(b'{"messages": [], "score": %s}' % number.encode()))
    assert f"JSON has no {number.strip('-')}; write null" in chat.problem
    ((_, cut),) = read_jsonl(io.BytesIO(line[:20]))
    assert "JSON has no" not in cut.problem


def test_an_id_that_is_taken_is_a_bad_line(store):
    store.append(episode("a"))
    report = import_file(store, jsonl(episode("b"), episode("a", words="other")))
    assert report.added == 1
    assert [bad.line for bad in report.bad] == [2]
    assert "different trajectory with id 'a'" in report.bad[0].problem


def test_a_hand_written_line_may_hold_prompts_in_place(store):
    line = json.dumps(
        {
            "format": "potstill/trajectory",
            "version": 1,
            "trajectory": msgspec.to_builtins(episode("a", steps=2)),
        }
    )
    assert import_file(store, io.BytesIO(line.encode())).added == 1
    assert store.get("a") == episode("a", steps=2)


def test_import_into_a_namespace(store):
    import_file(store, jsonl(episode("a", namespace="elsewhere")), namespace="acme")
    assert store.ids(namespace="acme") == ["a"]
    assert store.ids(namespace="elsewhere") == []


def test_what_json_cannot_hold_is_not_exported():
    step = msgspec.structs.replace(episode("a").steps[0], latency_s=float("nan"))
    with pytest.raises(StoreError, match=r"steps\[0\]\.latency_s is nan"):
        encode_line(msgspec.structs.replace(episode("a"), steps=(step,)))


# --- OpenAI chat ----------------------------------------------------------------------------------------------------

LS = ToolSpec(name="ls", description="list", parameters={"type": "object", "properties": {}})
TOOL_EPISODE = Trajectory(
    id="tools",
    task=Task(id="t", environment="files", goal="Find the file"),
    kind=TrajectoryKind.TEACHER,
    steps=(
        Step(
            index=0,
            observation=Observation(text="You are in /", tools=(LS,)),
            action=Action(tool_calls=(ToolCall(id="c1", name="ls"), ToolCall(id="c2", name="ls", arguments='{"a":1}'))),
            answerer=Answerer.TEACHER,
        ),
        Step(
            index=1,
            observation=Observation(text="seen", tools=(LS,), tool_results=(ToolResult(call_id="c1", text="a.txt"),)),
            action=Action(text="It is a.txt"),
            answerer=Answerer.TEACHER,
        ),
    ),
    outcome=Outcome(success=True),
)


def test_tool_calls_become_openai_messages():
    assert conversation(TOOL_EPISODE) == {
        "messages": [
            {"role": "user", "content": "Find the file\n\nYou are in /"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "ls", "arguments": "{}"}},
                    {"id": "c2", "type": "function", "function": {"name": "ls", "arguments": '{"a":1}'}},
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "a.txt"},
            {"role": "tool", "tool_call_id": "c2", "content": "seen"},
            {"role": "assistant", "content": "It is a.txt"},
        ],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "ls",
                    "description": "list",
                    "parameters": {"type": "object", "properties": {}},
                },
            }
        ],
    }


def test_text_episodes_become_turns_with_the_recorded_system_message():
    messages = conversation(episode("a", steps=2))["messages"]
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "user", "assistant"]
    assert messages[1]["content"].startswith("find the lamp\n\n")
    assert messages[-1]["content"] == "go south"


def test_only_successes_are_exported_unless_asked():
    some = [
        episode("a"),
        episode("b", outcome=Outcome(success=False)),
        episode("c", outcome=None),
        episode("d", steps=0),
    ]
    target = io.BytesIO()
    assert write_openai_chat(some, target) == 1
    assert write_openai_chat(some, target, all_outcomes=True) == 3


def test_openai_chat_comes_in_as_teacher_trajectories():
    target = io.BytesIO()
    write_openai_chat([TOOL_EPISODE, episode("a", steps=3)], target)
    file = target.getvalue() + b'{"messages":[{"role":"user","content":"x"}]}\n{"messages":[{"role":"robot"}]}\n'
    items = [item for _, item in read_openai_chat(io.BytesIO(file))]
    tools, text, *bad = items
    assert isinstance(tools, Trajectory)
    assert [step.action for step in tools.steps] == [step.action for step in TOOL_EPISODE.steps]
    assert tools.steps[0].observation.tools == (LS,)
    assert [r.text for r in tools.steps[1].observation.tool_results] == ["a.txt", "seen"]
    assert tools.outcome is None
    assert isinstance(text, Trajectory)
    assert [step.action.text for step in text.steps] == ["go north", "go south", "look"]
    assert text.steps[2].calls[0].prompt[0].role == "system"
    assert text.steps[2].calls[0].replies == (Reply(text="look"),)
    assert [b.line for b in bad if isinstance(b, BadLine)] == [3, 4]


# --- Parquet --------------------------------------------------------------------------------------------------------


def test_parquet_has_a_row_a_step_and_null_for_unknown_tokens(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pip install 'potstill[parquet]'")
    unknown = msgspec.structs.replace(
        episode("b", steps=1).steps[0],
        calls=(msgspec.structs.replace(episode("b", steps=1).steps[0].calls[0], usage=None),),
    )
    some = [episode("a", steps=3), msgspec.structs.replace(episode("b"), steps=(unknown,)), TOOL_EPISODE]
    path = tmp_path / "steps.parquet"
    with replacing(path) as target:
        assert write_parquet(some, target) == 6
    rows = parquet.read_table(path).to_pylist()
    assert [(row["trajectory_id"], row["step"]) for row in rows][:4] == [("a", 0), ("a", 1), ("a", 2), ("b", 0)]
    assert [row["input_tokens"] for row in rows[:4]] == [50, 150, 250, None]
    assert rows[4]["input_tokens"] == 0  # no call was billed
    assert rows[2]["cache_read_tokens"] == 200
    assert json.loads(rows[4]["tool_calls"])[1]["arguments"] == '{"a":1}'
    assert rows[5]["admissible"] is None
    assert rows[0]["success"] is True
    assert rows[0]["reason"] == "teacher-only"


def test_parquet_without_pyarrow_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"potstill\[parquet\]"):
        write_parquet([], io.BytesIO())


def test_parquet_cannot_be_imported(store):
    with pytest.raises(StoreError, match="Export as jsonl"):
        import_file(store, io.BytesIO(b""), "parquet")


def interrupted(path):
    with replacing(path) as target:
        target.write(b"half")
        raise KeyboardInterrupt


def test_an_interrupted_export_leaves_the_old_file(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        interrupted(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


# --- splits ---------------------------------------------------------------------------------------------------------


def test_episodes_of_one_task_stay_together_in_any_order():
    some = [
        msgspec.structs.replace(episode(f"{i}-{k}", steps=0), task=Task(id=f"t{i}", environment="e"))
        for i in range(200)
        for k in range(3)
    ]
    fractions = {"train": 0.8, "test": 0.2}
    parts = split_by_task(some, fractions, seed=1)
    tasks = {name: {t.task.id for t in part} for name, part in parts.items()}
    assert not tasks["train"] & tasks["test"]
    assert 25 <= len(tasks["test"]) <= 55
    again = split_by_task(reversed(some), fractions, seed=1)
    assert {t.id for t in again["test"]} == {t.id for t in parts["test"]}
    assert {t.id for t in split_by_task(some, fractions, seed=2)["test"]} != {t.id for t in parts["test"]}


@pytest.mark.parametrize("fractions", [{}, {"a": 0.5}, {"a": 1.5, "b": -0.5}, {"a": 0.6, "b": 0.6}])
def test_fractions_must_add_up(fractions):
    with pytest.raises(ConfigError, match="add up to 1"):
        split_of(Task(id="t", environment="e"), fractions)
