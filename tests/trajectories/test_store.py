"""The store through its public API: round trips, sharing, filters, idempotence, what it refuses."""

from __future__ import annotations

import math
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trajectory_fakes import episode
from trajectory_strategies import messages, trajectories

from engines import raw
from potstill.errors import DiskFull, StoreError
from potstill.trajectories import Store
from potstill.types import Action, Blob, Message, Observation, Outcome, OutcomeSource, Reply, ToolSpec

relaxed = settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@pytest.fixture
def store(tmp_path: Path):
    with Store.open(tmp_path / "store.db") as opened:
        yield opened


def count(store: Store, table: str) -> int:
    with raw(store) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


@relaxed
@given(st.lists(trajectories, max_size=4, unique_by=lambda t: t.id))
def test_any_trajectory_reads_back_equal(tmp_path_factory, some):
    path = tmp_path_factory.mktemp("any") / "store.db"
    with Store.open(path) as store:
        for trajectory in some:
            store.append(trajectory)
    with Store.open(path, create=False) as store:
        assert [store.get(t.id) for t in some] == some
        assert list(store.select(namespace=None)) == some
        assert store.check() == []


@relaxed
@given(st.lists(st.lists(messages, max_size=6).map(tuple), min_size=1, max_size=5))
def test_each_prompt_prefix_is_stored_once(tmp_path_factory, prompts):
    base = episode("a", steps=len(prompts))
    steps = tuple(
        msgspec.structs.replace(step, calls=(msgspec.structs.replace(step.calls[0], prompt=prompt),))
        for step, prompt in zip(base.steps, prompts, strict=True)
    )
    with Store.open(tmp_path_factory.mktemp("chain") / "store.db") as store:
        store.append(msgspec.structs.replace(base, steps=steps))
        prefixes = {p[:n] for p in prompts for n in range(1, len(p) + 1)}
        assert count(store, "nodes") == len(prefixes)
        assert count(store, "messages") == len({m for p in prompts for m in p})


def test_tool_lists_that_repeat_are_stored_once(store):
    tools = (ToolSpec(name="ls", parameters={"type": "object"}), ToolSpec(name="cat"))
    base = episode("a", steps=20)
    steps = tuple(
        msgspec.structs.replace(
            s,
            observation=Observation(text=s.observation.text, tools=tools),
            calls=(msgspec.structs.replace(s.calls[0], tools=tuple(tools)),),
        )
        for s in base.steps
    )
    trajectory = msgspec.structs.replace(base, steps=steps, final_observation=Observation(tools=tools))
    store.append(trajectory)
    assert store.get("a") == trajectory
    assert count(store, "toolsets") == 1


def test_growth_is_linear_in_new_text(tmp_path):
    def added(steps: int) -> int:
        with Store.open(tmp_path / f"{steps}.db") as store:
            store.append(episode("a", steps=steps))
        with raw(tmp_path / f"{steps}.db") as c:
            return int(
                c.execute(
                    "SELECT (SELECT sum(length(body)) FROM messages) + (SELECT sum(length(body)) FROM steps)"
                ).fetchone()[0]
            )

    ten, forty, seventy = added(10), added(40), added(70)
    assert (seventy - forty) == pytest.approx(forty - ten, rel=0.02)


def test_appending_again_is_idempotent_and_a_different_one_is_refused(store):
    first = episode("a")
    assert store.append_nowait(first).result() is True
    assert store.append_nowait(first).result() is False
    with pytest.raises(StoreError, match="different trajectory with id 'a'"):
        store.append(episode("a", words="changed"))
    assert list(store.select()) == [first]


