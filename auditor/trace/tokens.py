"""The tokens that are counted in an index: words and marks, in lower case, as bytes.

A word is a run of ASCII letters, digits, underscores and bytes outside ASCII; a mark is any other
visible ASCII character by itself. Only ASCII letters are made lower case, so that a token is as
long as the text it is from. White space, control characters and separators are of no token.
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np

from auditor.compilation import compiled

NORMALISER: Final = "ascii-lower-words-1"
"""Name of these rules; counts under other rules are not comparable."""

_TOKEN: Final = re.compile(rb"[0-9A-Za-z_\x80-\xfe]+|[!-/:-@\[-^`{-~]")

# What a byte is: 0 of no token, 1 a mark, 2 of a word; and its lower case.
KIND: Final = np.zeros(256, dtype=np.uint8)
for _byte in range(256):
    if _TOKEN.fullmatch(bytes([_byte])):
        _inside = chr(_byte).isascii() and not (chr(_byte).isalnum() or chr(_byte) == "_")
        KIND[_byte] = 1 if _inside else 2
LOWER: Final = np.frombuffer(bytes(range(256)).lower(), dtype=np.uint8).copy()


def tokens_of(text: bytes) -> list[bytes]:
    """The tokens of a text, in order."""
    return _TOKEN.findall(text.lower())


def hash_of(token: bytes) -> int:
    """FNV-1a of a token in lower case, 64 bits, as a signed number."""
    value = 0xCBF29CE484222325
    for byte in token:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value - 2**64 if value >= 2**63 else value


@compiled()
def _same(text, lower, one, other, length):  # type: ignore[no-untyped-def]
    for offset in range(length):  # noqa: SIM110 - compiled
        if lower[text[one + offset]] != lower[text[other + offset]]:
            return False
    return True


@compiled()
def _slot(table, mask, text, lower, value, start, length):  # type: ignore[no-untyped-def]
    """Where a token is in the table, or the free place for it."""
    at = value & mask
    while table[at, 3]:
        known = table[at, 0] == value and table[at, 2] == length
        if known and _same(text, lower, table[at, 1], start, length):
            break
        at = (at + 1) & mask
    return at


@compiled()
def count_tokens(text, kind, lower, slots):  # type: ignore[no-untyped-def]
    """Every token of a text once: hash, first position, length, count; [types, 4], unordered.

    Args:
        text: The text, [bytes].
        kind: `KIND`.
        lower: `LOWER`.
        slots: Places of the table to begin with, a power of two.
    """
    table = np.zeros((slots, 4), np.int64)
    used, at = 0, 0
    while at < len(text):
        sort = kind[text[at]]
        if sort == 0:
            at += 1
            continue
        start = at
        value = np.uint64(0xCBF29CE484222325)
        while at < len(text) and kind[text[at]] == sort and (sort == 2 or at == start):
            value = (value ^ np.uint64(lower[text[at]])) * np.uint64(0x100000001B3)
            at += 1
        key = np.int64(value)
        place = _slot(table, np.int64(len(table) - 1), text, lower, key, start, at - start)
        if not table[place, 3]:
            table[place, 0], table[place, 1], table[place, 2] = key, start, at - start
            used += 1
        table[place, 3] += 1
        if 2 * used > len(table):
            larger = np.zeros((2 * len(table), 4), np.int64)
            for old in range(len(table)):
                if table[old, 3]:
                    new = _slot(larger, np.int64(len(larger) - 1), text, lower,
                                table[old, 0], table[old, 1], table[old, 2])  # fmt: skip
                    larger[new] = table[old]
            table = larger
    return table[table[:, 3] > 0]
