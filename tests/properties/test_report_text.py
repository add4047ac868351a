"""Laws of the report texts, for any text and any number."""

from __future__ import annotations

import json
import math
import re
from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from auditor.findings import CurveEvidence, CurvePoint, CurveSeries, GrayImage
from auditor_reports.charts.axis import fit_axis
from auditor_reports.charts.curve_chart import HEIGHT, WIDTH, lay_out_curve
from auditor_reports.charts.png import encode_png
from auditor_reports.github import escape_data, escape_property
from auditor_reports.markdown import cut_on_line_end
from auditor_reports.number_text import number
from auditor_reports.sanitise import block, inert_line, one_line, visible
from auditor_reports.sarif.log import relative_uri

TEXTS = st.text(st.characters(), max_size=200)
NUMBERS = st.floats()


@given(TEXTS)
def test_visible_text_stays_visible(text: str) -> None:
    """Making a text visible twice is making it visible once."""
    assert visible(visible(text)) == visible(text)


@given(TEXTS)
def test_visible_text_encodes_and_is_valid_xml(text: str) -> None:
    """No character is left that UTF-8 or XML 1.0 refuses."""
    element = ET.Element("a")
    element.text = visible(text)
    ET.fromstring(ET.tostring(element, encoding="utf-8"))


@given(TEXTS, st.integers(1, 50))
def test_lines_and_blocks_keep_their_limits(text: str, limit: int) -> None:
    """A limit holds after every replacement."""
    assert len(one_line(text, limit)) <= limit
    assert len(block(text, limit)) <= limit
    assert len(one_line(text, limit).splitlines()) <= 1


@given(TEXTS)
def test_inert_line_is_one_line_and_no_command(text: str) -> None:
    """Not even after the build's own trimming."""
    line = inert_line(text)
    assert "\n" not in line
    assert "\r" not in line
    assert not line.strip().startswith("::")
    assert "##[" not in line


@given(TEXTS)
def test_workflow_escapes_can_be_undone(text: str) -> None:
    """Nothing is lost, and no separator is left in a property."""
    escaped = escape_property(text)
    assert not set(escaped) & set("\r\n:,")
    undone = escaped
    for code, character in (("%2C", ","), ("%3A", ":"), ("%0A", "\n"), ("%0D", "\r"), ("%25", "%")):
        undone = undone.replace(code, character)
    assert undone == text
    assert not set(escape_data(text)) & set("\r\n")


@given(TEXTS)
def test_addresses_are_relative_and_plain(path: str) -> None:
    """No scheme, no root, no blank, no way out of the folder."""
    uri = relative_uri(path)
    assert re.fullmatch(r"[A-Za-z0-9_.~%/-]+", uri)
    assert not uri.startswith("/")
    assert ".." not in uri.split("/")


@given(NUMBERS)
def test_number_text_is_close_and_honest(value: float) -> None:
    """The text is within a thousandth of the value, and an integer only for an integer."""
    text = number(value).replace(",", "")
    if math.isfinite(value):
        assert math.isclose(float(text), value, rel_tol=1e-3, abs_tol=0)
        assert float(text).is_integer() == value.is_integer()


@given(st.lists(NUMBERS, max_size=20))
def test_axis_places_every_finite_value_inside(values: list[float]) -> None:
    """Whatever the values, the axis is finite and every place is on it."""
    axis = fit_axis(values, 10, 90)
    assert math.isfinite(axis.lower)
    assert math.isfinite(axis.upper)
    assert axis.lower < axis.upper
    assert all(10 <= axis.at(value) <= 90 for value in values if math.isfinite(value))
    assert len(axis.ticks()) <= 12


@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), max_size=30))
def test_curve_stays_inside_its_frame(points: list[tuple[float, float, float]]) -> None:
    """No point, band or tick is drawn outside, and no coordinate is missing."""
    series = CurveSeries(
        name="a",
        points=tuple(CurvePoint(x=x, y=y, lower=low, upper=y) for x, y, low in points),
    )
    chart = lay_out_curve(CurveEvidence(title="t", x_label="x", y_label="y", series=(series,)))
    (line,) = chart.lines
    for path in (line.path, line.band):
        assert "nan" not in path
        assert "inf" not in path
        for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path):
            assert 0 <= float(x) <= WIDTH
            assert 0 <= float(y) <= HEIGHT


@given(st.integers(1, 70), st.integers(1, 70), NUMBERS)
def test_any_picture_encodes(width: int, height: int, value: float) -> None:
    """No size and no value breaks the encoder."""
    pixels = (value,) * (width * height)
    image = GrayImage(caption="", width=width, height=height, pixels=pixels)
    assert encode_png(image).endswith(b"IEND\xaeB`\x82")


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30)))
def test_cut_summary_keeps_whole_lines(lines: list[str]) -> None:
    """A cut text is a beginning of the text, ended at a line, and within the limit."""
    text = "".join(f"{line}\n" for line in lines)
    content = cut_on_line_end(text, 200)
    assert len(content) <= 200
    kept = content.decode().split("\nCut here")[0] if len(text.encode()) > 200 else text
    assert text.startswith(kept)
    assert kept == "" or kept.endswith("\n")


@given(TEXTS)
def test_visible_text_survives_json(text: str) -> None:
    """JSON gives back what it was given."""
    assert json.loads(json.dumps(visible(text))) == visible(text)
