"""potstill's own trajectories: as they lie in a store (``attempt_of``), and as lines of its JSONL export.

What it knows: who may have answered in an episode, and the line format of ``trajectories/jsonl.py``, in which prompts
are chains of nodes. What it does not do: open stores, or count dollars (trajectories hold none; the audit prices them).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from potstill.logs.conversation import Conversation, Thread
from potstill.logs.formats import values
from potstill.logs.formats.base import LogFormat, Skipped
from potstill.logs.formats.episodes import token_sums
from potstill.logs.hashing import tools_told
from potstill.logs.records import PREVIEW, Attempt, LogCall, Problem, Source
from potstill.types import (
    SCHEMA_VERSION,
    Call,
    Decision,
    ErrorRecord,
    Message,
    Reply,
    Step,
    ToolSpec,
    Trajectory,
    TrajectoryKind,
)

LINE_FORMAT = "potstill/trajectory"
_NONE = -1


class _Line(msgspec.Struct):
    trajectory: Trajectory
    version: int = 0
    messages: tuple[Message, ...] = ()
    nodes: tuple[tuple[int, int], ...] = ()
    toolsets: tuple[tuple[ToolSpec, ...], ...] = ()
    refs: tuple[tuple[int, int, int, int], ...] = ()


_decode = msgspec.json.Decoder(_Line).decode


class TrajectoryLines:
    """One trajectory a line, as ``potstill export`` writes them."""

    name = "potstill-trajectory"
    arrays: tuple[str, ...] = ()

    def fits(self, row: Mapping[str, Any]) -> bool:
        return row.get("format") == LINE_FORMAT and "trajectory" in row

    def head(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        return {}

    def records(self, row: bytes, source: Source, head: Mapping[str, Any]) -> Iterable[Attempt]:
        """One attempt. Raises ``Skipped`` for versions that are newer, and for references that lead nowhere."""
        line = _decode(row)
        if not 1 <= line.version <= SCHEMA_VERSION:
            raise Skipped("unknown version", f"version {line.version}; this potstill reads 1 to {SCHEMA_VERSION}")
        return (attempt_of(_inflated(line), source),)


def attempt_of(trajectory: Trajectory, source: Source | None = None) -> Attempt:
    """The attempt that a trajectory records, with every call of every step (the student's samples too).

    ``run`` is the run's id and the arm, for arms are compared as runs are. ``model`` is who was to act: the teacher,
    the student, ``STUDENT+TEACHER`` for a cascade, else the arm. Its tokens are those of all calls; a call goes by the
    name that it is priced as, where its model has no price of its own.
    """
    source = source or Source(trajectory.id, 1)
    model, run = _model(trajectory), "/".join(filter(None, (trajectory.run_id, trajectory.arm)))
    prompts: defaultdict[str, _Prompts] = defaultdict(_Prompts)
    calls = tuple(
        _call(trajectory, step, call, prompts[call.model].told(call), run, source)
        for step in trajectory.steps
        for call in step.calls
    )
    outcome = trajectory.outcome
    return Attempt(
        task_id=trajectory.task.id,
        model=model,
        run=run,
        episode_id=trajectory.id,
        sample=trajectory.seed if trajectory.seed >= 0 else None,
        success=outcome.success if outcome is not None else None,
        error=_words(trajectory.error),
        cost_usd=None if calls else 0.0,
        **token_sums([call.usage for call in calls], nothing_sent=not calls)._asdict(),
        latency_s=trajectory.duration_s or None,
        started_at=trajectory.started_at or None,
        calls=calls,
        source=source,
    )


def _model(trajectory: Trajectory) -> str:
    teacher, student = trajectory.teacher, trajectory.student
    if trajectory.kind is TrajectoryKind.CASCADE and teacher and student:
        return f"{student}+{teacher}"
    named = {TrajectoryKind.TEACHER: teacher, TrajectoryKind.STUDENT: student}.get(trajectory.kind)
    return named or trajectory.arm or str(trajectory.kind)


def _call(
    trajectory: Trajectory, step: Step, call: Call, conversation: Conversation, run: str, source: Source
) -> LogCall:
    problems: list[Problem] = []
    usage = values.believable(call.usage, problems)
    return LogCall(
        model=call.priced_as or call.model,
        run=run,
        episode_id=trajectory.id,
        task_id=trajectory.task.id,
        call_id=call.request_id,
        started_at=call.started_at or None,
        latency_s=call.latency_s or None,
        usage=usage,
        error=_words(call.error),
        answerer=call.answerer.value,
        votes=_votes(step.decision),
        demonstrations=tuple(f"{one.trajectory_id} {one.start} to {one.stop}" for one in step.demonstrations),
        source=source,
        problems=tuple(problems),
        **conversation._asdict(),
    )


def _votes(decision: Decision | None) -> tuple[str, ...]:
    """The samples as they voted, and the reason of the decision behind them."""
    if decision is None:
        return ()
    votes = tuple(
        vote.text[:PREVIEW] if vote.key is not None else f"(invalid) {vote.text[:PREVIEW]}" for vote in decision.votes
    )
    return (*votes, f"decided: {decision.answerer.value}, {decision.reason.value}")


class _Prompts:
    """The prompts of one model in one episode, of which each message is hashed once or twice, not at every step.

    What two prompts in a row have in common is held; what only one of them has (what is valid for one step) branches
    off. A prompt that begins otherwise starts anew. ``_held`` stands behind ``_messages``, ``_tip`` behind all of the
    last prompt.
    """

    def __init__(self) -> None:
        self._held = self._tip = Thread()
        self._messages: tuple[Message, ...] = ()
        self._last: tuple[Message, ...] = ()
        self._tools: tuple[ToolSpec, ...] = ()
        self._tools_told = (0, 0)

    def told(self, call: Call) -> Conversation:
        """What the call's prompt and its first answer say."""
        if call.tools != self._tools:
            self._tools = call.tools
            self._tools_told = tools_told([msgspec.to_builtins(tool) for tool in call.tools])
        answer = _answer(call.replies[0]) if call.replies else None
        return self._thread(call.prompt).call(answer, tools=self._tools_told)

    def _thread(self, prompt: tuple[Message, ...]) -> Thread:
        if prompt[: len(self._messages)] != self._messages:
            self._held, self._messages = Thread(), ()
        shared = _common(self._last, prompt)
        if shared == len(self._last):
            self._held, self._messages = self._tip, self._last
        self._extend(self._held, prompt[len(self._messages) : shared])
        self._messages = prompt[: max(shared, len(self._messages))]
        self._last, self._tip = prompt, self._held.fork()
        self._extend(self._tip, prompt[len(self._messages) :])
        return self._tip

    @staticmethod
    def _extend(thread: Thread, messages: Sequence[Message]) -> None:
        for message in messages:
            if message.tool_calls or message.images or message.role == "tool":
                thread.add(msgspec.to_builtins(message))
            else:
                thread.say(message.role, message.content)


def _common(one: Sequence[Message], other: Sequence[Message]) -> int:
    """How many messages two prompts begin with alike."""
    shorter = min(len(one), len(other))
    if one[:shorter] == other[:shorter]:
        return shorter
    return next(number for number in range(shorter) if one[number] != other[number])


def _answer(reply: Reply) -> dict[str, Any]:
    calls = [{"id": call.id, "name": call.name, "arguments": call.arguments} for call in reply.tool_calls]
    return {"role": "assistant", "content": reply.text, "tool_calls": calls}


def _words(error: ErrorRecord | None) -> str | None:
    return f"{error.kind}: {error.message}" if error is not None else None


# --- lines ----------------------------------------------------------------------------------------------------------


def _inflated(line: _Line) -> Trajectory:
    """The trajectory with its prompts and tools back in their calls."""
    steps = [list(step.calls) for step in line.trajectory.steps]
    prompts = _prompts(line)
    for position, slot, node, toolset in line.refs:
        if slot == _NONE:
            continue
        try:
            call = steps[position][slot]
            prompt = prompts[node] if node != _NONE else ()
            tools = line.toolsets[toolset] if toolset != _NONE else ()
        except IndexError as error:
            raise Skipped("damaged trajectory", f"a reference leads nowhere: {position}, {slot}") from error
        steps[position][slot] = msgspec.structs.replace(call, prompt=prompt, tools=tools)
    filled = (
        msgspec.structs.replace(step, calls=tuple(calls))
        for step, calls in zip(line.trajectory.steps, steps, strict=True)
    )
    return msgspec.structs.replace(line.trajectory, steps=tuple(filled))


def _prompts(line: _Line) -> Sequence[tuple[Message, ...]]:
    prompts: list[tuple[Message, ...]] = []
    for parent, message in line.nodes:
        if not (_NONE <= parent < len(prompts) and 0 <= message < len(line.messages)):
            raise Skipped("damaged trajectory", f"node {len(prompts)} leads nowhere")
        head = prompts[parent] if parent != _NONE else ()
        prompts.append((*head, line.messages[message]))
    return prompts


FORMATS: tuple[LogFormat, ...] = (TrajectoryLines(),)
