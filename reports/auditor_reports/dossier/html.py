"""A dossier as one self-contained HTML file without any script, under `MAX_BYTES`."""

from __future__ import annotations

from typing import Final, NamedTuple

from auditor_reports.dossier.record import CellStatus, Dossier
from auditor_reports.dossier.text import GAP_STATUSES, review_age
from auditor_reports.html_environment import Limits, fill_page, fit_page
from auditor_reports.page import Anchors


class _Look(NamedTuple):
    """Colour, mark and edge of a status; its word always stands beside them."""

    colour: str
    mark: str
    edge: str


_LOOKS: Final[dict[CellStatus, _Look]] = {
    "evidence fail": _Look("violated", "violated", "fail"),
    "partial": _Look("unknown", "partial", "partial"),
    "not assessed": _Look("skipped", "skipped", "none"),
    "not applicable": _Look("skipped", "apart", "none"),
    "evidence pass": _Look("holds", "holds", "pass"),
}


def render_dossier_html(dossier: Dossier) -> bytes:
    """The dossier as HTML, UTF-8; a pure function of its record."""
    return fit_page(lambda limits: _render(dossier, limits)).encode("utf-8")


def _render(dossier: Dossier, limits: Limits) -> str:
    return fill_page(
        "dossier.html.j2",
        limits,
        ("dossier.css",),
        dossier=dossier,
        gaps=[(status, dossier.gaps(status)) for status in GAP_STATUSES],
        not_covered=any(cell.beyond for cell in dossier.cells()),
        anchors=_anchors(dossier, limits),
        looks=_LOOKS,
        age=review_age(dossier.framework),
    )


def _anchors(dossier: Dossier, limits: Limits) -> dict[str, str]:
    """Element ids of the results that are shown, by the result's id."""
    anchors = Anchors()
    return {entry.id: anchors.take("result", entry.id) for entry in dossier.results[: limits.rows]}