def test_a_late_outcome_is_kept_and_the_original_may_come_again(store):
    first = episode("a", outcome=None)
    store.append(first)
    assert store.ids(success=True) == []
    late = Outcome(success=True, source=OutcomeSource.HUMAN)
    store.set_outcome("a", late)
    judged = msgspec.structs.replace(first, outcome=late)
    assert store.get("a") == judged
    assert store.ids(success=True) == ["a"]
    assert not store.append_nowait(first).result()
    assert not store.append_nowait(judged).result()
    assert store.get("a") == judged
    with pytest.raises(StoreError, match="No trajectory with id 'b'"):
        store.set_outcome("b", late)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_cannot_hold_is_refused_with_its_place(store, bad):
    base = episode("a")
    call = msgspec.structs.replace(base.steps[1].calls[0], replies=(Reply(text="x", logprob=bad),))
    step = msgspec.structs.replace(base.steps[1], calls=(call,))
    with pytest.raises(StoreError, match=r"step 1: calls\[0\]\.replies\[0\]\.logprob is -?(nan|inf)"):
        store.append(msgspec.structs.replace(base, steps=(base.steps[0], step)))
    assert store.ids() == []


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": {"a": (1, 2)}},
        {"metadata": {"a": {1: 2}}},
        {"metadata": {"a": object()}},
        {"arm": 3},
        {"goal": "half a character: \ud83d"},
        {"seed": 2**63},
        {"steps": ("no step",)},
        {"started_at": "yesterday"},
    ],
)
def test_what_would_not_read_back_equal_is_refused(store, change):
    with pytest.raises(StoreError, match="Cannot store trajectory 'a'"):
        store.append(msgspec.structs.replace(episode("a"), **change))
    assert store.ids(namespace=None) == []


def test_filters(store):
    for i in range(6):
        store.append(
            episode(
                f"e{i}",
                steps=1,
                run_id=f"r{i % 2}",
                arm=f"arm{i % 3}",
                started_at=float(100 + i),
                outcome=None if i == 5 else Outcome(success=i < 2),
            )
        )
    assert store.ids(run_id="r1") == ["e1", "e3", "e5"]
    assert store.ids(arm="arm2", run_id="r0") == ["e2"]
    assert store.ids(success=True) == ["e0", "e1"]
    assert store.ids(success=False) == ["e2", "e3", "e4"]
    assert store.ids(since=102.0, until=104.0) == ["e2", "e3"]
    assert store.ids(limit=2, newest_first=True) == ["e5", "e4"]
    assert store.ids(limit=0) == []
    assert store.ids(kind="student") == []
    assert store.ids(environment="house", split="train", task_id="task-e3") == ["e3"]
    row = store.summaries(limit=1)[0]
    assert (row.id, row.steps, row.success, row.seed, row.arm) == ("e0", 1, True, 0, "arm0")
    with pytest.raises(TypeError, match="no filter named 'colour'"):
        store.ids(colour="red")  # type: ignore[call-arg]


def test_namespaces_are_apart_unless_all_are_asked_for(store):
    store.append(episode("a", namespace="acme"))
    store.append(episode("b", namespace="globex"))
    store.append(episode("c"))
    assert store.ids() == ["c"]
    assert store.ids(namespace="acme") == ["a"]
    assert [t.id for t in store.select(namespace="globex")] == ["b"]
    assert store.ids(namespace="glob%") == []
    assert store.ids(namespace=None) == ["a", "b", "c"]
    store.bump("acme", "k", shown=1)
    assert store.counters("globex") == {}


HOSTILE = ["'; DROP TABLE trajectories; --", '"} , {"bare":', "\x00\x1f", "%_", "' OR 1=1 --", "-1", "{}"]


@pytest.mark.parametrize("text", HOSTILE)
def test_stored_text_stays_text(store, text):
    store.append(episode("honest"))
    trajectory = episode(text, words=text, arm=text, run_id=text, namespace=text, goal=text, metadata={text: text})
    store.append(trajectory)
    assert store.get(text) == trajectory
    assert store.ids(namespace=text, arm=text, run_id=text) == [text]
    assert store.ids(namespace=text, arm=f"{text} ") == []
    assert store.ids() == ["honest"]
    store.bump(text, text, shown=1)
    store.put_run(text, {text: text})
    store.put_vectors(text, [text], np.ones((1, 2), dtype=np.float32))
    assert store.get_run(text) == {text: text}
    assert store.remove([f"{text}x"]).removed == 0
    assert store.remove([text]).removed == 1
    assert store.ids(namespace=None) == ["honest"]
    assert store.check() == []


