"""A trajectory taken apart so that what repeats is written once, and put together again.

What it knows: prompts become chains of nodes ``(parent, message)``, tool lists become numbered tool sets, and the
steps keep neither (docs/design/001). What it does not do: databases, files.

References live in typed fields of their own, never inside recorded text, so no observation can forge one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from potstill.types import Blob, Call, Message, Observation, Step, Struct, ToolSpec, Trajectory

NOTHING = -1
OBSERVATION_SLOT = -1
"""``Ref.slot`` of a step's observation; calls count from 0."""


class Ref(msgspec.Struct, frozen=True, array_like=True):
    """Which prompt and which tools belong to one place: call ``slot`` of the step at ``position``.

    The final observation has ``position == len(steps)`` and the observation's slot. ``node`` and ``toolset`` are
    positions in ``Flat``'s lists, or -1 for none.
    """

    position: int
    slot: int
    node: int
    toolset: int


class Flat(Struct, frozen=True, kw_only=True):
    """A trajectory without repetition. ``nodes`` holds (parent, message) positions; a root's parent is -1."""

    bare: Trajectory
    """The trajectory with every call's prompt and tools and every observation's tools left out."""
    messages: tuple[Message, ...] = ()
    nodes: tuple[tuple[int, int], ...] = ()
    toolsets: tuple[tuple[ToolSpec, ...], ...] = ()
    refs: tuple[Ref, ...] = ()


class _Pool:
    """Numbers messages, prompts and tool lists in the order in which they first appear."""

    def __init__(self) -> None:
        self.messages: dict[Message, int] = {}
        self.nodes: dict[tuple[int, int], int] = {}
        self.toolsets: dict[bytes, int] = {}
        self._toolset_values: list[tuple[ToolSpec, ...]] = []
        self._by_identity: dict[int, int] = {}

    def prompt(self, prompt: tuple[Message, ...]) -> int:
        node = NOTHING
        for message in prompt:
            number = self.messages.setdefault(message, len(self.messages))
            node = self.nodes.setdefault((node, number), len(self.nodes))
        return node

    def tools(self, tools: tuple[ToolSpec, ...]) -> int:
        if not tools:
            return NOTHING
        if (known := self._by_identity.get(id(tools))) is not None:
            return known
        number = self.toolsets.setdefault(msgspec.json.encode(tools), len(self.toolsets))
        if number == len(self._toolset_values):
            self._toolset_values.append(tools)
        self._by_identity[id(tools)] = number
        return number

    def flat(self, bare: Trajectory, refs: list[Ref]) -> Flat:
        return Flat(
            bare=bare,
            messages=tuple(self.messages),
            nodes=tuple(self.nodes),
            toolsets=tuple(self._toolset_values),
            refs=tuple(refs),
        )


def flatten(trajectory: Trajectory) -> Flat:
    """Take a trajectory apart. The result is linear in new text: a prompt that grows adds only its new messages."""
    pool = _Pool()
    refs: list[Ref] = []
    steps = []
    for position, step in enumerate(trajectory.steps):
        observation = _strip_observation(step.observation, position, pool, refs)
        calls = tuple(_strip_call(call, position, slot, pool, refs) for slot, call in enumerate(step.calls))
        steps.append(msgspec.structs.replace(step, observation=observation, calls=calls))
    final = trajectory.final_observation
    if final is not None:
        final = _strip_observation(final, len(steps), pool, refs)
    bare = msgspec.structs.replace(trajectory, steps=tuple(steps), final_observation=final)
    return pool.flat(bare, refs)


def _strip_observation(observation: Observation, position: int, pool: _Pool, refs: list[Ref]) -> Observation:
    if not observation.tools:
        return observation
    refs.append(Ref(position, OBSERVATION_SLOT, NOTHING, pool.tools(observation.tools)))
    return msgspec.structs.replace(observation, tools=())


def _strip_call(call: Call, position: int, slot: int, pool: _Pool, refs: list[Ref]) -> Call:
    if not call.prompt and not call.tools:
        return call
    refs.append(Ref(position, slot, pool.prompt(call.prompt), pool.tools(call.tools)))
    return msgspec.structs.replace(call, prompt=(), tools=())


