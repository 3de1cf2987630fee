"""One episode as text for a person: a block for each step, in the order in which things happened.

What it knows: the layout. What it does not do: stores, prices. Recorded text is indented, so that it cannot look like
a heading of ours; ``output`` makes control characters visible.
"""

from __future__ import annotations

from collections.abc import Iterator

from potstill.cli.output import emit_text
from potstill.types import Action, Call, Decision, Outcome, PlaybookUse, Step, Trajectory


def print_trajectory(trajectory: Trajectory, *, prompts: bool = False) -> None:
    emit_text("\n".join(_lines(trajectory, prompts)))


def _lines(trajectory: Trajectory, prompts: bool) -> Iterator[str]:
    task = trajectory.task
    yield from _text("episode", trajectory.id)
    yield from _text("task", f"{task.id} ({task.environment}{', ' + task.split if task.split else ''})")
    run = trajectory.run_id or "-"
    yield from _text("arm", f"{trajectory.arm or '-'} ({trajectory.kind}), seed {trajectory.seed}, run {run}")
    yield from _text("goal", trajectory.goal or task.goal)
    yield from _text("plan", trajectory.plan)
    if trajectory.playbook is not None:
        yield from _playbook(trajectory.playbook)
    for position, step in enumerate(trajectory.steps):
        yield ""
        yield from _step(position, step, prompts)
    yield ""
    if trajectory.final_observation is not None:
        yield from _text("at last", trajectory.final_observation.text)
    yield from _text("outcome", _outcome(trajectory.outcome))
    if trajectory.error is not None:
        yield from _text("error", f"{trajectory.error.kind}: {trajectory.error.message}")


def _playbook(use: PlaybookUse) -> Iterator[str]:
    yield from _text("playbook", f"{use.name}, revision {use.revision}{', a trial' if use.trial else ''}")
    for label, ids in (("  shown", use.shown), ("  withheld", use.withheld), ("  cited", use.cited)):
        yield from _text(label, ", ".join(ids))


def _step(position: int, step: Step, prompts: bool) -> Iterator[str]:
    yield f"step {position}"
    yield from _text("  seen", step.observation.text)
    for result in step.observation.tool_results:
        yield from _text("  tool", f"{result.call_id}: {result.text}")
    for shown in step.demonstrations:
        yield from _text("  shown", f"{shown.trajectory_id} steps {shown.start}-{shown.stop} (score {shown.score:.3g})")
    yield from _text("  bullets", ", ".join(step.bullets))
    yield from _text("  reasoning", step.reasoning)
    yield from _decision(step)
    yield from _text("  action", _action(step.action))
    for call in step.calls:
        yield from _call(call, prompts)
    if step.error is not None:
        yield from _text("  error", f"{step.error.kind}: {step.error.message}")


def _decision(step: Step) -> Iterator[str]:
    decision = step.decision
    if decision is None:
        yield from _text("  by", str(step.answerer))
        return
    yield from _text("  by", f"{decision.answerer}, {decision.reason}{_measures(decision)}")
    for vote in decision.votes:
        yield from _text("  vote", "(not valid) " + vote.text if vote.key is None else vote.key)


def _measures(decision: Decision) -> str:
    parts = [
        "" if decision.rule is None else f"rule {decision.rule}",
        "" if decision.mode is None else f"mode {decision.mode}",
        "" if decision.agreement is None else f"agreement {decision.agreement:.2f}",
        "" if decision.confidence is None else f"confidence {decision.confidence:.2f}",
    ]
    said = ", ".join(part for part in parts if part)
    return f" ({said})" if said else ""


def _action(action: Action) -> str:
    calls = [f"{call.name}({call.arguments})" for call in action.tool_calls]
    return "\n".join(part for part in (action.text, *calls) if part) or "(nothing)"


def _call(call: Call, prompts: bool) -> Iterator[str]:
    yield from _text("  call", f"{call.answerer} {call.model}, {call.purpose}: {_tokens(call)}, {call.latency_s:.2f} s")
    if prompts:
        for message in call.prompt:
            yield from _text(f"    {message.role}", message.content)
        for reply in call.replies:
            yield from _text("    reply", reply.text)
    if call.error is not None:
        yield from _text("    error", f"{call.error.kind}: {call.error.message}")


def _tokens(call: Call) -> str:
    usage = call.usage
    if usage is None:
        return "tokens unknown"
    about = " (estimated)" if usage.estimated else ""
    cached = f", {usage.cache_read_tokens} from the cache" if usage.cache_read_tokens else ""
    written = f", {usage.cache_write_tokens} written to it" if usage.cache_write_tokens else ""
    return f"{usage.input_tokens} tokens in{cached}{written}, {usage.output_tokens} out{about}"


def _outcome(outcome: Outcome | None) -> str:
    if outcome is None or outcome.success is None:
        return "not known"
    score = "" if outcome.score is None else f", score {outcome.score:g}"
    return f"{'success' if outcome.success else 'failure'} (says the {outcome.source}{score}) {outcome.detail}".rstrip()


def _text(label: str, text: str) -> Iterator[str]:
    """``label: text`` with further lines indented; nothing for an empty text."""
    if text:
        indent = " " * (len(label) - len(label.lstrip()) + 4)
        first, *rest = text.splitlines() or [""]
        yield f"{label}: {first}"
        yield from (f"{indent}{line}" for line in rest)
