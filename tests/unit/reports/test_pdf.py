"""The PDF is tagged, says what the page says, holds no action, and is the same twice."""

from __future__ import annotations

import io
import logging
import re
import sys
from pathlib import Path
from typing import Any

import pypdf
import pytest
from PIL import ImageFile

from auditor.errors import AuditorError, ConfigurationError, MissingExtra, OperationFailed
from auditor.findings import AuditReport
from auditor_reports import pdf
from auditor_reports.html import render_html
from auditor_reports.registry import WRITERS, writer
from tests.golden.sample_report import sample_report
from tests.unit.reports.hostile_report import HOSTILE_TEXTS, poisoned

try:
    pdf.load_weasyprint()
except AuditorError as missing:
    pytest.skip(str(missing), allow_module_level=True)
ACTIONS = {"/JS", "/JavaScript", "/Launch", "/URI", "/SubmitForm", "/GoToR", "/EmbeddedFile", "/AA"}
TEXTS = ("script", "attribute", "end of style", "markdown", "direction")


def shortened(report: AuditReport) -> AuditReport:
    """Its first and fifth result only: laying out pages takes long."""
    return report.model_copy(update={"results": (report.results[0], report.results[4])})


def read(content: bytes) -> Any:
    """The document."""
    return pypdf.PdfReader(io.BytesIO(content))


def words(document: Any) -> str:
    """All text in it, on one line."""
    return " ".join(" ".join(page.extract_text() for page in document.pages).split())


def names(document: Any) -> set[str]:
    """Every name that any of its objects uses as a key or value."""
    objects = (document.get_object(number) for number in range(1, document.trailer["/Size"]))
    return {name for each in objects for name in re.findall(r"/\w+", repr(each))}


@pytest.fixture(scope="module")
def content() -> bytes:
    """The PDF of the shortened sample report."""
    return pdf.render_pdf(shortened(sample_report()))


def test_it_is_tagged_and_names_its_language_and_title(content: bytes) -> None:
    """A screen reader gets the structure, and says the title in the right language."""
    document = read(content)
    root = document.root_object
    assert root["/MarkInfo"]["/Marked"].value is True
    assert root["/Lang"] == "en-GB"
    assert root["/ViewerPreferences"]["/DisplayDocTitle"].value is True
    assert document.metadata.title == f"Gate failed: {sample_report().plan_title}"
    assert "pdfuaid:part" in root["/Metadata"].get_data().decode()
    kinds = {"/H1", "/H2", "/Table", "/TH", "/Figure"}
    assert kinds <= names(document)


def test_every_figure_has_a_name(content: bytes) -> None:
    """PDF/UA-1, 7.3: a reader who does not see it is told what it is."""
    document = read(content)
    objects = (document.get_object(number) for number in range(1, document.trailer["/Size"]))
    figures = [o for o in objects if isinstance(o, dict) and o.get("/S") == "/Figure"]
    assert figures
    assert all(figure.get("/Alt") for figure in figures)


def test_verdict_gaps_and_results_are_text(content: bytes) -> None:
    """What the page says first can be searched for, and passed checks are there too."""
    report, text = shortened(sample_report()), words(read(content))
    assert "Gate failed" in text
    assert "What a pass does not mean" in text
    assert all(gap.split(":")[0] in text for gap in report.not_assessed)
    assert all(result.code in text for result in report.results)


def test_other_readers_of_pictures_stay_as_strict(content: bytes) -> None:
    """The library loosens them for the whole process when it is imported."""
    assert content
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_same_report_gives_same_bytes(content: bytes) -> None:
    """Neither the clock nor chance is in it."""
    assert pdf.render_pdf(shortened(sample_report())) == content
    assert "/CreationDate" not in read(content).metadata


@pytest.mark.parametrize("name", TEXTS)
def test_hostile_text_stays_text(name: str) -> None:
    """Whatever stands in a report, the document does nothing and shows it as it is."""
    report = poisoned(HOSTILE_TEXTS[name])
    document = read(pdf.render_pdf(report.model_copy(update={"results": report.results[:1]})))
    assert not names(document) & ACTIONS
    assert document.root_object.get("/OpenAction") is None
    start = HOSTILE_TEXTS[name].split("\u202c")[0].replace("\u202e", "⟨U+202E⟩")
    squeezed = re.sub(r"\s", "", words(document))
    assert re.sub(r"\s", "", start)[:20] in squeezed


def test_a_page_that_asks_for_an_address_is_refused() -> None:
    """Nothing is fetched, neither from the network nor from the disk."""
    for address in ("http://a.example/b.png", "file:///etc/hostname", "data:text/css,a"):
        with pytest.raises(OperationFailed, match=r"asks for '(http|file|data)"):
            pdf.write_document(f"<html><body><img src='{address}' alt='x'></body></html>")


def test_every_drawing_has_its_rules_and_no_reference() -> None:
    """A drawing that stands alone shows the colours and shapes it has in a browser."""
    page = pdf.lay_out_for_paper(render_html(sample_report()).decode())
    drawings = re.findall(r'<svg class="(?:mark|curve|interval|swatch)".*?</svg>', page, re.DOTALL)
    assert len(drawings) > 20
    for drawing in drawings:
        assert "<style>" in drawing
        assert "<use" not in drawing
        assert "var(" not in drawing


def test_without_the_library_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    with pytest.raises(MissingExtra, match=r"WeasyPrint.*install auditor\[pdf\]"):
        pdf.render_pdf(sample_report())


def test_an_old_pango_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says which system library to install, and what else to do."""
    monkeypatch.setattr(pdf, "OLDEST_PANGO", (99, 0, 0))
    with pytest.raises(ConfigurationError, match=r"needs Pango 99\.0 or newer.*or print the HTML"):
        pdf.load_weasyprint()


def test_a_missing_pango_is_one_line_and_nothing_is_printed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The library tells its own story on standard output, where reports are data."""
    (tmp_path / "weasyprint.py").write_text("print('story')\nraise OSError('no libpango\\nmore')\n")
    monkeypatch.delitem(sys.modules, "weasyprint", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigurationError, match="a system library: no libpango; install it"):
        pdf.load_weasyprint()
    assert capsys.readouterr().out == ""


def test_it_is_written_only_where_it_is_asked_for() -> None:
    """It takes long, and its library is optional."""
    assert writer("pdf").filename == "report.pdf"
    assert "pdf" not in {each.name for each in WRITERS}


def test_the_library_may_log_again_afterwards(content: bytes) -> None:
    """Silence ends with the page."""
    assert content
    assert not logging.getLogger("weasyprint").disabled
