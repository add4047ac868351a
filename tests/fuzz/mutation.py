"""A plain mutation fuzzer, for machines on which no coverage-guided one is installed."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence

_EDGES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)


def mutated(seeds: Sequence[bytes], source: random.Random, longest: int) -> bytes:
    """One of the seeds after one to eight random changes, cut to `longest` bytes."""
    data = bytearray(source.choice(seeds) if seeds else b"")
    for _ in range(source.randint(1, 8)):
        source.choice(_CHANGES)(data, seeds, source)
    return bytes(data[:longest])


def _flip(data: bytearray, seeds: Sequence[bytes], source: random.Random) -> None:
    if data:
        data[source.randrange(len(data))] ^= 1 << source.randrange(8)


def _put(data: bytearray, seeds: Sequence[bytes], source: random.Random) -> None:
    at = source.randint(0, len(data))
    data[at : at + source.randint(0, 4)] = source.randbytes(source.randint(0, 4))


def _put_edge(data: bytearray, seeds: Sequence[bytes], source: random.Random) -> None:
    order, width = source.choice("<>"), source.choice("BHIQ")
    value = source.choice(_EDGES) % 2 ** (8 * struct.calcsize(width))
    at = source.randint(0, len(data))
    packed = struct.pack(order + width, value)
    data[at : at + len(packed)] = packed


def _cut(data: bytearray, seeds: Sequence[bytes], source: random.Random) -> None:
    first, last = sorted((source.randint(0, len(data)), source.randint(0, len(data))))
    del data[first : min(last, first + 64)]


def _repeat(data: bytearray, seeds: Sequence[bytes], source: random.Random) -> None:
    first, last = sorted((source.randint(0, len(data)), source.randint(0, len(data))))
    at = source.randint(0, len(data))
    data[at:at] = data[first : min(last, first + 64)] * source.randint(1, 3)


def _splice(data: bytearray, seeds: Sequence[bytes], source: random.Random) -> None:
    other = source.choice(seeds) if seeds else b""
    first, last = sorted((source.randint(0, len(other)), source.randint(0, len(other))))
    at = source.randint(0, len(data))
    data[at : at + source.choice((0, last - first))] = other[first:last]


_CHANGES: tuple[Callable[[bytearray, Sequence[bytes], random.Random], None], ...] = (
    _flip, _flip, _put, _put_edge, _cut, _repeat, _splice,
)  # fmt: skip
