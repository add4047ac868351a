"""The header of weights: sound ones are read, and each way to lie has its rule."""

from __future__ import annotations

import io
from math import prod
from pathlib import Path
from typing import Any

import pytest
import safetensors
from hypothesis import given
from hypothesis import strategies as st

from auditor.errors import RefusedModel
from auditor.models.limits import FolderLimits
from auditor.models.safetensors_header import BITS, SafetensorsHeader, StoredTensor, read_header
from tests.models.model_folders import entry, safetensors_bytes

FLOATS = entry("F32", [2], 0, 8)


def read(content: bytes, limits: FolderLimits | None = None) -> SafetensorsHeader:
    """The header of these bytes."""
    return read_header(Path("m"), "w", io.BytesIO(content), len(content), limits or FolderLimits())


def rule_of(content: bytes, limits: FolderLimits | None = None) -> str:
    """The rule these bytes are refused by."""
    with pytest.raises(RefusedModel) as caught:
        read(content, limits)
    assert "\n" not in str(caught.value)
    return caught.value.rule


def test_a_sound_header_is_read_in_the_order_of_the_bytes() -> None:
    """Offsets become offsets in the file; spaces behind the JSON are allowed."""
    header = '{"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2,1],"data_offsets":' \
        '[8,12]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}   '  # fmt: skip
    start = 8 + len(header)
    assert read(safetensors_bytes(header, bytes(12))).tensors == (
        StoredTensor("a", "F32", (2,), start, start + 8),
        StoredTensor("b", "BF16", (2, 1), start + 8, start + 12),
    )


def test_tensors_without_numbers_and_scalars_are_sound() -> None:
    """An axis of zero takes no bytes, no axis at all is one number."""
    header = {"none": entry("F32", [0, 3], 0, 0), "one": entry("I64", [], 0, 8)}
    found = read(safetensors_bytes(header, bytes(8))).tensors
    assert [(tensor.name, tensor.elements) for tensor in found] == [("none", 0), ("one", 1)]


@pytest.mark.parametrize(
    ("header", "data", "rule"),
    [
        ({"a": entry("F32", [2], 0, 7)}, bytes(7), "data-length"),
        ({"a": entry("F32", [2], 8, 0)}, bytes(8), "data-length"),
        ({"a": entry("F4", [3], 0, 2)}, bytes(2), "data-length"),
        ({"a": FLOATS}, bytes(7), "truncated"),
        ({"a": FLOATS}, bytes(9), "tensor-gap"),
        ({"a": FLOATS, "b": entry("F32", [2], 4, 12)}, bytes(12), "tensor-overlap"),
        ({"a": FLOATS, "b": FLOATS}, bytes(8), "tensor-overlap"),
        ({"a": FLOATS, "b": entry("F32", [2], 9, 17)}, bytes(17), "tensor-gap"),
        ({"a": entry("F32", [2], 4, 12)}, bytes(12), "tensor-gap"),
        ({"a": entry("F32", [-2, -1], 0, 8)}, bytes(8), "dims-range"),
        ({"a": entry("F32", [True, 2], 0, 8)}, bytes(8), "dims-range"),
        ({"a": FLOATS | {"shape": [2.0]}}, bytes(8), "dims-range"),
        ({"a": FLOATS | {"data_offsets": [0]}}, bytes(8), "dims-range"),
        ({"a": entry("F32", [2**62, 4], 0, 0)}, b"", "dims-overflow"),
        ({"a": entry("F32", [0, 2**62, 4], 0, 0)}, b"", "dims-overflow"),
        ({"a": entry("F32", [1] * 33, 0, 4)}, bytes(4), "dims-overflow"),
        ({"a": entry("F32", [2**64], 0, 0)}, b"", "dims-range"),
        ({"a": entry("FLOAT", [2], 0, 8)}, bytes(8), "unknown-dtype"),
        ({"a": FLOATS | {"dtype": ["F32"]}}, bytes(8), "unknown-dtype"),
        ({"a": FLOATS | {"more": 1}}, bytes(8), "malformed"),
        ({"a": {"dtype": "F32", "shape": [2]}}, bytes(8), "malformed"),
        ({"a": [1]}, b"", "malformed"),
        ({"__metadata__": {"format": 1}}, b"", "malformed"),
        ({"__metadata__": [], "a": FLOATS}, bytes(8), "malformed"),
        ({"../a": FLOATS}, bytes(8), "path-like-name"),
        ({"a\\b": FLOATS}, bytes(8), "path-like-name"),
        ({"a\u001b[2J": FLOATS}, bytes(8), "control-character"),
        ({"a\u202e": FLOATS}, bytes(8), "control-character"),
        ('{"\\ud800":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(8),
         "control-character"),
        ({"": FLOATS}, bytes(8), "text-limit"),
        ({"a" * 2000: FLOATS}, bytes(8), "text-limit"),
        ('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
         '"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(8), "duplicate-field"),
        ('{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(8),
         "duplicate-field"),
        ('{"a":NaN}', b"", "malformed"),
        ('{"a":' + "[" * 100_000, b"", "nesting-limit"),
        ('{"a":' + "[" * 100 + "]" * 100 + "}", b"", "nesting-limit"),
        ('{"a":' + "9" * 5000 + "}", b"", "malformed"),
        (' {"a":1}', b"", "malformed"),
        ("{", b"", "malformed"),
        (b'{"\xff":1}', b"", "invalid-text"),
        ("", b"", "malformed"),
    ],
)  # fmt: skip
def test_every_lie_has_its_rule(header: Any, data: bytes, rule: str) -> None:
    """Whatever the header claims is compared with the bytes that are there."""
    assert rule_of(safetensors_bytes(header, data)) == rule


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", "truncated"),
        (b"\x02\0\0\0\0\0\0", "truncated"),
        (b"\xff" * 8 + b"{}", "size-limit"),
        ((100).to_bytes(8, "little") + b"{}", "truncated"),
    ],
)
def test_a_length_that_cannot_be_is_refused(content: bytes, rule: str) -> None:
    """Before anything of that length is allocated."""
    assert rule_of(content) == rule


