"""What an agent's messages say about where it stands: its goal, what it did and saw, what it sees now.

What it knows: that an agent repeats its history at each call, so that everything stands in the prompt; the ``Goal:``
and ``Plan:`` blocks with which ``run.prompt`` begins an episode. What it does not do: bytes of a dialect, retrieval.

Nothing here fails: a conversation without a user's text has an empty goal.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Hashable, Iterable, Sequence

import msgspec

from potstill.types import Action, Struct, ToolCall
from potstill.wire.neutral import Image, Opaque, Part, Prompt, Refusal, Text, Thinking, ToolOutput, ToolUse, Turn

GOAL_BLOCK = re.compile(r"\AGoal:[ \t]*(?P<goal>.+?)(?:\n\s*\n|\Z)", re.DOTALL)
PLAN_BLOCK = re.compile(r"^Plan:[ \t]*\n?(?P<plan>.+?)(?:\n\s*\n|\Z)", re.DOTALL | re.MULTILINE)


class Seen(Struct, frozen=True, kw_only=True):
    """What was shown to the model between two of its answers."""

    text: str = ""
    """Results of tools and words of the user, in their order."""
    mark: tuple[str, ...] = ()
    """Equal for two observations only if all of their parts are, images included; ids of calls do not count."""


class Past(Struct, frozen=True, kw_only=True):
    """One finished step."""

    seen: Seen
    action: Action
    reasoning: str = ""


class Situation(Struct, frozen=True, kw_only=True):
    """Where an episode stands when the model is asked."""

    goal: str = ""
    plan: str = ""
    instructions: str = ""
    """The system's and the developer's texts before the first other turn."""
    past: tuple[Past, ...] = ()
    now: Seen = Seen()
    prefilled: bool = False
    """The prompt ends with a beginning of the model's own answer."""

    @property
    def step_index(self) -> int:
        return len(self.past)


def parse(prompt: Prompt) -> Situation:
    """Read a prompt. Linear in its length.

    >>> asked = Prompt(model="m", turns=(Turn(role="user", parts=(Text(text="Goal: tea\\n\\nYou see a cup."),)),))
    >>> parse(asked).goal
    'tea'
    """
    past, pending = _steps(prompt.turns)
    first = next((text for turn in prompt.turns if turn.role == "user" and (text := words(turn.parts))), "")
    goal = GOAL_BLOCK.match(first)
    return Situation(
        goal=goal["goal"].strip() if goal else first,
        plan=_plan(first, past),
        instructions=_instructions(prompt.turns),
        past=tuple(past),
        now=_seen(pending),
        prefilled=bool(prompt.turns) and prompt.turns[-1].role == "assistant",
    )


def tried(situation: Situation) -> tuple[Action, ...]:
    """The actions that were already taken after exactly what is seen now."""
    return tuple(step.action for step in situation.past if step.seen.mark == situation.now.mark)


def action_of(parts: Iterable[Part]) -> Action:
    """What a model's parts do: its words and its calls of tools."""
    held = tuple(parts)
    calls = tuple(
        ToolCall(id=part.id, name=part.name, arguments=part.arguments) for part in held if isinstance(part, ToolUse)
    )
    return Action(text=words(held), tool_calls=calls)


def words(parts: Iterable[Part]) -> str:
    """The texts among the parts, refusals too, one below the other."""
    return "\n".join(part.text for part in parts if isinstance(part, Text | Refusal) and part.text)


def reasoning_of(parts: Iterable[Part]) -> str:
    return "\n".join(part.text for part in parts if isinstance(part, Thinking) and part.text)


# --- steps ------------------------------------------------------------------------------------------------------------


def _steps(turns: Sequence[Turn]) -> tuple[list[Past], list[Turn]]:
    """Finished steps, and the turns since the last of them. Neighbouring turns of the model are one action."""
    past: list[Past] = []
    shown: list[Turn] = []
    said: list[Part] = []
    for turn in turns:
        if turn.role == "assistant":
            said.extend(turn.parts)
        elif turn.role != "system":
            if said:
                past.append(_past(shown, said))
                shown, said = [], []
            shown.append(turn)
    if said:
        past.append(_past(shown, said))
        shown = []
    return past, shown


def _past(shown: Sequence[Turn], said: Sequence[Part]) -> Past:
    return Past(seen=_seen(shown), action=action_of(said), reasoning=reasoning_of(said))


def _seen(turns: Iterable[Turn]) -> Seen:
    parts = [part for turn in turns for part in turn.parts]
    text = "\n".join(text for part in parts if (text := _text(part)))
    return Seen(text=text, mark=tuple(_mark(part) for part in parts))


def _text(part: Part) -> str:
    if isinstance(part, ToolOutput):
        return words(part.parts)
    return part.text if isinstance(part, Text) else ""


def _mark(part: Part) -> str:
    if isinstance(part, ToolOutput):
        inner = "\x1f".join(_mark(one) for one in part.parts)
        return f"{'error' if part.is_error else 'output'}:{inner}"
    if isinstance(part, Text):
        return f"text:{part.text}"
    if isinstance(part, Image):
        return "image:" + _digest((part.url, part.data))
    return "other:" + _digest(part.value if isinstance(part, Opaque) else part)


def _digest(value: Hashable | dict[str, object]) -> str:
    return hashlib.blake2b(msgspec.json.encode(value), digest_size=16).hexdigest()


# --- what is said once ------------------------------------------------------------------------------------------------


def _instructions(turns: Sequence[Turn]) -> str:
    leading: list[str] = []
    for turn in turns:
        if turn.role != "system":
            break
        leading.append(words(turn.parts))
    return "\n\n".join(text for text in leading if text)


def _plan(first: str, past: Sequence[Past]) -> str:
    """The plan of the first user's text, else the one that the model's first answer begins with."""
    stated = PLAN_BLOCK.search(first) if GOAL_BLOCK.match(first) else None
    if stated is None and past:
        stated = PLAN_BLOCK.match(past[0].action.text.lstrip())
    return stated["plan"].strip() if stated else ""
