"""What there is to learn from an episode: conversations, and which of the model's messages in them are to be learnt.

What it knows: that an episode which was recorded from requests (a gateway's, a wrapped client's) holds the prompts that
the model saw, and that another (a run's) is told by its observations and actions. What it does not do: any file format
(``openai_chat``, ``trl``), choose episodes.

An agent repeats its history at each call, so most episodes are one conversation. Where it changed its history (it
compacted it, or asked a second model), each is what a model really saw, and none is put together by us.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

import msgspec

from potstill.trajectories.situations import began_again
from potstill.types import Action, Answerer, Blob, Call, Message, Observation, Step, ToolCall, ToolSpec, Trajectory

ReadBlob = Callable[[str], bytes]
"""Bytes by digest (``Store.get_blob``)."""
EVERYBODY = frozenset({Answerer.TEACHER, Answerer.STUDENT, Answerer.CONTROL})
_HARMLESS = "tools of one provider"
"""Of what a record may leave out, the only kind without which the messages are still whole."""


class Conversation(NamedTuple):
    """``learnt``: which of the messages are to be learnt; all are the model's. ``others``: which ones that answered in
    this episode are not, because somebody else gave them."""

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    learnt: frozenset[int]
    others: frozenset[int] = frozenset()


class Unfit(Exception):
    """An episode, or a conversation of it, that cannot be learnt from; the message says why."""


def conversations(
    trajectory: Trajectory, answerers: Collection[Answerer] = EVERYBODY, *, reasoning: bool = False
) -> list[Conversation]:
    """Those with at least one message of these answerers. Raises ``Unfit``.

    Steps that failed, and those in which the model said nothing, are nothing to learn. ``reasoning``: what was thought
    at a step stands before what was done, as an agent that reasons with its action writes it.
    """
    found = threads(trajectory)
    told = [_told(_thinking(one) if reasoning else one, answerers) for one in found]
    fit = [one for one in told if one.learnt]
    if not fit:
        raise Unfit("none of its answers is wanted")
    return fit


class Thread(NamedTuple):
    """Messages, and of the model's among them who gave those that are known to be of this episode, at which step."""

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    given: dict[int, Answerer]
    steps: dict[int, Step]
    """Some of ``given``, by the same index: what is told of its answer."""


def threads(trajectory: Trajectory) -> list[Thread]:
    """Every conversation of an episode, whoever answered. Raises ``Unfit``.

    An episode of a run that began again has one for each beginning: nobody saw both.
    """
    left_out = [name for name in trajectory.metadata.get("left_out", {}) if name != _HARMLESS]
    if left_out:
        raise Unfit(f"the record lacks what the model was shown ({', '.join(sorted(left_out))})")
    if is_recorded(trajectory):
        return _from_prompts([step for step in trajectory.steps if _is_whole(step)])
    attempts: list[list[Step]] = [[]]
    for step in trajectory.steps:
        if began_again(step):
            attempts.append([])
        elif _is_whole(step):
            attempts[-1].append(step)
    return [_from_observations(trajectory, steps) for steps in attempts if steps]


def written(
    trajectories: Iterable[Trajectory],
    answerers: Collection[Answerer],
    rows: Callable[[Conversation], Iterable[dict[str, Any]]],
    left_out: Counter[str] | None,
    *,
    reasoning: bool = False,
) -> Iterator[dict[str, Any]]:
    """The rows of all conversations; ``left_out`` counts why an episode or a conversation has none."""
    reasons: Counter[str] = Counter() if left_out is None else left_out
    for trajectory in trajectories:
        try:
            found = conversations(trajectory, answerers, reasoning=reasoning)
        except Unfit as reason:
            reasons[str(reason)] += 1
            continue
        for one in found:
            try:
                yield from list(rows(one))
            except Unfit as reason:
                reasons[str(reason)] += 1


def write_rows(
    trajectories: Iterable[Trajectory],
    target: BinaryIO,
    rows: Callable[[Conversation], Iterable[dict[str, Any]]],
    *,
    all_outcomes: bool = False,
    answerers: Collection[Answerer] = EVERYBODY,
    reasoning: bool = False,
    left_out: Counter[str] | None = None,
) -> int:
    """A line of JSON for each row of the episodes that succeeded; returns how many."""
    count = 0
    chosen = (one for one in trajectories if one.succeeded or all_outcomes)
    for row in written(chosen, answerers, rows, left_out, reasoning=reasoning):
        target.write(msgspec.json.encode(row) + b"\n")
        count += 1
    return count


def whole_answers(said: Conversation) -> None:
    """Raises ``Unfit`` where somebody else answered, too, for formats in which every answer is learnt."""
    if said.others:
        raise Unfit("others answered too, and whole conversations have no weights: take trl-steps")


def is_recorded(trajectory: Trajectory) -> bool:
    """Recorded from requests: prompts are what was sent."""
    return bool(trajectory.metadata.get("dialects"))


def blobs(messages: Iterable[Message]) -> Iterator[tuple[Message, Blob]]:
    for message in messages:
        for blob in message.images:
            yield message, blob


def _is_whole(step: Step) -> bool:
    acted = step.action.text.strip() or step.action.tool_calls
    return bool(acted) and step.error is None and step.answerer is not Answerer.NOBODY


# --- who said what ----------------------------------------------------------------------------------------------------


