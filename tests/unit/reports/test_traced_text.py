"""Traced completions on the page and in the summary: marked, linked both ways, shortened."""

from __future__ import annotations

import re

import pytest

from auditor.findings import (
    AuditReport,
    BlobRef,
    TextPiece,
    TracedSpan,
    TracedTextEvidence,
)
from auditor.redaction import redact
from auditor_reports.audit_json import render_json, run_fingerprint
from auditor_reports.html import render_html
from auditor_reports.markdown import render_markdown
from auditor_reports.registry import WRITERS, Writer, render
from auditor_reports.traced_text import (
    NO_MATCH,
    ORIGIN,
    SHOWN_IN_FULL,
    Part,
    gap,
    lay_out_traced_text,
)
from tests.golden.sample_report import full_traced_text, sample_report
from tests.unit.reports.hostile_report import HOSTILE_TEXTS
from tests.unit.reports.html_reader import Element, PageReader

FULL = full_traced_text()
NONE = "\N{EN DASH}"
SECRET = "by whoever stands nearest"
READABLE = [each for each in WRITERS if each.render_in_full]


def span(**changes: object) -> TracedSpan:
    """A span with one candidate source."""
    fields = {"count": 1, "documents": ("d",), "documents_total": 1, "tokens": 9, "digest": "x"}
    return TracedSpan.model_validate(fields | changes)


def reported(*evidence: TracedTextEvidence) -> AuditReport:
    """The sample report, its last result with this evidence."""
    report = sample_report()
    last = report.results[-1]
    answer = last.answer.model_copy(update={"evidence": evidence})
    changed = last.model_copy(update={"answer": answer})
    return report.model_copy(update={"results": (*report.results[:-1], changed)})


def traced(
    *pieces: tuple[str, int | None], spans: int | list[TracedSpan] = 2, **changes: object
) -> TracedTextEvidence:
    """A traced text of these texts with the numbers of their spans."""
    return TracedTextEvidence.model_validate(
        {
            "title": "t",
            "pieces": [TextPiece(text=text, span=number) for text, number in pieces],
            "spans": [span()] * spans if isinstance(spans, int) else spans,
            "verdict": "flag",
        }
        | changes
    )


def page_of(*evidence: TracedTextEvidence) -> PageReader:
    """The page with this evidence."""
    return PageReader(render_html(reported(*evidence)))


def digest() -> str:
    """The digest of the sample's full record."""
    return next(
        evidence.blob.digest
        for evidence in sample_report().results[-1].answer.evidence
        if isinstance(evidence, TracedTextEvidence) and evidence.blob
    )


def by_id(page: PageReader, name: str) -> Element:
    """The element with this id."""
    (found,) = [element for element in page.elements if element.attributes.get("id") == name]
    return found


def badges(page: PageReader) -> list[Element]:
    """The numbers in front of spans."""
    return [e for e in page.elements if e.attributes.get("class", "").startswith("badge")]


def words(element: Element) -> str:
    """All text inside an element, its parts in the order of the reader."""
    return element.text + "".join(words(child) for child in element.children)


def test_pieces_of_one_span_are_one_run() -> None:
    """Also when something was left out between them; a later one is not the first."""
    evidence = traced(("a", None), ("b", 1), ("c", 1), ("d", 2), ("e", 1))
    runs = lay_out_traced_text(evidence, 100, 100, 100).runs
    assert [(run.span, run.first, len(run.parts)) for run in runs] == [
        (None, False, 1), (1, True, 2), (2, True, 1), (1, False, 1),
    ]  # fmt: skip


def test_characters_shown_are_counted_exactly() -> None:
    """What is cut, what is spelt out at length and what was hidden before."""
    evidence = traced(
        spans=0, pieces=(TextPiece(text="x" * 30), TextPiece(text="\x00" * 9, hidden=5))
    )
    text = lay_out_traced_text(evidence, 20, 100, 100)
    (run,) = text.runs
    assert run.parts == (Part("x" * 19 + "…", 0), Part("⟨U+0000⟩" * 2 + "…", 5))
    assert (text.shown, text.total) == (19 + 2, 30 + 9 + 5)


