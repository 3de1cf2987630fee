"""Prompts: pure functions from what happened to messages.

Layout (docs/design/001): one system message, the goal with the first observation, then the history, which only grows;
what is valid for this step alone (admissible actions, the instruction) stands in the last message. So every prompt
without its last message is a prefix of the next one, and prefix caches work. Demonstrations stand first, in the system
message: free to repeat if they are frozen for the task, and a new prefix at every step if they are not (the layout of
arXiv 2505.00234). Placed last, just before the present observation, they cost their own tokens only.
"""

from __future__ import annotations

import re

from potstill.protocols import ContextBlock
from potstill.run.arms import Agent, Placement, Reasoning
from potstill.types import Action, Message, Observation, Reply, Struct

DEMONSTRATIONS_HEADING = "Examples from episodes that reached similar goals:"
PLAYBOOK_HEADING = "Playbook, what earlier episodes taught:"
_NUMBERING = re.compile(r"^[\s>•-]*(?:(?:step\s+)?\d+\s*[.:)]\s+|step\s+\d+\s*[-–—]?\s+)?", re.IGNORECASE)
"""What stands before the words of a step in a list of steps."""
_CITING = "Playbook, what earlier episodes taught. In your reasoning, name the ids of what you use, such as [b-1]:"


class Turn(Struct, frozen=True, kw_only=True):
    """One finished step of the history."""

    observation: Observation
    action: Action
    reasoning: str = ""


class View(Struct, frozen=True, kw_only=True):
    """Everything that a prompt is made from."""

    agent: Agent
    instructions: str
    goal: str
    plan: str = ""
    turns: tuple[Turn, ...] = ()
    observation: Observation
    task_context: str = ""
    """Demonstrations, or a playbook's page, frozen for the episode."""
    step_context: str = ""
    """What is for this step only."""
    task_heading: str = DEMONSTRATIONS_HEADING
    step_heading: str = DEMONSTRATIONS_HEADING


def act_messages(view: View, reasoning: str | None = None, opening: str = "") -> tuple[Message, ...]:
    """The prompt for the next action. ``reasoning``: already written by a separate call, which the action follows.
    ``opening``: what the reasoning is to begin with, for a model whose answer cannot be begun for it."""
    tail = [_admissible_block(view), _answer_line(view.agent, view.observation, reasoning)]
    if opening:
        tail.append(f"Begin your reasoning with these words and go on from them: {opening}")
    return (*_until_now(view), *_tail(tail))


def reason_messages(view: View) -> tuple[Message, ...]:
    tail = [_admissible_block(view), "Write one line of reasoning about what to do next."]
    return (*_until_now(view), *_tail(tail))


def plan_messages(view: View) -> tuple[Message, ...]:
    tail = ["Write a short plan, a few numbered lines, for reaching the goal. Do not act yet."]
    return (*_until_now(view), *_tail(tail))


def thought_messages(view: View) -> tuple[Message, ...]:
    """The goal as a plain question: no instructions to an agent, no actions to choose among."""
    parts = [f"Goal: {view.goal}", view.observation.text, "Think step by step about how the goal can be reached."]
    return (Message(role="user", content="\n\n".join(part for part in parts if part)),)


def first_step(thinking: str) -> str:
    """The first sentence of what was thought step by step, without headings and numbers; empty where there is none.

    >>> first_step("1. Find the mug. Then wash it.")
    'Find the mug.'
    """
    for line in re.sub(r"</?think(?:ing)?>", "\n", thinking).splitlines():
        plain = _NUMBERING.sub("", line.replace("*", "").strip()).strip()
        if any(map(str.isalpha, plain)) and not plain.endswith(":") and not plain.startswith("#"):
            return re.split(r"(?<=[.!?])\s", plain, maxsplit=1)[0]
    return ""


def compact_messages(view: View) -> tuple[Message, ...]:
    """The teacher's compact hand-off: plan, one line for each past action, the last observations in full."""
    keep = view.agent.compact_observations
    past = [f"{i + 1}. {_action_text(turn.action)}" for i, turn in enumerate(view.turns)]
    recent = [_observation_text(turn.observation) for turn in view.turns[-keep:]] if keep else []
    parts = [
        f"Goal: {view.goal}",
        f"Plan:\n{view.plan}" if view.plan else "",
        "Actions so far:\n" + "\n".join(past) if past else "",
        "Last observations:\n" + "\n".join(recent) if recent else "",
        "Now:\n" + _observation_text(view.observation),
    ]
    body = "\n\n".join(part for part in parts if part)
    tail = [_admissible_block(view), _answer_line(view.agent, view.observation, None)]
    return (_system(view), Message(role="user", content=body), *_tail(tail))


def static_messages(view: View) -> int:
    """How many leading messages stay the same for the whole episode: the system message and the first observation."""
    return 2 if view.agent.history_turns is None else 1


def split_reply(reply: Reply, reasoning: Reasoning) -> Reply:
    """Split ``reasoning: ... action: ...``; an answer without the marker has an empty action, which is invalid."""
    if reasoning is not Reasoning.WITH_ACTION or reply.tool_calls:
        return reply
    head, marker, action = _last_marker(reply.text)
    thought = re.sub(r"^\s*reasoning:\s*", "", head, flags=re.IGNORECASE).strip()
    text = action.strip().splitlines()[0].strip() if marker and action.strip() else ""
    return Reply(
        text=text,
        reasoning="\n".join(part for part in (reply.reasoning, thought) if part),
        finish_reason=reply.finish_reason,
        logprob=reply.logprob,
        token_logprobs=reply.token_logprobs,
    )


