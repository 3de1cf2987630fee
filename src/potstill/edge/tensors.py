"""Named arrays and a few texts in one file: the safetensors layout, read as if somebody hostile had written it.

Layout (github.com/huggingface/safetensors, "Format"): 8 bytes with the header's length, little-endian; the header, a
JSON object of ``name -> {dtype, shape, data_offsets}`` and ``__metadata__`` (texts); then the arrays' raw bytes,
without holes or overlaps. Written here, equal contents give equal bytes: keys are sorted, and arrays lie by falling
item size, then name, so that each is aligned. Knows bytes and arrays. Does not know what they are for.
"""

from __future__ import annotations

import json
import math
import stat
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

MAX_HEADER_BYTES = 100_000_000
"""What the official reader allows."""
MAX_DIMENSIONS = 32
METADATA = "__metadata__"
DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
    "BOOL": "|b1",
}
_CODES = {np.dtype(kind): code for code, kind in DTYPES.items()}


class BadFile(ValueError):
    """The bytes are not such a file, or hold something else than they should. The message says what, in one line."""


def to_bytes(arrays: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> bytes:
    """The whole file. Raises ``ValueError`` for a name or a type of numbers that the layout has none for."""
    for name, array in arrays.items():
        if name == METADATA or array.dtype.newbyteorder("<") not in _CODES:
            raise ValueError(f"The array '{name}' of type {array.dtype} cannot be written. Types: {', '.join(DTYPES)}.")
    order = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    header: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    chunks, end = [], 0
    for name in order:
        little = np.asarray(arrays[name]).astype(arrays[name].dtype.newbyteorder("<"), copy=False)
        begin, end = end, end + little.nbytes
        code, shape = _CODES[little.dtype], list(little.shape)
        header[name] = {"dtype": code, "shape": shape, "data_offsets": [begin, end]}
        chunks.append(little.tobytes())
    text = json.dumps(header, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(chunks)


def from_bytes(data: bytes) -> tuple[dict[str, Array], dict[str, str]]:
    """The arrays (read-only views of ``data``) and the texts. Raises ``BadFile``; nothing outside ``data`` is read."""
    header, body = _header(data)
    texts = header.pop(METADATA, {})
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise BadFile(f"'{METADATA}' holds something that is not a text.")
    spans = sorted((*_span(name, entry), name) for name, entry in header.items())
    end, arrays = 0, {}
    for begin, stop, name in spans:
        if begin != end:
            raise BadFile(f"The array '{name}' begins at byte {begin} where {end} is due: a hole or an overlap.")
        if stop > len(body):
            raise BadFile(f"The array '{name}' ends at byte {stop} of {len(body)}: the file is cut off.")
        end = stop
        kind, shape = DTYPES[header[name]["dtype"]], header[name]["shape"]
        arrays[name] = np.frombuffer(body[begin:stop], kind).reshape(shape)
    if end != len(body):
        raise BadFile(f"{len(body) - end} bytes behind the last array belong to none.")
    return arrays, texts


def read(path: str | Path) -> tuple[dict[str, Array], dict[str, str]]:
    """``from_bytes`` of a file. Raises ``BadFile`` naming it, and ``OSError`` where it cannot be read."""
    mode = Path(path).stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise BadFile(f"{path} is not a file: a device or a pipe may never end.")
    try:
        return from_bytes(Path(path).read_bytes())
    except BadFile as error:
        raise BadFile(f"{path} is not a safetensors file: {error}") from None


def _header(data: bytes) -> tuple[dict[str, Any], memoryview]:
    if len(data) < 8:
        raise BadFile(f"it has {len(data)} bytes, and the header's length alone takes 8.")
    (length,) = struct.unpack_from("<Q", data)
    if length > min(len(data) - 8, MAX_HEADER_BYTES):
        raise BadFile(f"a header of {length} bytes in a file of {len(data)}.")
    try:
        text = data[8 : 8 + length].decode("utf-8")
        header = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadFile(f"its header is not JSON ({str(error)[:200] or type(error).__name__}).") from None
    if not isinstance(header, dict) or not text.startswith("{"):
        raise BadFile("its header is not a JSON object.")
    return header, memoryview(data)[8 + length :]


def _span(name: str, entry: Any) -> tuple[int, int]:
    """First byte and the one behind the last, after everything that is said of the array was checked."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise BadFile(f"The array '{name}' is not described by dtype, shape and data_offsets.")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in DTYPES:
        raise BadFile(f"The array '{name}' is of type {str(code)[:20]}. Types: {', '.join(DTYPES)}.")
    if not _counts(shape) or len(shape) > MAX_DIMENSIONS or not _counts(offsets) or len(offsets) != 2:
        raise BadFile(f"The array '{name}' has no valid shape or data_offsets.")
    begin, stop = offsets
    if stop - begin != math.prod(shape) * np.dtype(DTYPES[code]).itemsize:
        raise BadFile(f"The array '{name}' has {stop - begin} bytes, which is not what {code} {shape} takes.")
    return begin, stop


def _counts(value: Any) -> bool:
    """A list of whole numbers from 0 to 2^63 (``True`` is no number)."""
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**63 for item in value)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands in it twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
