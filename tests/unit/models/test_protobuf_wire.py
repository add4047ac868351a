"""The wire reader, against bytes written down by hand from the format's description."""

from __future__ import annotations

import pytest

from auditor.models.protobuf_wire import (
    MalformedWire,
    WireType,
    as_signed,
    count_packed_varints,
    iterate_fields,
    read_packed_varints,
    read_varint,
)


@pytest.mark.parametrize(
    ("encoded", "value"),
    [(b"\x00", 0), (b"\x7f", 127), (b"\x96\x01", 150), (b"\xff" * 9 + b"\x01", 2**64 - 1)],
)
def test_varints_are_read_as_documented(encoded: bytes, value: int) -> None:
    assert read_varint(encoded, 0, len(encoded)) == (value, len(encoded))


def test_a_varint_of_eleven_bytes_is_malformed() -> None:
    with pytest.raises(MalformedWire, match="longer than 10 bytes"):
        read_varint(b"\x80" * 11, 0, 11)


def test_a_varint_beyond_64_bits_is_malformed() -> None:
    with pytest.raises(MalformedWire, match="64 bits"):
        read_varint(b"\xff" * 9 + b"\x02", 0, 10)


def test_negative_numbers_are_twos_complement() -> None:
    assert (as_signed(2**64 - 1), as_signed(5), as_signed(2**63)) == (-1, 5, -(2**63))


def test_every_wire_type_is_read_with_its_position() -> None:
    message = b"\x08\x05" + b"\x12\x02hi" + b"\x1d\x00\x00\x80\x3f" + b"\x21" + bytes(8)
    fields = [
        (f.number, f.wire_type, f.value, f.start, f.end)
        for f in iterate_fields(message, 0, len(message))
    ]
    assert fields == [
        (1, WireType.VARINT, 5, 1, 2),
        (2, WireType.LENGTH, 0, 4, 6),
        (3, WireType.FIXED32, 0, 7, 11),
        (4, WireType.FIXED64, 0, 12, 20),
    ]


@pytest.mark.parametrize("message", [b"\x12\x05hi", b"\x1d\x00\x00", b"\x08", b"\x08\x80", b"\x12"])
def test_a_field_that_leaves_the_message_is_truncated(message: bytes) -> None:
    with pytest.raises(MalformedWire) as caught:
        list(iterate_fields(message, 0, len(message)))
    assert caught.value.truncated


@pytest.mark.parametrize("message", [b"\x00\x01", b"\x0b", b"\x0c", b"\x0e\x00"])
def test_field_zero_groups_and_unknown_wire_types_are_malformed(message: bytes) -> None:
    with pytest.raises(MalformedWire) as caught:
        list(iterate_fields(message, 0, len(message)))
    assert not caught.value.truncated


def test_packed_varints_are_counted_and_read() -> None:
    packed = b"\x03\x8e\x02\x9e\xa7\x05"
    assert count_packed_varints(packed, 0, 6) == 3
    assert read_packed_varints(packed, 0, 6) == [3, 270, 86942]


def test_a_packed_field_that_ends_inside_a_number_is_malformed() -> None:
    with pytest.raises(MalformedWire, match="inside a number"):
        count_packed_varints(b"\x03\x8e", 0, 2)
