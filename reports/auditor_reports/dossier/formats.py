"""The formats a dossier can be written in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from auditor_reports.dossier.html import render_dossier_html
from auditor_reports.dossier.json import render_dossier_json
from auditor_reports.dossier.markdown import render_dossier_markdown
from auditor_reports.dossier.record import Dossier


@dataclass(frozen=True)
class DossierWriter:
    """One file format.

    Attributes:
        name: What the user asks for.
        suffix: Of the file's name.
        render: Pure function of the record: same dossier, same bytes.
    """

    name: str
    suffix: str
    render: Callable[[Dossier], bytes]

    def filename(self, framework: str) -> str:
        """Name of the file in a run's folder."""
        return f"dossier-{framework}{self.suffix}"


DOSSIER_WRITERS: tuple[DossierWriter, ...] = (
    DossierWriter("html", ".html", render_dossier_html),
    DossierWriter("markdown", ".md", render_dossier_markdown),
    DossierWriter("json", ".json", render_dossier_json),
)
DEFAULT_FORMATS = ("html", "markdown")
