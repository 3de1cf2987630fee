"""An episode's steps as text: what was seen, thought and done, every word of it quoted, within a limit of tokens.

What it knows: which fields of a step may be learnt from, how a long episode is shortened. What it does not do: say how
the episode is judged (``evidence``), or ask anybody about it.

*Allow-listed*: a step's observation text and tool results, reasoning, action and error, the plan, the last observation,
the episode's error. Prompts, samples that were not acted on, admissible actions, tools' descriptions, task data and
metadata are not read: they are long, or say what the agent did not know.

*Shortened* in this order: texts of the middle steps, each in its middle; whole middle steps, those in the centre first;
texts of the first and last steps; these steps. The beginning says what was asked, the end how it came out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from potstill.distill.playbook.roles.quoting import SHORTEST, Piece, Rung, block, first_fitting, limits
from potstill.protocols import TokenCounter
from potstill.types import Action, ErrorRecord, Observation, Step, Struct, Trajectory

FIRST_STEPS, LAST_STEPS = 2, 4
"""Steps at either end that are shortened last."""
_CHARACTERS_A_TOKEN = 8
"""More than any tokenizer's on average: no text needs to be tried longer."""


class _Plan(Struct, frozen=True, kw_only=True):
    """How much is kept."""

    ends: int
    """Characters of each text in the first and last steps."""
    middle: int
    """Characters of each text in the others."""
    first: int
    """Steps from the beginning."""
    last: int
    """Steps from the end."""


def account(trajectory: Trajectory, tokens: int, counter: TokenCounter) -> str:
    """The episode in at most ``tokens`` tokens. Of a limit too small for anything, one line remains."""
    steps = [_pieces(step) for step in trajectory.steps]
    heads = [_head(number, step) for number, step in enumerate(trajectory.steps, start=1)]
    rungs: list[Rung] = [partial(_text, trajectory, heads, steps, plan) for plan in _plans(len(steps), tokens)]
    rungs.append(lambda: f"({len(steps)} steps; there is no room for them)")
    return first_fitting(rungs, lambda text: counter.count(text) <= tokens)


def _plans(steps: int, tokens: int) -> list[_Plan]:
    """From all that can be kept to next to nothing."""
    most = max(tokens * _CHARACTERS_A_TOKEN, SHORTEST)
    first = min(FIRST_STEPS, steps)
    last = min(LAST_STEPS, steps - first)
    middle = steps - first - last
    plans = [_Plan(ends=most, middle=most, first=steps, last=0)]
    if middle:
        plans += [_Plan(ends=most, middle=limit, first=steps, last=0) for limit in limits(most)]
        for kept in limits(middle, 0):
            more = kept // 2
            plans.append(_Plan(ends=most, middle=SHORTEST, first=first + more, last=last + kept - more))
    plans += [_Plan(ends=limit, middle=SHORTEST, first=first, last=last) for limit in limits(most)]
    plans += [_Plan(ends=SHORTEST, middle=SHORTEST, first=0, last=count) for count in range(first + last - 1, -1, -1)]
    return plans


def _text(trajectory: Trajectory, heads: Sequence[str], steps: Sequence[Sequence[Piece]], plan: _Plan) -> str:
    lines = block([Piece(label="planned", text=trajectory.plan)], plan.ends)
    gap = len(steps) - plan.first - plan.last
    for place, pieces in enumerate(steps):
        if plan.first <= place < plan.first + gap:
            if place == plan.first:
                lines.append(f"({gap} {'step' if gap == 1 else 'steps'} left out here)")
            continue
        outer = place < FIRST_STEPS or place >= len(steps) - LAST_STEPS
        lines += [heads[place], *block(pieces, plan.ends if outer else plan.middle)]
    return "\n".join([*lines, *_end(trajectory, plan.ends)])


# --- one step -------------------------------------------------------------------------------------------------------


def _head(number: int, step: Step) -> str:
    nothing = "" if _did(step.action) else ", nothing was done"
    return f"Step {number} ({step.answerer.value}{nothing})"


def _pieces(step: Step) -> list[Piece]:
    return [
        *_seen(step.observation),
        Piece(label="thought", text=step.reasoning),
        Piece(label="did", text=_did(step.action)),
        *_failed("failed", step.error),
    ]


def _seen(observation: Observation) -> list[Piece]:
    results = "\n".join(result.text for result in observation.tool_results)
    return [Piece(label="a tool answered", text=results), Piece(label="saw", text=observation.text)]


def _did(action: Action) -> str:
    calls = [f"{call.name}({call.arguments})" for call in action.tool_calls]
    return "\n".join(part for part in (action.text.strip(), *calls) if part)


def _failed(label: str, error: ErrorRecord | None) -> list[Piece]:
    return [Piece(label=label, text=f"{error.kind}: {error.message}")] if error is not None else []


def _end(trajectory: Trajectory, limit: int) -> list[str]:
    final = trajectory.final_observation
    seen = block(_seen(final), limit) if final is not None else []
    if trajectory.error is not None:
        how = "The episode broke off here"
    elif final is not None and not final.done:
        how = "The episode stopped here, before its environment said that it was over"
    else:
        how = "The episode ended here"
    return [how, *seen, *block(_failed("broken by", trajectory.error), limit)]
