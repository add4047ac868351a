"""Colours of the style sheet keep the contrast of WCAG 2.2 AA in both themes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from auditor_reports.charts.heat_map import SHADES

STYLE = (Path(__file__).parents[3] / "reports/auditor_reports/templates/style.css").read_text()
SURFACES = ("canvas", "paper", "sunken")
VERDICTS = ("holds", "violated", "unknown", "skipped", "error")
LINES = tuple(f"line-{number}" for number in range(6))


def palette(block: str) -> dict[str, str]:
    """The colour variables declared in a block."""
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))


def themes() -> dict[str, dict[str, str]]:
    """Light and dark colours, as the style sheet declares them."""
    light, dark = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    return {"light": palette(light), "dark": palette(dark)}


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2, section "relative luminance"."""
    channels = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    """Contrast ratio of two colours, 1 to 21."""
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


TEXT_PAIRS = [
    *((text, surface) for text in ("ink", "muted", "link") for surface in SURFACES),
    *((verdict, surface) for verdict in VERDICTS for surface in SURFACES),
    *((verdict, f"{verdict}-tint") for verdict in VERDICTS),
    *(("ink", f"{verdict}-tint") for verdict in VERDICTS),
    *(("ink", f"heat-{shade}") for shade in range(1, SHADES)),
    ("paper", "violated"),  # the tag of a critical finding, the number of a flagged span
    ("paper", "ink"),  # a pressed button
]
SHAPE_PAIRS = [
    ("edge", "paper"),
    ("link", "heat-2"),  # the line under a span
    ("violated", "violated-tint"),  # and under a flagged one
    *((line, "paper") for line in LINES),
]


def test_contrast_of_black_on_white_is_21() -> None:
    """The formula is the standard's: its two fixed points."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#777777") == 1


def test_both_themes_declare_the_same_colours() -> None:
    """No colour of the light theme shines through in the dark one."""
    assert themes()["light"].keys() == themes()["dark"].keys()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("front", "back"), TEXT_PAIRS)
def test_text_has_contrast(theme: str, front: str, back: str) -> None:
    """Text reaches 4.5 to 1."""
    colours = themes()[theme]
    assert contrast(colours[front], colours[back]) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("front", "back"), SHAPE_PAIRS)
def test_shapes_have_contrast(theme: str, front: str, back: str) -> None:
    """Lines, marks and borders that carry meaning reach 3 to 1."""
    colours = themes()[theme]
    assert contrast(colours[front], colours[back]) >= 3


def test_rules_use_variables_only() -> None:
    """Outside the palettes and the page margin of print, no colour is written out."""
    body = STYLE[STYLE.index("*, *::before") :]
    written = re.findall(r"#[0-9a-fA-F]{3,8}\b", body)
    assert written == ["#555"]


def test_every_variable_in_use_is_declared() -> None:
    """A misspelt variable would silently lose its colour."""
    assert set(re.findall(r"var\(--([\w-]+)\)", STYLE)) <= themes()["light"].keys()
