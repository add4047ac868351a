"""Directed rounding and float32 numbers inside exact intervals."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.verify.rounding import (
    UNIT_ROUNDOFF,
    box_outward,
    error_factor,
    float32_inside,
    float_above,
    float_below,
)


@given(st.fractions())
def test_the_exact_value_lies_between_its_roundings(value: Fraction) -> None:
    low, high = float_below(value), float_above(value)
    assert Fraction(low) <= value <= Fraction(high)
    assert high == low or high == math.nextafter(low, math.inf)


def test_values_beyond_the_range_round_outward() -> None:
    huge = Fraction(10) ** 400
    assert float_above(huge) == math.inf
    assert float_below(huge) == np.finfo(np.float64).max
    assert float_below(-huge) == -math.inf


def test_a_float_is_its_own_rounding() -> None:
    lower, upper = box_outward([Fraction(0.1)], [Fraction(0.1)])
    assert lower.tolist() == upper.tolist() == [0.1]


@pytest.mark.parametrize("operations", [1, 10, 10_000])
def test_error_factor_is_at_least_gamma(operations: int) -> None:
    product = operations * Fraction(UNIT_ROUNDOFF)
    assert Fraction(error_factor(operations)) >= product / (1 - product)


@given(st.floats(-1e38, 1e38), st.fractions(0, 1), st.floats(-1e38, 1e38))
def test_a_float32_inside_is_inside(start: float, width: Fraction, value: float) -> None:
    lower = Fraction(start)
    inside = float32_inside(value, lower, lower + width)
    if inside is not None:
        assert lower <= Fraction(float(inside)) <= lower + width


def test_a_third_has_no_float32() -> None:
    third = Fraction(1, 3)
    assert float32_inside(1 / 3, third, third) is None


def test_the_only_float32_of_an_interval_is_found() -> None:
    only = Fraction(float(np.float32(0.1)))
    tiny = Fraction(1, 10**15)
    for guess in (0.0, 0.1, 5.0):
        assert float32_inside(guess, only - tiny, only + tiny) == np.float32(0.1)
