"""Shades of a heat map; drawing it is the template's business.

Every cell shows its number too, so that none is told by its colour alone.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from auditor.findings import HeatMapEvidence
from auditor_reports.number_text import number

SHADES: Final = 9
"""Shade 0 is the paper; the style sheet has a colour for each of the others."""


class Cell(NamedTuple):
    """What a cell says, and its shade from 0 to `SHADES` - 1."""

    text: str
    shade: int


def lay_out_heat_map(evidence: HeatMapEvidence) -> tuple[tuple[Cell, ...], ...]:
    """The cells row by row; values outside the scale get the shade of its end."""
    size = evidence.upper - evidence.lower
    return tuple(
        tuple(_cell(value, evidence.lower, size) for value in row) for row in evidence.values
    )


def _cell(value: float | None, lower: float, size: float) -> Cell:
    if value is None or math.isnan(value):
        return Cell("\N{EN DASH}", 0)
    share = min(max((value - lower) / size, 0.0), 1.0)
    return Cell(number(value, 3), min(int(share * SHADES), SHADES - 1))
