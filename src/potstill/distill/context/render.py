"""Demonstrations as text that stored words cannot forge.

What it knows: blocks of ``Example``, ``goal:``, ``plan:``, ``observation:``, ``reasoning:``, ``action:`` lines. What it
does not do: choosing, budgets.

Every stored text begins behind one of these markers and its further lines are indented, so that nothing in it stands
at the start of a line; control characters go, and what chat templates read as a role or a turn is broken up. Expert
demonstrations have no reasoning and simply no such line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache

from potstill.distill.context.config import Style
from potstill.types import Action, Struct

_LINE_ENDS = re.compile(r"\r\n|[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_PIPED = re.compile(r"<(?=[\|｜])|(?<=[\|｜])>")
_TAGGED = re.compile(
    r"<(?=/?(?:s|bos|eos|pad|unk|think|tool_call|tool_response|start_of_turn|end_of_turn|im_start|im_end|sys)>)"
    r"|\[(?=/?INST\])|<(?=</?SYS>>)",
    re.IGNORECASE,
)


_REMEMBERED_CHARACTERS = 4000


class ShownStep(Struct, frozen=True, kw_only=True):
    observation: str = ""
    reasoning: str = ""
    action: str = ""


class ShownDemonstration(Struct, frozen=True, kw_only=True):
    """What is shown of a trajectory. ``start``: index of the first step in its episode."""

    goal: str = ""
    plan: str = ""
    start: int = 0
    steps: tuple[ShownStep, ...] = ()


def action_text(action: Action) -> str:
    """An action as one text: what was said, or the tool calls with their arguments in a canonical order."""
    calls = "; ".join(f"{call.name}({_canonical(call.arguments)})" for call in action.tool_calls)
    return "\n".join(part for part in (action.text.strip(), calls) if part)


def render(shown: Sequence[ShownDemonstration], style: Style = Style.FULL, compact_chars: int = 120) -> str:
    """Blocks divided by empty lines, in the order given; no demonstrations give an empty text."""
    return "\n\n".join(_block(number, item, style, compact_chars) for number, item in enumerate(shown, start=1))


def neutral(text: str) -> str:
    """Stored text made harmless: no control characters, no template markers, further lines indented by two spaces.

    The same texts are shown step after step, and rendered several times until they fit a budget: they are remembered.
    """
    return _remembered(text) if len(text) <= _REMEMBERED_CHARACTERS else _neutral(text)


def _neutral(text: str) -> str:
    plain = _CONTROL.sub("", _LINE_ENDS.sub("\n", text))
    plain = _TAGGED.sub(lambda match: match.group() + " ", _PIPED.sub(_apart, plain))
    lines = [line.rstrip() for line in plain.strip().split("\n")]
    return "\n  ".join(line for line in lines if line)


_remembered = lru_cache(maxsize=2048)(_neutral)


def _apart(match: re.Match[str]) -> str:
    return "< " if match.group() == "<" else " >"


def _transcript(item: ShownDemonstration) -> str:
    """The episode as ``models.templates.plain`` would show it, with stored lines kept from forging it."""
    lines = [f"Goal: {neutral(item.goal)}", ""] if item.goal else []
    for step in item.steps:
        lines += [_unforged(line) for line in neutral(step.observation).split("\n  ") if line]
        lines.append(f"> {neutral(step.action)}")
    return "\n".join(lines)


def _unforged(line: str) -> str:
    """A stored line that looks like an action or a goal of ours is moved one space to the right."""
    return f" {line}" if line.startswith((">", "Goal:")) else line


def _block(number: int, item: ShownDemonstration, style: Style, compact_chars: int) -> str:
    if style is Style.TRANSCRIPT:
        return _transcript(item)
    lines = [f"Example {number}" + (f" (from step {item.start + 1})" if item.start else "")]
    lines += _field("goal", item.goal)
    if style is Style.FULL:
        lines += _field("plan", item.plan)
    for step in item.steps:
        if style is Style.COMPACT:
            lines += _field("observation", _clip(step.observation, compact_chars))
        else:
            lines += _field("observation", step.observation) + _field("reasoning", step.reasoning)
        lines += _field("action", step.action)
    return "\n".join(lines)


def _field(marker: str, text: str) -> list[str]:
    clean = neutral(text)
    return [f"{marker}: {clean}"] if clean else []


def _clip(text: str, characters: int) -> str:
    """The first line that holds anything, cut at a word."""
    line = next((line.strip() for line in _LINE_ENDS.sub("\n", text).split("\n") if line.strip()), "")
    if len(line) <= characters:
        return line
    head, space, _ = line[: characters - 3].rpartition(" ")
    return (head if space else line[: characters - 3]) + "..."


def _canonical(arguments: str) -> str:
    try:
        return json.dumps(json.loads(arguments), sort_keys=True, ensure_ascii=False)
    except ValueError:
        return arguments
