"""Axes hold their values and have round ticks."""

from __future__ import annotations

import math

import pytest

from auditor_reports.charts.axis import Axis, fit_axis, nice_step


@pytest.mark.parametrize(("rough", "step"), [(1.0, 1), (1.1, 2), (2.1, 2.5), (3, 5), (0.06, 0.1)])
def test_step_is_round(rough: float, step: float) -> None:
    """Steps are 1, 2, 2.5 or 5 times a power of ten."""
    assert math.isclose(nice_step(rough), step)


@pytest.mark.parametrize(
    "values",
    [(0.3, 0.9), (3.0, 4.0), (-5.0, 5.0), (7.0,), (0.0,), (1e-9, 2e-9), (1e300, -1e300), ()],
)
def test_axis_holds_its_values(values: tuple[float, ...]) -> None:
    """Every value has a place, and the ends differ."""
    axis = fit_axis(values, 0, 100)
    assert axis.lower < axis.upper
    assert all(axis.lower <= value <= axis.upper for value in values)
    assert all(0 <= axis.at(value) <= 100 for value in values)


def test_shares_get_the_whole_range() -> None:
    """A share is never drawn on an axis that makes a small difference look large."""
    axis = fit_axis((0.91, 0.95), 0, 100)
    assert (axis.lower, axis.upper) == (0, 1)


def test_non_finite_values_do_not_stretch_the_axis() -> None:
    """Infinity and NaN have no say."""
    assert fit_axis((1.0, 2.0, math.inf, math.nan), 0, 1) == fit_axis((1.0, 2.0), 0, 1)


def test_ticks_lie_on_the_axis_at_round_values() -> None:
    """The ticks of 0 to 1 are the fifths."""
    ticks = Axis(0, 1, 0, 500).ticks()
    assert [(tick.at, tick.label) for tick in ticks] == [
        (0, "0"),
        (100, "0.2"),
        (200, "0.4"),
        (300, "0.6"),
        (400, "0.8"),
        (500, "1"),
    ]


def test_a_downward_axis_grows_upwards() -> None:
    """With start below end, larger values lie higher on the page."""
    axis = Axis(0, 10, 250, 10)
    assert axis.at(0) == 250
    assert axis.at(10) == 10
