"""The writers: every file format a report can be rendered to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from auditor.errors import UnknownName
from auditor.findings import AuditReport
from auditor_reports.audit_json import render_json
from auditor_reports.html import render_html
from auditor_reports.junit import render_junit
from auditor_reports.markdown import render_markdown
from auditor_reports.sarif import render_sarif


@dataclass(frozen=True)
class Writer:
    """One file format.

    Attributes:
        name: What the user asks for, for example `html`.
        filename: Name of the file in a run directory.
        media_type: Its media type.
        render: Pure function of the report: same report, same bytes.
    """

    name: str
    filename: str
    media_type: str
    render: Callable[[AuditReport], bytes]


WRITERS: tuple[Writer, ...] = (
    Writer("html", "report.html", "text/html", render_html),
    Writer("json", "audit.json", "application/json", render_json),
    Writer("junit", "junit.xml", "application/xml", render_junit),
    Writer("markdown", "summary.md", "text/markdown", render_markdown),
    Writer("sarif", "audit.sarif", "application/sarif+json", render_sarif),
)


def writer(name: str) -> Writer:
    """The writer with this name.

    Raises:
        UnknownName: There is none.
    """
    for candidate in WRITERS:
        if candidate.name == name:
            return candidate
    raise UnknownName("report format", name, [candidate.name for candidate in WRITERS])


def render(name: str, report: AuditReport) -> bytes:
    """The report in the named format.

    Raises:
        UnknownName: There is no such format.
    """
    return writer(name).render(report)
