"""A measurement and its control are drawn on one axis."""

from __future__ import annotations

import math

from auditor.findings import Interval, Metric
from auditor_reports.charts.interval_chart import lay_out_interval, shared_axes


def share(value: float, lower: float, upper: float) -> Metric:
    """A share with an interval."""
    return Metric(
        name="m", value=value, unit="share", interval=Interval(lower=lower, upper=upper, method="w")
    )


def test_metrics_of_one_unit_share_an_axis() -> None:
    """Equal values lie at equal places, whatever else is measured."""
    metrics = (share(0.5, 0.4, 0.6), share(0.9, 0.8, 1.0), Metric(name="n", value=70, unit="s"))
    axes = shared_axes(metrics)
    assert set(axes) == {"share", "s"}
    first, second = (lay_out_interval(metric, axes["share"]) for metric in metrics[:2])
    assert first is not None
    assert second is not None
    assert first.lower is not None
    assert first.upper is not None
    assert first.lower < first.dot < first.upper < second.dot
    assert (first.lower_label, first.upper_label) == ("0", "1")


def test_bare_number_is_not_drawn() -> None:
    """A dot alone on a made-up axis would say nothing."""
    metric = Metric(name="m", value=3)
    assert lay_out_interval(metric, shared_axes((metric,))[""]) is None


def test_value_that_is_not_finite_is_not_drawn() -> None:
    """Infinity has no place on an axis."""
    metric = share(math.inf, 0, 1)
    assert lay_out_interval(metric, shared_axes((metric,))["share"]) is None


def test_open_interval_reaches_the_end_of_the_axis() -> None:
    """An interval without an upper end is drawn to the edge."""
    metric = share(0.5, 0.25, math.inf)
    axis = shared_axes((metric,))["share"]
    chart = lay_out_interval(metric, axis)
    assert chart is not None
    assert chart.upper == axis.end


def test_repeats_are_drawn() -> None:
    """Every repeat has its mark."""
    metric = Metric(name="m", value=2, repeats=(1, 2, 3))
    chart = lay_out_interval(metric, shared_axes((metric,))[""])
    assert chart is not None
    assert len(chart.repeats) == 3
    assert sorted(chart.repeats) == list(chart.repeats)


def test_a_bare_number_is_drawn_where_others_stand_on_its_axis() -> None:
    """Half of the axis from 0 to 1."""
    metric = Metric(name="m", value=0.5)
    axis = shared_axes((metric, Metric(name="n", value=1)))[""]
    chart = lay_out_interval(metric, axis, compared=True)
    assert chart is not None
    assert (chart.dot, chart.lower, chart.upper) == ((axis.start + axis.end) / 2, None, None)


def test_the_ends_of_a_short_axis_are_told_apart() -> None:
    """Three digits would call both ends 2.5; five tell them apart."""
    metrics = (Metric(name="m", value=2.50001), Metric(name="n", value=2.50006))
    axis = shared_axes(metrics)[""]
    chart = lay_out_interval(metrics[0], axis, compared=True)
    assert chart is not None
    assert (chart.lower_label, chart.upper_label) == ("2.5", "2.5001")
