"""A tiny real environment for the loop's own tests: three doors to be opened in the right order."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from potstill.errors import EnvCrashed
from potstill.protocols import Capabilities
from potstill.types import (
    Action,
    Answerer,
    Blob,
    Call,
    Completion,
    Observation,
    Outcome,
    Reply,
    Request,
    Task,
    Trajectory,
    Usage,
)

COLOURS = ("red", "green", "blue")


class ToyEnvironment:
    """The goal names colours in order; opening a wrong door changes nothing. Crashes on request of the task."""

    def __init__(self) -> None:
        self.resets = 0

    async def reset(self, task: Task, seed: int) -> Observation:
        self.resets += 1
        self.task, self.left = task, list(task.data["order"])
        return self._observe("You stand before three doors.")

    async def step(self, action: Action) -> Observation:
        if self.task.data.get("crash"):
            raise EnvCrashed("the game's process ended with code 139")
        if self.left and action.text == f"open {self.left[0]}":
            self.left.pop(0)
            return self._observe(f"The {action.text.split()[-1]} door opens.")
        return self._observe("Nothing happens.")

    def _observe(self, text: str) -> Observation:
        return Observation(text=text, admissible=tuple(f"open {c}" for c in COLOURS), done=not self.left)

    async def outcome(self) -> Outcome:
        return Outcome(success=not self.left)

    async def expert_action(self) -> Action:
        return Action(text=f"open {self.left[0]}")

    async def read_blob(self, blob: Blob) -> bytes:
        raise KeyError(blob.digest)

    async def aclose(self) -> None:
        self.left = []


class ToyModel:
    """Says what ``answers`` say in order (cycling), or asks the expert's handle; counts one token a word."""

    capabilities = Capabilities()

    def __init__(self, name: str, answers: Iterable[str] = (), delay_s: float = 0.0) -> None:
        self.name = name
        self.answers = list(answers)
        self.requests: list[Request] = []
        self.delay_s = delay_s
        self.asked = 0

    async def sample(self, request: Request, n: int = 1) -> Completion:
        self.requests.append(request)
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        replies = tuple([await self._reply(request) for _ in range(n)])
        words = sum(len(message.content.split()) for message in request.messages)
        usage = Usage(input_tokens=words, output_tokens=2 * n, estimated=True)
        call = Call(
            model=self.name,
            answerer=Answerer.NOBODY,
            purpose=request.purpose,
            prompt=request.messages,
            replies=replies,
            usage=usage,
        )
        return Completion(replies=replies, calls=(call,))

    async def _reply(self, request: Request) -> Reply:
        if not self.answers:
            return Reply(text=(await request.handle.expert_action()).text)
        self.asked += 1
        return Reply(text=self.answers[(self.asked - 1) % len(self.answers)])

    async def aclose(self) -> None:
        self.answers = []


def task(index: int, **data: object) -> Task:
    order = [COLOURS[(index + i) % 3] for i in range(2)]
    return Task(
        id=f"toy-{index}", environment="toy", goal="open " + " then ".join(order), data={"order": order, **data}
    )


class Memory:
    """A recorder in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, Trajectory] = {}

    def append(self, trajectory: Trajectory) -> None:
        assert trajectory.id not in self.kept, "an episode was repeated"
        self.kept[trajectory.id] = trajectory

    def put_blob(self, content: bytes, media_type: str) -> None:
        self.blobs = {**getattr(self, "blobs", {}), hashlib.sha256(content).hexdigest(): content}

    def existing(self, run_id: str) -> set[str]:
        return {t.id for t in self.kept.values() if t.run_id == run_id}

    def teacher_share(self, run_id: str, arm: str) -> float | None:
        steps = [s for t in self.kept.values() if t.arm == arm for s in t.steps]
        return sum(s.answerer is Answerer.TEACHER for s in steps) / len(steps) if steps else None


@asynccontextmanager
async def lease() -> AsyncIterator[ToyEnvironment]:
    yield ToyEnvironment()
