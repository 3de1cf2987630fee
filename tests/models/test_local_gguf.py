"""A GGUF file that is not one, is cut off or lies gives one clear error; a right one is described."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import BadModelFile
from potstill.models import gguf


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def pair(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def tiny(*, version: int = 3, magic: bytes = b"GGUF") -> bytes:
    """A valid file with one tensor of 64 float32 (256 bytes)."""
    pairs = [
        pair("general.architecture", 8, text("llama")),
        pair("general.name", 8, text("Tiny")),
        pair("llama.context_length", 4, struct.pack("<I", 128)),
        pair("tokenizer.chat_template", 8, text("{{ messages }}")),
        pair("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 3) + text("a") + text("<|end|>") + text("b")),
        pair("tokenizer.ggml.token_type", 9, struct.pack("<IQ3i", 5, 3, 1, 3, 1)),
        pair("some.flag", 7, b"\x01"),
    ]
    tensor = text("weight") + struct.pack("<IQIQ", 1, 64, 0, 0)
    head = magic + struct.pack("<IQQ", version, 1, len(pairs)) + b"".join(pairs) + tensor
    return head + b"\0" * (-len(head) % 32) + b"\0" * 256


def test_a_file_describes_itself(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(tiny())
    info = gguf.inspect(path)
    assert (info.architecture, info.name, info.context_tokens, info.vocabulary) == ("llama", "Tiny", 128, 3)
    assert info.chat_template == "{{ messages }}"
    assert info.control_tokens == ("<|end|>",)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<!doctype html><html>not found</html>", "is not a GGUF file"),
        (b"GG", "2 bytes"),
        (tiny(version=1), "version 1"),
        (tiny()[:-1], "is cut off"),
        (tiny()[:150], "broken or cut-off"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0), "claims"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(data)
    with pytest.raises(BadModelFile, match=message):
        gguf.inspect(path)


def test_an_absent_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadModelFile, match="No such file"):
        gguf.inspect(tmp_path / "absent.gguf")
    with pytest.raises(BadModelFile, match="is not a file"):
        gguf.inspect(tmp_path)


@given(at=st.integers(4, len(tiny()) - 1), value=st.binary(min_size=1, max_size=8))
def test_no_damage_escapes_as_another_error(tmp_path_factory: pytest.TempPathFactory, at: int, value: bytes) -> None:
    path = tmp_path_factory.mktemp("gguf") / "damaged.gguf"
    data = bytearray(tiny())
    data[at : at + len(value)] = value
    path.write_bytes(data)
    try:
        gguf.inspect(path)
    except BadModelFile:
        return
