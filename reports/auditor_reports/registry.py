"""The writers: every file format a report can be rendered to."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from auditor.errors import OutputNotWritable, UnknownName
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
        suffix_filename: Name of the file in a run directory.
        media_type: Its media type.
        render: Pure function of the report: same report, same bytes.
    """

    name: str
    suffix_filename: str
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


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Raises:
        OutputNotWritable: The folder is missing, full or write-protected.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise OutputNotWritable(path, error.strerror or str(error)) from error
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes the file private; a report gets what the user's umask says.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputNotWritable(path, error.strerror or str(error)) from error


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
