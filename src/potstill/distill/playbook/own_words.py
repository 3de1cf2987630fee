"""What the student wrote in an episode, and nothing that it was told: where bullets that it names are looked for.

What it knows: who decided a step, who answered a call, and why it was asked. What it does not do: find ids
(``border.cited``), read what was noted while the episode ran (``PlaybookUse.cited``).

A teacher works without the page. What it writes, what a model says about the episode afterwards, observations and
results of tools are not the student's, even where an id stands in them.
"""

from __future__ import annotations

from collections.abc import Iterator

from potstill.types import Answerer, Call, Purpose, Step, Trajectory

_SPEAKS = frozenset({Purpose.PLAN, Purpose.REASON, Purpose.ACT, Purpose.SUMMARIZE})
"""Calls in which the agent speaks, and not somebody about it."""


def own_words(trajectory: Trajectory) -> Iterator[str]:
    """The texts: its plan, then of each step reasoning, action and arguments of tools, samples that were not acted on
    among them. The plan is the student's wherever there is one.

    >>> from potstill.distill.playbook.border import cited
    >>> cited("\\n".join(own_words(trajectory)), {"b-1", "b-2"})  # doctest: +SKIP
    ('b-2',)
    """
    yield trajectory.plan
    for step in trajectory.steps:
        yield from _acted(step)
        for call in step.calls:
            yield from _said(call)


def _acted(step: Step) -> Iterator[str]:
    if step.answerer is Answerer.STUDENT:
        yield step.reasoning
        yield step.action.text
        yield from (call.arguments for call in step.action.tool_calls)


def _said(call: Call) -> Iterator[str]:
    if call.answerer is not Answerer.STUDENT or call.purpose not in _SPEAKS:
        return
    for reply in call.replies:
        yield reply.reasoning
        yield reply.text
        yield from (made.arguments for made in reply.tool_calls)
