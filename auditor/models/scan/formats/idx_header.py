"""The header of an IDX file, in which the MNIST digits are published; numbers, and nothing else."""

from __future__ import annotations

from math import prod
from types import MappingProxyType
from typing import Final

from auditor.models.scan.byte_source import ByteSource
from auditor.models.scan.decision import Content, Problem

# Bytes of one number by the type's code. Source: the format's description beside the data set.
_SIZES: Final = MappingProxyType({0x08: 1, 0x09: 1, 0x0B: 2, 0x0C: 4, 0x0D: 4, 0x0E: 8})
_MOST_AXES: Final = 8


def begins_with_idx(head: bytes) -> bool:
    """Whether a file begins like IDX: two zeros, a known type, a few axes."""
    return (
        head[:2] == b"\0\0" and len(head) > 8 and head[2] in _SIZES and 1 <= head[3] <= _MOST_AXES
    )


def read_idx(source: ByteSource) -> Content:
    """Judge a file that `begins_with_idx`: as long as its axes say, to the byte."""
    head = source.read(4)
    axes = [int.from_bytes(source.read(4), "big") for _ in range(head[3])]
    expected = prod(axes) * _SIZES[head[2]]
    found = source.skip(expected + 1)
    if found == expected:
        return Content("idx", (), ("header", "length"), {"axes": " x ".join(map(str, axes))})
    more = "more" if found > expected else str(found)
    problem = Problem("data-length", f"{more} bytes of numbers where the axes ask for {expected}",
                      f"byte {4 + 4 * len(axes)}", "fetch the file again")  # fmt: skip
    return Content("idx", (problem,))
