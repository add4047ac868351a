"""The page that holds two runs side by side: one self-contained file without any script.

It is cut as the report is: what is left out is counted on the page and stands in the JSON
lines of `auditor diff`.
"""

from __future__ import annotations

from markupsafe import Markup

from auditor.audit.comparison import Comparison
from auditor_reports.comparison import text as words
from auditor_reports.html_environment import (
    DISCLAIMER,
    LEVELS,
    MAX_BYTES,
    Limits,
    asset,
    content_policy,
    environment,
)


def render_comparison(comparison: Comparison) -> bytes:
    """The page of a comparison as HTML, UTF-8, at most `html_environment.MAX_BYTES` bytes.

    It is a pure function of the comparison: same comparison, same bytes.
    """
    page = b""
    for limits in LEVELS:
        page = _render(comparison, limits)
        if len(page) <= MAX_BYTES:
            break
    return page


def page_style() -> str:
    """The style of the page, for whoever sends a policy with it."""
    return asset("style.css") + asset("comparison.css")


def _render(comparison: Comparison, limits: Limits) -> bytes:
    style = page_style()
    groups = {status: comparison.finding_group(status) for status in words.FINDING_HEADINGS}
    page = environment(limits).get_template("comparison.html.j2").render(
        comparison=comparison,
        groups=groups,
        text=words,
        mark=words.GATE_MARKS[comparison.new.verdict],
        disclaimer=DISCLAIMER,
        style=Markup(style),  # noqa: S704  our own files, hashed into the policy
        content_policy=content_policy(style),
    )  # fmt: skip
    return page.encode("utf-8")
