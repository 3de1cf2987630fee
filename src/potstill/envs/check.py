"""Does an environment keep the contract of ``protocols.Environment``? Plays sample tasks and says what it found.

What it knows: the contract, point by point. What it does not do: judge whether the environment is interesting or fast
(it reports steps per second for orientation). Users run it as ``potstill envs check NAME``.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec

from potstill.errors import EnvError
from potstill.protocols import Environment
from potstill.types import Action, Observation, Outcome, Task, ToolCall

NONSENSE = Action(text="xyzzy 4711")
_NONSENSE_CALL = Action(tool_calls=(ToolCall(id="c1", name="no_such_tool", arguments="{not json"),))


class Status(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


class Finding(NamedTuple):
    """One point of the contract and what was seen."""

    point: str
    status: Status
    detail: str


def check_environment(
    make: Callable[[], Environment], tasks: Sequence[Task], *, max_steps: int, seed: int = 0
) -> list[Finding]:
    """Try every point of the contract on the tasks. ``max_steps`` bounds each episode.

    An exception of the environment is a failed point, not an exception here; only what ``make`` raises passes through.
    """
    environment = make()
    points: list[tuple[str, Callable[[Environment, Task], str]]] = [
        ("reset gives an observation that is not over", _fresh),
        ("observations survive msgpack", _serializable),
        ("outcome may be asked at any time", _outcome_any_time),
        ("same actions, same observations", lambda env, task: _deterministic(env, task, max_steps, seed)),
        ("another world between changes nothing", lambda env, task: _as_new(env, task, tasks, max_steps, seed)),
        ("an inadmissible action does not raise", _inadmissible),
        ("admissible actions are never an empty list", lambda env, task: _not_empty(env, task, max_steps, seed)),
        ("a step after the end raises EnvError", lambda env, task: _after_the_end(env, task, max_steps, seed)),
        ("images can be read", _blobs),
    ]
    findings = [_on_all(point, check, environment, tasks) for point, check in points]
    findings.append(_expert(environment, tasks, max_steps, seed))
    environment.close()
    return findings


class _Skip(Exception):
    """The point does not apply."""


def _on_all(
    point: str, check: Callable[[Environment, Task], str], environment: Environment, tasks: Sequence[Task]
) -> Finding:
    detail = ""
    for task in tasks:
        try:
            detail = check(environment, task)
        except _Skip as reason:
            return Finding(point, Status.SKIPPED, str(reason))
        except Exception as error:
            return Finding(point, Status.FAILED, f"{task.id}: {type(error).__name__}: {error}")
    return Finding(point, Status.PASSED, detail or f"{len(tasks)} tasks")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


# --- the points -----------------------------------------------------------------------------------------------------


def _fresh(environment: Environment, task: Task) -> str:
    observation = environment.reset(task, 0)
    _require(isinstance(observation, Observation), f"reset returned {type(observation).__name__}")
    _require(not observation.done, "the episode is over before it began")
    _require(bool(observation.text or observation.images), "the first observation is empty")
    _require(bool(environment.name), "the environment has no name")
    return ""


def _serializable(environment: Environment, task: Task) -> str:
    observation = environment.reset(task, 0)
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(observation), type=Observation)
    _require(again == observation, "an observation changed on its way through msgpack")
    return ""


def _outcome_any_time(environment: Environment, task: Task) -> str:
    environment.reset(task, 0)
    outcome = environment.outcome()
    _require(isinstance(outcome, Outcome), f"outcome returned {type(outcome).__name__}")
    _require(outcome.success is not True, "the task counts as done before it was begun")
    return ""


def _deterministic(environment: Environment, task: Task, max_steps: int, seed: int) -> str:
    actions, first = _play(environment, task, max_steps, seed)
    _same(first, _replay(environment, task, actions, seed))
    return f"{len(actions)} actions of the last task repeated"


def _as_new(environment: Environment, task: Task, tasks: Sequence[Task], max_steps: int, seed: int) -> str:
    others = [other for other in tasks if other.id != task.id]
    if not others:
        raise _Skip("needs two tasks")
    actions, first = _play(environment, task, max_steps, seed)
    _play(environment, others[0], max_steps, seed)
    _same(first, _replay(environment, task, actions, seed))
    return ""


def _inadmissible(environment: Environment, task: Task) -> str:
    first = environment.reset(task, 0)
    wrong = _NONSENSE_CALL if first.tools else NONSENSE
    observation = environment.step(wrong)
    _require(isinstance(observation, Observation), f"step returned {type(observation).__name__}")
    said = observation.text + "".join(result.text for result in observation.tool_results)
    _require(bool(said), "the answer to an inadmissible action is empty")
    return f"answer: {' '.join(said.split())[:60]}"


def _not_empty(environment: Environment, task: Task, max_steps: int, seed: int) -> str:
    _, observations = _play(environment, task, max_steps, seed)
    listed = [observation for observation in observations if observation.admissible is not None]
    if not listed:
        raise _Skip("the environment lists no admissible actions")
    for observation in listed:
        _require(observation.done or bool(observation.admissible), "an empty list before the end")
    return f"{max(len(observation.admissible or ()) for observation in listed)} at most"


def _after_the_end(environment: Environment, task: Task, max_steps: int, seed: int) -> str:
    observation = environment.reset(task, seed)
    for _ in range(max_steps):
        if observation.done:
            break
        action = environment.expert_action()
        if action is None:
            break
        observation = environment.step(action)
    if not observation.done:
        raise _Skip(f"no end was reached within {max_steps} steps")
    try:
        environment.step(NONSENSE)
    except EnvError:
        return ""
    raise ValueError("a step after the end was accepted")


def _blobs(environment: Environment, task: Task) -> str:
    observation = environment.reset(task, 0)
    if not observation.images:
        raise _Skip("observations have no images")
    for blob in observation.images:
        _require(len(environment.read_blob(blob)) == blob.size_bytes, "an image's size is not what was said")
    return f"{observation.images[0].media_type}, {observation.images[0].size_bytes} bytes"


def _expert(environment: Environment, tasks: Sequence[Task], max_steps: int, seed: int) -> Finding:
    point, solved, steps, started = "the expert succeeds", 0, 0, time.perf_counter()
    for task in tasks:
        try:
            observation = environment.reset(task, seed)
            for _ in range(max_steps):
                action = None if observation.done else environment.expert_action()
                if action is None:
                    break
                observation, steps = environment.step(action), steps + 1
            solved += environment.outcome().success is True
        except Exception as error:
            return Finding(point, Status.FAILED, f"{task.id}: {type(error).__name__}: {error}")
    if not steps:
        return Finding(point, Status.SKIPPED, "there is no expert")
    rate = steps / max(1e-9, time.perf_counter() - started)
    detail = f"{solved} of {len(tasks)} tasks within {max_steps} steps, {rate:.0f} steps/s"
    return Finding(point, Status.PASSED if solved else Status.FAILED, detail)


# --- playing --------------------------------------------------------------------------------------------------------


def _play(environment: Environment, task: Task, limit: int, seed: int) -> tuple[list[Action], list[Observation]]:
    """Random admissible actions; the expert's where none are listed."""
    chance = random.Random(f"{task.id} {seed}")
    observation = environment.reset(task, seed)
    actions: list[Action] = []
    observations = [observation]
    while not observation.done and len(actions) < limit:
        if observation.admissible:
            action: Action | None = Action(text=chance.choice(observation.admissible))
        else:
            action = environment.expert_action()
        if action is None:
            break
        observation = environment.step(action)
        actions.append(action)
        observations.append(observation)
    return actions, observations


def _replay(environment: Environment, task: Task, actions: Sequence[Action], seed: int) -> list[Observation]:
    return [environment.reset(task, seed), *(environment.step(action) for action in actions)]


def _same(first: Sequence[Observation], second: Sequence[Observation]) -> None:
    for step, (one, other) in enumerate(zip(first, second, strict=True)):
        _require(one == other, f"observation {step} differs: {one.text[:80]!r} and {other.text[:80]!r}")
