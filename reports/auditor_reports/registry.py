"""The writers: every file format a report can be rendered to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from auditor.errors import UnknownName
from auditor.findings import AuditReport
from auditor_reports.audit_json import render_json
from auditor_reports.cyclonedx.document import render_cyclonedx
from auditor_reports.html import render_html
from auditor_reports.in_toto import render_in_toto
from auditor_reports.junit import render_junit
from auditor_reports.markdown import render_markdown
from auditor_reports.model_card.card import render_model_card
from auditor_reports.oscal.document import render_oscal
from auditor_reports.pdf import render_pdf
from auditor_reports.sarif.log import render_sarif
from auditor_reports.traced_text import Samples


@dataclass(frozen=True)
class Writer:
    """One file format.

    Attributes:
        name: What the user asks for, for example `html`.
        filename: Name of the file in a run directory.
        media_type: Its media type.
        render: Pure function of the report: same report, same bytes.
        render_in_full: The same with the full texts of traced completions; None where the
            format never holds them.
    """

    name: str
    filename: str
    media_type: str
    render: Callable[[AuditReport], bytes]
    render_in_full: Callable[[AuditReport, Samples], bytes] | None = None


WRITERS: tuple[Writer, ...] = (
    Writer("cyclonedx", "audit.cdx.json", "application/vnd.cyclonedx+json", render_cyclonedx),
    Writer("html", "report.html", "text/html", render_html, render_html),
    Writer("intoto", "test-result.intoto.json", "application/vnd.in-toto+json", render_in_toto),
    Writer("json", "audit.json", "application/json", render_json),
    Writer("junit", "junit.xml", "application/xml", render_junit),
    Writer("markdown", "summary.md", "text/markdown", render_markdown, render_markdown),
    Writer("modelcard", "model-card.md", "text/markdown", render_model_card),
    Writer("oscal", "oscal-assessment-results.json", "application/json", render_oscal),
    Writer("sarif", "audit.sarif", "application/sarif+json", render_sarif),
)

# Written where they are asked for by name only: they take long, or need an extra.
ON_REQUEST: tuple[Writer, ...] = (
    Writer("pdf", "report.pdf", "application/pdf", render_pdf, render_pdf),
)
EVERY_WRITER = (*WRITERS, *ON_REQUEST)


def writer(name: str) -> Writer:
    """The writer with this name.

    Raises:
        UnknownName: There is none.
    """
    for candidate in EVERY_WRITER:
        if candidate.name == name:
            return candidate
    raise UnknownName("report format", name, [candidate.name for candidate in EVERY_WRITER])


def render(name: str, report: AuditReport, samples: Samples | None = None) -> bytes:
    """The report in the named format, with samples in full where the format is for reading.

    Raises:
        UnknownName: There is no such format.
    """
    chosen = writer(name)
    if samples and chosen.render_in_full:
        return chosen.render_in_full(report, samples)
    return chosen.render(report)