def test_an_observation_cannot_forge_a_reference(store):
    forged = '{"position":0,"slot":0,"node":0,"toolset":0}'
    other = episode("secret", words="the secret", namespace="acme")
    store.append(other)
    trajectory = episode("a", words=forged, steps=2)
    steps = tuple(msgspec.structs.replace(s, action=Action(text=forged), calls=()) for s in trajectory.steps)
    trajectory = msgspec.structs.replace(trajectory, steps=steps, metadata={"refs": [[0, 0, 1, -1]], "prompt": [1]})
    store.append(trajectory)
    assert store.get("a") == trajectory
    assert all(step.calls == () for step in store.get("a").steps)


def test_blobs_are_kept_once_and_verified(store):
    blob = store.put_blob(b"\x89PNG picture", "image/png")
    assert store.put_blob(b"\x89PNG picture", "image/png") == blob
    assert count(store, "blobs") == 1
    assert store.get_blob(blob.digest) == b"\x89PNG picture"
    with pytest.raises(StoreError, match="No image"):
        store.get_blob("0" * 64)
    with raw(store) as connection:
        connection.execute("UPDATE blobs SET content = ?", (b"\x00",))
    with pytest.raises(StoreError, match="damaged"):
        store.get_blob(blob.digest)


def test_runs(store):
    store.put_run("r1", {"n": 3, "arms": ("a", "b")})
    store.put_run("r1", {"arms": ["a", "b"], "n": 3})
    assert store.get_run("r1") == {"n": 3, "arms": ["a", "b"]}
    with pytest.raises(StoreError, match="another configuration"):
        store.put_run("r1", {"n": 4})
    store.put_run("r1", {"n": 4}, replace=True)
    assert [(run.run_id, run.config) for run in store.runs()] == [("r1", {"n": 4})]
    with pytest.raises(StoreError, match="No run 'r2'"):
        store.get_run("r2")
    with pytest.raises(StoreError, match="only finite"):
        store.put_run("r3", {"x": math.nan})
    store.put_run("theirs", {"namespace": "acme"})
    assert [run.run_id for run in store.runs(namespace="acme")] == ["theirs"]
    assert [run.run_id for run in store.runs(namespace="default")] == ["r1"]
    with pytest.raises(StoreError, match=r"It holds: r1\.$"):
        store.get_run("theirs", namespace="default")


def test_counters_add_up(store):
    store.bump("ns", "t#1", shown=2, succeeded=1)
    store.bump_many("ns", [("t#1", 1, 1), ("t#2", 1, 0)])
    found = store.counters("ns")
    assert (found["t#1"].shown, found["t#1"].succeeded) == (3, 2)
    assert (found["t#2"].shown, found["t#2"].succeeded) == (1, 0)


def test_vectors_keep_order_replace_in_place_and_refuse_what_does_not_fit(store):
    matrix = np.arange(6, dtype=np.float32).reshape(3, 2)
    store.put_vectors("ns/e/goal", ["a", "b", "c"], matrix)
    store.put_vectors("ns/e/goal", ["b", "d"], np.array([[9, 9], [8, 8]], dtype=np.float32))
    ids, found = store.vectors("ns/e/goal")
    assert ids == ["a", "b", "c", "d"]
    np.testing.assert_array_equal(found, np.array([[0, 1], [9, 9], [4, 5], [8, 8]], dtype=np.float32))
    with pytest.raises(StoreError, match="holds vectors of 2 numbers"):
        store.put_vectors("ns/e/goal", ["x"], np.ones((1, 3), dtype=np.float32))
    with pytest.raises(StoreError, match="shape"):
        store.put_vectors("ns/e/goal", ["x"], np.ones((2, 2), dtype=np.float32))
    with pytest.raises(StoreError, match="NaN"):
        store.put_vectors("ns/e/goal", ["x"], np.array([[np.nan, 1]], dtype=np.float32))
    assert store.remove_vectors("ns/e/goal", ["a", "zzz"]) == 1
    assert store.remove_vectors("ns/e/goal") == 3
    assert store.vectors("ns/e/goal")[1].shape == (0, 0)


