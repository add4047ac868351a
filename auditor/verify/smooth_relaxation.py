"""Certified linear bounds of sigmoid, tanh and sign over intervals, in torch float64.

A line is made in two steps. Its slope is any float: the one of the concave envelope at
the middle of the interval, which encloses the least area (the envelopes are chords and
tangents, as in Zhang et al. 2018, CROWN, 1811.00866, section 4). Its intercept is then
computed from that float so that the line is below or above the function everywhere.

Why that is rigorous for tanh and a slope s in (0, 1]: the least value of
`g(z) = tanh(z) - s z` on [l, u] is at l, at u, or where `g'(z) = 1 - tanh(z)^2 - s = 0`
inside, so at `z = -c` or `z = c` with `c = atanh(r)`, `r = sqrt(1 - s)`. At c > 0, g is
concave, so only -c can be a minimum; there `g(-c) = -r + s c`, and
`c = log1p(r) - log(s) / 2` because `(1 - r)(1 + r) = s`. The point counts as inside
already when it is within `_NEAR (1 + c)` of the interval, which is a thousand times its
rounding error; counting it without need only lowers the line. For s = 0, g is tanh.
Every value is at most 1 in size plus `s |z|`, so a few roundings and library functions
that are accurate to `FUNCTION_ERROR` (more than 8 units in the last place of 1; torch's
tanh, sigmoid, log and log1p stay within 2) are covered by `_slack`. Upper lines follow
from `tanh(-z) = -tanh(z)`, sigmoids from `sigmoid(z) = 1/2 + tanh(z / 2) / 2`, exactly.

Lines are over the reals. The float32 functions of runtimes have no stated accuracy.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from auditor.verify.network.curve import Curve

FUNCTION_ERROR = 2.0**-49
_NEAR = 1e-12
_LEAST_SLOPE = 1e-290
_ENVELOPE_STEPS = 4
_STEEPEST_SIGN = 1e6


class Lines(NamedTuple):
    """Two lines per neuron; all tensors have the shape of the interval's ends.

    `lower_slope * z + lower_intercept <= f(z) <= upper_slope * z + upper_intercept`.
    """

    lower_slope: Tensor
    lower_intercept: Tensor
    upper_slope: Tensor
    upper_intercept: Tensor


def curve_value(curve: Curve, inputs: Tensor) -> Tensor:
    """The function, element by element, with ordinary rounding."""
    if curve is Curve.SIGMOID:
        return torch.sigmoid(inputs)
    return torch.tanh(inputs) if curve is Curve.TANH else torch.sign(inputs)


def curve_direction(curve: Curve, inputs: Tensor) -> Tensor:
    """The derivative, for search only; for sign, whose derivative says nothing, a hill."""
    if curve is Curve.SIGMOID:
        value = torch.sigmoid(inputs)
        return value * (1.0 - value)
    if curve is Curve.TANH:
        return 1.0 - torch.tanh(inputs) ** 2
    return 1.0 / (1.0 + inputs.abs()) ** 2


def curve_range(curve: Curve, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Certified least and largest values over lower <= z <= upper.

    The functions do not decrease, so their ends are enough. An end that is not a number
    says nothing, and the whole range is left.
    """
    least, most = (0.0, 1.0) if curve is Curve.SIGMOID else (-1.0, 1.0)
    error = 0.0 if curve is Curve.SIGN else FUNCTION_ERROR
    # torch's sign of "not a number" is 0, so that is looked for in the ends themselves.
    low = torch.where(lower.isnan(), least, curve_value(curve, lower) - error)
    high = torch.where(upper.isnan(), most, curve_value(curve, upper) + error)
    return low.clamp(least, most), high.clamp(least, most)


def relax_curve(curve: Curve, lower: Tensor, upper: Tensor) -> Lines:
    """Certified lines below and above a curve over lower <= z <= upper.

    Args:
        curve: The function.
        lower: Lower ends, any shape, float64; infinite or not a number where unknown.
        upper: Upper ends, same shape; lower <= upper.

    Returns:
        Slopes >= 0 and intercepts. Where an end is not finite, the slopes are 0.
    """
    if curve is Curve.SIGN:
        return _relax_sign(lower, upper)
    if curve is Curve.TANH:
        return _relax_tanh(lower, upper)
    # Halving and quartering are exact but for underflow, which the slack of tanh covers.
    lines = _relax_tanh(0.5 * lower, 0.5 * upper)
    return Lines(
        0.25 * lines.lower_slope,
        0.5 * lines.lower_intercept + (0.5 - FUNCTION_ERROR),
        0.25 * lines.upper_slope,
        0.5 * lines.upper_intercept + (0.5 + FUNCTION_ERROR),
    )


