"""Compiled searches in one suffix array.

Suffixes are in the order of their symbols, a shorter one before a longer one that begins with
it. A bisection remembers how much of the query its two ends share with it, so that no symbol is
compared twice in a row (Manber and Myers 1993). It starts inside the bucket of the query's
first two bytes, or first symbol if symbols are not bytes: queries of 8 bits are bytes, wider ones
ranks, negative where a symbol does not occur. Queries must not hold the separator.
"""

from __future__ import annotations

import numpy as np

from auditor.compilation import compiled


@compiled()
def shared_length(text, position, query, start, stop, known):  # type: ignore[no-untyped-def]
    """How many symbols of query[start:stop] stand at a position, `known` of them for certain."""
    length = known
    while (
        start + length < stop
        and position + length < len(text)
        and text[position + length] == query[start + length]
    ):
        length += 1
    return length


@compiled()
def bucket_of(buckets, query, start):  # type: ignore[no-untyped-def]
    """Ranks [low, high) of suffixes that begin with the query's first two bytes."""
    key = np.int64(query[start]) * 256 + np.int64(query[start + 1])
    return buckets[key], buckets[key + 1]


@compiled()
def head(buckets, query, start, stop):  # type: ignore[no-untyped-def]
    """Ranks [low, high) of suffixes that begin as the query does, and how far buckets know that.

    For bytes this is two bytes, one if there is no second or the two are nowhere together, and
    for other symbols one; none if the first symbol is nowhere.
    """
    if query.itemsize == 1:
        if start + 1 < stop:
            low, high = bucket_of(buckets, query, start)
            if low < high:
                return low, high, 2
        low, high = _of_byte(buckets, query[start])
        return low, high, 1 if low < high else 0
    symbol = np.int64(query[start])
    if symbol < 0:
        return np.int64(0), np.int64(0), 0
    low, high = buckets[symbol], buckets[symbol + 1]
    return low, high, 1 if low < high else 0


@compiled()
def place_of(suffixes, rank, text):  # type: ignore[no-untyped-def]
    """The position of a rank; of one that cannot be, as a damaged file has, the text's end.

    Compiled searches check no bounds, and a position before the text would be read.
    """
    position = np.int64(suffixes[rank])
    return position if position >= 0 else np.int64(len(text))


@compiled()
def longest_match(text, suffixes, buckets, query, start, stop):  # type: ignore[no-untyped-def]
    """Length of the longest prefix of query[start:stop] in the text, and a rank that shows it."""
    if start >= stop:
        return 0, 0
    low, high, best = head(buckets, query, start, stop)
    rank = low
    if best == 0 or start + best == stop or (best == 1 and query.itemsize == 1):
        return best, rank
    below, above = best, best
    while low < high:
        middle = (low + high) // 2
        position = place_of(suffixes, middle, text)
        length = shared_length(text, position, query, start, stop, min(below, above))
        if length > best:
            best, rank = length, middle
        if start + length == stop:
            return length, middle
        if position + length >= len(text) or text[position + length] < query[start + length]:
            low, below = middle + 1, length
        else:
            high, above = middle, length
    return best, rank


@compiled()
def _of_byte(buckets, byte):  # type: ignore[no-untyped-def]
    """Ranks [low, high) of suffixes that begin with a byte and have a second one."""
    return buckets[np.int64(byte) * 256], buckets[np.int64(byte) * 256 + 256]


@compiled()
def interval(text, suffixes, buckets, query, start, stop):  # type: ignore[no-untyped-def]
    """Ranks [low, high) of the suffixes that begin with query[start:stop], at least one symbol."""
    low, high, known = head(buckets, query, start, stop)
    if known == 0 or start + known == stop:
        return low, high
    if known == 1 and query.itemsize == 1:
        return low, low
    first = _bisect(text, suffixes, query, start, stop, low, high, known, False)
    return first, _bisect(text, suffixes, query, start, stop, first, high, known, True)


@compiled()
def _bisect(text, suffixes, query, start, stop, low, high, known, after):  # type: ignore[no-untyped-def]
    """The first rank whose suffix is not before the query, or is after all that begin with it.

    All suffixes from `low` to `high` have `known` symbols in common with the query.
    """
    below, above = known, known
    while low < high:
        middle = (low + high) // 2
        position = place_of(suffixes, middle, text)
        length = shared_length(text, position, query, start, stop, min(below, above))
        if start + length == stop:
            goes_right = after
        else:
            ends = position + length >= len(text)
            goes_right = ends or text[position + length] < query[start + length]
        if goes_right:
            low, below = middle + 1, length
        else:
            high, above = middle, length
    return low


@compiled()
def longest_matches(text, suffixes, buckets, query, positions, lengths, ranks):  # type: ignore[no-untyped-def]
    """`longest_match` from each of some positions to the end of the query, into two arrays."""
    for number in range(len(positions)):
        found = longest_match(text, suffixes, buckets, query, positions[number], len(query))
        lengths[number], ranks[number] = found


@compiled()
def add_counts(text, suffixes, buckets, query, counts):  # type: ignore[no-untyped-def]
    """Add how often the last 1, 2, ... symbols before each place of a query stand in the text.

    Args:
        text: The text.
        suffixes: Its sorted suffixes.
        buckets: First rank of each pair of bytes, or of each symbol.
        query: The query, [symbols].
        counts: For a length k and a place i the occurrences of query[i - k:i] are added to
            counts[k, i], [lengths from 0, symbols + 1]; row 0 is left alone.
    """
    for stop in range(1, len(query) + 1):
        for length in range(1, min(len(counts) - 1, stop) + 1):
            low, high = interval(text, suffixes, buckets, query, stop - length, stop)
            if low == high:
                break
            counts[length, stop] += high - low


@compiled()
def count_pairs(text):  # type: ignore[no-untyped-def]
    """How often each pair of bytes stands in a text, [65,536]."""
    counts = np.zeros(65_536, np.int64)
    for index in range(len(text) - 1):
        counts[np.int64(text[index]) * 256 + np.int64(text[index + 1])] += 1
    return counts


@compiled()
def first_disorder(text, suffixes, ranks):  # type: ignore[no-untyped-def]
    """The first rank whose suffix is not before the next one's, or -1; in linear time.

    Args:
        text: The text.
        suffixes: A permutation of its positions.
        ranks: Its inverse, one longer: -1 for the empty suffix.

    A suffix is before another if its first symbol is smaller, or equal and the rest is before the
    other's rest. Where the ranks of all rests are right, so is the order (Burkhardt and
    Kärkkäinen 2003).
    """
    for rank in range(len(suffixes) - 1):
        one, other = np.int64(suffixes[rank]), np.int64(suffixes[rank + 1])
        if text[one] > text[other]:
            return rank
        if text[one] == text[other] and ranks[one + 1] > ranks[other + 1]:
            return rank
    return -1


@compiled()
def invert(suffixes, ranks):  # type: ignore[no-untyped-def]
    """Write the rank of each position; False if an entry is no position, or stands twice."""
    count = len(suffixes)
    for index in range(count):
        ranks[index] = -2
    for rank in range(count):
        position = np.int64(suffixes[rank])
        if position < 0 or position >= count or ranks[position] != -2:
            return False
        ranks[position] = rank
    ranks[count] = -1
    return True
