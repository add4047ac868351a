"""Lines below and above sigmoid, tanh and sign: tight where the best line is known."""

from __future__ import annotations

import math

import pytest
import torch

from auditor.verify.network.curve import Curve
from auditor.verify.smooth_relaxation import Lines, curve_direction, curve_range, relax_curve


def lines_of(curve: Curve, low: float, high: float) -> list[float]:
    ends = (torch.tensor([end], dtype=torch.float64) for end in (low, high))
    return [part.item() for part in relax_curve(curve, *ends)]


def test_a_convex_part_has_its_chord_above_and_a_middle_tangent_below() -> None:
    found = lines_of(Curve.TANH, -2.0, -1.0)
    slope = math.tanh(-1.0) - math.tanh(-2.0)
    tangent = 1.0 - math.tanh(-1.5) ** 2
    expected = [tangent, math.tanh(-1.5) + 1.5 * tangent, slope, math.tanh(-1.0) + slope]
    assert found == pytest.approx(expected, abs=1e-12)


def test_across_zero_the_line_above_is_the_envelope_at_the_middle() -> None:
    """No other slope gives a lower line there, among 20,000 tried on a fine grid."""
    low, high = -2.0, 1.5
    _, _, slope, intercept = lines_of(Curve.TANH, low, high)
    middle = 0.5 * (low + high)
    grid = torch.linspace(low, high, 4001, dtype=torch.float64)
    slopes = torch.linspace(0, 1, 2001, dtype=torch.float64)[:, None]
    best = ((torch.tanh(grid) - slopes * grid).amax(dim=1) + slopes[:, 0] * middle).min()
    assert slope * middle + intercept <= best.item() + 1e-6


def test_a_sigmoid_is_half_a_tanh() -> None:
    tanh, sigmoid = lines_of(Curve.TANH, -0.5, 1.0), lines_of(Curve.SIGMOID, -1.0, 2.0)
    assert sigmoid[0] == tanh[0] / 4
    assert sigmoid[1] == pytest.approx(0.5 + tanh[1] / 2, abs=1e-14)


def test_a_point_is_enclosed_narrowly() -> None:
    for curve in (Curve.SIGMOID, Curve.TANH):
        below, low, above, high = lines_of(curve, 0.7, 0.7)
        assert 0 < (above * 0.7 + high) - (below * 0.7 + low) < 1e-13


def test_a_known_sign_is_exact() -> None:
    assert lines_of(Curve.SIGN, 0.5, 2.0) == [0.0, 1.0, 0.0, 1.0]
    assert lines_of(Curve.SIGN, -2.0, -0.5) == [0.0, -1.0, 0.0, -1.0]
    assert lines_of(Curve.SIGN, 0.0, 0.0) == [0.0, 0.0, 0.0, 0.0]


def test_an_end_at_zero_leaves_the_value_zero_possible() -> None:
    assert lines_of(Curve.SIGN, 0.0, 1.0) == [0.0, 0.0, 0.0, 1.0]
    assert lines_of(Curve.SIGN, -1.0, 0.0) == [0.0, -1.0, 0.0, 0.0]


def test_an_open_sign_takes_the_line_on_its_longer_side() -> None:
    below, low, above, high = lines_of(Curve.SIGN, -4.0, 1.0)
    assert (below, low) == (0.0, -1.0)
    assert above == 0.5
    assert high == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("curve", Curve)
@pytest.mark.parametrize(("low", "high"), [(-math.inf, 1.0), (-1.0, math.inf), (math.nan, 1.0)])
def test_unknown_ends_leave_the_whole_range(curve: Curve, low: float, high: float) -> None:
    lines = Lines(*(torch.tensor(part) for part in lines_of(curve, low, high)))
    assert all(math.isfinite(part) for part in lines)
    ends = (torch.tensor([end], dtype=torch.float64) for end in (low, high))
    least, most = curve_range(curve, *ends)
    if not math.isfinite(low):
        assert least.item() == (0.0 if curve is Curve.SIGMOID else -1.0)
    assert most.item() <= 1.0


def test_directions_are_derivatives_except_for_a_sign() -> None:
    inputs = torch.tensor([0.3, -1.2], dtype=torch.float64, requires_grad=True)
    for curve, function in ((Curve.SIGMOID, torch.sigmoid), (Curve.TANH, torch.tanh)):
        (gradient,) = torch.autograd.grad(function(inputs).sum(), inputs)
        assert torch.allclose(curve_direction(curve, inputs.detach()), gradient)
    assert (curve_direction(Curve.SIGN, inputs.detach()) > 0).all()
