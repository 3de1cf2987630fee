"""What a GGUF file says about itself, read in milliseconds without loading it.

Knows: the header, key-value and tensor tables of GGUF 2 and 3 (the specification is docs/gguf.md of ggml-org/ggml).
Rejects a file that is not one, is cut off or has a broken table. Does not read weights and does not fetch anything.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Any

from potstill.errors import BadModelFile
from potstill.types import Struct

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
SUFFIX = ".gguf"
STUDENT_KEY = "potstill.student"
"""The metadata entry of a tuned student."""
_CONTROL = 3
"""Token type of llama.cpp: a control token."""
_LARGEST_COUNT = 1 << 24
_LONGEST_NAME = 1 << 16

# Tensor type -> (weights in a block, bytes of a block). A type that is missing here is only checked by its offset.
_BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
    23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2),
    34: (256, 54), 35: (256, 66),
}  # fmt: skip


class GgufInfo(Struct, frozen=True, kw_only=True):
    """What the file says. Fields that the file leaves out are None."""

    path: Path
    architecture: str | None
    name: str | None
    licence: str | None
    context_tokens: int | None
    """Tokens of context that the model was trained on."""
    chat_template: str | None
    """Jinja source; None: a base model, to be prompted as plain text."""
    vocabulary: int | None
    tensors: int
    size_bytes: int
    student: str | None = None
    """What a tuned student says of itself (``tuned_file``), where the file is one."""
    control_tokens: tuple[str, ...] = ()
    """Pieces of text that the tokenizer reads as control (``<|im_end|>``): outside text must not hold them."""


def inspect(path: str | Path) -> GgufInfo:
    """Read and check the tables of a GGUF file.

    Raises ``BadModelFile`` for a file that is absent, no GGUF, of another version, or shorter than its tables say.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise BadModelFile(f"{path} is not a file. Give the path of a .gguf file.")
        if size < 24:
            raise BadModelFile(f"{path} has {size} bytes: not a GGUF model file.")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Reader(path, data, size).read()
    except OSError as error:
        raise BadModelFile(f"Cannot read the model file {path}: {error.strerror or error}.") from error
    except (struct.error, OverflowError, ValueError, IndexError, RecursionError) as error:
        # struct's own words speak of buffers; they mean that the file ends where a number should stand.
        why = "it ends within its header" if "requires a buffer" in str(error) else error
        raise BadModelFile(f"{path} is a broken or cut-off GGUF file ({why}). Fetch it again.") from error


class _Reader:
    """A cursor over the mapped file."""

    def __init__(self, path: Path, data: mmap.mmap, size: int) -> None:
        self.path, self.data, self.size, self.at = path, data, size, 0
        self.arrays: dict[str, int] = {}

    def read(self) -> GgufInfo:
        if self.data[:4] != b"GGUF":
            raise BadModelFile(
                f"{self.path} is not a GGUF file: it begins with {self.data[:4]!r}, a GGUF file with b'GGUF'. "
                f"Allowed are models in llama.cpp's GGUF format, version 2 or 3."
            )
        self.at = 4
        version = self.scalar("I")
        if version not in (2, 3):
            raise BadModelFile(f"{self.path} is GGUF version {version}. Allowed: 2 and 3, little-endian.")
        tensors, pairs = self.count("tensors"), self.count("metadata entries")
        values: dict[str, Any] = {}
        for _ in range(pairs):
            key = self.string()
            self.arrays[key] = self.at + 16
            values[key] = self.value(self.scalar("I"))
        self.check_tensors(tensors, values.get("general.alignment", 32))
        return self.info(values, tensors)

    def info(self, values: dict[str, Any], tensors: int) -> GgufInfo:
        architecture = values.get("general.architecture")
        return GgufInfo(
            path=self.path,
            architecture=architecture,
            name=values.get("general.name"),
            licence=values.get("general.license"),
            context_tokens=values.get(f"{architecture}.context_length"),
            chat_template=values.get("tokenizer.chat_template"),
            student=values.get(STUDENT_KEY),
            vocabulary=values.get("tokenizer.ggml.tokens"),
            tensors=tensors,
            size_bytes=self.size,
            control_tokens=self.control_tokens(values),
        )

    def control_tokens(self, values: dict[str, Any]) -> tuple[str, ...]:
        count = values.get("tokenizer.ggml.tokens")
        if not isinstance(count, int) or values.get("tokenizer.ggml.token_type") != count:
            return ()
        kinds = struct.unpack_from(f"<{count}i", self.data, self.arrays["tokenizer.ggml.token_type"])
        self.at = self.arrays["tokenizer.ggml.tokens"]
        found = []
        for kind in kinds:
            if kind == _CONTROL:
                found.append(self.string())
            else:
                self.at += 8 + self.scalar_at("Q", self.at)
        return tuple(text for text in found if text)

    def check_tensors(self, tensors: int, alignment: int) -> None:
        """Compare the end of the last tensor with the end of the file."""
        end = 0
        for _ in range(tensors):
            self.string()
            weights = 1
            for _ in range(self.scalar("I")):
                weights *= self.scalar("Q")
            block, width = _BLOCKS.get(self.scalar("I"), (1, 0))
            end = max(end, self.scalar("Q") + weights // block * width)
        if not isinstance(alignment, int) or alignment < 1:
            raise BadModelFile(f"{self.path} states an alignment of {alignment!r}: a broken GGUF file.")
        needed = (self.at + alignment - 1) // alignment * alignment + end
        if needed > self.size:
            raise BadModelFile(
                f"{self.path} is cut off: its tables describe {needed:,} bytes, "
                f"the file has {self.size:,}. Fetch it again."
            )

    def scalar(self, code: str) -> Any:
        (value,) = struct.unpack_from("<" + code, self.data, self.at)
        self.at += struct.calcsize("<" + code)
        return value

    def scalar_at(self, code: str, at: int) -> Any:
        return struct.unpack_from("<" + code, self.data, at)[0]

    def count(self, what: str) -> int:
        value: int = self.scalar("Q")
        if value > _LARGEST_COUNT:
            raise BadModelFile(f"{self.path} claims {value} {what}: a broken GGUF file.")
        return value

    def string(self) -> str:
        length = self.scalar("Q")
        end = self.at + length
        if end > self.size:
            raise struct.error(f"a text of {length} bytes at {self.at} passes the end of the file")
        text = self.data[self.at : end].decode("utf-8", errors="replace")
        self.at = end
        return text

    def value(self, kind: int) -> Any:
        """One metadata value. Of an array only the length is kept."""
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return self.array()
        if kind not in _SCALARS:
            raise BadModelFile(f"{self.path} holds a metadata value of unknown type {kind}: a broken GGUF file.")
        return self.scalar(_SCALARS[kind])

    def array(self) -> int:
        kind = self.scalar("I")
        length = self.count("array items")
        if kind in _SCALARS:
            self.at += length * struct.calcsize("<" + _SCALARS[kind])
            if self.at > self.size:
                raise struct.error(f"an array of {length} items passes the end of the file")
            return length
        unpack, data = struct.Struct("<Q").unpack_from, self.data
        for _ in range(length):
            if kind == _STRING:
                self.at += 8 + unpack(data, self.at)[0]
            else:
                self.value(kind)
        return length
