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


MIXED = UnsafeRow((Fraction(1), Fraction(0)), Fraction(0), False, (Fraction(-2),))
INPUTS_ALONE = UnsafeRow((Fraction(0), Fraction(0)), Fraction(1), False, (Fraction(1),))


def test_rows_over_inputs_are_judged_with_the_inputs() -> None:
    outputs = (Fraction(1), Fraction(5))
    assert MIXED.excess(outputs, (Fraction(1, 4),)) == Fraction(1, 2)
    assert MIXED.contains(outputs, (Fraction(1, 2),))
    case = UnsafeCase((Fraction(0),), (Fraction(1),), (MIXED, INPUTS_ALONE))
    assert case.violated_by(outputs, (Fraction(1),))
    assert case.margin(outputs, (Fraction(1),)) == 0
    assert case.precondition == (INPUTS_ALONE,)


def test_rows_over_inputs_are_described_with_names_of_inputs() -> None:
    assert MIXED.describe(("a", "b"), negated=False) == "a <= 2*x0"
    assert INPUTS_ALONE.describe(("a", "b"), negated=True) == "x0 > 1"
    below = UnsafeRow((Fraction(1), Fraction(0)), Fraction(-1, 2), False, (Fraction(-1),))
    assert below.describe(("a", "b"), negated=False) == "a <= x0 - 0.5"


def test_a_row_over_another_number_of_inputs_is_refused() -> None:
    case = UnsafeCase((Fraction(0),) * 2, (Fraction(1),) * 2, (MIXED,))
    with pytest.raises(ConfigurationError, match="give every case the size"):
        Property("p", (case,), "", "", 2, 2)
