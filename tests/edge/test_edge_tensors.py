"""The file layout: what is written is read, equal contents are equal bytes, and no header gets through that lies."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from potstill.edge.tensors import DTYPES, MAX_HEADER_BYTES, BadFile, from_bytes, to_bytes

ANY_ARRAY = st.sampled_from(sorted(DTYPES.values())).flatmap(
    lambda kind: arrays_of.arrays(
        np.dtype(kind), arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    )
)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
ANY = st.dictionaries(NAMES, ANY_ARRAY, max_size=4)


@settings(max_examples=40)
@given(ANY, st.dictionaries(NAMES, NAMES, max_size=3))
def test_what_is_written_is_read(arrays: dict[str, Any], texts: dict[str, str]) -> None:
    found, said = from_bytes(to_bytes(arrays, texts))
    assert said == texts
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


@settings(max_examples=40)
@given(ANY)
def test_the_order_of_the_arrays_does_not_change_a_byte(arrays: dict[str, Any]) -> None:
    assert to_bytes(dict(reversed(arrays.items())), {"b": "1", "a": "2"}) == to_bytes(arrays, {"a": "2", "b": "1"})


@pytest.mark.extra
@settings(max_examples=40)
@given(ANY, st.dictionaries(NAMES, NAMES, max_size=3))
def test_the_official_library_reads_it(arrays: dict[str, Any], texts: dict[str, str]) -> None:
    official = pytest.importorskip("safetensors.numpy", reason="pip install safetensors: the official library")
    found = official.load(to_bytes(arrays, texts))
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert found[name].tobytes() == array.tobytes()


@pytest.mark.extra
@settings(max_examples=40)
@given(ANY, st.dictionaries(NAMES, NAMES, min_size=1, max_size=3))
def test_what_the_official_library_wrote_is_read(arrays: dict[str, Any], texts: dict[str, str]) -> None:
    official = pytest.importorskip("safetensors.numpy", reason="pip install safetensors: the official library")
    found, said = from_bytes(official.save(dict(arrays), metadata=texts))
    assert said == texts
    assert {name: array.tobytes() for name, array in found.items()} == {
        name: array.tobytes() for name, array in arrays.items()
    }


def test_arrays_are_aligned_and_begin_after_eight_bytes_times_n() -> None:
    data = to_bytes({"a": np.zeros(3, np.int8), "b": np.zeros(1, np.float64), "c": np.zeros(2, np.float32)})
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    assert length % 8 == 0
    assert {name: entry["data_offsets"][0] for name, entry in header.items()} == {"b": 0, "c": 8, "a": 16}


def test_big_endian_arrays_are_turned() -> None:
    found, _ = from_bytes(to_bytes({"x": np.array([1.5, -2.0], ">f4")}))
    assert found["x"].tolist() == [1.5, -2.0]


def file(header: Any, body: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def entry(dtype: Any = "F32", shape: Any = (1,), offsets: Any = (0, 4), **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "0 bytes"),
        (b"\x00" * 7, "7 bytes"),
        (file({}, length=2**64 - 1), "header of 18446744073709551615"),
        (file({}, length=MAX_HEADER_BYTES + 1), "header of"),
        (file({}, length=3), "header of 3 bytes"),
        (file(b""), "not JSON"),
        (file(b"\xff\xfe{}"), "not JSON"),
        (file(b"[1]"), "not a JSON object"),
        (file(b' {"a": 1}'), "not a JSON object"),
        (file(b"{" * 100_000), "not JSON"),
        (file(b'{"a":' * 60_000 + b"1" + b"}" * 60_000), "not JSON"),
        (file(b'{"a": 1' + b"0" * 5000 + b"}"), "not JSON"),
        (file(b'{"x": NaN}'), "not JSON"),
        (file(b'{"x": {}, "x": {}}'), "twice"),
        (file({"x": 1}), "not described"),
        (file({"x": entry(extra=1)}, b"1234"), "not described"),
        (file({"x": entry(dtype="BF16", offsets=(0, 2))}, b"12"), "of type BF16"),
        (file({"x": entry(dtype=[1])}, b"1234"), "of type"),
        (file({"x": entry(shape=(-1,))}, b"1234"), "no valid shape"),
        (file({"x": entry(shape=(True,))}, b"1234"), "no valid shape"),
        (file({"x": entry(shape=(1.0,))}, b"1234"), "no valid shape"),
        (file({"x": entry(shape=(2**62, 2**62))}, b"1234"), "is not what"),
        (file({"x": entry(shape=(2**63,))}, b"1234"), "no valid shape"),
        (file({"x": entry(shape=[1] * 33)}, b"1234"), "no valid shape"),
        (file({"x": entry(offsets=(0, 8))}, b"12345678"), "is not what"),
        (file({"x": entry(offsets=(4, 0))}, b"1234"), "is not what"),
        (file({"x": entry(offsets=(0, 4, 8))}, b"1234"), "no valid shape"),
        (file({"x": entry(offsets=(2**62, 2**62 + 4))}, b"1234"), "hole or an overlap"),
        (file({"x": entry(offsets=(4, 8))}, b"12345678"), "hole or an overlap"),
        (file({"x": entry(), "y": entry()}, b"1234"), "hole or an overlap"),
        (file({"x": entry(), "y": entry(offsets=(2, 6))}, b"123456"), "hole or an overlap"),
        (file({"x": entry()}, b"123"), "cut off"),
        (file({"x": entry()}, b"12345"), "belong to none"),
        (file({"__metadata__": {"a": 1}}), "not a text"),
        (file({"__metadata__": ["a"]}), "not a text"),
    ],
)
def test_a_hostile_header_is_one_clear_line(data: bytes, says: str) -> None:
    with pytest.raises(BadFile) as caught:
        from_bytes(data)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@given(st.binary(max_size=200))
def test_noise_never_raises_anything_else(noise: bytes) -> None:
    for data in (noise, file(noise), to_bytes({"x": np.ones(2, np.float32)}, {"a": "b"})[: len(noise)] + noise):
        try:
            from_bytes(data)
        except BadFile:
            continue


@pytest.mark.parametrize("array", [np.zeros(1, np.complex64), np.array(["a"]), np.array([None])])
def test_what_the_layout_has_no_type_for_is_refused(array: Any) -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        to_bytes({"x": array})


def test_the_name_of_the_metadata_is_taken() -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        to_bytes({"__metadata__": np.zeros(1)})