def inflate(flat: Flat) -> Trajectory:
    """Put a trajectory together again.

    Raises ``ValueError`` for references that lead nowhere (a damaged or hand-written file).
    """
    prompts = _prompts(flat)
    patches: dict[int, dict[int, Ref]] = {}
    for ref in flat.refs:
        _check_range("prompt", ref.node, len(prompts))
        _check_range("tool set", ref.toolset, len(flat.toolsets))
        patches.setdefault(ref.position, {})[ref.slot] = ref
    steps = list(flat.bare.steps)
    final = flat.bare.final_observation
    for position, by_slot in patches.items():
        if 0 <= position < len(steps):
            steps[position] = _fill_step(steps[position], by_slot, prompts, flat.toolsets)
        elif position == len(steps) and final is not None and set(by_slot) == {OBSERVATION_SLOT}:
            final = msgspec.structs.replace(final, tools=_pick(flat.toolsets, by_slot[OBSERVATION_SLOT].toolset))
        else:
            raise ValueError(f"a reference names step {position}, but there are {len(steps)} steps")
    return msgspec.structs.replace(flat.bare, steps=tuple(steps), final_observation=final)


def _fill_step(
    step: Step,
    by_slot: dict[int, Ref],
    prompts: list[tuple[Message, ...]],
    toolsets: tuple[tuple[ToolSpec, ...], ...],
) -> Step:
    calls = list(step.calls)
    observation = step.observation
    for slot, ref in by_slot.items():
        tools = _pick(toolsets, ref.toolset)
        if slot == OBSERVATION_SLOT:
            observation = msgspec.structs.replace(observation, tools=tools)
        elif 0 <= slot < len(calls):
            prompt = prompts[ref.node] if ref.node != NOTHING else ()
            calls[slot] = msgspec.structs.replace(calls[slot], prompt=prompt, tools=tools)
        else:
            raise ValueError(f"a reference names call {slot}, but the step has {len(calls)} calls")
    return msgspec.structs.replace(step, observation=observation, calls=tuple(calls))


def _pick(toolsets: tuple[tuple[ToolSpec, ...], ...], number: int) -> tuple[ToolSpec, ...]:
    return toolsets[number] if number != NOTHING else ()


def _check_range(what: str, number: int, count: int) -> None:
    if not NOTHING <= number < count:
        raise ValueError(f"a reference names {what} {number}, but there are {count}")


def _prompts(flat: Flat) -> list[tuple[Message, ...]]:
    prompts: list[tuple[Message, ...]] = []
    for parent, message in flat.nodes:
        _check_range("parent prompt", parent, len(prompts))
        if not 0 <= message < len(flat.messages):
            raise ValueError(f"a prompt names message {message}, but there are {len(flat.messages)}")
        head = prompts[parent] if parent != NOTHING else ()
        prompts.append((*head, flat.messages[message]))
    return prompts


def blobs(flat: Flat) -> set[str]:
    """Digests of every blob that the trajectory refers to."""
    found: set[str] = set()
    for images in _images(flat):
        found.update(blob.digest for blob in images)
    return found


def _images(flat: Flat) -> Iterator[tuple[Blob, ...]]:
    for message in flat.messages:
        yield message.images
    for step in flat.bare.steps:
        yield step.observation.images
    if flat.bare.final_observation is not None:
        yield flat.bare.final_observation.images


def first_unstorable(value: Any, path: str = "") -> str | None:
    """Where a value cannot be written as JSON and read back equal, in words; None if nothing was found."""
    if isinstance(value, float):
        finite = float("-inf") < value < float("inf")
        return None if finite else f"{path or 'value'} is {value}: only finite numbers can be stored (None for unknown)"
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return f"{path or 'value'} has a lone surrogate (half of a character): {value[:40]!r}"
        return None
    for name, child in _children(value):
        if (problem := first_unstorable(child, f"{path}{name}" if path else name.lstrip("."))) is not None:
            return problem
    return None


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield f".{name}", getattr(value, name)
    elif isinstance(value, dict):
        for key, child in value.items():
            yield f"[{key!r}]", child
    elif isinstance(value, (list, tuple)):
        for index, child in enumerate(value):
            yield f"[{index}]", child
