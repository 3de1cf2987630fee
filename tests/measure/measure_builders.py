"""Small episodes with known tokens, for the tests of measuring."""

from __future__ import annotations

from potstill.types import (
    Action,
    Answerer,
    Call,
    DemonstrationRef,
    ErrorRecord,
    Message,
    Observation,
    Outcome,
    Reply,
    Step,
    Task,
    Trajectory,
    TrajectoryKind,
    Usage,
)

DATE = "2026-11-21"
TEACHER, STUDENT = "claude-sonnet-5-5", "claude-haiku-5-5"


def usage(input_tokens: int = 1000, output_tokens: int = 100, **counts: int | bool | str) -> Usage:
    return Usage(input_tokens=input_tokens, output_tokens=output_tokens, **counts)


def call(
    model: str = TEACHER,
    answerer: Answerer = Answerer.TEACHER,
    tokens: Usage | None = None,
    prompt: tuple[str, ...] = (),
    **fields: object,
) -> Call:
    roles = ("system", *("user", "assistant") * len(prompt))
    messages = tuple(Message(role=roles[i], content=text) for i, text in enumerate(prompt))
    return Call(
        model=model, answerer=answerer, usage=tokens, prompt=messages, replies=(Reply(text="go north"),), **fields
    )


def step(index: int, answerer: Answerer, calls: tuple[Call, ...] = (), shown: tuple[str, ...] = ()) -> Step:
    return Step(
        index=index,
        observation=Observation(text=f"room {index}"),
        action=Action(text="go north"),
        answerer=answerer,
        calls=calls,
        demonstrations=tuple(DemonstrationRef(trajectory_id=i, start=0, stop=1) for i in shown),
        latency_s=0.5,
    )


def episode(
    arm: str,
    task: int,
    *,
    success: bool | None = True,
    seed: int = 0,
    kind: TrajectoryKind = TrajectoryKind.TEACHER,
    steps: tuple[Step, ...] | None = None,
    split: str = "test",
    error: ErrorRecord | None = None,
    **fields: object,
) -> Trajectory:
    if steps is None:
        teacher = kind is TrajectoryKind.TEACHER
        answerer = Answerer.TEACHER if teacher else Answerer.STUDENT
        steps = (step(0, answerer, (call(TEACHER if teacher else STUDENT, answerer, usage()),)),)
    return Trajectory(
        id=f"{arm}-{split}-{task}-{seed}",
        task=Task(id=f"{split}-{task}", environment="rooms", split=split, kind="find" if task % 2 else "fetch"),
        kind=kind,
        arm=arm,
        run_id="r1",
        seed=seed,
        steps=steps,
        outcome=None if error is not None else Outcome(success=success),
        error=error,
        duration_s=2.0,
        **fields,
    )