def test_limits_hold_before_the_json_is_parsed() -> None:
    """Header bytes, values and tensors have their limits."""
    content = safetensors_bytes({"a": FLOATS}, bytes(8))
    assert rule_of(content, FolderLimits(header_bytes=10)) == "size-limit"
    assert rule_of(content, FolderLimits(json_values=3)) == "field-limit"
    assert rule_of(content, FolderLimits(tensors=0)) == "field-limit"


def check_law(content: bytes) -> None:
    """The bytes are refused, or read as tensors that cover them and that the library reads."""
    try:
        header = read(content)
    except RefusedModel:
        return
    reached = len(header.raw)
    for tensor in header.tensors:
        assert tensor.begin == reached
        assert (tensor.end - tensor.begin) * 8 == tensor.elements * BITS[tensor.dtype]
        reached = tensor.end
    assert reached == len(content)
    library = dict(safetensors.deserialize(content))  # type: ignore[no-untyped-call]
    assert {name: tuple(found["shape"]) for name, found in library.items()} == {
        tensor.name: tensor.shape for tensor in header.tensors
    }


SOUND = safetensors_bytes(
    {"__metadata__": {"k": "v"}, "a": FLOATS, "b": entry("BF16", [1, 3], 8, 14),
     "c": entry("U8", [0], 14, 14)}, bytes(14),
)  # fmt: skip


@given(at=st.integers(0, len(SOUND) - 1), value=st.integers(0, 255))
def test_one_damaged_byte_is_refused_or_read_truly(at: int, value: int) -> None:
    """Whichever byte it is."""
    check_law(SOUND[:at] + bytes([value]) + SOUND[at + 1 :])


@given(
    at=st.integers(0, len(SOUND)), cut=st.integers(0, 20), put=st.binary(max_size=20),
)  # fmt: skip
def test_a_damaged_stretch_is_refused_or_read_truly(at: int, cut: int, put: bytes) -> None:
    """Bytes taken out, put in, or replaced."""
    check_law(SOUND[:at] + put + SOUND[at + cut :])


@given(content=st.binary(max_size=100), length=st.integers(0, 100))
def test_any_bytes_are_refused_or_read_truly(content: bytes, length: int) -> None:
    """Also behind a length that fits."""
    check_law(length.to_bytes(8, "little") + content)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
AXES = st.lists(st.integers(-1, 4) | st.just(2**62), max_size=3)
ENTRY = st.fixed_dictionaries({
    "dtype": st.sampled_from([*BITS, "F33"]), "shape": AXES | JSON,
    "data_offsets": st.lists(st.integers(-1, 40), max_size=3) | JSON,
})  # fmt: skip


@given(
    header=st.dictionaries(st.text(max_size=3), ENTRY | JSON, max_size=4),
    size=st.integers(0, 60),
)
def test_any_json_is_refused_or_read_truly(header: dict[str, Any], size: int) -> None:
    """Entries of any form, with any offsets."""
    check_law(safetensors_bytes(header, bytes(size)))


@given(
    shapes=st.lists(
        st.tuples(st.sampled_from(sorted(BITS)), st.lists(st.integers(0, 4), max_size=3)),
        max_size=5,
    )
)
def test_every_sound_header_is_accepted(shapes: list[tuple[str, list[int]]]) -> None:
    """Of every type and shape whose bits fill whole bytes."""
    header, reached = {}, 0
    for number, (dtype, shape) in enumerate(shapes):
        bits = prod(shape) * BITS[dtype]
        if bits % 8 == 0:
            header[f"t{number}"] = entry(dtype, shape, reached, reached + bits // 8)
            reached += bits // 8
    assert len(read(safetensors_bytes(header, bytes(reached))).tensors) == len(header)
