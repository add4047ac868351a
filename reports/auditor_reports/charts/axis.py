"""Axes of charts: ticks at round numbers, and the mapping from values to drawing units.

Tick choice follows Heckbert 1990, "Nice numbers for graph labels" (Graphics Gems).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from auditor_reports.number_text import number

_LARGEST = 1e300
_SMALLEST = 1e-280


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: its position in drawing units and its label."""

    at: float
    label: str


@dataclass(frozen=True)
class Axis:
    """A linear axis; `start` and `end` are drawing units for `lower` and `upper`."""

    lower: float
    upper: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """The drawing position of a value, to a tenth of a unit, kept inside the axis."""
        share = (value - self.lower) / (self.upper - self.lower)
        return round(self.start + min(max(share, 0.0), 1.0) * (self.end - self.start), 1)

    def ticks(self, about: int = 5) -> tuple[Tick, ...]:
        """Ticks at round values inside the axis."""
        step = nice_step((self.upper - self.lower) / about)
        first, last = math.ceil(self.lower / step - 1e-9), math.floor(self.upper / step + 1e-9)
        values = (round(step * index, 12) for index in range(first, last + 1))
        return tuple(Tick(self.at(value), number(value, 3)) for value in values)


def nice_step(rough: float) -> float:
    """The smallest of 1, 2, 2.5, 5 times a power of ten that is at least `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)


def fit_axis(values: Iterable[float], start: float, end: float) -> Axis:
    """An axis with round ends that holds every finite value; shares get 0 to 1."""
    # Beyond the limit a difference of two values may overflow; such a chart says nothing anyway.
    finite = [min(max(value, -_LARGEST), _LARGEST) for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    if low >= 0 and high <= 1 and high > 0.2:
        return Axis(0.0, 1.0, start, end)
    if 0 < low < 0.5 * high:
        low = 0.0
    size = max(abs(low), abs(high))
    if high - low <= max(1e-9 * size, _SMALLEST):
        margin = 0.1 * size if size > _SMALLEST else 1.0
        low, high = low - margin, high + margin
    step = nice_step((high - low) / 5)
    return Axis(math.floor(low / step) * step, math.ceil(high / step) * step, start, end)
