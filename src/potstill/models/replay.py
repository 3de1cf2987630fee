"""Recorded answers as a model: the same prompt gets the sample that was recorded for it, without asking anyone.

What it knows: calls, found by the digest of their prompt and tools, sample after sample. What it does not do: guess. A
prompt that was not recorded is an error; nothing falls back to a live model.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from potstill.errors import ConfigError, ModelError, UnknownName
from potstill.protocols import Capabilities
from potstill.types import Answerer, Call, Completion, Message, Reply, Request, ToolSpec, Trajectory, Usage


def prompt_digest(prompt: tuple[Message, ...], tools: tuple[ToolSpec, ...] = ()) -> str:
    """Lower-case hexadecimal SHA-256 of what a model was shown. Sampling settings are not in it."""
    return hashlib.sha256(msgspec.json.encode((prompt, tools), order="deterministic")).hexdigest()


class _Sample(msgspec.Struct, frozen=True):
    """One recorded reply. ``first`` marks the one with which its call's usage is counted."""

    reply: Reply
    call: Call
    first: bool


class ReplayModel:
    """Answers from recorded calls, in the order in which they were recorded.

    Each request continues where the last one with the same prompt stopped, so that "two samples, then a third" replays
    as it was recorded; ``wrap=True`` starts over at the end instead of failing. What is returned carries the recorded
    usage once, with the first sample drawn from its call.

    Raises ``UnknownName`` if ``model`` answered none of the calls, ``ConfigError`` if several models did and none was
    named; ``sample`` raises ``ModelError`` for a prompt or a sample that was not recorded.
    """

    def __init__(
        self, calls: Iterable[Call], *, model: str | None = None, wrap: bool = False, source: str = "recording"
    ) -> None:
        answered = [call for call in calls if call.replies]
        models = sorted({call.model for call in answered})
        if model is None and len(models) > 1:
            raise ConfigError(f"{source} holds answers of {', '.join(models)}. Type: replay:{source}#{models[0]}")
        if model is not None and model not in models:
            raise UnknownName(f"model in {source}", model, models)
        self._name = f"replay:{source}" + (f"#{model}" if model else "")
        self._source = source
        self._wrap = wrap
        self._samples: dict[str, list[_Sample]] = {}
        self._drawn: dict[str, int] = {}
        for call in answered:
            if model is None or call.model == model:
                recorded = self._samples.setdefault(prompt_digest(call.prompt, call.tools), [])
                recorded.extend(_Sample(reply, call, index == 0) for index, reply in enumerate(call.replies))

    @classmethod
    def from_file(cls, path: str | Path, *, model: str | None = None, wrap: bool = False) -> ReplayModel:
        """From JSON lines of trajectories (``potstill trajectories export``) or of calls."""
        return cls(read_calls(path), model=model, wrap=wrap, source=str(path))

    @property
    def name(self) -> str:
        return self._name

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(n_shares_prompt=True, tools=True)

    def __len__(self) -> int:
        """How many samples are recorded."""
        return sum(map(len, self._samples.values()))

    def rewind(self) -> None:
        """Start over with the first sample of every prompt."""
        self._drawn.clear()

    async def sample(self, request: Request, n: int = 1) -> Completion:
        if n < 1:
            raise ConfigError(f"n is {n}; at least one sample must be asked for.")
        started = time.time()
        drawn = self._draw(prompt_digest(request.messages, request.tools), n)
        calls: list[Call] = []
        for position, sample in enumerate(drawn):
            if position and sample.call is drawn[position - 1].call and not sample.first:
                calls[-1] = msgspec.structs.replace(calls[-1], replies=(*calls[-1].replies, sample.reply))
            else:
                calls.append(_replayed(sample, started))
        return Completion(replies=tuple(sample.reply for sample in drawn), calls=tuple(calls))

    async def aclose(self) -> None:
        """Nothing is held open."""

    def _draw(self, digest: str, n: int) -> list[_Sample]:
        recorded = self._samples.get(digest)
        if not recorded:
            raise ModelError(
                f"{self._source} has no answer to this prompt (digest {digest[:12]}). Prompts must be equal to the "
                "last character: record this configuration first (potstill run, then: potstill trajectories export)."
            )
        start = self._drawn.get(digest, 0)
        if start + n > len(recorded) and not self._wrap:
            raise ModelError(
                f"{self._source} has {len(recorded)} samples for this prompt (digest {digest[:12]}) and sample "
                f"{start + n} was asked for. Record more samples, or open it with wrap=True to start over."
            )
        self._drawn[digest] = start + n
        return [recorded[(start + offset) % len(recorded)] for offset in range(n)]


def read_calls(path: str | Path) -> list[Call]:
    """The calls in a file of JSON lines, each line a trajectory or a call. Raises ``ConfigError`` with the line."""
    try:
        lines = Path(path).read_bytes().splitlines()
    except OSError as error:
        raise ConfigError(
            f"'{path}' cannot be read ({error.strerror}). Type for example: replay:episodes.jsonl"
        ) from None
    calls: list[Call] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                calls.extend(_calls_of(msgspec.json.decode(line)))
            except (msgspec.DecodeError, ValueError) as error:
                raise ConfigError(
                    f"Line {number} of '{path}' is neither a trajectory nor a call ({error}). "
                    "Write such a file with: potstill trajectories export --format jsonl"
                ) from None
    return calls


def _calls_of(value: Any) -> list[Call]:
    if isinstance(value, dict) and "task" in value:
        trajectory = msgspec.convert(value, Trajectory)
        return [call for step in trajectory.steps for call in step.calls]
    return [msgspec.convert(value, Call)]


def _replayed(sample: _Sample, started_at: float) -> Call:
    usage = sample.call.usage
    if not sample.first and usage is not None:
        usage = Usage(cache_reported=usage.cache_reported, estimated=usage.estimated)
    return msgspec.structs.replace(
        sample.call,
        replies=(sample.reply,),
        answerer=Answerer.NOBODY,
        usage=usage,
        raw_usage=sample.call.raw_usage if sample.first else None,
        started_at=started_at,
    )
