"""How far two sequences are apart: edit distance, similarity, and the longest run they share.

Sequences hold anything that can be hashed: token ids or characters. The edit distance is the one of
Levenshtein (one for each insertion, deletion and substitution), by the bit-parallel algorithm of
Myers 1999 in the form of Hyyrö 2003, whose columns are the bits of one whole number.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np


def edit_distance(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Fewest insertions, deletions and substitutions that make one sequence the other."""
    if not first:
        return len(second)
    places: dict[Hashable, int] = {}
    for at, symbol in enumerate(first):
        places[symbol] = places.get(symbol, 0) | 1 << at
    full, last = (1 << len(first)) - 1, 1 << (len(first) - 1)
    # Bits of rows where a column's value rises by one from the row above, and where it falls.
    rises, falls, distance = full, 0, len(first)
    for symbol in second:
        equal = places.get(symbol, 0)
        diagonal = ((((equal & rises) + rises) ^ rises) | equal | falls) & full
        up = (falls | ~(diagonal | rises)) & full
        down = rises & diagonal
        distance += bool(up & last) - bool(down & last)
        up, down = (up << 1 | 1) & full, (down << 1) & full
        rises, falls = (down | ~(diagonal | up)) & full, up & diagonal
    return distance


def similarity(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """One less the edit distance over the length of the longer sequence, in [0, 1].

    Two empty sequences are alike: 1.
    """
    longer = max(len(first), len(second))
    return 1.0 - edit_distance(first, second) / longer if longer else 1.0


def common_run(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Length of the longest run of symbols that stands in both, at whatever places."""
    if not first or not second:
        return 0
    numbers = {symbol: number for number, symbol in enumerate(dict.fromkeys([*first, *second]))}
    other = np.array([numbers[symbol] for symbol in second])
    ending = np.zeros(len(other) + 1, dtype=np.int64)
    longest = 0
    for symbol in first:
        # Runs that end here are one longer than those that ended one before in both.
        ending[1:] = np.where(other == numbers[symbol], ending[:-1] + 1, 0)
        longest = max(longest, int(ending.max()))
    return longest
