"""The page is self-contained, well formed, accessible, bounded and safe with any text."""

from __future__ import annotations

import base64
import hashlib
import re
from itertools import pairwise
from pathlib import Path

import pytest
from markupsafe import escape

from auditor.findings import AuditReport, Severity, TableEvidence, TextEvidence, Verdict
from auditor_reports.html import render_html
from auditor_reports.html_environment import DISCLAIMER, LEVELS, MAX_BYTES
from tests.golden.sample_report import sample_report
from tests.unit.reports.hostile_report import HOSTILE_TEXTS, enlarged, poisoned
from tests.unit.reports.html_reader import PageReader

TEMPLATES = Path(__file__).parents[3] / "reports/auditor_reports/templates"


@pytest.fixture(scope="module")
def page() -> PageReader:
    """The rendered sample report."""
    return PageReader(render_html(sample_report()))


def test_same_report_gives_same_bytes() -> None:
    """Rendering is a pure function of the report."""
    assert render_html(sample_report()) == render_html(sample_report())


def test_tags_are_balanced(page: PageReader) -> None:
    """Every element that opens is closed, in order."""
    assert page.unbalanced == []


def test_headings_start_at_one_and_skip_no_level(page: PageReader) -> None:
    """A reader who jumps between headings meets no gap."""
    levels = [int(heading.name[1]) for heading in page.named("h1", "h2", "h3", "h4", "h5", "h6")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_ids_are_unique(page: PageReader) -> None:
    """No two elements share an id."""
    ids = [element.attributes["id"] for element in page.elements if "id" in element.attributes]
    assert len(ids) == len(set(ids))


def test_links_inside_the_page_have_targets(page: PageReader) -> None:
    """No link leads nowhere."""
    ids = {element.attributes.get("id") for element in page.elements}
    links = [element.attributes["href"] for element in page.named("a", "use")]
    assert {link[1:] for link in links if link.startswith("#")} <= ids


def test_every_address_stays_inside_the_file(page: PageReader) -> None:
    """There is no reference to a network or another file."""
    addresses = [
        value
        for element in page.elements
        for name, value in element.attributes.items()
        if name in ("src", "href", "srcset", "poster", "data", "action", "xlink:href")
    ]
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in addresses)


def test_style_reaches_for_nothing_outside() -> None:
    """The style sheet imports nothing and names no address."""
    style = (TEMPLATES / "style.css").read_text("utf-8")
    assert not re.search(r"url\(|@import|@font-face|http", style)


def test_every_picture_has_an_alternative_text(page: PageReader) -> None:
    """Pictures are described in words."""
    pictures = page.named("img")
    assert pictures
    assert all(picture.attributes.get("alt", "").strip() for picture in pictures)


def test_every_drawing_has_title_and_description(page: PageReader) -> None:
    """A drawing that carries meaning says it in words; marks beside their word are hidden."""
    drawings = [svg for svg in page.named("svg") if svg.attributes.get("aria-hidden") != "true"]
    assert drawings
    for drawing in drawings:
        texts = {child.name: child.text.strip() for child in drawing.children}
        assert texts.get("title")
        assert texts.get("desc")
        assert drawing.attributes["role"] == "img"


def test_every_head_cell_has_a_scope(page: PageReader) -> None:
    """Table heads say what they head."""
    assert all(head.attributes.get("scope") in ("row", "col") for head in page.named("th"))


def test_every_table_has_a_caption_and_a_head(page: PageReader) -> None:
    """Tables name themselves, and their heads repeat in print."""
    for table in page.named("table"):
        assert [child.name for child in table.children][:2] == ["caption", "thead"]


def test_no_inline_style_or_handler(page: PageReader) -> None:
    """Nothing needs a looser content policy."""
    names = {name for element in page.elements for name in element.attributes}
    assert not {name for name in names if name == "style" or name.startswith("on")}


def test_content_policy_admits_exactly_our_style_and_script(page: PageReader) -> None:
    """The policy's hashes are those of the one style and the one script in the page."""
    policies = [m.attributes["content"] for m in page.named("meta") if "http-equiv" in m.attributes]
    (style,), (script,) = page.named("style"), page.named("script")
    for text in (style.text, script.text):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policies[0]
    assert policies[0].startswith("default-src 'none';")
    assert "unsafe" not in policies[0]


