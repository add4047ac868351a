"""The compiled searches say what a search without any array says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydivsufsort import divsufsort  # type: ignore[import-untyped]

from auditor.trace.suffix_kernel import (
    count_pairs,
    first_disorder,
    interval,
    invert,
    longest_match,
)

SEPARATORS = b"\xff\xff\xff"
Arrays = tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.int64]]
texts = st.one_of(
    st.binary(max_size=60).map(lambda value: value.replace(b"\xff", b"a")),
    st.text("ab", max_size=80).map(str.encode),
    st.tuples(st.text("abc", min_size=1, max_size=4), st.integers(1, 20)).map(
        lambda pair: (pair[0] * pair[1]).encode()
    ),
)


def indexed(text: bytes) -> Arrays:
    """A text with its end, its sorted suffixes, and its buckets."""
    array = np.frombuffer(text + SEPARATORS, dtype=np.uint8).copy()
    buckets = np.zeros(65_537, dtype=np.int64)
    np.cumsum(count_pairs(array), out=buckets[1:])
    return array, divsufsort(array), buckets


def as_query(text: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(text, dtype=np.uint8)


def naive_longest(text: bytes, query: bytes) -> int:
    """The longest prefix of the query that stands in the text."""
    return max(length for length in range(len(query) + 1) if query[:length] in text)


def naive_count(text: bytes, query: bytes) -> int:
    """Occurrences, overlapping ones too."""
    return sum(text.startswith(query, at) for at in range(len(text)))


@settings(deadline=None, max_examples=300)
@given(texts, texts)
@example(b"", b"a")
@example(b"a", b"a")
@example(b"aaaa", b"aaaaaa")
@example(b"\xfe\xfe\x00", b"\xfe\xfe\x00\x00")
def test_longest_matches_are_those_of_a_naive_search(text: bytes, query: bytes) -> None:
    arrays = indexed(text)
    for start in range(len(query)):
        length, rank = longest_match(*arrays, as_query(query), start, len(query))
        assert length == naive_longest(text, query[start:])
        position = int(arrays[1][rank])
        assert text[position : position + length] == query[start : start + length]


@settings(deadline=None, max_examples=300)
@given(texts, texts.filter(bool))
@example(b"aaaa", b"aa")
@example(b"ab", b"b")
def test_intervals_hold_every_occurrence(text: bytes, query: bytes) -> None:
    arrays = indexed(text)
    for stop in range(1, len(query) + 1):
        low, high = interval(*arrays, as_query(query), 0, stop)
        assert high - low == naive_count(text, query[:stop])
        for position in arrays[1][low:high]:
            assert text.startswith(query[:stop], int(position))


@settings(deadline=None, max_examples=100)
@given(texts.filter(lambda text: len(text) > 1), st.data())
def test_two_suffixes_exchanged_are_noticed(text: bytes, data: st.DataObject) -> None:
    array, suffixes, _ = indexed(text)
    ranks = np.empty(len(array) + 1, dtype=np.int32)
    assert invert(suffixes, ranks)
    assert first_disorder(array, suffixes, ranks) == -1
    rank = data.draw(st.integers(0, len(suffixes) - 2))
    other = data.draw(st.integers(rank + 1, len(suffixes) - 1))
    suffixes[[rank, other]] = suffixes[[other, rank]]
    assert invert(suffixes, ranks)
    assert first_disorder(array, suffixes, ranks) >= 0


@pytest.mark.parametrize("wrong", [-1, 7, 2])
def test_what_is_no_permutation_is_noticed(wrong: int) -> None:
    """One entry of four is below 0, above the end, or stands twice."""
    suffixes = np.array([3, 2, 1, wrong], dtype=np.int32)
    assert not invert(suffixes, np.empty(5, dtype=np.int32))
