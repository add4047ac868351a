"""Geometry of a line chart; drawing it is the template's business.

Every line has its own colour, dash and marker, so that none relies on colour alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from auditor.findings import CurveEvidence, CurvePoint, CurveSeries
from auditor_reports.charts.axis import Axis, Tick, fit_axis
from auditor_reports.number_text import number

WIDTH, HEIGHT = 560.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 62.0, 14.0, 12.0, 46.0
MAX_SERIES = 6
MAX_POINTS = 200
_MARKED = 40
_SIZE = 3.5


@dataclass(frozen=True)
class Line:
    """One series: path data for the line, its interval band and its markers.

    Attributes:
        number: Index of colour, dash and marker.
        swatch: Marker of the legend, centred on (14, 6).
    """

    number: int
    name: str
    path: str
    band: str
    markers: str
    swatch: str


@dataclass(frozen=True)
class CurveChart:
    """Everything a template needs to draw; positions in units of a WIDTH x HEIGHT frame."""

    x_axis: Axis
    y_axis: Axis
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    description: str
    notes: tuple[str, ...]


def lay_out_curve(evidence: CurveEvidence) -> CurveChart:
    """The chart of a curve; non-finite points, long and surplus series are thinned, and said so."""
    shown = evidence.series[:MAX_SERIES]
    kept = [_thin(_finite(series)) for series in shown]
    points = [point for series in kept for point in series]
    x_axis = fit_axis((point.x for point in points), LEFT, WIDTH - RIGHT)
    heights = [value for p in points for value in (p.y, p.lower, p.upper) if value is not None]
    y_axis = fit_axis(heights, HEIGHT - BOTTOM, TOP)
    lines = tuple(
        Line(
            number=index,
            name=series.name,
            path=_path(x_axis, y_axis, points),
            band=_band(x_axis, y_axis, points),
            markers=_markers(index, x_axis, y_axis, points),
            swatch=_marker(index, 14, 6),
        )
        for index, (series, points) in enumerate(zip(shown, kept, strict=True))
    )
    return CurveChart(
        x_axis=x_axis,
        y_axis=y_axis,
        x_ticks=x_axis.ticks(6),
        y_ticks=y_axis.ticks(5),
        lines=lines,
        description=_describe(evidence, shown, kept),
        notes=_notes(evidence, shown, kept),
    )


def _finite(series: CurveSeries) -> list[CurvePoint]:
    return [point for point in series.points if math.isfinite(point.x) and math.isfinite(point.y)]


def _thin(points: list[CurvePoint]) -> list[CurvePoint]:
    """At most about `MAX_POINTS` points, evenly chosen, the last one always among them."""
    step = math.ceil(len(points) / MAX_POINTS)
    if step <= 1:
        return points
    return points[::step] + ([] if (len(points) - 1) % step == 0 else points[-1:])


def _path(x_axis: Axis, y_axis: Axis, points: list[CurvePoint]) -> str:
    steps = (f"{x_axis.at(point.x):g} {y_axis.at(point.y):g}" for point in points)
    text = " L".join(steps)
    return f"M{text}" if text else ""


def _band(x_axis: Axis, y_axis: Axis, points: list[CurvePoint]) -> str:
    """Outline of the interval band, over the points that have an interval."""
    ends = [
        (x_axis.at(p.x), y_axis.at(p.lower), y_axis.at(p.upper))
        for p in points
        if p.lower is not None and p.upper is not None
        if math.isfinite(p.lower) and math.isfinite(p.upper)
    ]
    outline = [(x, upper) for x, _, upper in ends] + [(x, lower) for x, lower, _ in reversed(ends)]
    return f"M{' L'.join(f'{x:g} {y:g}' for x, y in outline)} Z" if len(ends) > 1 else ""


def _markers(number: int, x_axis: Axis, y_axis: Axis, points: list[CurvePoint]) -> str:
    if len(points) > _MARKED:
        return ""
    return "".join(_marker(number, x_axis.at(point.x), y_axis.at(point.y)) for point in points)


def _marker(number: int, x: float, y: float) -> str:
    """Path data of a circle, square, triangle, diamond, downward triangle or cross."""
    s = _SIZE
    match number % MAX_SERIES:
        case 0:
            return f"M{x - s:g} {y:g}a{s} {s} 0 1 0 {2 * s:g} 0a{s} {s} 0 1 0 {-2 * s:g} 0Z"
        case 1:
            return f"M{x - 3:g} {y - 3:g}h6v6h-6Z"
        case 2:
            return f"M{x:g} {y - 4:g}l4 7h-8Z"
        case 3:
            return f"M{x:g} {y - 4.5:g}l4.5 4.5l-4.5 4.5l-4.5 -4.5Z"
        case 4:
            return f"M{x:g} {y + 4:g}l4 -7h-8Z"
        case _:
            return f"M{x - 3:g} {y - 1:g}h2v-2h2v2h2v2h-2v2h-2v-2h-2Z"


def _describe(
    evidence: CurveEvidence, shown: tuple[CurveSeries, ...], kept: list[list[CurvePoint]]
) -> str:
    """The chart in words: what was given, then where each line starts and ends."""
    parts = [evidence.description] if evidence.description else []
    for series, points in zip(shown, kept, strict=True):
        if points:
            first, last = points[0], points[-1]
            parts.append(
                f"{series.name}: from {number(first.y)} at {number(first.x)} "
                f"to {number(last.y)} at {number(last.x)}."
            )
    return " ".join(parts) or "No finite points."


def _notes(
    evidence: CurveEvidence, shown: tuple[CurveSeries, ...], kept: list[list[CurvePoint]]
) -> tuple[str, ...]:
    notes = []
    if len(evidence.series) > len(shown):
        notes.append(f"{len(shown)} of {len(evidence.series)} lines drawn")
    finite = [len(_finite(series)) for series in shown]
    lost = sum(len(series.points) for series in shown) - sum(finite)
    if lost:
        notes.append(f"{lost} points without a finite value left out")
    if any(len(points) < count for points, count in zip(kept, finite, strict=True)):
        notes.append(f"lines thinned to about {MAX_POINTS} points")
    if notes:
        notes.append("all values are in audit.json")
    return tuple(notes)
