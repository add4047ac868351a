"""Lines are where their points are, and what is not drawn is said."""

from __future__ import annotations

import math
import re

from auditor.findings import CurveEvidence, CurvePoint, CurveSeries
from auditor_reports.charts.curve_chart import (
    BOTTOM,
    HEIGHT,
    LEFT,
    MAX_POINTS,
    MAX_SERIES,
    RIGHT,
    TOP,
    WIDTH,
    lay_out_curve,
)


def curve(*series: CurveSeries, description: str = "") -> CurveEvidence:
    """A curve over these series."""
    return CurveEvidence(
        title="t", x_label="x", y_label="y", series=series, description=description
    )


def line(*points: tuple[float, float], name: str = "a") -> CurveSeries:
    """A series through these points."""
    return CurveSeries(name=name, points=tuple(CurvePoint(x=x, y=y) for x, y in points))


def places(path: str) -> list[tuple[float, float]]:
    """The points of path data made of moves and lines."""
    pairs = re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path)
    return [(float(x), float(y)) for x, y in pairs]


def test_corners_of_the_data_are_corners_of_the_frame() -> None:
    """The unit square fills the frame exactly."""
    chart = lay_out_curve(curve(line((0, 0), (1, 1))))
    assert places(chart.lines[0].path) == [(LEFT, HEIGHT - BOTTOM), (WIDTH - RIGHT, TOP)]


def test_band_runs_along_the_upper_and_back_along_the_lower_ends() -> None:
    """The interval band encloses the line."""
    points = (
        CurvePoint(x=0, y=0.5, lower=0, upper=1),
        CurvePoint(x=1, y=0.5, lower=0, upper=1),
    )
    (drawn,) = lay_out_curve(curve(CurveSeries(name="a", points=points))).lines
    left, right, bottom = LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM
    assert places(drawn.band) == [(left, TOP), (right, TOP), (right, bottom), (left, bottom)]


def test_band_needs_intervals() -> None:
    """Without intervals there is no band."""
    assert lay_out_curve(curve(line((0, 0), (1, 1)))).lines[0].band == ""


def test_lines_differ_in_marker() -> None:
    """Each series has a marker of its own."""
    series = [line((0, 0), (1, 1), name=str(k)) for k in range(MAX_SERIES)]
    swatches = [drawn.swatch for drawn in lay_out_curve(curve(*series)).lines]
    assert len(set(swatches)) == MAX_SERIES


def test_points_without_a_finite_value_are_counted() -> None:
    """A hole in a line is not silent."""
    chart = lay_out_curve(curve(line((0, 0), (0.5, math.nan), (1, 1))))
    assert len(places(chart.lines[0].path)) == 2
    assert "1 points without a finite value left out" in chart.notes


def test_long_line_is_thinned_and_keeps_its_ends() -> None:
    """A thinned line starts and ends where the long one does."""
    points = [(float(k), float(k)) for k in range(10 * MAX_POINTS + 3)]
    chart = lay_out_curve(curve(line(*points)))
    found = places(chart.lines[0].path)
    assert len(found) <= MAX_POINTS + 1
    assert found[0] == (chart.x_axis.at(points[0][0]), chart.y_axis.at(points[0][1]))
    assert found[-1] == (chart.x_axis.at(points[-1][0]), chart.y_axis.at(points[-1][1]))
    assert any("thinned" in note for note in chart.notes)


def test_surplus_lines_are_counted() -> None:
    """More lines than can be told apart are not drawn, and that is said."""
    chart = lay_out_curve(curve(*[line((0, 0), (1, 1), name=str(k)) for k in range(9)]))
    assert len(chart.lines) == MAX_SERIES
    assert f"{MAX_SERIES} of 9 lines drawn" in chart.notes


def test_description_says_where_lines_start_and_end() -> None:
    """The chart can be read without seeing it."""
    chart = lay_out_curve(curve(line((0, 0.25), (2, 0.75)), description="Given."))
    assert chart.description == "Given. a: from 0.25 at 0 to 0.75 at 2."


def test_empty_curve_is_drawn_empty() -> None:
    """No series, or one without points, is no error."""
    assert lay_out_curve(curve()).description == "No finite points."
    assert lay_out_curve(curve(line())).lines[0].path == ""
