"""An environment in a process of its own: a crash or a hang of a game is a failed episode, never a failed run.

What it knows: how to start, ask, time out, kill and restart one worker, and how to lend several. What it does not do:
know any game; the worker's side is ``worker_child``, the frames are in ``frames``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from potstill import errors
from potstill.envs import frames
from potstill.envs.registry import Factory
from potstill.errors import EnvCrashed, EnvError, PotstillError
from potstill.protocols import AsyncEnvironment, ExpertHandle
from potstill.types import Action, Blob, Observation, Outcome, Struct, Task

_T = TypeVar("_T")
_STDERR_LINES = 5


class Timeouts(Struct, frozen=True, kw_only=True):
    """How long, in seconds, one call of a worker may take before it is killed."""

    start_s: float = 60.0
    reset_s: float = 120.0
    call_s: float = 60.0


class WorkerEnvironment:
    """``AsyncEnvironment`` over a child process, which starts at the first ``reset``.

    A worker that dies, hangs beyond ``timeouts`` or raises anything but a potstill error is killed and gives
    ``EnvCrashed`` with the reason; the next ``reset`` starts a new one. ``episodes_per_worker`` also starts a new one
    after so many episodes (games that leak memory). Cancelling a call kills the worker, since its answer could not be
    told from the next one's.
    """

    def __init__(
        self, factory: Factory, *, timeouts: Timeouts | None = None, episodes_per_worker: int | None = None
    ) -> None:
        self._factory = factory
        self._timeouts = timeouts or Timeouts()
        self._limit = episodes_per_worker
        self._process: asyncio.subprocess.Process | None = None
        self._stderr: deque[str] = deque(maxlen=_STDERR_LINES)
        self._drain: asyncio.Task[None] | None = None
        self._episodes = 0
        self._lock = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """The worker's process id; None where none runs."""
        return self._process.pid if self._process is not None else None

    async def reset(self, task: Task, seed: int) -> Observation:
        async with self._lock:
            if self._process is not None and self._limit is not None and self._episodes >= self._limit:
                await self._stop()
            if self._process is None or self._process.returncode is not None:
                await self._start()
            self._episodes += 1
            answer = await self._ask(frames.ResetCall(task, seed), self._timeouts.reset_s, frames.Observed)
        return answer.observation

    async def step(self, action: Action) -> Observation:
        async with self._lock:
            answer = await self._ask(frames.StepCall(action), self._timeouts.call_s, frames.Observed)
        return answer.observation

    async def outcome(self) -> Outcome:
        async with self._lock:
            answer = await self._ask(frames.OutcomeCall(), self._timeouts.call_s, frames.Ended)
        return answer.outcome

    async def expert_action(self) -> Action:
        """The expert's next action. Raises ``EnvError`` where there is no expert, or it has no answer."""
        async with self._lock:
            answer = await self._ask(frames.ExpertCall(), self._timeouts.call_s, frames.Advised)
        if answer.action is None:
            raise EnvError(f"The expert of '{self._factory.name}' knows no action in this state.")
        return answer.action

    async def read_blob(self, blob: Blob) -> bytes:
        async with self._lock:
            answer = await self._ask(frames.BlobCall(blob), self._timeouts.call_s, frames.Bytes)
        return answer.data

    async def aclose(self) -> None:
        """End the worker. The environment may be reset again afterwards, which starts another."""
        async with self._lock:
            await self._stop()

    # --- the process ------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        await self._stop()
        spec = msgspec.json.encode(self._factory).decode()
        self._stderr.clear()
        self._episodes = 0
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "potstill.envs.worker_child", spec),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C at the terminal is the owner's business alone
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
        )
        self._drain = asyncio.create_task(self._keep_stderr(self._process))
        await self._receive(self._timeouts.start_s, frames.Ready, "start")

    async def _ask(self, call: frames.Call, timeout_s: float, kind: type[_T]) -> _T:
        process = self._process
        if process is None or process.stdin is None:
            raise EnvCrashed(f"No worker of '{self._factory.name}' is running: call reset to start one.")
        try:
            process.stdin.write(frames.frame(call))
        except (BrokenPipeError, ConnectionResetError):
            raise await self._crashed() from None
        return await self._receive(timeout_s, kind, type(call).__name__.removesuffix("Call").lower())

    async def _receive(self, timeout_s: float, kind: type[_T], what: str) -> _T:
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._read()
        except TimeoutError:
            await self._kill()
            raise EnvCrashed(
                f"The worker of '{self._factory.name}' did not answer '{what}' in {timeout_s:g} s and was killed."
            ) from None
        except (asyncio.IncompleteReadError, ConnectionResetError, BrokenPipeError, msgspec.DecodeError):
            raise await self._crashed() from None
        except asyncio.CancelledError:
            await asyncio.shield(self._kill())
            raise
        if isinstance(answer, frames.Raised):
            raise await self._raised(answer, what)
        assert isinstance(answer, kind), f"a worker answered {type(answer).__name__} to {what}"
        return answer

    async def _read(self) -> frames.Answer:
        assert self._process is not None
        assert self._process.stdout is not None
        assert self._process.stdin is not None
        await self._process.stdin.drain()
        (size,) = frames.HEADER.unpack(await self._process.stdout.readexactly(frames.HEADER.size))
        if size > frames.MAX_FRAME_BYTES:
            raise msgspec.DecodeError(f"a frame of {size} bytes")
        return frames.answer_decoder.decode(await self._process.stdout.readexactly(size))

    async def _raised(self, answer: frames.Raised, what: str) -> Exception:
        """The exception that the worker reported; a foreign one ends the worker, whose state nobody knows now."""
        if answer.kind == "KeyError":
            return KeyError(answer.message)
        known = getattr(errors, answer.kind, None)
        if what == "start" or not (isinstance(known, type) and issubclass(known, PotstillError)):
            await self._kill()
        if isinstance(known, type) and issubclass(known, PotstillError):
            error = known.__new__(known, answer.message)  # some constructors build the message from parts
            Exception.__init__(error, answer.message)
            return error
        return EnvCrashed(f"The environment '{self._factory.name}' failed at '{what}': {answer.kind}: {answer.message}")

    async def _crashed(self) -> EnvCrashed:
        process = self._process
        assert process is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await process.wait()
        code = process.returncode
        await self._kill()
        how = "closed its pipe" if code is None else f"died with exit code {code}"
        if code is not None and code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
        said = f" Its last words: {' | '.join(self._stderr)}" if self._stderr else ""
        return EnvCrashed(f"The worker of '{self._factory.name}' {how}.{said}")

    async def _stop(self) -> None:
        """Let the worker close its environment; kill it if it does not end at once."""
        process = self._process
        if process is None:
            return
        if process.returncode is None and process.stdin is not None:
            process.stdin.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2.0):
                    await process.wait()
        await self._kill()

    async def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # its own session: also what a game started
        await process.wait()
        if self._drain is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._drain, 1.0)
            self._drain = None

    async def _keep_stderr(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        rest = b""
        while chunk := await process.stderr.read(65536):
            *lines, rest = (rest + chunk).split(b"\n")
            rest = rest[-4096:]
            self._stderr.extend(line.decode(errors="replace")[:500] for line in lines if line.strip())
        if rest.strip():
            self._stderr.append(rest.decode(errors="replace")[:500])


class WorkerPool:
    """Lends at most ``size`` workers of one environment; each starts when it is first needed.

    >>> async with WorkerPool(factory("minigrid"), 2) as pool:  # doctest: +SKIP
    ...     async with pool.lease() as environment:
    ...         await environment.reset(task, seed=0)
    """

    def __init__(self, factory: Factory, size: int, **options: Any) -> None:
        if size < 1:
            raise errors.ConfigError(f"A pool needs at least one worker, not {size}.")
        self._all = [WorkerEnvironment(factory, **options) for _ in range(size)]
        self._free: asyncio.LifoQueue[WorkerEnvironment] = asyncio.LifoQueue()
        for worker in reversed(self._all):
            self._free.put_nowait(worker)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(worker.aclose() for worker in self._all))

    @contextlib.asynccontextmanager
    async def lease(self) -> AsyncIterator[AsyncEnvironment]:
        """One worker for one user at a time; waits until one is free."""
        worker = await self._free.get()
        try:
            yield worker
        finally:
            self._free.put_nowait(worker)


def expert_handle(environment: AsyncEnvironment) -> ExpertHandle:
    """How an expert model asks the environment: the environment itself has ``expert_action``."""
    return environment
