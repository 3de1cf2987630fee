"""What a worker process and its owner say to each other: length-prefixed msgpack frames of these structs.

What it knows: the shapes. What it does not do: pipes, processes. Nothing is pickled, so a frame can only ever be data.
"""

from __future__ import annotations

import struct

import msgspec

from potstill.types import Action, Blob, Observation, Outcome, Task

HEADER = struct.Struct(">I")
MAX_FRAME_BYTES = 1 << 28


class ResetCall(msgspec.Struct, tag="reset"):
    task: Task
    seed: int


class StepCall(msgspec.Struct, tag="step"):
    action: Action


class OutcomeCall(msgspec.Struct, tag="outcome"):
    """Ask for the outcome."""


class ExpertCall(msgspec.Struct, tag="expert"):
    """Ask for the expert's next action."""


class BlobCall(msgspec.Struct, tag="blob"):
    blob: Blob


Call = ResetCall | StepCall | OutcomeCall | ExpertCall | BlobCall


class Ready(msgspec.Struct, tag="ready"):
    """The environment is built."""


class Observed(msgspec.Struct, tag="observed"):
    observation: Observation


class Ended(msgspec.Struct, tag="ended"):
    outcome: Outcome


class Advised(msgspec.Struct, tag="advised"):
    action: Action | None


class Bytes(msgspec.Struct, tag="bytes"):
    data: bytes


class Raised(msgspec.Struct, tag="raised"):
    """The call raised; ``kind`` is the exception's class name, one of ``potstill.errors`` or a foreign one."""

    kind: str
    message: str


Answer = Ready | Observed | Ended | Advised | Bytes | Raised

encoder = msgspec.msgpack.Encoder()
call_decoder: msgspec.msgpack.Decoder[Call] = msgspec.msgpack.Decoder(Call)
answer_decoder: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def frame(message: Call | Answer) -> bytes:
    """The bytes of a message with its length before it."""
    body = encoder.encode(message)
    return HEADER.pack(len(body)) + body
