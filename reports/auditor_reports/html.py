"""The HTML report: one self-contained file, readable without JavaScript.

The page holds everything where that fits. Where it does not, whole results are shown
briefly or only in the tables, passed ones first, then every list gets shorter; what
is left out is counted on the page and stands in `audit.json`. So the file stays under
the limit whatever the run's size.
"""

from __future__ import annotations

from dataclasses import replace

from jinja2 import Environment
from markupsafe import Markup

from auditor.findings import AuditReport, TracedTextEvidence
from auditor_reports import traced_text
from auditor_reports.html_environment import (
    DISCLAIMER,
    LEVELS,
    MAX_BYTES,
    Limits,
    asset,
    content_policy,
    environment,
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
    content = b""
    for limits in LEVELS:
        content = _render(page, limits, in_full=in_full)
        if len(content) <= most_bytes:
            break
    return content


def _render(page: Page, limits: Limits, *, in_full: bool) -> bytes:
    templates = environment(limits)
    style, script = asset("style.css"), asset("report.js")
    details = _render_details(templates, page, limits)
    text = templates.get_template("report.html.j2").render(
        page=page,
        report=page.report,
        details=details,
        detailed=len(details),
        style=Markup(style),  # noqa: S704  our own file, hashed into the policy
        script=Markup(script),  # noqa: S704
        content_policy=content_policy(style, script),
        disclaimer=DISCLAIMER,
        in_full=traced_text.SHOWN_IN_FULL if in_full else "",
    )
    return text.encode("utf-8")


def _render_details(templates: Environment, page: Page, limits: Limits) -> dict[str, Markup]:
    """Detailed results by anchor, worst first, until the space for them is used up."""
    template = templates.get_template("result.html.j2")
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