def _last_marker(text: str) -> tuple[str, str, str]:
    matches = list(re.finditer(r"^[ \t]*action:[ \t]*", text, flags=re.IGNORECASE | re.MULTILINE))
    if not matches:
        return text, "", ""
    last = matches[-1]
    return text[: last.start()], "action:", text[last.end() :]


# --- parts ----------------------------------------------------------------------------------------------------------


def _until_now(view: View) -> tuple[Message, ...]:
    """System, history and the present observation. Demonstrations that stand last stand before that observation, so
    that what follows them is the student's own situation and not the next line of somebody else's."""
    messages = [_system(view)]
    turns = shown_turns(view)
    for index, turn in enumerate(turns):
        messages.extend(_observation_messages(view, turn.observation, first=index == 0))
        messages.append(_action_message(view.agent, turn))
    now = _observation_messages(view, view.observation, first=not turns)
    shown = _shown(view, Placement.LAST)
    if shown:
        results = [message for message in now if message.role == "tool"]
        texts = [message for message in now if message.role != "tool"]
        now = [*results, _joined(shown, texts)]
    return (*messages, *now)


def _joined(shown: str, texts: list[Message]) -> Message:
    parts = [shown, *(message.content for message in texts)]
    images = tuple(image for message in texts for image in message.images)
    return Message(role="user", content="\n\n".join(part for part in parts if part), images=images)


def shown_turns(view: View) -> tuple[Turn, ...]:
    """The past turns that the prompt shows. Tool results need the calls that they answer, so the last turn stays."""
    keep = view.agent.history_turns
    if keep is None:
        return view.turns
    if view.observation.tool_results:
        keep = max(keep, 1)
    return view.turns[len(view.turns) - keep :] if 0 < keep < len(view.turns) else view.turns if keep else ()


def _system(view: View) -> Message:
    parts = [view.instructions.strip(), _shown(view, Placement.FIRST)]
    return Message(role="system", content="\n\n".join(part for part in parts if part))


def _observation_messages(view: View, observation: Observation, *, first: bool) -> list[Message]:
    messages = [
        Message(role="tool", content=result.text, tool_call_id=result.call_id) for result in observation.tool_results
    ]
    head = f"Goal: {view.goal}\n\n" if first and view.goal else ""
    if first and view.plan:
        head += f"Plan:\n{view.plan}\n\n"
    if head or observation.text or not messages:
        messages.append(Message(role="user", content=head + observation.text, images=observation.images))
    return messages


def _action_message(agent: Agent, turn: Turn) -> Message:
    text = turn.action.text
    if turn.reasoning and agent.reasoning is not Reasoning.NONE:
        text = f"reasoning: {turn.reasoning}\naction: {text}" if text else turn.reasoning
    return Message(role="assistant", content=text, tool_calls=turn.action.tool_calls)


def heading_of(block: ContextBlock) -> str:
    """What a context's text begins with."""
    page = block.playbook and block.text and not block.demonstrations  # its lines may be named to nobody
    return PLAYBOOK_HEADING if block.bullets or page else DEMONSTRATIONS_HEADING


def _shown(view: View, placement: Placement) -> str:
    """The context, if this is where it stands. What goes on with the same kind of thing has no heading of its own."""
    if view.agent.placement is not placement:
        return ""
    parts: list[str] = []
    above, cites = "", view.agent.reasoning is not Reasoning.NONE
    for heading, text in ((view.task_heading, view.task_context), (view.step_heading, view.step_context)):
        if text:
            told = _CITING if cites and heading == PLAYBOOK_HEADING else heading
            parts += [text.strip()] if heading == above else [told, text.strip()]
            above = heading
    return "\n\n".join(parts)


def _admissible_block(view: View) -> str:
    actions = view.observation.admissible
    if not actions or not view.agent.list_admissible:
        return ""
    return "Admissible actions:\n" + "\n".join(f"- {action}" for action in actions)


def _answer_line(agent: Agent, observation: Observation, reasoning: str | None) -> str:
    if observation.admissible is None:
        return ""
    if reasoning is not None:
        return f"Your reasoning: {reasoning}\nAnswer with the next action only."
    if agent.reasoning is Reasoning.WITH_ACTION:
        return "Answer with two lines: 'reasoning: ...' and 'action: ...', where the action is one that is admissible."
    return "Answer with the next action only." if agent.list_admissible else ""


def _tail(blocks: list[str]) -> tuple[Message, ...]:
    text = "\n\n".join(block for block in blocks if block)
    return (Message(role="user", content=text),) if text else ()


def _action_text(action: Action) -> str:
    calls = "; ".join(f"{call.name}({call.arguments})" for call in action.tool_calls)
    return calls or " ".join(action.text.split())


def _observation_text(observation: Observation) -> str:
    results = [result.text for result in observation.tool_results]
    return "\n".join([*results, observation.text] if observation.text else results)
