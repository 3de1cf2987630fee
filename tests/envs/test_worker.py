"""Worker processes: a crash, a hang or a bug of a game is an error of one episode, and leaves nothing running."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from potstill.envs.registry import Factory
from potstill.envs.worker import Timeouts, WorkerEnvironment, WorkerPool, expert_handle
from potstill.errors import BadTask, EnvCrashed, EnvError, MissingExtra, PotstillError, UnknownName
from potstill.types import Action, Blob, Task

TASK = Task(id="t", environment="odd", data={"extra": {"nested": [1, 2.5, None, "ü"]}})
ODD = Factory(name="worlds:Odd")


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker finds what its owner can import: here by the owner's ``sys.path`` alone."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.fixture
async def worker():
    environment = WorkerEnvironment(ODD)
    yield environment
    await environment.aclose()


def pid_in(text: str) -> int:
    return int(text.rsplit(" ", 1)[1])


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if not alive(pid):
            return True
        time.sleep(0.02)
    return False


async def test_calls_travel_both_ways(worker: WorkerEnvironment) -> None:
    observation = await worker.reset(TASK, 3)
    assert "{'nested': [1, 2.5, None, 'ü']} 3" in observation.text
    assert pid_in(observation.text) == worker.pid != os.getpid()
    assert (await worker.expert_action()).text == "go"
    assert (await worker.step(Action(text="go"))).admissible == ("go",)
    assert (await worker.outcome()).score == 0.5
    assert await worker.read_blob(Blob(digest="ab", media_type="x", size_bytes=2)) == b"\x00\xff"
    assert len((await worker.step(Action(text="long"))).text) == 3_000_000


@pytest.mark.parametrize(
    ("action", "words"), [("exit", "exit code 7.*last words"), ("segv", "SIGSEGV"), ("bug", "ZeroDivisionError")]
)
async def test_a_crash_is_an_error_and_the_next_reset_works(worker: WorkerEnvironment, action: str, words: str) -> None:
    first = pid_in((await worker.reset(TASK, 0)).text)
    with pytest.raises(EnvCrashed, match=words):
        await worker.step(Action(text=action))
    with pytest.raises(EnvCrashed, match="call reset"):
        await worker.outcome()
    assert pid_in((await worker.reset(TASK, 0)).text) != first
    assert gone(first)


async def test_a_hang_is_killed_after_the_time_out() -> None:
    worker = WorkerEnvironment(ODD, timeouts=Timeouts(call_s=0.3))
    pid = pid_in((await worker.reset(TASK, 0)).text)
    with pytest.raises(EnvCrashed, match=r"did not answer 'step' in 0.3 s"):
        await worker.step(Action(text="hang"))
    assert gone(pid)
    assert (await worker.reset(TASK, 0)).text
    await worker.aclose()


async def test_a_cancelled_call_leaves_a_usable_environment(worker: WorkerEnvironment) -> None:
    pid = pid_in((await worker.reset(TASK, 0)).text)
    call = asyncio.create_task(worker.step(Action(text="hang")))
    await asyncio.sleep(0.1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert gone(pid)
    await worker.reset(TASK, 1)
    assert (await worker.step(Action(text="go"))).text == "step 1"


async def test_prints_of_a_game_do_not_break_the_frames(worker: WorkerEnvironment) -> None:
    await worker.reset(TASK, 0)
    assert (await worker.step(Action(text="print"))).text == "step 1"
    assert (await worker.step(Action(text="go"))).text == "step 2"


async def test_errors_of_the_contract_keep_their_kind_and_the_worker(worker: WorkerEnvironment) -> None:
    pid = pid_in((await worker.reset(TASK, 0)).text)
    with pytest.raises(EnvError, match="The episode is over"):
        await worker.step(Action(text="over"))
    with pytest.raises(BadTask, match="corrupt"):
        await worker.reset(Task(id="bad", environment="odd"), 0)
    with pytest.raises(KeyError):
        await worker.read_blob(Blob(digest="other", media_type="x", size_bytes=1))
    with pytest.raises(EnvError, match="knows no action"):
        await worker.expert_action()
    assert worker.pid == pid


async def test_an_environment_that_cannot_be_built_says_why() -> None:
    with pytest.raises(EnvCrashed, match="cannot be built"):
        await WorkerEnvironment(Factory(name="worlds:Odd", options={"broken": True})).reset(TASK, 0)
    with pytest.raises(UnknownName, match="Did you mean 'minigrid'"):
        await WorkerEnvironment(Factory(name="minigird")).reset(TASK, 0)


@pytest.mark.parametrize("error", [UnknownName("level", "x", ["y"]), MissingExtra("It", "extra"), EnvError("plain")])
def test_every_error_can_be_rebuilt_from_its_message(error: PotstillError) -> None:
    worker = WorkerEnvironment(ODD)
    from potstill.envs.frames import Raised

    rebuilt = asyncio.run(worker._raised(Raised(type(error).__name__, str(error)), "step"))
    assert type(rebuilt) is type(error)
    assert str(rebuilt) == str(error)


async def test_a_worker_is_replaced_after_its_episodes() -> None:
    worker = WorkerEnvironment(ODD, episodes_per_worker=2)
    pids = [pid_in((await worker.reset(TASK, seed)).text) for seed in range(5)]
    await worker.aclose()
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]


async def test_a_pool_lends_each_worker_to_one_user() -> None:
    used: list[int] = []
    at_once = most = 0

    async def play(pool: WorkerPool) -> None:
        nonlocal at_once, most
        async with pool.lease() as environment:
            at_once += 1
            most = max(most, at_once)
            used.append(pid_in((await environment.reset(TASK, 0)).text))
            assert await expert_handle(environment).expert_action() == Action(text="go")
            at_once -= 1

    async with WorkerPool(ODD, 2) as pool:
        await asyncio.gather(*(play(pool) for _ in range(6)))
    assert most == 2
    assert len(used) == 6
    assert all(gone(pid) for pid in set(used))


OWNER = """
import asyncio, sys
from potstill.envs.registry import Factory
from potstill.envs.worker import WorkerEnvironment
from potstill.types import Action, Task

async def main():
    worker = WorkerEnvironment(Factory(name="worlds:Odd"))
    await worker.reset(Task(id="t", environment="odd"), 0)
    print(worker.pid, flush=True)
    await worker.step(Action(text="hang"))

try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted", file=sys.stderr)
"""


def owner() -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(OWNER)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=Path(__file__).parent,
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


@pytest.mark.skipif(sys.platform != "linux", reason="a busy worker notices its owner's death only on Linux")
def test_a_busy_worker_dies_with_its_owner() -> None:
    process, pid = owner()
    process.kill()
    process.communicate()
    assert gone(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ctrl_c_prints_no_traceback_of_the_worker() -> None:
    process, pid = owner()
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert said.strip() == "interrupted"
    assert gone(pid)