def test_first_part_names_verdict_gaps_and_digests() -> None:
    """What a reader must not miss stands before the first table."""
    report = sample_report()
    start = render_html(report).decode().split("<table")[0]
    assert "Gate failed" in start
    assert all(subject.digest in start for subject in report.subjects)
    assert all(text in start for text in report.not_assessed)
    open_results = [result for result in report.results if result.verdict.is_open]
    assert all(result.answer.reason in start for result in open_results)
    counts = dict(report.by_verdict())
    shown = re.findall(r'<div class="v-(\w+)(?: zero)?"><dt>.*?</dt><dd>(\d+)</dd>', start)
    assert {Verdict(name): int(count) for name, count in shown} == counts


def test_every_result_and_finding_is_on_the_page() -> None:
    """Passed checks are shown too, and findings with their remedy and fingerprint."""
    report = sample_report()
    text = render_html(report).decode()
    for result in report.results:
        assert result.id in text
        assert all(escape(f.remedy) in text for f in result.answer.findings)
        assert all(f.fingerprint in text for f in result.answer.findings)


def test_footer_has_the_fixed_sentence_and_an_empty_signature(page: PageReader) -> None:
    """Nothing is signed on a person's behalf."""
    (signature,) = [e for e in page.elements if e.attributes.get("class") == "signature"]
    assert [child.text for child in signature.children] == ["Dated and signed by:", ""]
    assert DISCLAIMER in [element.text for element in page.named("p")]


def test_incomplete_run_says_so() -> None:
    """A report of a run that was interrupted cannot be taken for a whole one."""
    report = sample_report().model_copy(update={"complete": False})
    assert b"This run is not complete." in render_html(report)
    assert b"This run is not complete." not in render_html(sample_report())


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_hostile_text_changes_no_structure(text: str) -> None:
    """Whatever stands in a report, the page has the elements of a page with plain text."""
    plain = PageReader(render_html(poisoned("plain" if text else "")))
    page = PageReader(render_html(poisoned(text)))
    assert page.unbalanced == []
    assert [element.name for element in page.elements] == [e.name for e in plain.elements]
    assert [set(e.attributes) for e in page.elements] == [set(e.attributes) for e in plain.elements]


@pytest.mark.parametrize("name", ["escape", "nul", "direction", "hidden", "surrogate"])
def test_acting_characters_never_reach_the_page(name: str) -> None:
    """Control, direction and invisible characters are spelt out."""
    text = render_html(poisoned(HOSTILE_TEXTS[name])).decode("utf-8")
    acting = re.compile(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\U000e0041]"
    )
    assert acting.findall(text) == []


@pytest.mark.slow
def test_a_hundred_thousand_findings_fit_and_are_counted() -> None:
    """10,000 results with their findings give a small file that says what it leaves out."""
    report = enlarged(10_000, 25)
    findings = sum(len(result.answer.findings) for result in report.results)
    failing = sum(row.status == "fail" for row in report.gate.rows)
    text = render_html(report)
    assert findings >= 100_000
    assert len(text) < 1_500_000
    for counted in (
        "200 of 10,000 shown, worst first; the full list is in audit.json.",
        f"200 of {len(report.gate.rows):,} shown, worst first; the full list is in audit.json.",
        f"8 of {failing:,} shown, worst first",
        "of 10,000 results are shown in detail below, worst first, to keep this file small; "
        "audit.json has all of them.",
        "further results of this check are in audit.json.",
    ):
        assert counted in text.decode()
    assert PageReader(text).unbalanced == []


def test_many_findings_of_one_result_are_cut_and_counted() -> None:
    """A check that finds thousands shows the worst, and how many there are."""
    report = enlarged(12, 1_000)
    text = render_html(report).decode()
    assert "40 of 1,000 shown, worst first; the full list is in audit.json." in text
    assert len(text.encode()) < 1_500_000


