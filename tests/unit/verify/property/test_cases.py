"""Unsafe cases: membership, strictness, and their words."""

from __future__ import annotations

from fractions import Fraction

import pytest

from auditor.errors import ConfigurationError
from auditor.verify.property import Property, UnsafeCase, UnsafeRow
from auditor.verify.property.cases import describe_cases, number_text

ROW = UnsafeRow((Fraction(1), Fraction(-1)), Fraction(0))
STRICT = UnsafeRow((Fraction(1), Fraction(-1)), Fraction(0), strict=True)
CASE = UnsafeCase((Fraction(0),), (Fraction(1),), (ROW,))


def test_a_tie_is_in_a_closed_row_only() -> None:
    tie = (Fraction(3), Fraction(3))
    assert ROW.contains(tie)
    assert not STRICT.contains(tie)


def test_margin_is_the_depth_inside_the_unsafe_set() -> None:
    assert CASE.margin((Fraction(1), Fraction(4))) == 3
    assert CASE.margin((Fraction(4), Fraction(1))) == -3


def test_boxes_are_closed() -> None:
    assert CASE.contains((Fraction(1),))
    assert not CASE.contains((Fraction(1) + Fraction(1, 10**30),))


@pytest.mark.parametrize(
    ("row", "unsafe", "safe"),
    [
        (ROW, "a <= b", "a > b"),
        (STRICT, "a < b", "a >= b"),
        (UnsafeRow((Fraction(0), Fraction(-1)), Fraction(-3)), "b >= 3", "b < 3"),
        (UnsafeRow((Fraction(2), Fraction(0)), Fraction(1, 2)), "2*a <= 0.5", "2*a > 0.5"),
    ],
)
def test_rows_are_described_with_their_negation(row: UnsafeRow, unsafe: str, safe: str) -> None:
    assert row.describe(("a", "b"), negated=False) == unsafe
    assert row.describe(("a", "b"), negated=True) == safe


def test_cases_are_joined_by_or_and_their_negation_by_and() -> None:
    cases = [CASE, UnsafeCase(CASE.lower, CASE.upper, (STRICT, ROW))]
    assert describe_cases(cases, ("a", "b"), negated=False) == "a <= b or (a < b and a <= b)"
    assert describe_cases(cases, ("a", "b"), negated=True) == "a > b and (a >= b or a > b)"


def test_numbers_are_short_where_that_is_exact() -> None:
    assert [number_text(Fraction(text)) for text in ("3", "0.05", "1/3")] == ["3", "0.05", "1/3"]


def test_a_case_of_another_size_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="case 0"):
        Property("p", (CASE,), "", "", num_inputs=2, num_outputs=2)
