"""Symbols become bytes in whose order their suffixes have the order of the symbols."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydivsufsort import divsufsort  # type: ignore[import-untyped]

from auditor.trace.symbol_code import (
    MAX_SYMBOLS,
    SymbolCode,
    code_text,
    keep_symbols,
    shortest_code,
)

Int64 = NDArray[np.int64]


def sorted_by_code(symbols: list[int], code: SymbolCode) -> list[int]:
    """Suffixes of symbols, sorted as bytes."""
    array = np.array(symbols, dtype=np.uint32)
    length = code.length(np.bincount(array))
    coded = code_text(array, code, length)
    suffixes = divsufsort(coded.code)
    kept = keep_symbols(suffixes, coded.starts, coded.before)
    return [int(each) for each in suffixes[:kept]]


codes = st.integers(0, 254).flatmap(
    lambda one: st.integers(0, 255 - one).map(lambda two: SymbolCode(one, two))
)


@settings(deadline=None, max_examples=300)
@given(
    st.one_of(
        st.lists(st.integers(0, 4), min_size=1, max_size=200),
        st.lists(st.integers(0, 65_535), min_size=1, max_size=60),
        st.lists(st.sampled_from([0, 1, 255, 256, 257, 511, 65_280]), min_size=1, max_size=200),
    ),
    codes,
)
@example([0] * 130, SymbolCode(0, 0))
@example([7], SymbolCode(254, 1))
def test_suffixes_are_sorted_as_those_of_the_symbols(symbols: list[int], code: SymbolCode) -> None:
    """Whatever the code; a shorter suffix is before a longer one that begins with it."""
    expected = sorted(range(len(symbols)), key=lambda at: symbols[at:])
    assert sorted_by_code(symbols, code) == expected


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=600))
def test_no_code_makes_the_text_shorter(counts: list[int]) -> None:
    ordered = np.array(sorted(counts, reverse=True), dtype=np.int64)
    fitting = [
        SymbolCode(one, two).length(ordered)
        for one in range(257)
        for two in range(257 - one)
        if one + 256 * two + 65_536 * (256 - one - two) >= len(counts)
    ]
    assert shortest_code(ordered).length(ordered) == min(fitting)


@pytest.mark.parametrize("size", [1, 255, 256, 257, 65_536, 65_537, 200_000, MAX_SYMBOLS])
def test_every_size_has_a_code_that_fits(size: int) -> None:
    """Each symbol once: the rank of the last one has a code of at most three bytes."""
    one, two = shortest_code(np.ones(size, dtype=np.int64))
    three = 256 - one - two
    assert one >= 0
    assert two >= 0
    assert three >= 0
    assert one + 256 * two + 65_536 * three >= size


def test_more_symbols_than_codes_are_refused() -> None:
    with pytest.raises(ValueError, match="a code has"):
        shortest_code(np.ones(MAX_SYMBOLS + 1, dtype=np.int64))
