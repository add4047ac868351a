"""The HTML report: one self-contained file, readable without JavaScript.

The page holds everything where that fits. Where it does not, whole results are shown
briefly or only in the tables, passed ones first, then every list gets shorter; what
is left out is counted on the page and stands in `audit.json`. So the file stays under
the limit whatever the run's size.
"""

from __future__ import annotations

from dataclasses import replace

from markupsafe import Markup

from auditor.findings import AuditReport, TracedTextEvidence
from auditor_reports import traced_text
from auditor_reports.html_environment import (
    MAX_BYTES,
    Limits,
    asset,
    content_policy,
    environment,
    fill_page,
    fit_page,
)
from auditor_reports.page import Page, arrange


def render_html(
    report: AuditReport,
    samples: traced_text.Samples | None = None,
    *,
    most_bytes: int = MAX_BYTES,
) -> bytes:
    """The report as HTML, UTF-8, at most `most_bytes` bytes as long as that is 150,000 or more.

    With samples traced completions are shown in full, and the page says so; its run
    fingerprint stays that of `audit.json`, which holds them shortened.
    """
    page = arrange(report)
    if samples:
        shown = traced_text.with_samples(report, samples)
        page = replace(arrange(shown), fingerprint=page.fingerprint)
    in_full = any(isinstance(sample, TracedTextEvidence) for sample in (samples or {}).values())
    return fit_page(lambda limits: _render(page, limits, in_full=in_full), most_bytes).encode()


def _render(page: Page, limits: Limits, *, in_full: bool) -> str:
    script = asset("report.js")
    details = _render_details(page, limits)
    return fill_page(
        "report.html.j2",
        limits,
        (),
        page=page,
        report=page.report,
        details=details,
        detailed=len(details),
        script=Markup(script),  # noqa: S704  our own file, hashed into the policy
        content_policy=content_policy(asset("style.css"), script),
        in_full=traced_text.SHOWN_IN_FULL if in_full else "",
    )


def _render_details(page: Page, limits: Limits) -> dict[str, Markup]:
    """Detailed results by anchor, worst first, until the space for them is used up."""
    template = environment(limits).get_template("result.html.j2")
    titles = {check.card.code: check.card.title for check in page.checks}
    left = limits.detail_bytes
    shown: dict[str, Markup] = {}
    for view in page.results:
        for detail in ("full", "brief"):
            text = template.render(view=view, detail=detail, card_title=titles[view.result.code])
            size = len(text.encode("utf-8"))
            if size <= left:
                break
        else:
            break
        left -= size
        shown[view.anchor] = Markup(text)  # noqa: S704  rendered with autoescape
    return shown
