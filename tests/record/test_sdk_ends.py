"""Episodes that do not end as they should: streams half read, processes that leave, die or fork, gateways down.

Nothing of this may cost the agent anything, and what was answered is a trajectory in the end.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest
from sdk_provider import ASKED, Provider

import potstill
from potstill.errors import ConfigError
from potstill.record.episodes import current
from potstill.record.wrap import recording_of
from potstill.trajectories import Store
from potstill.types import Answerer, Trajectory

openai = pytest.importorskip("openai", reason="the official openai package is not installed (extra 'test')")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ends.db"


@pytest.fixture
def opened(path: Path) -> Iterator[Store]:
    with Store.open(path) as store:
        yield store


def client_of(provider: type[Provider], store: Store | Path | None, **options: Any) -> Any:
    url = f"{provider.url}/v1"  # type: ignore[attr-defined]
    return potstill.wrap(openai.OpenAI(base_url=url, api_key="k", **options), store)


def ask(client: Any, **options: Any) -> Any:
    return client.chat.completions.create(model="m", messages=ASKED, **options)


def only(store: Store) -> Trajectory:
    (found,) = store.ids()
    return store.get(found)


# --- streams ----------------------------------------------------------------------------------------------------------


def test_a_stream_that_is_still_read_when_its_block_ends_counts_as_far_as_it_came(
    provider: type[Provider], opened: Store
) -> None:
    client = client_of(provider, opened)
    provider.held = threading.Event()
    with potstill.episode("half") as ep:
        stream = ask(client, stream=True)
        next(iter(stream))
        ep.succeed()
    provider.held.set()
    trajectory = only(opened)
    assert [step.error.kind for step in trajectory.steps if step.error] == ["Incomplete"]
    assert trajectory.succeeded
    assert [chunk.choices[0].delta.content for chunk in stream if chunk.choices], "the agent may read on"
    recording_of(client).flush()
    assert opened.open_episodes() == []
    assert (recording_of(client).recorded, recording_of(client).lost) == (1, 0)


def test_a_stream_that_is_left_alone_is_kept_once(provider: type[Provider], opened: Store) -> None:
    client = client_of(provider, opened)
    with potstill.episode("left"):
        for _ in ask(client, stream=True):
            break
        gc.collect()
    assert len(only(opened).steps) == 1


async def test_a_task_that_is_cancelled_while_it_reads_is_an_episode(provider: type[Provider], opened: Store) -> None:
    url = f"{provider.url}/v1"  # type: ignore[attr-defined]
    client = potstill.wrap(openai.AsyncOpenAI(base_url=url, api_key="k"), opened)
    reading = asyncio.Event()

    async def work() -> None:
        async with potstill.episode("cancelled"), await ask(client, stream=True) as stream:
            async for _ in stream:
                reading.set()
                await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await reading.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    outcome = only(opened).outcome
    assert outcome is not None
    assert (outcome.success, outcome.detail) == (None, "raised CancelledError")


# --- contexts ---------------------------------------------------------------------------------------------------------


def test_an_episode_within_an_episode_has_its_own_calls(provider: type[Provider], opened: Store) -> None:
    client = client_of(provider, opened)
    with potstill.episode("outer", id="outer") as outer:
        ask(client)
        with potstill.episode("inner", id="inner") as inner:
            ask(client)
            inner.fail("no")
        assert current() is outer
        ask(client)
        outer.succeed()
    calls = {id: sum(len(step.calls) for step in opened.get(id).steps) for id in opened.ids()}
    assert calls == {"default/outer": 2, "default/inner": 1}
    assert opened.get("default/inner").succeeded is False


def test_threads_belong_to_the_episode_in_a_copy_of_its_context(provider: type[Provider], opened: Store) -> None:
    client = client_of(provider, opened)
    with potstill.episode(id="ep"):
        threads = [threading.Thread(target=copy_context().run, args=(ask, client)) for _ in range(3)]
        threads.append(threading.Thread(target=ask, args=(client,)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sum(len(step.calls) for step in only(opened).steps) == 3
    assert len(opened.open_episodes()) == 1, "a thread of its own context is in no episode"


async def test_a_generator_that_goes_on_in_another_task_does_not_break(provider: type[Provider], opened: Store) -> None:
    client = client_of(provider, opened)

    async def agent() -> AsyncIterator[int]:
        with potstill.episode("steps") as ep:
            await asyncio.to_thread(ask, client)
            yield 1
            ep.succeed()

    steps = agent()

    async def advance() -> int:
        return await anext(steps, 0)

    assert await asyncio.create_task(advance()) == 1
    assert await asyncio.create_task(advance()) == 0
    assert only(opened).succeeded
    assert current() is None


# --- errors -----------------------------------------------------------------------------------------------------------


def test_a_call_that_nobody_answers_is_recorded(provider: type[Provider], opened: Store) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
    client = potstill.wrap(openai.OpenAI(base_url=nobody, api_key="k", max_retries=0), opened)
    with potstill.episode("refused"), pytest.raises(openai.APIConnectionError):
        ask(client)
    (step,) = only(opened).steps
    assert step.answerer is Answerer.NOBODY
    assert step.error is not None
    assert step.error.kind == "ConnectError"
    assert recording_of(client).lost == 0


@pytest.mark.parametrize("raises", [False, True])
def test_a_gateway_that_is_down_costs_the_outcome_and_nothing_else(
    raises: bool, caplog: pytest.LogCaptureFixture
) -> None:
    ep = potstill.episode("told", gateway="http://127.0.0.1:9", key="tenant-key")

    def attempt() -> None:
        with ep:
            ep.succeed()
            if raises:
                raise KeyError("the agent's own")

    if raises:
        with pytest.raises(KeyError, match="own"):
            attempt()
    else:
        attempt()
    assert ep.lost
    assert "did not reach http://127.0.0.1:9" in caplog.text
    assert "tenant-key" not in caplog.text


def test_an_address_that_is_none_is_told_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="http://127"):
        potstill.episode(gateway="localhost:8000")


# --- processes --------------------------------------------------------------------------------------------------------

SCRIPT = """
import os, signal, sys
import openai, potstill
from potstill.record.wrap import recording_of

