"""Small environments that misbehave, run in real worker processes by the worker's tests. Not a test file."""

from __future__ import annotations

import os
import signal
import sys
import time

from potstill.errors import BadTask, EnvError
from potstill.types import Action, Blob, Observation, Outcome, Task


class Odd:
    """Counts steps; certain actions crash, hang, print or raise."""

    instructions = "Say anything."
    max_steps = 10

    def __init__(self, greeting: str = "hello", broken: bool = False) -> None:
        if broken:
            raise RuntimeError("cannot be built")
        self._greeting = greeting

    @property
    def name(self) -> str:
        return "odd"

    def reset(self, task: Task, seed: int) -> Observation:
        if task.id == "bad":
            raise BadTask("the task is corrupt")
        self._steps = 0
        return Observation(text=f"{self._greeting} {task.data.get('extra')} {seed} {os.getpid()}")

    def step(self, action: Action) -> Observation:
        self._steps += 1
        match action.text:
            case "exit":
                print("last words", file=sys.stderr, flush=True)
                os._exit(7)
            case "segv":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "hang":
                time.sleep(3600)
            case "print":
                print("noise on stdout " * 1000, flush=True)
                os.write(1, b"raw bytes from a C library\n")
            case "bug":
                raise ZeroDivisionError("a bug in the game")
            case "over":
                raise EnvError("The episode is over")
            case "long":
                return Observation(text="x" * 3_000_000)
        return Observation(text=f"step {self._steps}", admissible=("go",))

    def outcome(self) -> Outcome:
        return Outcome(success=False, score=0.5)

    def expert_action(self) -> Action | None:
        return None if self._steps else Action(text="go")

    def read_blob(self, blob: Blob) -> bytes:
        if blob.digest != "ab":
            raise KeyError(blob.digest)
        return b"\x00\xff"

    def close(self) -> None:
        print("closed", file=sys.stderr)
