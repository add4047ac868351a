"""Reading the protobuf wire format field by field, without building messages.

Follows the encoding page of the Protocol Buffers documentation (varints, tags,
wire types 0, 1, 2 and 5). Groups (wire types 3 and 4) are not part of any format
read here and are malformed. Nothing is allocated: length-delimited values are
returned as positions in the buffer.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from auditor.errors import RefusedInput

MAX_VARINT_BYTES = 10


class WireType(IntEnum):
    """The wire types that are read."""

    VARINT = 0
    FIXED64 = 1
    LENGTH = 2
    FIXED32 = 5


class WireField(NamedTuple):
    """One field: its number, wire type, offset of its tag, and its value.

    `value` is the number for `VARINT` and 0 otherwise; `start` and `end` are the
    positions of the value's bytes in the buffer.
    """

    number: int
    wire_type: WireType
    offset: int
    value: int
    start: int
    end: int


class MalformedWire(RefusedInput):
    """The bytes are not protobuf wire format.

    Attributes:
        offset: Where reading stopped.
        truncated: Whether the bytes simply end too early.
    """

    def __init__(self, offset: int, problem: str, *, truncated: bool = False) -> None:
        self.offset, self.problem, self.truncated = offset, problem, truncated
        super().__init__(f"byte {offset}: {problem}; write the file again with its own exporter")


def read_varint(buffer: bytes, position: int, end: int) -> tuple[int, int]:
    """The unsigned 64-bit varint at `position`, and the position after it."""
    result = 0
    for count in range(MAX_VARINT_BYTES):
        if position + count >= end:
            raise MalformedWire(position, "the file ends inside a number", truncated=True)
        byte = buffer[position + count]
        result |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            if result >= 1 << 64:
                raise MalformedWire(position, "a number is larger than 64 bits")
            return result, position + count + 1
    raise MalformedWire(position, f"a number is longer than {MAX_VARINT_BYTES} bytes")


def as_signed(value: int) -> int:
    """A varint read as a two's complement 64-bit integer."""
    return value - (1 << 64) if value >= 1 << 63 else value


def iterate_fields(buffer: bytes, start: int, end: int) -> Iterator[WireField]:
    """The fields of one message that occupies `buffer[start:end]`, in file order.

    Raises:
        MalformedWire: A length leaves the message, a group, a field number 0, or
            the bytes end early.
    """
    position = start
    while position < end:
        offset = position
        tag, position = read_varint(buffer, position, end)
        number, kind = tag >> 3, tag & 7
        if number == 0 or number >= 1 << 29:
            raise MalformedWire(offset, f"field number {number} does not exist")
        value = 0
        first = position
        if kind == WireType.VARINT:
            value, position = read_varint(buffer, position, end)
        elif kind == WireType.LENGTH:
            length, first = read_varint(buffer, position, end)
            position = first + length
        elif kind == WireType.FIXED32:
            position += 4
        elif kind == WireType.FIXED64:
            position += 8
        else:
            raise MalformedWire(offset, f"wire type {kind} is not used by this format")
        if position > end:
            raise MalformedWire(
                offset,
                f"field {number} needs {position - end} bytes more than there are",
                truncated=True,
            )
        yield WireField(number, WireType(kind), offset, value, first, position)


def count_packed_varints(buffer: bytes, start: int, end: int) -> int:
    """How many varints a packed field holds; the last one must be complete."""
    if start == end:
        return 0
    if buffer[end - 1] >= 0x80:
        raise MalformedWire(end - 1, "a packed field ends inside a number")
    packed = np.frombuffer(buffer, dtype=np.uint8, count=end - start, offset=start)
    return int(np.count_nonzero(packed < 0x80))


def read_packed_varints(buffer: bytes, start: int, end: int) -> list[int]:
    """The varints of a packed field, unsigned."""
    values: list[int] = []
    while start < end:
        value, start = read_varint(buffer, start, end)
        values.append(value)
    return values
