"""Numbers as bytes whose order is that of the numbers, to sort suffixes by a sorter of bytes.

Symbols are ranks, the most frequent first. The first `one` of them take a byte, the next 256
times `two` take two, the others three; the first byte tells how many. No code begins another and
their order is that of the ranks, so suffixes that begin at codes are ordered as those of the
symbols. Of all such codes the one is taken that makes the text shortest: memory for sorting is
five times that.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from auditor.compilation import compiled

MAX_SYMBOLS: Final = 2**24
"""Most different symbols."""

Bytes = NDArray[np.uint8]
Int64 = NDArray[np.int64]


class SymbolCode(NamedTuple):
    """How many first bytes begin codes of one byte, and of two; the others, of three."""

    one: int
    two: int

    def length(self, counts: Int64) -> int:
        """Bytes of a text in which symbols occur so often, by rank."""
        longer = int(counts[self.one :].sum())
        return int(counts.sum()) + longer + int(counts[self.one + 256 * self.two :].sum())


class CodedText(NamedTuple):
    """A text of codes.

    Attributes:
        code: Its bytes.
        starts: A bit for each byte, set where a code begins, [bytes / 64, rounded up].
        before: How many codes begin before each 64 bytes, [the same].
    """

    code: Bytes
    starts: NDArray[np.uint64]
    before: NDArray[np.int32]


def shortest_code(counts: Int64) -> SymbolCode:
    """The code of the shortest text in which symbols occur so often, by rank.

    Raises:
        ValueError: There are more than `MAX_SYMBOLS`.
    """
    if len(counts) > MAX_SYMBOLS:
        raise ValueError(f"{len(counts)} symbols; a code has {MAX_SYMBOLS}")
    sums = np.concatenate([[0], np.cumsum(counts)])
    best = (3 * int(sums[-1]) + 1, SymbolCode(0, 0))
    for three in range(-(-len(counts) // 65_536) + 1):
        one = np.arange(257 - three) if three <= 256 else np.zeros(0, np.int64)
        two = 256 - three - one
        fits = one + 256 * two + 65_536 * three >= len(counts)
        if not fits.any():
            continue
        one, two = one[fits], two[fits]
        saved = sums[np.minimum(one, len(counts))]
        saved = saved + sums[np.minimum(one + 256 * two, len(counts))]
        at = int(saved.argmax())
        best = min(best, (3 * int(sums[-1]) - int(saved[at]),
                          SymbolCode(int(one[at]), int(two[at]))))  # fmt: skip
    return best[1]


def code_text(symbols: NDArray[np.unsignedinteger], code: SymbolCode, length: int) -> CodedText:
    """A text in a code that makes it so long."""
    written = np.empty(length, np.uint8)
    starts = np.zeros(length // 64 + 1, np.uint64)
    _write(symbols, code.one, code.two, written, starts)
    before = np.zeros(len(starts), np.int32)
    _count_before(starts, before)
    return CodedText(written, starts, before)


@compiled()
def _write(symbols, one, two, code, starts):  # type: ignore[no-untyped-def]
    at = 0
    for index in range(len(symbols)):
        rank = np.int64(symbols[index])
        starts[at >> 6] |= np.uint64(1) << np.uint64(at & 63)
        if rank < one:
            code[at] = rank
            at += 1
            continue
        rank -= one
        if rank < 256 * two:
            code[at], code[at + 1] = one + (rank >> 8), rank & 255
            at += 2
            continue
        rank -= 256 * two
        code[at] = one + two + (rank >> 16)
        code[at + 1], code[at + 2] = (rank >> 8) & 255, rank & 255
        at += 3


@compiled()
def _ones(word):  # type: ignore[no-untyped-def]
    """How many bits of 64 are set."""
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + (
        (word >> np.uint64(2)) & np.uint64(0x3333333333333333)
    )
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@compiled()
def _count_before(starts, before):  # type: ignore[no-untyped-def]
    count = 0
    for index in range(len(starts)):
        before[index] = count
        count += _ones(starts[index])


@compiled()
def keep_symbols(suffixes, starts, before):  # type: ignore[no-untyped-def]
    """Of sorted suffixes of a coded text keep those that begin at codes, as places of symbols.

    They are written over the first ones; returns how many there are.
    """
    kept = 0
    for index in range(len(suffixes)):
        place = np.int64(suffixes[index])
        word, bit = starts[place >> 6], np.uint64(place & 63)
        if (word >> bit) & np.uint64(1):
            earlier = word & ((np.uint64(1) << bit) - np.uint64(1))
            suffixes[kept] = before[place >> 6] + _ones(earlier)
            kept += 1
    return kept
