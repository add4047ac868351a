"""Integers with directed floors: digits, bounds, and what may not be lost."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.errors import UnsupportedModel
from auditor.verify.certificate.forms import (
    Forms,
    fixed_layer,
    relaxation,
    rounded_down,
    through_affine,
    through_relu,
)

WEIGHTS = st.floats(-1e6, 1e6, width=32)
COEFFICIENTS = st.integers(-(2**27), 2**27)
BOUNDS = st.floats(-1e3, 1e3, width=16)


def value(forms: Forms, point: list[Fraction]) -> Fraction:
    """The first form at a point, exactly."""
    total = Fraction(int(forms.constants[0]))
    for c, x in zip(forms.coefficients[0], point, strict=True):
        total += int(c) * x
    return total * Fraction(2) ** int(forms.exponents[0])


def form(coefficients: list[int], constant: int) -> Forms:
    row = np.array([coefficients], dtype=np.float64)
    return Forms(row, np.array([float(constant)]), np.zeros(1, dtype=np.int64))


@given(st.integers(-(2**52), 2**52), st.integers(-60, 60))
def test_rounding_down_is_down_and_close(number: int, exponent: int) -> None:
    exact = Fraction(number) * Fraction(2) ** exponent
    result = rounded_down(np.array([float(number)]), np.array([exponent]))[0]
    assert Fraction(float(result)) <= exact
    assert exact - Fraction(float(result)) <= abs(exact) / 2**21


@pytest.mark.parametrize(("exponent", "least"), [(-2000, -1.0), (2000, 1.0)])
def test_rounding_down_keeps_only_the_sign_out_of_range(exponent: int, least: float) -> None:
    low, high = rounded_down(np.array([-3.0, 3.0]), np.array([exponent, exponent]))
    assert low < 0 <= high
    assert np.isfinite(high)
    assert (abs(low) < 1e-200) == (least < 0)


@given(
    st.lists(st.lists(WEIGHTS, min_size=2, max_size=2), min_size=3, max_size=3),
    st.lists(WEIGHTS, min_size=3, max_size=3),
    st.lists(COEFFICIENTS, min_size=3, max_size=3),
    st.lists(st.fractions(0, 100, max_denominator=50), min_size=2, max_size=2),
    st.integers(-(2**30), 2**30),
    st.booleans(),
)
def test_past_a_layer_a_form_is_not_larger(
    weight: list[list[float]], bias: list[float], coefficients: list[int],
    point: list[Fraction], constant: int, exact: bool,
) -> None:  # fmt: skip
    """At every h >= 0; the layer is evaluated in rationals."""
    layer = fixed_layer(np.array(weight), np.array(bias), 27, exact=exact)
    before = [
        sum((Fraction(w) * x for w, x in zip(row, point, strict=True)), Fraction(b))
        for row, b in zip(weight, bias, strict=True)
    ]
    start = form(coefficients, constant)
    assert value(through_affine(layer, start), point) <= value(start, before)


@given(
    st.lists(
        st.tuples(BOUNDS, BOUNDS, st.fractions(0, 1, max_denominator=99)), min_size=3, max_size=3
    ),
    st.lists(COEFFICIENTS, min_size=3, max_size=3),
    st.lists(st.floats(0, 1), min_size=3, max_size=3),
    st.lists(st.floats(0, 1e9), min_size=3, max_size=3),
)
def test_past_a_relu_a_form_is_not_larger(
    ranges: list[tuple[float, float, Fraction]], coefficients: list[int],
    slopes: list[float], amounts: list[float],
) -> None:  # fmt: skip
    """At every z within its bounds, for any slopes and any phase multipliers."""
    lower = np.array([[min(a, b) for a, b, _ in ranges]])
    upper = np.array([[max(a, b) for a, b, _ in ranges]])
    known = relaxation(lower, upper)
    point = [
        Fraction(low) + share * (Fraction(high) - Fraction(low))
        for low, high, (_, _, share) in zip(
            lower[0].tolist(), upper[0].tolist(), ranges, strict=True
        )
    ]
    start = form(coefficients, 5)
    nodes = np.zeros(1, dtype=np.int64)
    pushes = np.zeros(3, dtype=np.int64), np.arange(3), np.array(amounts)
    result = through_relu(known, nodes, start, np.array([slopes]), pushes)
    after = [max(entry, Fraction(0)) for entry in point]
    assert value(result, point) <= value(start, after)


def test_weights_beyond_range_are_refused() -> None:
    with pytest.raises(UnsupportedModel):
        fixed_layer(np.array([[1e300]]), np.zeros(1), 29, exact=True)
