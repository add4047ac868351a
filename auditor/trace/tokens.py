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
def _slot(slots, entries, text, lower, value, start, length):  # type: ignore[no-untyped-def]
    """The slot that names a token's entry, or the free one for it."""
    at = value & np.int64(len(slots) - 1)
    while slots[at] >= 0:
        entry = entries[slots[at]]
        if entry[0] == value and entry[2] == length and _same(text, lower, entry[1], start, length):
            break
        at = (at + 1) & np.int64(len(slots) - 1)
    return at


@compiled()
def _renumbered(entries, used, count):  # type: ignore[no-untyped-def]
    """Slots, a power of two of them, that name entries which all differ."""
    slots = np.full(count, -1, np.int32)
    for number in range(used):
        at = entries[number, 0] & np.int64(count - 1)
        while slots[at] >= 0:
            at = (at + 1) & np.int64(count - 1)
        slots[at] = number
    return slots


@compiled()
def count_tokens(text, kind, lower, room):  # type: ignore[no-untyped-def]
    """Every token of a text once: hash, first position, length, count; [types, 4], as they come.

    Args:
        text: The text, [bytes].
        kind: `KIND`.
        lower: `LOWER`.
        room: Entries to begin with, a power of two.
    """
    entries, used, at = np.zeros((room, 4), np.int64), 0, 0
    slots = np.full(2 * room, -1, np.int32)
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
        slot = _slot(slots, entries, text, lower, key, start, at - start)
        if slots[slot] >= 0:
            entries[slots[slot], 3] += 1
            continue
        if used == len(entries):
            larger = np.zeros((len(entries) + len(entries) // 2 + 1, 4), np.int64)
            larger[:used] = entries
            entries = larger
        if 3 * used > 2 * len(slots):
            slots = _renumbered(entries, used, 2 * len(slots))
            slot = _slot(slots, entries, text, lower, key, start, at - start)
        slots[slot] = used
        entries[used, 0], entries[used, 1] = key, start
        entries[used, 2], entries[used, 3] = at - start, 1
        used += 1
    return entries[:used]