def _told(thread: Thread, answerers: Collection[Answerer]) -> Conversation:
    learnt = frozenset(at for at, answerer in thread.given.items() if answerer in answerers)
    return Conversation(thread.messages, thread.tools, learnt, frozenset(thread.given) - learnt)


def _thinking(thread: Thread) -> Thread:
    """The same with each step's reasoning in its message (``run.prompt`` reads and writes this form)."""
    messages = list(thread.messages)
    for at, step in thread.steps.items():
        thought, message = step.reasoning.strip(), messages[at]
        if thought:
            said = f"reasoning: {thought}\naction: {message.content}" if message.content else thought
            messages[at] = msgspec.structs.replace(message, content=said)
    return thread._replace(messages=tuple(messages))


def _from_prompts(steps: Sequence[Step]) -> list[Thread]:
    found: list[Thread] = []
    actors: dict[object, Answerer] = {}
    for step in steps:
        call = _acting(step)
        if call is None:
            continue
        actors[_key(step.action)] = step.answerer
        prompt = call.prompt
        at = next((at for at in reversed(range(len(found))) if _goes_on(found[at].messages, prompt)), None)
        given = dict(found[at].given) if at is not None else {}
        for index in range(len(found[at].messages) if at is not None else 0, len(prompt)):
            actor = actors.get(_key(prompt[index])) if prompt[index].role == "assistant" else None
            if actor is not None and index:
                given[index] = actor
        given[len(prompt)] = step.answerer
        answers = {**(found[at].steps if at is not None else {}), len(prompt): step}
        tools = _merged([*(found[at].tools if at is not None else ()), *call.tools])
        made = Thread((*prompt, _message(step.action)), tools, given, answers)
        if at is None:
            found.append(made)
        else:
            found[at] = made
    return found


def _acting(step: Step) -> Call | None:
    """The call whose answer the client went on with."""
    own = [call for call in step.calls if call.answerer is step.answerer and call.prompt and call.error is None]
    took = [
        call
        for call in own
        if any(_same(Action(text=r.text, tool_calls=r.tool_calls), step.action) for r in call.replies)
    ]
    fit = took or own
    return fit[-1] if fit else None


def _goes_on(messages: tuple[Message, ...], prompt: tuple[Message, ...]) -> bool:
    """Whether a prompt begins with a conversation, whatever its client did to the text beside calls of tools."""
    if len(prompt) <= len(messages) or prompt[: len(messages) - 1] != messages[:-1]:
        return False
    repeated, said = prompt[len(messages) - 1], messages[-1]
    return repeated.role == "assistant" and _same(repeated, said)


def _same(one: Action | Message, other: Action | Message) -> bool:
    return _key(one) == _key(other)


def _key(said: Action | Message) -> object:
    text = said.text if isinstance(said, Action) else said.content
    return tuple((call.id, call.name) for call in said.tool_calls) or text.strip()


# --- episodes of runs -------------------------------------------------------------------------------------------------


def _from_observations(trajectory: Trajectory, steps: Sequence[Step]) -> Thread:
    """System text as it was recorded, then observations and actions in turn."""
    messages: list[Message] = []
    given: dict[int, Answerer] = {}
    answers: dict[int, Step] = {}
    if system := _system(steps):
        messages.append(Message(role="system", content=system))
    pending: tuple[ToolCall, ...] = ()
    goal = trajectory.goal or trajectory.task.goal
    for step in steps:
        messages += _seen(step.observation, pending, goal)
        given[len(messages)] = step.answerer
        answers[len(messages)] = step
        messages.append(_message(step.action))
        pending, goal = step.action.tool_calls, ""
    return Thread(tuple(messages), _tools(steps), given, answers)


def _system(steps: Sequence[Step]) -> str:
    for step in steps:
        for call in step.calls:
            if call.prompt and call.prompt[0].role == "system":
                return call.prompt[0].content
    return ""


def _seen(observation: Observation, pending: tuple[ToolCall, ...], goal: str) -> list[Message]:
    """Tool results answer the calls before them; a call without a result of its own gets the observation's text.

    What a client was told first may hold the goal already.
    """
    if not pending:
        before = "" if goal in observation.text else goal
        text = "\n\n".join(part for part in (before, observation.text) if part)
        return [Message(role="user", content=text, images=observation.images)]
    results = {result.call_id: result.text for result in observation.tool_results}
    told = [
        Message(role="tool", tool_call_id=call.id, content=results.get(call.id, observation.text)) for call in pending
    ]
    if observation.images:
        told[-1:] = [
            Message(role="tool", tool_call_id=pending[-1].id, content=told[-1].content, images=observation.images)
        ]
    return told


def _message(action: Action) -> Message:
    return Message(role="assistant", content=action.text, tool_calls=action.tool_calls)


def _tools(steps: Sequence[Step]) -> tuple[ToolSpec, ...]:
    """Every tool that was offered in the episode."""
    offered = (tools for step in steps for tools in (step.observation.tools, *(call.tools for call in step.calls)))
    return _merged(tool for tools in offered for tool in tools)


def _merged(tools: Iterable[ToolSpec]) -> tuple[ToolSpec, ...]:
    """The first description of each name."""
    found: dict[str, ToolSpec] = {}
    for tool in tools:
        found.setdefault(tool.name, tool)
    return tuple(found.values())
