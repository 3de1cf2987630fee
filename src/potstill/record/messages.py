"""Neutral requests and answers as the leaner structs that trajectories are made of.

What it knows: ``wire.neutral`` and ``types``, and what of the first has no place in the second. What it does not do:
bytes, steps. What is left out is counted, never lost from sight: images by address (nothing is fetched), images where
nobody keeps blobs, parts that only one dialect knows.
"""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from potstill.record.parsing import action_of, reasoning_of, words
from potstill.types import Blob, Message, Observation, Reply, ToolCall, ToolResult, ToolSpec
from potstill.wire.neutral import Answer, Choice, Image, Opaque, Part, Prompt, Tool, ToolOutput, Turn

PutBlob = Callable[[bytes, str], Blob]
"""Keeps bytes under a media type (``Store.put_blob``)."""


class Translator:
    """Turns prompts of one episode into messages; what a prompt repeats of the one before is the same object again.

    ``left_out`` counts what had no place.
    """

    def __init__(self, put_blob: PutBlob | None = None) -> None:
        self._put_blob = put_blob
        self.left_out: Counter[str] = Counter()
        self._turns: tuple[Turn, ...] = ()
        self._messages: list[tuple[Message, ...]] = []
        self._tools: dict[bytes, tuple[ToolSpec, ...]] = {}

    def messages(self, prompt: Prompt) -> tuple[Message, ...]:
        kept = 0
        for before, now in zip(self._turns, prompt.turns, strict=False):
            if before != now:
                break
            kept += 1
        self._messages = self._messages[:kept] + [tuple(self._of_turn(turn)) for turn in prompt.turns[kept:]]
        self._turns = prompt.turns
        return tuple(message for messages in self._messages for message in messages)

    def tools(self, prompt: Prompt) -> tuple[ToolSpec, ...]:
        """The functions among the tools; equal lists are the same object."""
        key = msgspec.json.encode(prompt.tools)
        if key not in self._tools:
            specs = []
            for tool in prompt.tools:
                if isinstance(tool, Tool):
                    parameters = tool.parameters or {}
                    specs.append(ToolSpec(name=tool.name, description=tool.description or "", parameters=parameters))
                else:
                    self.left_out["tools of one provider"] += 1
            self._tools[key] = tuple(specs)
        return self._tools[key]

    def observation(self, prompt: Prompt) -> Observation:
        """What the client showed since the model's last answer."""
        fresh = since_answer(prompt.turns)
        outputs = [part for turn in fresh for part in turn.parts if isinstance(part, ToolOutput)]
        texts = [words(turn.parts) for turn in fresh if turn.role == "user"]
        images = [part for turn in fresh for part in turn.parts if isinstance(part, Image)]
        images += [part for output in outputs for part in output.parts if isinstance(part, Image)]
        return Observation(
            text="\n\n".join(text for text in texts if text),
            tools=self.tools(prompt),
            tool_results=tuple(ToolResult(call_id=output.call_id, text=words(output.parts)) for output in outputs),
            images=self._kept(images, count=False),
        )

    def _of_turn(self, turn: Turn) -> list[Message]:
        out = []
        plain: list[Part] = []
        for part in turn.parts:
            if isinstance(part, ToolOutput):
                images = self._kept([inner for inner in part.parts if isinstance(inner, Image)])
                out.append(Message(role="tool", content=words(part.parts), tool_call_id=part.call_id, images=images))
            else:
                plain.append(part)
                if isinstance(part, Opaque) and not part.hint:
                    self.left_out[f"{part.kind} of {part.dialect}"] += 1
        if plain or not out:
            action = action_of(plain)
            images = self._kept([part for part in plain if isinstance(part, Image)])
            out.append(Message(role=turn.role, content=action.text, tool_calls=action.tool_calls, images=images))
        return out

    def _kept(self, images: Sequence[Image], *, count: bool = True) -> tuple[Blob, ...]:
        kept = []
        for image in images:
            blob = self._blob(image)
            if blob is not None:
                kept.append(blob)
            elif count:
                self.left_out["images by address" if image.data is None else "images"] += 1
        return tuple(kept)

    def _blob(self, image: Image) -> Blob | None:
        if image.data is None or self._put_blob is None:
            return None
        try:
            content = base64.b64decode(image.data, validate=True)
        except (binascii.Error, ValueError):
            return None
        return self._put_blob(content, image.media_type or "application/octet-stream")


def since_answer(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """The turns behind the model's last one; where the prompt ends with a beginning of its answer, those before."""
    end = len(turns)
    while end and turns[end - 1].role == "assistant":
        end -= 1
    start = end
    while start and turns[start - 1].role != "assistant":
        start -= 1
    return tuple(turns[start:end])


def replies(answer: Answer) -> tuple[Reply, ...]:
    return tuple(_reply(choice) for choice in answer.choices)


def _reply(choice: Choice) -> Reply:
    action = action_of(choice.parts)
    return Reply(
        text=action.text,
        tool_calls=action.tool_calls,
        reasoning=reasoning_of(choice.parts),
        finish_reason=choice.finish,
        logprob=sum(token.logprob for token in choice.logprobs) if choice.logprobs else None,
        token_logprobs=choice.logprobs,
    )


def same_calls(left: Sequence[ToolCall], right: Sequence[ToolCall]) -> bool:
    """Whether a client put these calls back, whatever it did to the text beside them and to white space."""
    return [(call.id, call.name) for call in left] == [(call.id, call.name) for call in right]