def test_a_text_that_just_fits_is_not_cut() -> None:
    """The ellipsis stands for at least one character."""
    for text in ("x" * 20, "x" * 12 + "\x00"):
        laid = lay_out_traced_text(traced((text, None)), 20, 100, 100)
        assert laid.shown == len(text)
        assert "…" not in laid.runs[0].parts[0].text


def test_scores_stand_in_columns_whatever_a_span_has() -> None:
    """One without a score has a dash there."""
    evidence = traced(
        spans=[span(scores={"a": 1.0}), span(scores={"b": 2.5, "a": 3.0}), span()], pieces=()
    )
    text = lay_out_traced_text(evidence, 100, 100, 100)
    assert text.score_names == ("a", "b")
    assert [row.scores for row in text.rows] == [("1", NONE), ("3", "2.5"), (NONE, NONE)]


def test_the_gap_has_its_number_and_its_noun() -> None:
    """One character is not "1 characters"."""
    assert gap(1) == "[1 character not shown]"
    assert gap(1234) == "[1,234 characters not shown]"


def test_every_span_leads_to_its_row_and_every_row_back() -> None:
    """By links, which the keyboard reaches, and which need no script."""
    page = PageReader(render_html(sample_report()))
    found = badges(page)
    assert len(found) == len(FULL.spans)
    for number, badge in enumerate(found, start=1):
        row = by_id(page, badge.attributes["href"][1:])
        assert (badge.name, row.name) == ("a", "a")
        assert row.inside("table")
        assert words(row) == f"Span {number} in the text"
        assert by_id(page, row.attributes["href"][1:]) is badge