def _relax_tanh(lower: Tensor, upper: Tensor) -> Lines:
    known = torch.isfinite(lower) & torch.isfinite(upper)
    zero = torch.zeros_like(lower)
    low, high = torch.where(known, lower, zero), torch.where(known, upper, zero)
    above = torch.where(known, _envelope_slope(low, high), zero)
    below = torch.where(known, _envelope_slope(-high, -low), zero)
    return Lines(
        below,
        torch.where(known, certified_intercept(below, low, high), zero - 1.0),
        above,
        torch.where(known, -certified_intercept(above, -high, -low), zero + 1.0),
    )


def certified_intercept(slope: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """The intercept with which a line stays below tanh on [lower, upper], proved.

    Args:
        slope: Any float64 in [0, 1]; smaller than 1e-290 only if it is 0.
        lower: Finite lower ends.
        upper: Finite upper ends.

    Returns:
        `min(tanh(z) - slope * z)` over the interval, rounded down; see the module.
    """
    ends = torch.minimum(torch.tanh(lower) - slope * lower, torch.tanh(upper) - slope * upper)
    place, root = _turning_point(slope)
    near = _NEAR * (1.0 + place)
    inside = (slope > 0) & (-place >= lower - near) & (-place <= upper + near)
    least = torch.where(inside, torch.minimum(ends, slope * place - root), ends)
    return least - _slack(slope * torch.maximum(lower.abs(), upper.abs()))


def _slack(reach: Tensor) -> Tensor:
    return 8.0 * FUNCTION_ERROR + FUNCTION_ERROR * reach + 1e-300


def _turning_point(slope: Tensor) -> tuple[Tensor, Tensor]:
    """The c >= 0 where tanh has this slope, and tanh(c) = sqrt(1 - slope)."""
    root = (1.0 - slope).clamp(min=0.0).sqrt()
    return torch.log1p(root) - 0.5 * slope.log(), root


def _envelope_slope(lower: Tensor, upper: Tensor) -> Tensor:
    """Slope of tanh's concave envelope over [lower, upper] at the middle, about.

    From an end below zero the envelope runs along the steepest chord to a point d >= 0,
    then along tanh. Dinkelbach's iteration (1967) finds the chord: d is where tanh has
    the slope of the last chord. Rounding and early ends cost tightness only.
    """
    start = torch.tanh(lower)
    middle = 0.5 * lower + 0.5 * upper
    tangent = 1.0 - torch.tanh(middle) ** 2
    touching, slope = upper, _chord(start, lower, upper, tangent)
    mixed = (lower < 0) & (upper > 0)
    if bool(mixed.any()):
        for _ in range(_ENVELOPE_STEPS):
            touching = torch.where(mixed, torch.fmin(_turning_point(slope)[0], upper), upper)
            slope = _chord(start, lower, touching, tangent)
    along = (lower >= 0) | (mixed & (middle > touching))
    slope = torch.where(along, tangent, slope).clamp(0.0, 1.0)
    return torch.where(slope > _LEAST_SLOPE, slope, torch.zeros_like(slope))


def _chord(start: Tensor, lower: Tensor, upper: Tensor, otherwise: Tensor) -> Tensor:
    """Slope of tanh between two points, `otherwise` where they are too close."""
    width = upper - lower
    slope = ((torch.tanh(upper) - start) / width).clamp(_LEAST_SLOPE, 1.0)
    return torch.where(width > 1e-9, slope, otherwise)


def _relax_sign(lower: Tensor, upper: Tensor) -> Lines:
    below, above = curve_range(Curve.SIGN, lower, upper)
    zero = torch.zeros_like(lower)
    upper_slope = _steep(lower, upper)
    lower_slope = _steep(-upper, -lower)
    # Above: the values to stay over are -1 at the lower end and 1 just after zero.
    high = torch.maximum(-1.0 - upper_slope * lower, zero + 1.0) + 4.0 * FUNCTION_ERROR
    low = torch.minimum(1.0 - lower_slope * upper, zero - 1.0) - 4.0 * FUNCTION_ERROR
    return Lines(
        lower_slope,
        torch.where(lower_slope > 0, low, below),
        upper_slope,
        torch.where(upper_slope > 0, high, above),
    )


def _steep(lower: Tensor, upper: Tensor) -> Tensor:
    """Slope of the line over (lower, -1) and (0, 1), 0 where the constant 1 is as good.

    The constant encloses `lower - upper` more area than the step, the line
    `upper^2 / lower`: the line is better while `upper < -lower`.
    """
    better = torch.isfinite(lower) & (upper > 0) & (upper < -lower)
    better &= -lower * _STEEPEST_SIGN > 2.0
    return torch.where(better, 2.0 / -lower, torch.zeros_like(lower))
