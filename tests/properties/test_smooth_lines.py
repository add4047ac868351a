"""Certified lines of curves, against ball arithmetic of 200 bits."""

from __future__ import annotations

import flint
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.verify.network.curve import Curve
from auditor.verify.smooth_relaxation import (
    certified_intercept,
    curve_range,
    relax_curve,
)

BITS = 200
ends = st.one_of(
    st.floats(-4, 4),
    st.floats(-800, 800),
    st.floats(-1e-6, 1e-6),
    st.floats(-1e150, 1e150),
    st.sampled_from([0.0, -0.0, 5e-324, -1e-300, 20.0, -20.0, 1e308]),
)
slopes = st.one_of(st.floats(0, 1), st.floats(0.999, 1), st.floats(1e-290, 1e-3), st.just(0.0))
shares = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def exact(curve: Curve, point: float) -> flint.arb:
    ball = flint.arb(point)
    if curve is Curve.TANH:
        return ball.tanh()
    if curve is Curve.SIGMOID:
        return 1 / (1 + (-ball).exp())
    return flint.arb((point > 0) - (point < 0))


def points_of(low: float, high: float, parts: list[float]) -> list[float]:
    """Both ends, zero and the points where tanh bends most, where inside; and some more."""
    inner = [0.5 * (low * (1 - t) + high * t) * 2 for t in parts]
    special = [0.0, 5e-324, -5e-324, 0.66, -0.66, 1.3, -1.3]
    return [low, high, *(z for z in inner + special if low <= z <= high)]


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(Curve), ends, ends, shares)
def test_lines_and_ranges_enclose_the_function(
    curve: Curve, first: float, second: float, parts: list[float]
) -> None:
    low, high = min(first, second), max(first, second)
    lower, upper = (torch.tensor([end], dtype=torch.float64) for end in (low, high))
    lines = [part.item() for part in relax_curve(curve, lower, upper)]
    least, most = (end.item() for end in curve_range(curve, lower, upper))
    with flint.ctx.workprec(BITS):
        for point in points_of(low, high, parts):
            value = exact(curve, point)
            below = flint.arb(lines[0]) * flint.arb(point) + flint.arb(lines[1])
            above = flint.arb(lines[2]) * flint.arb(point) + flint.arb(lines[3])
            assert not value < below
            assert not value > above
            assert not value < flint.arb(least)
            assert not value > flint.arb(most)


@settings(deadline=None, max_examples=400)
@given(slopes, ends, ends, shares)
def test_any_slope_gets_an_intercept_that_stays_below(
    slope: float, first: float, second: float, parts: list[float]
) -> None:
    """Also near the turning point, where tanh has just this slope."""
    low, high = min(first, second), max(first, second)
    ends_of = (torch.tensor([value], dtype=torch.float64) for value in (slope, low, high))
    intercept = certified_intercept(*ends_of).item()
    with flint.ctx.workprec(BITS):
        points = points_of(low, high, parts)
        if 0 < slope < 1:
            turn = -float((1 - flint.arb(slope)).sqrt().atanh().mid())
            points += [z for z in (turn, turn * (1 + 1e-9), turn * (1 - 1e-9)) if low <= z <= high]
        for point in points:
            line = flint.arb(slope) * flint.arb(point) + flint.arb(intercept)
            assert not exact(Curve.TANH, point) < line