client = potstill.wrap(openai.OpenAI(base_url=sys.argv[1], api_key="k"), sys.argv[2])

def ask(text="Say hi"):
    return client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])

"""


def run(provider: type[Provider], path: Path, code: str) -> int:
    url = f"{provider.url}/v1"  # type: ignore[attr-defined]
    done = subprocess.run([sys.executable, "-c", SCRIPT + code, url, str(path)], capture_output=True, timeout=300)
    assert b"Traceback" not in done.stderr, done.stderr
    return done.returncode


def trajectories(path: Path) -> list[tuple[str, bool | None, int]]:
    with Store.read(path) as store:
        assert store.open_episodes() == []
        found = [store.get(id) for id in store.ids()]
    return [(one.goal, one.outcome.success if one.outcome else None, len(one.steps)) for one in found]


def test_a_process_that_leaves_within_the_block_leaves_a_trajectory(provider: type[Provider], path: Path) -> None:
    assert run(provider, path, "with potstill.episode('leaves'):\n    ask()\n    sys.exit(3)") == 3
    assert trajectories(path) == [("leaves", None, 1)]


def test_an_episode_that_nobody_left_and_calls_in_none_end_with_the_process(
    provider: type[Provider], path: Path
) -> None:
    code = "ask('alone')\nep = potstill.episode('entered').__enter__()\nask()\nstream = client.chat.completions.create("
    code += "model='m', messages=[{'role': 'user', 'content': 'x'}], stream=True)\nnext(iter(stream))"
    assert run(provider, path, code) == 0
    assert sorted(trajectories(path)) == [("alone", None, 1), ("entered", None, 2)]


def test_what_a_killed_process_was_answered_is_a_trajectory_once_another_ends(
    provider: type[Provider], path: Path
) -> None:
    code = "with potstill.episode('killed'):\n    ask()\n    recording_of(client).flush()\n    os.kill(os.getpid(), 9)"
    assert run(provider, path, code) == -signal.SIGKILL
    with Store.read(path) as store:
        (left,) = store.open_episodes()
        assert (store.ids(), left.exchanges) == ([], 1)
    later = "import potstill.record.recording as r\nr.IDLE_S = -1.0\nwith potstill.episode('next') as ep:\n    ask()"
    assert run(provider, path, later) == 0
    assert sorted(trajectories(path)) == [("killed", None, 1), ("next", None, 1)]


def in_a_child(client: Any, id: str) -> None:
    with potstill.episode("child", id=id) as ep:
        ask(client)
        ep.succeed()
    os._exit(0 if recording_of(client).lost == 0 else 4)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("handed_over", [False, True])
def test_a_forked_child_records_and_its_parent_goes_on(
    handed_over: bool, provider: type[Provider], path: Path, opened: Store
) -> None:
    client = client_of(provider, opened if handed_over else path)
    with potstill.episode("parent", id="before"):
        ask(client)
    context = multiprocessing.get_context("fork")
    child = context.Process(target=in_a_child, args=(client, "child"))
    child.start()
    child.join(30)
    code, _ = child.exitcode, child.kill()
    assert code == 0
    with potstill.episode("parent", id="after") as ep:
        ask(client)
        ep.succeed()
    assert sorted(opened.ids()) == ["default/after", "default/before", "default/child"]
    assert opened.get("default/child").succeeded
