"""What a client offers to be done next, and which of it an answer is: for policies, which choose and write nothing.

What it knows: the four ways of ``exchange.Actions`` to list actions, and the parts of a prompt that a policy reads.
What it does not do: choose, read settings, or guess: a request that lists nothing offers nothing.

One function makes what a policy reads when it acts (``offer_of``), and the same parts go into the trajectory from which
one learns (``as_learnt``), so that both read equal texts.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from potstill import types
from potstill.errors import ConfigError
from potstill.record.parsing import GOAL_BLOCK, PLAN_BLOCK, parse
from potstill.trajectories.exchange import Actions
from potstill.trajectories.situations import done
from potstill.types import Action, Observation
from potstill.wire.neutral import Part, Prompt, Text, Tool, ToolUse

MOST = 10_000
"""Actions of one request."""


class Offer(NamedTuple):
    """What a policy is asked."""

    situation: types.Situation
    admissible: tuple[str, ...]


def checked(actions: Actions, where: str) -> Actions:
    """The settings, if they can be followed. Raises ``ConfigError``."""
    given = [name for name in ("tool", "tools", "pattern", "always") if getattr(actions, name)]
    if len(given) != 1:
        raise ConfigError(
            f"{where}: actions has {' and '.join(given) or 'nothing that lists actions'}; allowed is one of: tool, "
            'tools, pattern, always. Write for example: actions = { tool = "act", argument = "action" }'
        )
    if bool(actions.argument) != bool(actions.tool):
        raise ConfigError(
            f"{where}: actions.tool is '{actions.tool}' and actions.argument is '{actions.argument}'; each needs the "
            'other. Write for example: actions = { tool = "act", argument = "action" }'
        )
    for text in (*filter(None, (actions.pattern,)), *actions.hide):
        try:
            compiled = _compiled(text)
        except re.error as error:
            raise ConfigError(f"{where}: {text!r} in actions is no regular expression: {error}.") from None
        if text == actions.pattern and compiled.groups != 1:
            raise ConfigError(
                f"{where}: actions.pattern has {compiled.groups} groups; it must have one, the action: '^- (.+)$'."
            )
    return actions


def offer_of(prompt: Prompt, actions: Actions, said: Mapping[str, Any] = {}) -> Offer | None:
    """What is offered and where the episode stands; None where nothing is. ``said``: what the headers said counts more.

    Linear in the prompt's length, as far as the patterns are.
    """
    parsed = parse(prompt)
    admissible = _listed(prompt, actions, parsed.now.text)
    if not admissible:
        return None
    past = tuple(
        types.Past(observation=_shown(step.seen.text, actions), action=done(named(step.action, actions)))
        for step in parsed.past
    )
    goal, plan = (str(said.get(name) or "") for name in ("goal", "plan"))
    situation = types.Situation(
        goal=goal or parsed.goal,
        plan=plan or parsed.plan,
        observation=_shown(parsed.now.text, actions),
        past=past,
    )
    return Offer(situation, admissible)


def as_learnt(prompt: Prompt, actions: Actions, observation: Observation, action: Action) -> tuple[Observation, Action]:
    """A step's parts with what was offered and which of it was done, beside everything that they held."""
    shown = parse(prompt).now.text
    admissible = _listed(prompt, actions, shown)
    if not admissible:
        return observation, action
    observation = msgspec.structs.replace(observation, admissible=admissible, shown=_shown(shown, actions))
    return observation, named(action, actions)


def named(action: Action, actions: Actions) -> Action:
    """The action, with the listed one that it is; as it came where it is none."""
    listed = _name(action, actions)
    return msgspec.structs.replace(action, listed=listed) if listed and listed != action.text else action


def answer_parts(listed: str, actions: Actions, call_id: str) -> tuple[Part, ...]:
    """A listed action as the client wants it back."""
    if actions.tools:
        return (ToolUse(id=call_id, name=listed, arguments="{}"),)
    if actions.tool:
        arguments = json.dumps({actions.argument: listed}, ensure_ascii=False)
        return (ToolUse(id=call_id, name=actions.tool, arguments=arguments),)
    return (Text(text=listed),)


# --- the ways -------------------------------------------------------------------------------------------------------


def _listed(prompt: Prompt, actions: Actions, shown: str) -> tuple[str, ...]:
    """Each action once, in the client's order; nothing where there are too many to be meant."""
    if actions.tool:
        found = _enum(prompt, actions)
    elif actions.tools:
        found = _toolset(prompt)
    elif actions.pattern:
        found = tuple(match.strip() for match in _compiled(actions.pattern).findall(shown))
    else:
        found = actions.always
    unique = tuple(dict.fromkeys(text for text in found if text))
    return unique if len(unique) <= MOST else ()


def _enum(prompt: Prompt, actions: Actions) -> tuple[str, ...]:
    """The values of the tool's argument; nothing where it is no enum of texts."""
    tool = next((one for one in prompt.tools if isinstance(one, Tool) and one.name == actions.tool), None)
    known = (tool.parameters or {}).get("properties") if tool is not None else None
    schema = known.get(actions.argument) if isinstance(known, dict) else None
    values = schema.get("enum") if isinstance(schema, dict) else None
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        return ()
    return tuple(values)


def _toolset(prompt: Prompt) -> tuple[str, ...]:
    """The tools' names. One that wants arguments, or that a provider runs, is no action, and then the list is not
    whole: nothing is offered."""
    names = []
    for tool in prompt.tools:
        if not isinstance(tool, Tool) or (tool.parameters or {}).get("required"):
            return ()
        names.append(tool.name)
    return tuple(names)


def _name(action: Action, actions: Actions) -> str:
    """Which listed action this is; empty where it is none."""
    if not (actions.tool or actions.tools):
        return "" if action.tool_calls else action.text.strip()
    if len(action.tool_calls) != 1:
        return ""
    call = action.tool_calls[0]
    if actions.tools:
        return call.name
    if call.name != actions.tool:
        return ""
    try:
        arguments = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        return ""
    if not isinstance(arguments, dict):
        return ""
    value = arguments.get(actions.argument)
    return value if isinstance(value, str) else ""


def _shown(text: str, actions: Actions) -> str:
    """The client's words without goal and plan, which stand apart, and without what is hidden."""
    goal = GOAL_BLOCK.match(text)
    if goal is not None:
        text = text[goal.end() :]
        plan = PLAN_BLOCK.match(text)
        text = text[plan.end() :] if plan is not None else text
    for pattern in actions.hide:
        text = _compiled(pattern).sub("", text)
    return text.strip()


@functools.lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.MULTILINE)