def test_long_tables_are_folded_and_whole() -> None:
    """A table that would push the rest away opens on demand; a short one stands open."""
    report = sample_report()
    first, *rest = report.results
    tables = tuple(
        TableEvidence(title=f"{count} rows", columns=("a",), rows=tuple((n,) for n in range(count)))
        for count in (15, 16)
    )
    answer = first.answer.model_copy(update={"evidence": tables})
    results = (first.model_copy(update={"answer": answer}), *rest)
    page = PageReader(render_html(report.model_copy(update={"results": results})))
    found = {c.text: c for c in page.named("caption") if c.text in ("15 rows", "16 rows")}
    assert {text: caption.inside("details") for text, caption in found.items()} == {
        "15 rows": False,
        "16 rows": True,
    }


def test_thousands_of_results_fit_and_are_counted() -> None:
    """5,000 results give a small file that says how much it does not show."""
    report = enlarged(5_000)
    text = render_html(report)
    assert len(text) < 1_500_000
    assert b"200 of 5,000 shown, worst first; the full list is in audit.json." in text
    page = PageReader(text)
    assert page.unbalanced == []
    ids = {element.attributes.get("id") for element in page.elements}
    links = [element.attributes["href"] for element in page.named("a")]
    assert {link[1:] for link in links} <= ids


def test_a_table_without_rows_is_shown_as_such() -> None:
    """A check may have looked for rows and found none."""
    report = poisoned("plain")
    table = TableEvidence(title="Looked for", columns=("document", "matches"), rows=())
    answer = report.results[0].answer.model_copy(update={"evidence": (table,)})
    result = report.results[0].model_copy(update={"answer": answer})
    text = render_html(report.model_copy(update={"results": (result,)})).decode()
    assert "No rows." in text[text.index("<caption>Looked for</caption>") :]


def _monster() -> AuditReport:
    """A report in which every part is as long and as costly to escape as any level shows."""
    table = TableEvidence(
        title="'" * 9_000,
        columns=("'" * 500,) * 40,
        rows=(("'" * 500,) * 40,) * 210,
    )
    text = TextEvidence(title="'" * 9_000, text="\x00" * 100_000)
    report = poisoned("\x00" * 9_000)
    results = []
    for number, result in enumerate(report.results):
        answer = result.answer.model_copy(update={"evidence": (table, text)})
        results.append(result.model_copy(update={"id": str(number), "answer": answer}))
    return report.model_copy(
        update={
            "results": tuple(results),
            "not_assessed": ("'" * 9_000,) * 400,
            "subjects": report.subjects * 100,
            "checks": tuple(
                card.model_copy(update={"code": f"{number}{'&' * 900}"})
                for number, card in enumerate(report.checks * 25)
            ),
        }
    )


@pytest.mark.slow
def test_even_a_monstrous_report_fits() -> None:
    """The shortest level of detail fits whatever the texts are."""
    assert len(render_html(_monster())) <= MAX_BYTES


def test_levels_of_detail_only_ever_shrink() -> None:
    """Each level shows no more than the one before."""
    for wider, narrower in pairwise(LEVELS):
        assert narrower.rows < wider.rows
        assert narrower.columns <= wider.columns
        assert narrower.parts < wider.parts
        assert narrower.text < wider.text
        assert narrower.cell < wider.cell
        assert narrower.detail_bytes < wider.detail_bytes


@pytest.mark.parametrize("severity", Severity)
def test_severity_is_said_in_words(severity: Severity) -> None:
    """Colour never stands alone for a severity."""
    report = sample_report()
    assert f">{severity}</span>" in render_html(report).decode()


def test_a_table_without_rows_is_a_table() -> None:
    """Nothing was found, and the report is written all the same."""
    report = sample_report()
    first, *rest = report.results
    table = TableEvidence(title="Nothing was found", columns=("document", "count"), rows=())
    answer = first.answer.model_copy(update={"evidence": (table,)})
    results = (first.model_copy(update={"answer": answer}), *rest)
    text = render_html(report.model_copy(update={"results": results}))
    assert b"Nothing was found" in text
    assert PageReader(text).unbalanced == []
