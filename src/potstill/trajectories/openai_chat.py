"""OpenAI's chat fine-tuning JSONL: trajectories out as conversations, conversations in as trajectories.

What it knows: that format (platform.openai.com/docs/guides/fine-tuning): ``{"messages": [...], "tools": [...]}``, one
conversation a line, the last message from the assistant, every tool call before it answered, ``weight`` 0 for messages
of the assistant that are not to be learnt, images of users only. What it does not do: find the conversations of an
episode (``finetuning``), choose what is worth training on, beyond leaving out what did not succeed.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import Any, BinaryIO, Literal

import msgspec

from potstill.trajectories.finetuning import EVERYBODY, Conversation, ReadBlob, Unfit, conversations, written
from potstill.trajectories.jsonl import BadLine, lines, problem_of
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

IMAGES = ("image/jpeg", "image/png", "image/webp")
MAX_IMAGES = 10
MAX_IMAGE_BYTES = 10_000_000


def write_openai_chat(
    trajectories: Iterable[Trajectory],
    target: BinaryIO,
    *,
    all_outcomes: bool = False,
    answerers: Collection[Answerer] = EVERYBODY,
    reasoning: bool = False,
    read_blob: ReadBlob | None = None,
    left_out: Counter[str] | None = None,
) -> int:
    """A line for each conversation; only successful episodes unless ``all_outcomes``. Returns how many were written.

    ``answerers``: whose messages are to be learnt; the others' have weight 0. ``reasoning``: what was thought stands
    before what was done. ``read_blob`` gives the bytes of images. ``left_out`` is told why something was not written.
    """
    count = 0
    chosen = (one for one in trajectories if one.succeeded or all_outcomes)
    for row in written(chosen, answerers, lambda one: [_line(one, read_blob)], left_out, reasoning=reasoning):
        target.write(msgspec.json.encode(row) + b"\n")
        count += 1
    return count


def conversation(trajectory: Trajectory) -> dict[str, Any]:
    """The first conversation of an episode. Raises ``Unfit`` where there is nothing to learn."""
    return _line(conversations(trajectory)[0], None)


def _line(said: Conversation, read_blob: ReadBlob | None) -> dict[str, Any]:
    messages = [_out(message, read_blob) for message in said.messages]
    for at, message in enumerate(said.messages):
        if message.role == "assistant" and at not in said.learnt:
            messages[at]["weight"] = 0
    if sum(len(message.images) for message in said.messages) > MAX_IMAGES:
        raise Unfit(f"it holds more than {MAX_IMAGES} images")
    line: dict[str, Any] = {"messages": messages}
    if said.tools:
        line["tools"] = [tool_told(tool) for tool in said.tools]
    return line


def tool_told(tool: ToolSpec) -> dict[str, Any]:
    return {"type": "function", "function": msgspec.to_builtins(tool)}


def _out(message: Message, read_blob: ReadBlob | None) -> dict[str, Any]:
    told: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.images:
        told["content"] = _with_images(message, read_blob)
    if message.tool_call_id is not None:
        told = {"role": message.role, "tool_call_id": message.tool_call_id, "content": message.content}
    if message.tool_calls:
        told["content"] = message.content or None
        told["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    return told


def _with_images(message: Message, read_blob: ReadBlob | None) -> list[dict[str, Any]]:
    """Only users may show images, as JPEG, PNG or WebP of 10 MB at most."""
    if message.role != "user":
        raise Unfit("a tool showed an image, which this format cannot say")
    if read_blob is None:
        raise Unfit("it holds images, and there is no store to read them from")
    parts: list[dict[str, Any]] = [{"type": "text", "text": message.content}] if message.content else []
    for blob in message.images:
        if blob.media_type not in IMAGES or blob.size_bytes > MAX_IMAGE_BYTES:
            raise Unfit(
                f"it holds an image that this format does not take ({blob.media_type}, {blob.size_bytes} bytes)"
            )
        data = base64.b64encode(read_blob(blob.digest)).decode()
        parts.append({"type": "image_url", "image_url": {"url": f"data:{blob.media_type};base64,{data}"}})
    return parts


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
            yield number, BadLine(number, problem_of(error, line))


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
