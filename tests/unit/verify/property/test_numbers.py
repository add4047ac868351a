"""Exact numbers of text and of Python."""

from __future__ import annotations

from fractions import Fraction

import pytest

from auditor.verify.property.numbers import exact_decimal, exact_number


@pytest.mark.parametrize(
    ("text", "value"),
    [("-0.25", "-1/4"), ("1e-3", "1/1000"), (".5", "1/2"), ("2.", "2"), ("+3E2", "300")],
)
def test_decimals_are_read_exactly(text: str, value: str) -> None:
    assert exact_decimal(text) == Fraction(value)


@pytest.mark.parametrize("text", ["", "nan", "inf", "1/2", "0x10", "1e9999", "1" * 500, "\u0661"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"decimal|exponent"):
        exact_decimal(text)


def test_a_float_is_the_float_it_is() -> None:
    assert exact_number(0.1) == Fraction(0.1) != Fraction(1, 10)
