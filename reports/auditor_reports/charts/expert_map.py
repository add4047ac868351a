"""Geometry of a map of experts, layer by layer; drawing it is the template's business.

Size is told by strength of colour and sign by thickness and hue, so that neither relies on colour
alone; the strongest experts stand beside the picture in a table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from auditor.findings import ExpertMapEvidence
from auditor_reports.charts.axis import Tick, nice_step
from auditor_reports.number_text import number

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 560.0, 62.0, 14.0, 12.0, 46.0
MAX_ROWS: Final = 256
MAX_COLUMNS: Final = 512
SHADES: Final = 9
"""Shade 0 is the paper."""
STRONGEST: Final = 10
"""Experts in the table besides the marked ones."""
_TICKS: Final = 8
_LEAST_FRAME: Final = 6.0


class Shade(NamedTuple):
    """Cells of one shade and sign.

    Attributes:
        path: Their path data, in cells.
        opacity: Of the stroke, in (0, 1].
        below: Whether the values are below 0, which are drawn thinner.
    """

    path: str
    opacity: float
    below: bool


class ExpertRow(NamedTuple):
    """A row of the table."""

    layer: int
    expert: int
    value: str
    marked: bool


@dataclass(frozen=True)
class ExpertMap:
    """Everything a template needs to draw; positions in units of a WIDTH x height frame.

    Attributes:
        height: Of the frame.
        bottom: Where the cells end.
        scale: Width and height of a cell.
        shades: What to draw, in cells, moved to the frame's corner and scaled.
        frames: Path data around marked experts.
        rows: The strongest experts and all marked ones, strongest first.
        largest: The size that the strongest colour stands for.
        notes: What is not drawn as it is, in sentences.
    """

    height: float
    bottom: float
    scale: tuple[float, float]
    shades: tuple[Shade, ...]
    frames: str
    layer_ticks: tuple[Tick, ...]
    expert_ticks: tuple[Tick, ...]
    rows: tuple[ExpertRow, ...]
    largest: str
    description: str
    notes: tuple[str, ...]


def lay_out_expert_map(evidence: ExpertMapEvidence) -> ExpertMap:
    """The map; neighbours share a cell, and show the strongest, where there are too many."""
    steps = (
        max(1, math.ceil(len(evidence.layers) / MAX_ROWS)),
        max(1, math.ceil(evidence.experts / MAX_COLUMNS)),
    )
    cells = _cells(evidence.values, *steps)
    down, across = max(1, len(cells)), max(1, len(cells[0]) if cells else 1)
    scale = (
        round((WIDTH - LEFT - RIGHT) / across, 4),
        round(min(16.0, max(3.0, 240.0 / down)), 4),
    )
    bottom = round(TOP + down * scale[1], 1)
    largest = max((abs(value) for row in cells for value in row), default=0.0)
    rows = strongest_experts(evidence)
    return ExpertMap(
        height=bottom + BOTTOM, bottom=bottom, scale=scale, shades=_shades(cells, largest),
        frames=_frames(evidence, steps, scale),
        layer_ticks=tuple(
            Tick(_middle(TOP, scale[1], row // steps[0]), str(evidence.layers[row]))
            for row in range(0, len(evidence.layers), math.ceil(len(evidence.layers) / _TICKS) or 1)
        ),
        expert_ticks=tuple(
            Tick(_middle(LEFT, scale[0], column // steps[1]), str(column))
            for column in range(0, evidence.experts, _whole_step(evidence.experts))
        ),
        rows=rows, largest=number(largest, 3), description=_describe(evidence, rows),
        notes=_notes(evidence, steps),
    )  # fmt: skip


def strongest_experts(evidence: ExpertMapEvidence) -> tuple[ExpertRow, ...]:
    """The `STRONGEST` experts by size, and the marked ones; ties by layer and number."""
    marked = set(evidence.marked)
    found = [
        (value, layer, expert)
        for layer, row in zip(evidence.layers, evidence.values, strict=True)
        for expert, value in enumerate(row)
        if value is not None
    ]
    found.sort(key=lambda each: (-abs(each[0]), each[1:]))
    kept = [
        ExpertRow(layer, expert, number(value, 3), (layer, expert) in marked)
        for place, (value, layer, expert) in enumerate(found)
        if (place < STRONGEST and value) or (layer, expert) in marked
    ]
    known = {(row.layer, row.expert) for row in kept}
    unknown = (each for each in dict.fromkeys(evidence.marked) if each not in known)
    return (*kept, *(ExpertRow(*each, "\N{EN DASH}", True) for each in unknown))


def _cells(values: Sequence[Sequence[float | None]], down: int, across: int) -> list[list[float]]:
    """The strongest value of each block; 0 where nothing was measured."""
    columns = range(0, len(values[0]) if values else 0, across)
    return [
        [
            max((value for row in values[top : top + down] for value in row[left : left + across]
                 if value is not None), key=abs, default=0.0)
            for left in columns
        ]
        for top in range(0, len(values), down)
    ]  # fmt: skip


def _shades(cells: Sequence[Sequence[float]], largest: float) -> tuple[Shade, ...]:
    """Runs of cells of one shade and sign, a path for each."""
    paths: dict[tuple[bool, int], list[str]] = {}
    for at, row in enumerate(cells):
        start = 0
        shades = [_shade(value, largest) for value in row]
        for end in range(1, len(row) + 1):
            if end == len(row) or shades[end] != shades[start]:
                if shades[start][1]:
                    paths.setdefault(shades[start], []).append(f"M{start} {at}h{end - start}")
                start = end
    return tuple(
        Shade("".join(runs), round(shade / (SHADES - 1), 3), below)
        for (below, shade), runs in sorted(paths.items())
    )


def _shade(value: float, largest: float) -> tuple[bool, int]:
    if not largest:
        return False, 0
    shade = min(int(abs(value) / largest * SHADES), SHADES - 1)
    return value < 0 and shade > 0, shade


def _frames(evidence: ExpertMapEvidence, steps: tuple[int, int], scale: tuple[float, float]) -> str:
    """Frames around the cells of marked experts, large enough to be seen."""
    wide, high = (max(_LEAST_FRAME, size) for size in scale)
    parts = []
    for layer, expert in dict.fromkeys(evidence.marked):
        x = _middle(LEFT, scale[0], expert // steps[1]) - wide / 2
        y = _middle(TOP, scale[1], evidence.layers.index(layer) // steps[0]) - high / 2
        parts.append(f"M{x:.1f} {y:.1f}h{wide:.1f}v{high:.1f}h{-wide:.1f}z")
    return "".join(parts)


def _middle(start: float, size: float, place: int) -> float:
    return round(start + (place + 0.5) * size, 1)


def _whole_step(count: int) -> int:
    return max(1, math.ceil(nice_step(count / _TICKS)))


def _describe(evidence: ExpertMapEvidence, rows: Sequence[ExpertRow]) -> str:
    """The map in words: its size, and its strongest expert."""
    layers = len(evidence.layers)
    parts = [f"{layers} layer{'' if layers == 1 else 's'} by {evidence.experts} experts."]
    strongest = rows[0].value if rows else "\N{EN DASH}"
    if strongest not in ("0", "\N{EN DASH}"):
        parts.append(f"Strongest: layer {rows[0].layer}, expert {rows[0].expert}, {strongest}.")
    if evidence.marked:
        parts.append(f"Marked: {len(set(evidence.marked))}.")
    return " ".join(parts)


def _notes(evidence: ExpertMapEvidence, steps: tuple[int, int]) -> tuple[str, ...]:
    notes = []
    missing = sum(value is None for row in evidence.values for value in row)
    if missing:
        notes.append(f"Not measured and left blank: {missing} of the experts.")
    if max(steps) > 1:
        notes.append(
            f"Each cell shows the strongest of {steps[0]} by {steps[1]} layers and experts."
        )
    return tuple(notes)
