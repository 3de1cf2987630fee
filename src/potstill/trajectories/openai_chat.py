"""OpenAI's chat fine-tuning JSONL: trajectories out as conversations, conversations in as trajectories.

What it knows: that format (platform.openai.com/docs/guides/fine-tuning): ``{"messages": [...], "tools": [...]}``, one
conversation a line, the last message from the assistant, every tool call answered. What it does not do: choose what is
worth training on, beyond leaving out what did not succeed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Literal

import msgspec

from potstill.trajectories.jsonl import BadLine, lines
from potstill.types import (
    Action,
    Answerer,
    Call,
    Message,
    Observation,
    Reply,
    Step,
    Task,
    ToolCall,
    ToolResult,
    ToolSpec,
    Trajectory,
    TrajectoryKind,
)

# --- out ------------------------------------------------------------------------------------------------------------


def write_openai_chat(trajectories: Iterable[Trajectory], target: BinaryIO, *, all_outcomes: bool = False) -> int:
    """One conversation a line; only successful episodes unless ``all_outcomes``. Returns how many were written."""
    count = 0
    for trajectory in trajectories:
        if (trajectory.succeeded or all_outcomes) and trajectory.steps:
            target.write(msgspec.json.encode(conversation(trajectory)) + b"\n")
            count += 1
    return count


def conversation(trajectory: Trajectory) -> dict[str, Any]:
    """The episode as one conversation: system text as it was recorded, then observations and actions in turn."""
    messages: list[dict[str, Any]] = []
    if system := _system(trajectory):
        messages.append({"role": "system", "content": system})
    pending: tuple[ToolCall, ...] = ()
    goal = trajectory.goal or trajectory.task.goal
    for step in trajectory.steps:
        messages += _seen(step.observation, pending, goal)
        messages.append(_acted(step.action))
        pending, goal = step.action.tool_calls, ""
    result: dict[str, Any] = {"messages": messages}
    if tools := _tools(trajectory):
        result["tools"] = tools
    return result


def _system(trajectory: Trajectory) -> str:
    for step in trajectory.steps:
        for call in step.calls:
            if call.prompt and call.prompt[0].role == "system":
                return call.prompt[0].content
    return ""


def _seen(observation: Observation, pending: tuple[ToolCall, ...], goal: str) -> list[dict[str, Any]]:
    """Tool results answer the calls before them; a call without a result of its own gets the observation's text.

    What a client was told first may hold the goal already.
    """
    if not pending:
        before = "" if goal in observation.text else goal
        return [{"role": "user", "content": "\n\n".join(part for part in (before, observation.text) if part)}]
    results = {result.call_id: result.text for result in observation.tool_results}
    return [
        {"role": "tool", "tool_call_id": call.id, "content": results.get(call.id, observation.text)} for call in pending
    ]


def _acted(action: Action) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": action.text}
    if action.tool_calls:
        message["content"] = action.text or None
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in action.tool_calls
        ]
    return message


def _tools(trajectory: Trajectory) -> list[dict[str, Any]]:
    """Every tool that was offered in the episode, the first description of each name."""
    found: dict[str, ToolSpec] = {}
    for step in trajectory.steps:
        for offered in (step.observation.tools, *(call.tools for call in step.calls)):
            for tool in offered:
                found.setdefault(tool.name, tool)
    return [{"type": "function", "function": msgspec.to_builtins(tool)} for tool in found.values()]


# --- in -------------------------------------------------------------------------------------------------------------


class _Function(msgspec.Struct, frozen=True):
    name: str
    arguments: str = "{}"


class _ToolCall(msgspec.Struct, frozen=True):
    id: str
    function: _Function


class _ChatMessage(msgspec.Struct, frozen=True):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | None = None
    tool_calls: tuple[_ToolCall, ...] | None = None
    tool_call_id: str | None = None


class _OfferedTool(msgspec.Struct, frozen=True):
    function: ToolSpec


class _Conversation(msgspec.Struct, frozen=True):
    messages: tuple[_ChatMessage, ...]
    tools: tuple[_OfferedTool, ...] = ()


_decoder = msgspec.json.Decoder(_Conversation)


def read_openai_chat(source: BinaryIO, *, namespace: str = "default") -> Iterator[tuple[int, Trajectory | BadLine]]:
    """Each conversation as a teacher's trajectory: a step for each assistant message. The outcome is not known."""
    for number, line in lines(source):
        try:
            yield number, _trajectory(_decoder.decode(line), line, namespace)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            yield number, BadLine(number, str(error) or "nested too deeply")


def _trajectory(read: _Conversation, line: bytes, namespace: str) -> Trajectory:
    tools = tuple(tool.function for tool in read.tools)
    prompt: tuple[Message, ...] = ()
    fresh: list[Message] = []
    steps: list[Step] = []
    for chat in read.messages:
        message = _message(chat)
        if message.role == "assistant":
            steps.append(_step(len(steps), prompt, fresh, message, tools))
            fresh = []
        elif message.role != "system":
            fresh.append(message)
        prompt = (*prompt, message)
    if not steps:
        raise ValueError("the conversation has no assistant message, so there is no step to keep")
    first = next((m.content for m in prompt if m.role == "user"), "")
    return Trajectory(
        id=f"openai-chat-{hashlib.sha256(namespace.encode() + bytes(1) + line.strip()).hexdigest()[:24]}",
        task=Task(id=f"chat-{hashlib.sha256(first.encode()).hexdigest()[:16]}", environment="openai-chat"),
        kind=TrajectoryKind.TEACHER,
        arm="imported",
        namespace=namespace,
        goal=first,
        steps=tuple(steps),
    )


def _message(chat: _ChatMessage) -> Message:
    calls = tuple(
        ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
        for call in chat.tool_calls or ()
    )
    return Message(
        role="system" if chat.role == "developer" else chat.role,
        content=chat.content or "",
        tool_calls=calls,
        tool_call_id=chat.tool_call_id,
    )


def _step(
    index: int, prompt: tuple[Message, ...], fresh: list[Message], answer: Message, tools: tuple[ToolSpec, ...]
) -> Step:
    results = tuple(ToolResult(call_id=m.tool_call_id or "", text=m.content) for m in fresh if m.role == "tool")
    reply = Reply(text=answer.content, tool_calls=answer.tool_calls)
    return Step(
        index=index,
        observation=Observation(
            text="\n\n".join(m.content for m in fresh if m.role == "user"), tools=tools, tool_results=results
        ),
        action=Action(text=answer.content, tool_calls=answer.tool_calls),
        answerer=Answerer.TEACHER,
        calls=(Call(model="unknown", answerer=Answerer.TEACHER, prompt=prompt, tools=tools, replies=(reply,)),),
    )