def test_the_same_text_twice_has_links_of_its_own() -> None:
    """Ids stay unique, and each number leads to the table of its own text."""
    page = page_of(FULL, FULL)
    ids = [e.attributes["id"] for e in page.elements if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    links = [badge.attributes["href"] for badge in badges(page)]
    assert len(set(links)) == 2 * len(FULL.spans)
    assert {link[1:] for link in links} <= set(ids)


def test_begin_and_end_of_a_span_are_said_in_words() -> None:
    """A screen reader hears them, and whether the span is flagged."""
    text = re.sub("<[^>]*>", "", render_html(sample_report()).decode())
    assert "Span 1, flagged, begins: the Verdel valve" in text
    assert "Span 2 begins: as the harbour rules of Orrin Quay have it Span 2 ends. ." in text


def test_nothing_is_said_by_a_title_only() -> None:
    """Tooltips reach neither the keyboard nor a finger."""
    assert not [e for e in PageReader(render_html(sample_report())).elements
                if "title" in e.attributes]  # fmt: skip


@pytest.mark.parametrize("each", READABLE, ids=lambda each: each.name)
def test_the_fixed_sentence_stands_under_each(each: Writer) -> None:
    """Whether there is a match or not, and for each text once."""
    content = render(each.name, sample_report()).decode()
    assert content.count(ORIGIN) == 2


@pytest.mark.parametrize("each", READABLE, ids=lambda each: each.name)
def test_no_match_is_not_safety(each: Writer) -> None:
    """It is said once: of two texts one has no match."""
    content = render(each.name, sample_report()).decode()
    assert content.count(NO_MATCH) == 1
    assert "no_evidence" not in content


def test_scores_clause_and_sources_stand_in_the_row() -> None:
    """And how many of the candidate sources are named."""
    page = PageReader(render_html(sample_report()))
    (table,) = [e for e in page.named("table") if e.attributes["class"] == "spans stack"]
    text = re.sub(r"\s+", " ", words(table))
    for part in ("213.4", "-83.6", "0.91", "valve-before-bell", "harbour/letters-04.txt",
                 "3 of 16 documents named", FULL.spans[0].digest):  # fmt: skip
        assert part in text


def test_a_number_without_a_row_is_no_link() -> None:
    """More spans than rows: no link leads nowhere, and the table says what it lacks."""
    many = traced(*((f"word {number} ", number) for number in range(1, 301)), spans=300)
    page = page_of(many)
    assert [badge.name for badge in badges(page)] == ["a"] * 200 + ["span"] * 100
    ids = {element.attributes.get("id") for element in page.elements}
    assert {e.attributes["href"][1:] for e in page.named("a")} <= ids
    assert b"200 of 300 shown; the full list is in audit.json." in render_html(reported(many))


def test_a_span_outside_of_the_text_has_a_row_without_a_link() -> None:
    """Its text was not recorded; its scores were."""
    page = page_of(traced(("a", 1), spans=2))
    rows = [words(head) for head in page.named("th") if words(head).startswith("Span ")]
    assert rows[-2:] == ["Span 1 in the text", "Span 2"]


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_a_hostile_verdict_stays_a_word(text: str) -> None:
    """The page and the summary have the shape they have with any other word."""
    plain = page_of(FULL.model_copy(update={"verdict": "word"}))
    page = page_of(FULL.model_copy(update={"verdict": text}))
    assert [element.name for element in page.elements] == [e.name for e in plain.elements]
    summary = render_markdown(reported(FULL.model_copy(update={"verdict": text}))).decode()
    assert "<img" not in summary
    assert "\n::" not in summary


def test_direction_marks_inside_of_a_match_are_spelt_out() -> None:
    """The order of what is read is the order of what was said."""
    evidence = traced(("a\u202eb", 1), ("c\u2066d", None))
    for content in (render_html(reported(evidence)), render_markdown(reported(evidence))):
        assert "a⟨U+202E⟩b" in content.decode()
        assert "c⟨U+2066⟩d" in content.decode()


def test_no_format_holds_more_than_the_record() -> None:
    """What was left out of the record is in none of them."""
    for each in WRITERS:
        assert SECRET not in each.render(sample_report()).decode()
    assert SECRET in FULL.pieces[1].text


@pytest.mark.parametrize("each", READABLE, ids=lambda each: each.name)
def test_samples_are_shown_in_full_and_said_to_be(each: Writer) -> None:
    """Only with them, and the page says that it is another than usual."""
    name = each.name
    shown = render(name, sample_report(), {digest(): FULL}).decode()
    assert FULL.pieces[1].text in shown
    assert SHOWN_IN_FULL in shown
    assert SHOWN_IN_FULL not in render(name, sample_report()).decode()


@pytest.mark.parametrize("each", READABLE, ids=lambda each: each.name)
def test_a_sample_that_cannot_be_shown_says_why(each: Writer) -> None:
    """The shortened text stays, and nothing claims that it is in full."""
    name = each.name
    shown = render(name, sample_report(), {digest(): "evidence/ab: the file is missing"}).decode()
    assert "The full text cannot be shown: evidence/ab: the file is missing." in shown
    assert SHOWN_IN_FULL not in shown
    assert "[82 characters not shown]" in shown


def test_formats_for_machines_stay_as_they_are() -> None:
    """`audit.json` is the single source, with samples or without."""
    for each in WRITERS:
        if each not in READABLE:
            same = render(each.name, sample_report(), {digest(): FULL})
            assert same == each.render(sample_report())


def test_the_page_with_samples_names_the_same_run() -> None:
    """Its fingerprint is that of `audit.json`, which is shortened."""
    shown = render_html(sample_report(), {digest(): FULL}).decode()
    assert run_fingerprint(sample_report()) in shown


def test_the_place_of_the_full_text_is_named_where_there_is_one() -> None:
    """With the command that shows it; a text without a file promises nothing."""
    blob = BlobRef(digest="sha256:0", media_type="application/json", size=1, name="full.json")
    kept = redact(FULL).model_copy(update={"blob": blob})
    assert b"auditor report RUN --show-samples" in render_html(reported(kept))
    assert b"full.json" in render_html(reported(kept))
    assert b"--show-samples" not in render_html(reported(redact(FULL)))


def test_the_sample_report_is_shortened_as_the_runner_would() -> None:
    """The golden files show what a run writes."""
    kept = sample_report().results[-1].answer.evidence
    assert all(isinstance(e, TracedTextEvidence) and redact(e) == e for e in kept)
    assert SECRET not in render_json(sample_report()).decode()