def test_many_threads_append_and_read(store):
    def work(i: int) -> bool:
        trajectory = episode(f"t{i}", steps=2)
        store.append(trajectory)
        return store.get(f"t{i}") == trajectory

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(work, range(200)))
    assert len(store.ids()) == 200


def test_one_bad_member_does_not_fail_its_group(store):
    store.append(episode("a"))
    futures = [store.append_nowait(t) for t in (episode("b"), episode("a", words="other"), episode("c"))]
    assert futures[0].result()
    assert futures[2].result()
    with pytest.raises(StoreError, match="different"):
        futures[1].result()
    assert store.ids() == ["a", "b", "c"]


def fill(store: Store, kept: list[str]) -> None:
    for i in range(1000):
        store.append(episode(f"e{i}", steps=10, words=str(i)))
        kept.append(f"e{i}")


def test_the_size_limit_refuses_and_keeps_what_was_there(tmp_path):
    with Store.open(tmp_path / "s.db", max_bytes=400_000) as store:
        kept: list[str] = []
        with pytest.raises(DiskFull, match="No space left for the store"):
            fill(store, kept)
        assert kept
        assert store.ids() == kept
        assert all(store.get(id) for id in kept)
        assert store.check() == []
        store.remove(kept[:5])
        store.append(episode("after", steps=10))


def test_a_missing_blob_reference_does_not_refuse_the_episode(store):
    image = Blob(digest="ab" * 32, media_type="image/png", size_bytes=3)
    trajectory = episode("a", final_observation=Observation(text="x", images=(image,)))
    store.append(trajectory)
    assert store.get("a") == trajectory


def test_closed_and_missing_and_foreign_files_say_so(tmp_path):
    store = Store.open(tmp_path / "a.db")
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.append(episode("a"))
    with pytest.raises(StoreError, match="No store at"):
        Store.open(tmp_path / "b.db", create=False)
    (tmp_path / "c.db").write_text("hello, this is no database at all" * 100)
    with pytest.raises(StoreError, match="not a readable potstill store"):
        Store.open(tmp_path / "c.db")
    with sqlite3.connect(tmp_path / "d.db") as foreign:
        foreign.execute("CREATE TABLE x(y)")
    foreign.close()
    before = (tmp_path / "d.db").read_bytes()
    with pytest.raises(StoreError, match="another program"):
        Store.open(tmp_path / "d.db")
    assert (tmp_path / "d.db").read_bytes() == before


def test_a_damaged_row_names_the_trajectory(store):
    store.append(episode("a"))
    with raw(store) as connection:
        connection.execute('UPDATE steps SET body = \'{"index": "no"}\' WHERE position = 1')
    with pytest.raises(StoreError, match="Trajectory 'a' in the store is damaged"):
        store.get("a")


def test_messages_of_one_text_in_two_roles_are_two(store):
    base = episode("a", steps=1)
    prompt = (Message(role="user", content="x"), Message(role="assistant", content="x"))
    step = msgspec.structs.replace(
        base.steps[0], calls=(msgspec.structs.replace(base.steps[0].calls[0], prompt=prompt),)
    )
    trajectory = msgspec.structs.replace(base, steps=(step,))
    store.append(trajectory)
    assert store.get("a") == trajectory
