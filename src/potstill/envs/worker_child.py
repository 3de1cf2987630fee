"""The worker process: builds one environment and answers frames until its owner goes away.

Run as ``python -m potstill.envs.worker_child SPEC`` with frames on stdin and stdout; SPEC is JSON ``{"name": ...,
"options": {...}}``. Whatever the environment prints goes to stderr. The process ends when stdin ends or, on Linux,
when its owner dies.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback

import msgspec

from potstill.envs import frames
from potstill.envs.registry import Factory
from potstill.errors import PotstillError
from potstill.protocols import Environment

_PR_SET_PDEATHSIG = 1


def main() -> None:
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # prints of games and their C libraries must not land among the frames

    def answer(message: frames.Answer) -> None:
        answers.write(frames.frame(message))
        answers.flush()

    try:
        environment = msgspec.json.decode(sys.argv[1], type=Factory)()
    except Exception as error:
        answer(_raised(error))
        return
    answer(frames.Ready())
    while header := requests.read(frames.HEADER.size):
        body = requests.read(*frames.HEADER.unpack(header))
        answer(_answered(environment, frames.call_decoder.decode(body)))
    environment.close()


def _answered(environment: Environment, call: frames.Call) -> frames.Answer:
    try:
        match call:
            case frames.ResetCall(task, seed):
                return frames.Observed(environment.reset(task, seed))
            case frames.StepCall(action):
                return frames.Observed(environment.step(action))
            case frames.OutcomeCall():
                return frames.Ended(environment.outcome())
            case frames.ExpertCall():
                return frames.Advised(environment.expert_action())
            case frames.BlobCall(blob):
                return frames.Bytes(environment.read_blob(blob))
    except Exception as error:
        return _raised(error)


def _raised(error: Exception) -> frames.Raised:
    """A potstill error is an answer; anything else is a fault of the environment, whose traceback goes to stderr."""
    if not isinstance(error, PotstillError | KeyError):
        traceback.print_exc()
        sys.stderr.flush()
    message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return frames.Raised(type(error).__name__, message)


def _die_with_parent() -> None:
    """Linux kills this process when the thread that started it ends; elsewhere the end of stdin is enough."""
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent or parent == 1:
        os._exit(1)


if __name__ == "__main__":
    main()
