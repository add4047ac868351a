"""Shades of heat maps."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from auditor.findings import HeatMapEvidence
from auditor_reports.charts.heat_map import SHADES, lay_out_heat_map


def heat_map(*values: float | None, lower: float = 0.0, upper: float = 1.0) -> HeatMapEvidence:
    """A heat map of one row."""
    return HeatMapEvidence(
        title="t",
        row_label="layer",
        column_label="class",
        rows=("a",),
        columns=tuple(map(str, range(len(values)))),
        values=(values,),
        lower=lower,
        upper=upper,
    )


def shades(evidence: HeatMapEvidence) -> list[int]:
    """The shades of its one row."""
    (row,) = lay_out_heat_map(evidence)
    return [cell.shade for cell in row]


def test_shades_rise_over_the_scale() -> None:
    """The lower end is paper, the upper end the strongest shade, each shade as wide as others."""
    steps = [k / SHADES for k in range(SHADES)]
    assert shades(heat_map(*steps, 1.0)) == [*range(SHADES), SHADES - 1]


def test_scale_is_the_records_not_the_values() -> None:
    """Close values get close shades, however few of them there are."""
    assert shades(heat_map(0.5, 0.51)) == [SHADES // 2] * 2
    assert shades(heat_map(-3.0, 7.0, lower=-3.0, upper=7.0)) == [0, SHADES - 1]


def test_values_outside_the_scale_are_shaded_as_its_ends() -> None:
    """Their numbers are shown as they are."""
    (row,) = lay_out_heat_map(heat_map(-1.0, 2.0, math.inf))
    assert [cell.shade for cell in row] == [0, SHADES - 1, SHADES - 1]
    assert [cell.text for cell in row][1] == "2"


def test_nothing_measured_is_a_dash_without_shade() -> None:
    """A gap does not look like a zero."""
    (row,) = lay_out_heat_map(heat_map(None, math.nan, 0.0))
    assert [cell.text for cell in row] == ["\N{EN DASH}", "\N{EN DASH}", "0"]
    assert {cell.shade for cell in row} == {0}


def test_a_grid_with_holes_is_refused() -> None:
    """Rows and columns name every value, and a scale has a size."""
    whole = heat_map(0.1, 0.2).model_dump()
    for change in ({"columns": ("0",)}, {"rows": ("a", "b")}, {"lower": 1.0}):
        with pytest.raises(ValidationError):
            HeatMapEvidence(**(whole | change))
