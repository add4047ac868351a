"""Directed rounding: exact fractions to floats on the safe side, and error factors.

Source of the error factor: Higham, "Accuracy and Stability of Numerical Algorithms"
(2002), lemma 3.1; valid for any order of summation and with fused multiply-adds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

UNIT_ROUNDOFF = 2.0**-53
_LARGEST = np.finfo(np.float64).max


def error_factor(operations: int) -> float:
    """`gamma_N = N u / (1 - N u)` for N float64 operations, rounded up generously."""
    product = operations * UNIT_ROUNDOFF
    return 1.01 * product / (1.0 - product)


def float_below(value: Fraction) -> float:
    """The largest float64 that is at most `value`; -inf below the range."""
    return -float_above(-value)


def float_above(value: Fraction) -> float:
    """The smallest float64 that is at least `value`; inf above the range."""
    try:
        nearest = float(value)
    except OverflowError:
        return math.inf if value > 0 else -float(_LARGEST)
    if math.isinf(nearest):
        return math.inf if value > 0 else -float(_LARGEST)
    return nearest if Fraction(nearest) >= value else math.nextafter(nearest, math.inf)


def box_outward(
    lower: Sequence[Fraction], upper: Sequence[Fraction]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The smallest float64 box around an exact box, two arrays [inputs]."""
    return (
        np.array([float_below(value) for value in lower], dtype=np.float64),
        np.array([float_above(value) for value in upper], dtype=np.float64),
    )


def float32_inside(value: float, lower: Fraction, upper: Fraction) -> np.float32 | None:
    """The float32 nearest to `value` inside [lower, upper], or None if there is none."""
    with np.errstate(over="ignore"):
        candidate = np.float32(value)
    if not np.isfinite(candidate):
        candidate = np.float32(np.clip(value, -3.4028234e38, 3.4028234e38))
    # At most a few steps: the candidate starts within rounding of the clipped value.
    if Fraction(float(candidate)) < lower:
        candidate = _step_to(lower, candidate, up=True)
    elif Fraction(float(candidate)) > upper:
        candidate = _step_to(upper, candidate, up=False)
    inside = np.isfinite(candidate) and lower <= Fraction(float(candidate)) <= upper
    return candidate if inside else None


def nearest_float32(value: Fraction) -> np.float32:
    """The float32 nearest to a number, or the largest one beyond the range."""
    return np.float32(np.clip(float_above(value), -3.4028234e38, 3.4028234e38))


def _step_to(end: Fraction, start: np.float32, *, up: bool) -> np.float32:
    """The float32 nearest to `end` on its inner side, or the start if out of range."""
    toward = np.float32(np.inf if up else -np.inf)
    try:
        with np.errstate(over="ignore"):
            candidate = np.float32(float(end))
    except OverflowError:
        return start
    for _ in range(3):
        if not np.isfinite(candidate):
            return start
        exact = Fraction(float(candidate))
        if (exact >= end) if up else (exact <= end):
            break
        with np.errstate(over="ignore", under="ignore"):
            candidate = np.nextafter(candidate, toward)
    return candidate
