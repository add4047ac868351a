"""The page of two runs is self-contained, well formed, accessible, bounded and safe."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from auditor.audit.comparison import Comparison, compare_reports
from auditor.findings import AuditReport, Finding, Location, Severity
from auditor_reports.comparison.page import render_comparison
from auditor_reports.html_environment import DISCLAIMER, MAX_BYTES
from tests.golden.sample_comparison import sample_comparison, sample_successor, with_answer
from tests.golden.sample_report import sample_report
from tests.unit.reports.hostile_report import HOSTILE_TEXTS, poisoned
from tests.unit.reports.html_reader import Element, PageReader

TEMPLATES = Path(__file__).parents[4] / "reports/auditor_reports/templates"


def read(comparison: Comparison) -> PageReader:
    """The elements of its page."""
    return PageReader(render_comparison(comparison))


@pytest.fixture(scope="module")
def page() -> PageReader:
    """The page of the sample comparison."""
    return read(sample_comparison())


def words(element: Element) -> str:
    """All text inside an element, on one line."""
    return " ".join(f"{element.text} {' '.join(map(words, element.children))}".split())


def hostile(text: str) -> Comparison:
    """A comparison in which every text is this one, old and new run unlike."""
    old = poisoned(text)
    results = tuple(
        result.model_copy(update={"version": 9, "answer": result.answer}) for result in old.results
    )
    new = old.model_copy(update={"results": results[:-1], "seed": 9, "complete": False})
    emptied = with_answer(new, new.results[3].code, findings=())
    return compare_reports(old, emptied)


def test_structure_is_sound(page: PageReader) -> None:
    """Balanced, unique ids, links with targets, headings without gaps, tables with heads."""
    assert page.flaws() == []


def test_page_is_self_contained_and_has_no_script(page: PageReader) -> None:
    """The policy admits its one style, and no script whatever."""
    assert page.named("script", "link", "img", "iframe", "form") == []
    assert all(e.attributes["href"].startswith("#") for e in page.named("a", "use"))
    assert page.policy == page.own_style_only
    names = {name for element in page.elements for name in element.attributes}
    assert not {name for name in names if name == "style" or name.startswith("on")}


def test_style_reaches_for_nothing_outside() -> None:
    """The style sheet imports nothing and names no address."""
    style = (TEMPLATES / "comparison.css").read_text("utf-8")
    assert not re.search(r"url\(|@import|@font-face|http", style)


def test_what_makes_the_runs_incomparable_stands_before_every_change(page: PageReader) -> None:
    """It is the first table."""
    first, *rest = page.named("caption")
    assert first.text == "What differs, and what it makes incomparable"
    assert any("findings" in each.text for each in rest)
    without = render_comparison(compare_reports(sample_report(), sample_report())).decode()
    assert (
        "Check versions, seeds, parameters, data, policy and environment are the same." in without
    )


def test_old_and_new_interval_are_drawn_on_one_axis(page: PageReader) -> None:
    """Shares from 0 to 1 on a rail of 164 units that begins at 8."""
    row = next(e for e in page.named("tr") if words(e).startswith("certified share higher"))
    dots = [e for e in page.named("circle") if is_inside(e, row)]
    values = [179 / 200, 183 / 200]
    assert [float(e.attributes["cx"]) for e in dots] == [round(8 + 164 * v, 1) for v in values]
    drawings = [e for e in page.named("svg") if is_inside(e, row)]
    assert all({"title", "desc"} <= {child.name for child in each.children} for each in drawings)


def is_inside(element: Element, outer: Element) -> bool:
    """Whether it lies in the other."""
    here = element.parent
    while here is not None and here is not outer:
        here = here.parent
    return here is outer


def test_a_change_inside_the_intervals_is_told_as_none(page: PageReader) -> None:
    """The certified share rose and its intervals overlap; attack success fell out of its."""
    told = {words(e.children[0]).split(" ")[0]: words(e.children[-1]) for e in page.named("tr")}
    assert told["certified"] == "intervals overlap, not told apart"
    assert told["attack"] == "intervals apart, better"


def test_no_difference_is_called_significant() -> None:
    """Nor an improvement where the intervals do not say so."""
    text = render_comparison(sample_comparison()).decode()
    told = re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)
    assert not re.search(r"(?i)significan|improve|regress", told)


def test_both_digests_of_a_subject_stand_on_the_page() -> None:
    """Old and new, also of the one that did not change."""
    text = render_comparison(sample_comparison()).decode()
    for report in (sample_report(), sample_successor()):
        assert all(subject.digest in text for subject in report.subjects)
    assert DISCLAIMER in text


def test_same_comparison_gives_same_bytes() -> None:
    """Rendering is a pure function of the comparison."""
    assert render_comparison(sample_comparison()) == render_comparison(sample_comparison())


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_hostile_text_changes_no_structure(text: str) -> None:
    """Whatever stands in a run, the page has the elements of a page with plain text."""
    plain = read(hostile("plain" if text else ""))
    shown = read(hostile(text))
    assert shown.unbalanced == []
    assert [e.name for e in shown.elements] == [e.name for e in plain.elements]
    assert [set(e.attributes) for e in shown.elements] == [
        set(e.attributes) for e in plain.elements
    ]


@pytest.mark.parametrize("name", ["escape", "nul", "direction", "hidden", "surrogate"])
def test_acting_characters_never_reach_the_page(name: str) -> None:
    """Control, direction and invisible characters are spelt out."""
    text = render_comparison(hostile(HOSTILE_TEXTS[name])).decode("utf-8")
    acting = re.compile(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\U000e0041]"
    )
    assert acting.findall(text) == []


def with_findings(count: int, text: str) -> AuditReport:
    """The sample report, one result with so many findings that are called so."""
    found = tuple(
        Finding(
            title=text, severity=Severity.HIGH, description="", fingerprint=f"{number:032x}",
            location=Location(layer=text),
        )
        for number in range(count)
    )  # fmt: skip
    return with_answer(sample_report(), "AUD201", findings=found)


@pytest.mark.slow
def test_a_hundred_thousand_findings_fit_and_are_counted() -> None:
    """The page says how many it does not show."""
    comparison = compare_reports(with_findings(50_000, "y"), with_findings(100_000, "x"))
    text = render_comparison(comparison)
    assert len(text) <= MAX_BYTES < 1_500_000
    assert comparison.counts["new"] == 50_000
    assert b"200 of 50,000 shown; the full list is in the JSON lines of auditor diff." in text


def test_long_and_costly_texts_still_fit() -> None:
    """Every shown text is as long as any level admits, and ten times as long once escaped."""
    comparison = compare_reports(with_findings(0, ""), with_findings(400, "\x00'" * 5_000))
    text = render_comparison(comparison)
    assert len(text) <= MAX_BYTES
    assert PageReader(text).unbalanced == []
