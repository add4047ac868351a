"""The plot of `scaling.py`: four panels of seconds and megabytes on log axes, as SVG."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import Any

WIDTH, HEIGHT, TOP = 920, 700, 76
PANEL_W, PANEL_H, GAP_X, GAP_Y, LEFT = 320, 240, 140, 70, 66
PANELS = {"width": "neurons in each of 3 layers", "depth": "layers of 32 neurons",
          "inputs": "inputs", "radius": "radius of the box"}  # fmt: skip
SECONDS, MEGABYTES = (1e-3, 1e2), (1e2, 1e4)
# Readable on white and on black; colours that differ in lightness as well.
STYLE = """
text { fill: #333; } .grid { stroke: #888; stroke-opacity: .3; }
.axis { stroke: #888; fill: none; } polyline { fill: none; stroke: currentColor; stroke-width: 2; }
circle { stroke: currentColor; stroke-width: 2; fill: currentColor; } .open { fill: none; }
.memory polyline { stroke-dasharray: 5 4; } .key { fill: currentColor; }
.verify { color: #1d4ed8; } .conv { color: #be123c; }
.bounding { color: #047857; } .memory { color: #b45309; }
@media (prefers-color-scheme: dark) {
  text { fill: #ddd; } .key { fill: currentColor; } .verify { color: #7aa2ff; }
  .conv { color: #fb7185; } .bounding { color: #34d399; } .memory { color: #f0a848; } }
"""
LINES = (
    # series, measured, class, label
    ("dense", "verify_s", "verify", "verify, seconds"),
    ("dense", "bounding_s", "bounding", "bounds of the undivided box, seconds"),
    ("dense", "verify_mb", "memory", "peak memory of the process, MB (right axis)"),
    ("convolutional", "verify_s", "conv", "verify, convolutional networks, seconds"),
)


@dataclass(frozen=True)
class Panel:
    """Where one panel lies, and its range of values."""

    left: float
    top: float
    low: float
    high: float

    def x(self, value: float) -> float:
        """Place of a value on the horizontal axis."""
        return self.left + PANEL_W * _share(value, self.low, self.high)

    def y(self, value: float, ends: tuple[float, float]) -> float:
        """Place of a value on a vertical axis."""
        return self.top + PANEL_H * (1 - _share(value, *ends))


def _share(value: float, low: float, high: float) -> float:
    share = (math.log10(max(value, 1e-12)) - math.log10(low)) / math.log10(high / low)
    return min(1.0, max(0.0, share))


def draw(records: list[dict[str, Any]], cap: float) -> str:
    """The whole plot; a point that reached the cap is hollow."""
    parts = []
    for number, (name, label) in enumerate(PANELS.items()):
        here = [record for record in records if record["panel"] == name]
        values = [record["value"] for record in here]
        panel = Panel(
            LEFT + (number % 2) * (PANEL_W + GAP_X),
            TOP + (number // 2) * (PANEL_H + GAP_Y),
            min(values) / 1.15,
            max(values) * 1.15,
        )
        parts += [_frame(panel, label, sorted(set(values))), *_lines(panel, here)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12" role="img" '
        'aria-labelledby="scaling-title scaling-desc">'
        '<title id="scaling-title">Time and memory of verify against width, depth, inputs and '
        f'radius</title><desc id="scaling-desc">{escape(_description(records, cap))}</desc>'
        f"<style>{STYLE}</style>{_key(cap)}{''.join(parts)}</svg>\n"
    )


def _description(records: list[dict[str, Any]], cap: float) -> str:
    """What the plot shows, in words, for readers who do not see it."""
    parts = [
        "Four panels on logarithmic axes; seconds are processor seconds; hollow points "
        f"reached the cap of {cap:g} s."
    ]
    for name, label in PANELS.items():
        for series in ("dense", "convolutional"):
            line = [r for r in records if r["panel"] == name and r["series"] == series]
            if line:
                told = ", ".join(
                    f"{r['value']:g}: {r['verify_s']:.2g} s"
                    + (" (cap)" if r["verdict"] == "unknown" else "")
                    for r in line
                )
                parts.append(f"{label}, {series}: {told}.")
    return " ".join(parts)


def _key(cap: float) -> str:
    entries = "".join(
        f'<g class="{kind}"><circle cx="{LEFT + 8 + 400 * (n % 2)}" cy="{16 + 20 * (n // 2)}" '
        f'r="4"/><text class="key" x="{LEFT + 18 + 400 * (n % 2)}" y="{20 + 20 * (n // 2)}">'
        f"{label}</text></g>"
        for n, (_, _, kind, label) in enumerate(LINES)
    )
    return (
        entries
        + f'<text x="{LEFT}" y="60">processor seconds; hollow: no answer within {cap:g} s</text>'
    )


def _frame(panel: Panel, label: str, values: list[float]) -> str:
    bottom, right = panel.top + PANEL_H, panel.left + PANEL_W
    parts = [f'<rect class="axis" x="{panel.left}" y="{panel.top}" width="{PANEL_W}" '
             f'height="{PANEL_H}"/>',
             f'<text x="{panel.left + PANEL_W / 2}" y="{bottom + 36}" text-anchor="middle">'
             f"{label}</text>"]  # fmt: skip
    for exponent in range(-3, 3):
        y = panel.y(10.0**exponent, SECONDS)
        parts.append(
            f'<line class="grid" x1="{panel.left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{panel.left - 6}" y="{y + 4:.1f}" text-anchor="end">'
            f"{10.0**exponent:g} s</text>"
        )
    for size in (100, 300, 1000, 3000, 10000):
        y = panel.y(size, MEGABYTES)
        parts.append(f'<text x="{right + 6}" y="{y + 4:.1f}">{size:,} MB</text>')
    last = -math.inf
    for value in values:
        x = panel.x(value)
        if x - last < 26:
            continue
        last = x
        parts.append(
            f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{value:g}</text>'
            f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}"/>'
        )
    return "".join(parts)


def _lines(panel: Panel, records: list[dict[str, Any]]) -> list[str]:
    """The lines of one panel with their points."""
    drawn = []
    for series, measured, kind, _ in LINES:
        line = [record for record in records if record["series"] == series]
        if not line:
            continue
        ends = MEGABYTES if measured.endswith("_mb") else SECONDS
        places = [(panel.x(r["value"]), panel.y(r[measured], ends)) for r in line]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        marks = "".join(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"'
            f"{' class=' + chr(34) + 'open' + chr(34) if _is_open(r, measured) else ''}/>"
            for (x, y), r in zip(places, line, strict=True)
        )
        drawn.append(f'<g class="{kind}"><polyline points="{path}"/>{marks}</g>')
    return drawn


def _is_open(record: dict[str, Any], measured: str) -> bool:
    return record["verdict"] == "unknown" and not measured.startswith("bounding")
