"""Geometry of a number drawn as a dot with its confidence interval.

Metrics of one unit share one axis, so that a measurement and its control can be
compared by eye.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from auditor.findings import Metric
from auditor_reports.charts.axis import Axis, fit_axis
from auditor_reports.number_text import interval_text, number, quantity

WIDTH = 180.0
_MARGIN = 8.0


@dataclass(frozen=True)
class IntervalChart:
    """A dot with an interval and repeats; positions in units of a frame WIDTH wide."""

    dot: float
    lower: float | None
    upper: float | None
    repeats: tuple[float, ...]
    lower_label: str
    upper_label: str
    title: str
    description: str


def shared_axes(metrics: Sequence[Metric]) -> dict[str, Axis]:
    """One axis per unit, wide enough for every value, interval and repeat of that unit."""
    values: dict[str, list[float]] = {}
    for metric in metrics:
        of_unit = values.setdefault(metric.unit, [])
        of_unit.extend((metric.value, *metric.repeats))
        if metric.interval:
            of_unit.extend((metric.interval.lower, metric.interval.upper))
    return {unit: fit_axis(found, _MARGIN, WIDTH - _MARGIN) for unit, found in values.items()}


def lay_out_interval(metric: Metric, axis: Axis, *, compared: bool = False) -> IntervalChart | None:
    """The drawing of a metric, or None where there is neither interval nor repeat to draw.

    With `compared` others stand on the same axis, and a bare number is drawn as well.
    """
    if not math.isfinite(metric.value):
        return None
    if not (compared or metric.interval or metric.repeats):
        return None
    interval = metric.interval
    lower_label, upper_label = _end_labels(axis)
    words = f", interval {interval_text(interval)}" if interval else ""
    return IntervalChart(
        dot=axis.at(metric.value),
        lower=_place(axis, interval.lower) if interval else None,
        upper=_place(axis, interval.upper) if interval else None,
        repeats=tuple(axis.at(value) for value in metric.repeats[:50] if math.isfinite(value)),
        lower_label=lower_label,
        upper_label=upper_label,
        title=f"{metric.name}: {quantity(metric)}",
        description=f"Dot at {number(metric.value)}{words}; axis from "
        f"{lower_label} to {upper_label}.",
    )


def _end_labels(axis: Axis) -> tuple[str, str]:
    """Both ends with as many digits as tell them apart, at least three."""
    digits = 3
    while digits < 17 and number(axis.lower, digits) == number(axis.upper, digits):
        digits += 1
    return number(axis.lower, digits), number(axis.upper, digits)


def _place(axis: Axis, value: float) -> float:
    return axis.at(value) if not math.isnan(value) else axis.start
